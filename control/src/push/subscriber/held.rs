//! What a client has of one kind of resource, and the difference to what it shall have.

use std::sync::Arc;

use super::super::resource::{Resource, Set};
use super::Protocol;

/// A client that subscribes to more names than this is not one of ours.
pub(super) const MAX_NAMES: usize = 100_000;

/// One thing that a client knows of or asked for.
#[derive(Clone, Debug)]
enum Entry {
    /// It has this.
    Sent(Arc<Resource>),
    /// It has something of this name from another stream, that there is no more.
    Gone(Arc<str>),
    /// It asked for it and has no answer yet, or has another version from another stream.
    Asked(Arc<str>),
    /// It asked for it and knows that there is none.
    Absent(Arc<str>),
}

impl Entry {
    fn name(&self) -> &Arc<str> {
        match self {
            Self::Sent(resource) => resource.name(),
            Self::Gone(name) | Self::Asked(name) | Self::Absent(name) => name,
        }
    }

    fn is(&self, wanted: &Resource) -> bool {
        matches!(self, Self::Sent(held) if held.version() == wanted.version())
    }
}

/// What a client has of one kind.
#[derive(Debug)]
enum List {
    /// The first so many of this set. A settled stream has all of one, one that is being filled a growing part, and
    /// both cost a pointer.
    First(Set, usize),
    /// Something else, sorted by name.
    Parts(Vec<Entry>),
}

/// What a client has of one kind, and whether it wants everything of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) wildcard: bool,
    list: List,
    /// Something in the list is to be taken back.
    surplus: bool,
}

/// What is to be sent next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) send: Vec<Arc<Resource>>,
    /// Names that were asked for and do not exist.
    pub(super) absent: Vec<Arc<str>>,
    /// Something is left for the next response.
    more: bool,
    /// The client holds something that the target does not have.
    surplus: bool,
    /// The client asked for something that the target does not have.
    missing: bool,
    /// The target has something that the client did not ask for.
    unasked: bool,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.send.is_empty() && self.absent.is_empty()
    }
}

impl Held {
    /// Nothing yet.
    pub(super) fn nothing() -> Self {
        Self { wildcard: false, list: List::First(Set::empty(), 0), surplus: false }
    }

    pub(super) fn len(&self) -> usize {
        match &self.list {
            List::First(_, count) => *count,
            List::Parts(parts) => parts.len(),
        }
    }

