//! Which texts of a list begin with which others, for all of them at once.
//!
//! An object may list a hundred thousand hosts or prefixes. To compare each with each would take minutes; sorted, every text
//! stands right behind those that it begins with.

/// Texts in a forest: above each stand the others that it begins with.
pub(crate) struct Forest {
    /// The node of each text, in the order of the list. Equal texts share one.
    node_of: Vec<usize>,
    /// The nearest node above each node. Whatever is above a node has a lower number.
    parents: Vec<Option<usize>>,
}

impl Forest {
    pub(crate) fn of(texts: &[Vec<u8>]) -> Self {
        let mut order: Vec<(&[u8], usize)> = texts.iter().enumerate().map(|(index, text)| (&**text, index)).collect();
        order.sort_unstable_by(|a, b| {
            work::done(1);
            a.cmp(b)
        });
        let mut forest = Self { node_of: vec![0; texts.len()], parents: Vec::new() };
        // What the text at hand may stand below: each begins with the one before it.
        let mut above: Vec<(&[u8], usize)> = Vec::new();
        for (text, index) in order {
            while above.last().is_some_and(|(begin, _)| !text.starts_with(begin)) {
                work::done(1);
                above.pop();
            }
            let node = match above.last() {
                Some((same, node)) if *same == text => *node,
                parent => {
                    forest.parents.push(parent.map(|(_, node)| *node));
                    let node = forest.parents.len() - 1;
                    above.push((text, node));
                    node
                }
            };
            if let Some(of_text) = forest.node_of.get_mut(index) {
                *of_text = node;
            }
        }
        forest
    }

    /// The nodes of the texts that a text of the list begins with, from its own on.
    pub(crate) fn beginnings(&self, text: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.node_of.get(text).copied(), |node| self.parents.get(*node).copied().flatten())
    }
}

/// For each text the first of the list that is related to it, which may be itself: an equal one, a wide one that it begins
/// with, or, where it is wide itself, one that begins with it.
pub(crate) fn first_related(texts: &[Vec<u8>], is_wide: impl Fn(usize) -> bool) -> Vec<usize> {
    let forest = Forest::of(texts);
    let nodes = forest.parents.len();
    // The first text of each node; in the end of all below it too.
    let mut below = vec![usize::MAX; nodes];
    // The first wide text of each node; in the end of all above it too.
    let mut above = vec![usize::MAX; nodes];
    for (text, node) in forest.node_of.iter().enumerate() {
        lower(&mut below, *node, text);
        if is_wide(text) {
            lower(&mut above, *node, text);
        }
    }
    let own = below.clone();
    for (node, parent) in forest.parents.iter().enumerate() {
        if let Some(parent) = parent {
            let first = at(&above, *parent);
            lower(&mut above, node, first);
        }
    }
    for (node, parent) in forest.parents.iter().enumerate().rev() {
        if let Some(parent) = parent {
            let first = at(&below, node);
            lower(&mut below, *parent, first);
        }
    }
    let first = |(text, node): (usize, &usize)| {
        at(&above, *node).min(if is_wide(text) { at(&below, *node) } else { at(&own, *node) })
    };
    forest.node_of.iter().enumerate().map(first).collect()
}

fn at(list: &[usize], place: usize) -> usize {
    list.get(place).copied().unwrap_or(usize::MAX)
}

fn lower(list: &mut [usize], place: usize, value: usize) {
    if let Some(of_place) = list.get_mut(place) {
        *of_place = value.min(*of_place);
    }
}

/// What checks compare is counted in tests, which hold it near the size of what is checked.
pub(crate) mod work {
    #[cfg(test)]
    std::thread_local! {
        static DONE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    #[cfg(test)]
    pub(crate) fn done(units: u64) {
        DONE.set(DONE.get() + units);
    }

    #[cfg(not(test))]
    pub(crate) const fn done(_: u64) {}

    /// The work of a check.
    #[cfg(test)]
    pub(crate) fn of(check: impl FnOnce()) -> u64 {
        let before = DONE.get();
        check();
        DONE.get() - before
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::{Forest, first_related};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        /// As by comparing each with each.
        #[test]
        fn the_first_that_is_related(list in vec(("[ab]{0,4}", any::<bool>()), 0..12)) {
            let texts: Vec<Vec<u8>> = list.iter().map(|(text, _)| text.clone().into_bytes()).collect();
            let related = |a: usize, b: usize| {
                let ((a, a_wide), (b, b_wide)) = (&list[a], &list[b]);
                a == b || (*a_wide && b.starts_with(a)) || (*b_wide && a.starts_with(b))
            };
            let expected: Vec<usize> =
                (0..list.len()).map(|text| (0..=text).find(|earlier| related(*earlier, text)).unwrap()).collect();
            prop_assert_eq!(first_related(&texts, |text| list[text].1), expected);
        }

        #[test]
        fn all_that_a_text_begins_with(list in vec("[ab]{0,4}", 0..12)) {
            let texts: Vec<Vec<u8>> = list.iter().map(|text| text.clone().into_bytes()).collect();
            let forest = Forest::of(&texts);
            for (place, text) in list.iter().enumerate() {
                let mut found: Vec<&str> = forest
                    .beginnings(place)
                    .map(|node| list[forest.node_of.iter().position(|of| *of == node).unwrap()].as_str())
                    .collect();
                let mut expected: Vec<&str> =
                    list.iter().map(String::as_str).filter(|begin| text.starts_with(begin)).collect();
                expected.sort_unstable();
                expected.dedup();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