    /// Whether it is exactly one shared set.
    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.list, List::First(set, count) if *count == set.len())
    }

    /// Everything that was sent and not taken back.
    pub(super) fn sent(&self) -> Vec<Arc<Resource>> {
        match &self.list {
            List::First(set, count) => set.iter().take(*count).cloned().collect(),
            List::Parts(parts) => parts
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Sent(resource) => Some(Arc::clone(resource)),
                    _ => None,
                })
                .collect(),
        }
    }

    /// As a list that can be changed.
    fn parts(&mut self) -> &mut Vec<Entry> {
        if let List::First(set, count) = &self.list {
            self.list = List::Parts(set.iter().take(*count).cloned().map(Entry::Sent).collect());
        }
        match &mut self.list {
            List::Parts(parts) => parts,
            List::First(..) => unreachable!("made parts above"),
        }
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        match &self.list {
            List::First(set, count) => {
                let first: &[Arc<Resource>] = set;
                first.get(..*count).unwrap_or_default().binary_search_by(|resource| (**resource.name()).cmp(name))
            }
            List::Parts(parts) => parts.binary_search_by(|entry| (**entry.name()).cmp(name)),
        }
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// The client says what it has from another stream: names and versions.
    pub(super) fn remember(&mut self, said: impl Iterator<Item = (String, String)>, target: &Set) {
        let entry = |(name, version): (String, String)| match target.get(&name) {
            // A version that is not one of ours (another control plane's) equals none.
            Some(wanted) if version.parse() == Ok(wanted.version()) => Entry::Sent(Arc::clone(wanted)),
            Some(wanted) => Entry::Asked(Arc::clone(wanted.name())),
            None => Entry::Gone(name.into()),
        };
        let mut parts: Vec<Entry> = said.take(MAX_NAMES).map(entry).collect();
        parts.sort_by(|a, b| a.name().cmp(b.name()));
        self.list = List::Parts(parts);
    }

    /// The client wants `name`, also if it had it before.
    pub(super) fn ask(&mut self, name: &str, target: &Set) {
        let position = self.position(name);
        // The name of what exists is shared; only that of what does not costs this stream anything.
        let name = target.get(name).map_or_else(|| Arc::from(name), |resource| Arc::clone(resource.name()));
        let parts = self.parts();
        match position {
            Ok(at) => parts[at] = Entry::Asked(name),
            Err(at) if parts.len() < MAX_NAMES => parts.insert(at, Entry::Asked(name)),
            Err(_) => tracing::warn!("a client subscribes to more than {MAX_NAMES} names; {name} is not served"),
        }
    }

    /// The client no longer wants `name`.
    pub(super) fn forget(&mut self, name: &str) {
        if let Ok(at) = self.position(name)
            && !self.wildcard
        {
            self.parts().remove(at);
        }
    }

    /// The client wants these names, which are sorted, and no others.
    pub(super) fn want_only(&mut self, names: &[String], target: &Set) {
        let wanted = |name: &str| names.binary_search_by(|wanted| (**wanted).cmp(name)).is_ok();
        self.parts().retain(|entry| wanted(entry.name()));
        for name in names {
            if !self.knows(name) {
                self.ask(name, target);
            }
        }
    }

    /// Compares what the client holds with what it shall have; at most `chunk` bytes of it.
    pub(super) fn plan(&self, target: &Set, protocol: Protocol, chunk: usize) -> Plan {
        let mut plan = Plan::default();
        let mut size = 0_usize;
        let mut add = |plan: &mut Plan, resource: &Arc<Resource>| {
            // The first one always goes: a resource larger than a chunk must arrive too.
            let len = resource.encoded_len(protocol);
            if plan.more || (!plan.send.is_empty() && size + len > chunk) {
                plan.more = true;
            } else {
                size += len;
                plan.send.push(Arc::clone(resource));
            }
        };
        match &self.list {
            List::First(set, count) if set.is(target) && *count == set.len() => {}
            List::First(set, count) => {
                let held = set.iter().take(*count).map(|resource| (resource, &**resource.name()));
                join(held, target, |held, wanted| match (held, wanted) {
                    (Some(held), Some(wanted)) if Arc::ptr_eq(held, wanted) || held.version() == wanted.version() => {}
                    (Some(_), Some(wanted)) => add(&mut plan, wanted),
                    (None, Some(wanted)) if self.wildcard => add(&mut plan, wanted),
                    (None, Some(_)) => plan.unasked = true,
                    (Some(_), None) => plan.surplus = true,
                    (None, None) => {}
                });
            }
            List::Parts(parts) => {
                let held = parts.iter().map(|entry| (entry, &**entry.name()));
                join(held, target, |held, wanted| match (held, wanted) {
                    (Some(held), Some(wanted)) if held.is(wanted) => {}
                    (Some(_), Some(wanted)) => add(&mut plan, wanted),
                    (None, Some(wanted)) if self.wildcard => add(&mut plan, wanted),
                    (None, Some(_)) => plan.unasked = true,
                    (Some(Entry::Asked(name)), None) => {
                        plan.absent.push(Arc::clone(name));
                        plan.missing = true;
                    }
                    (Some(Entry::Absent(_)), None) => plan.missing = true,
                    (Some(Entry::Sent(_) | Entry::Gone(_)), None) => plan.surplus = true,
                    (None, None) => {}
                });
            }
        }
        plan
    }

    /// Takes over what `plan` sends as what the client holds.
    pub(super) fn adopt(&mut self, target: &Set, plan: &Plan) {
        self.surplus = plan.surplus;
        if !plan.more && !plan.surplus && !plan.missing && !plan.unasked {
            self.list = List::First(target.clone(), target.len());
            return;
        }
        if plan.is_empty() {
            return;
        }
        // A new client that wants everything is filled from the front.
        if let List::First(set, count) = &mut self.list
            && (set.is(target) || *count == 0)
            && self.wildcard
            && !plan.surplus
        {
            *set = target.clone();
            *count += plan.send.len();
            return;
        }
        // Everything up to the last name that is sent is as the target has it; what comes after waits.
        let last = if plan.more { plan.send.last().map(|resource| Arc::clone(resource.name())) } else { None };
        let reached = |name: &str| last.as_ref().is_none_or(|last| name <= &**last);
        let wildcard = self.wildcard;
        let held = std::mem::take(self.parts());
        let mut parts = Vec::with_capacity(held.len() + plan.send.len());
        join(held.iter().map(|entry| (entry, &**entry.name())), target, |held, wanted| match (held, wanted) {
            (Some(held), Some(wanted)) if held.is(wanted) || reached(wanted.name()) => {
                parts.push(Entry::Sent(Arc::clone(wanted)));
            }
            (None, Some(wanted)) if wildcard && reached(wanted.name()) => parts.push(Entry::Sent(Arc::clone(wanted))),
            (Some(Entry::Asked(_)), None) if wildcard => {}
            (Some(Entry::Asked(name)), None) => parts.push(Entry::Absent(Arc::clone(name))),
            (Some(held), _) => parts.push(held.clone()),
            (None, _) => {}
        });
        self.list = List::Parts(parts);
    }

    /// Takes back what the target does not have any more, and returns the names.
    pub(super) fn remove(&mut self, target: &Set) -> Vec<Arc<str>> {
        if !std::mem::take(&mut self.surplus) {
            return Vec::new();
        }
        let wildcard = self.wildcard;
        let mut removed = Vec::new();
        self.parts().retain_mut(|entry| {
            let gone = matches!(entry, Entry::Sent(_) | Entry::Gone(_)) && target.get(entry.name()).is_none();
            if gone {
                removed.push(Arc::clone(entry.name()));
                *entry = Entry::Absent(Arc::clone(entry.name()));
            }
            // A name that was subscribed to stays subscribed: should it come back, it is sent.
            !(gone && wildcard)
        });
        removed
    }
}

/// Walks two lists that are sorted by name side by side.
fn join<'a, T: 'a>(
    held: impl Iterator<Item = (T, &'a str)>,
    target: &'a Set,
    mut each: impl FnMut(Option<T>, Option<&'a Arc<Resource>>),
) {
    let mut held = held.peekable();
    let mut target = target.iter().peekable();
    loop {
        let order = match (held.peek(), target.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            // Names of an unchanged resource are the same allocation: no byte of them is looked at.
            (Some((_, a)), Some(b)) if std::ptr::eq(*a, &raw const **b.name()) => std::cmp::Ordering::Equal,
            (Some((_, a)), Some(b)) => (*a).cmp(&**b.name()),
        };
        match order {
            std::cmp::Ordering::Less => each(held.next().map(|(item, _)| item), None),
            std::cmp::Ordering::Greater => each(None, target.next()),
            std::cmp::Ordering::Equal => each(held.next().map(|(item, _)| item), target.next()),
        }
    }
}
