//! Medians, ratios, and tables in Markdown.

/// The middle of some figures; of two middles, their mean. Not a number if there are none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.len() % 2, figures.get(middle), middle.checked_sub(1).and_then(|below| figures.get(below))) {
        (1, Some(figure), _) => *figure,
        (0, Some(above), Some(below)) => f64::midpoint(*above, *below),
        _ => f64::NAN,
    }
}

/// The median of the ratios round by round: what disturbs a round disturbs both sides of its ratio.
pub(crate) fn ratio(figures: &[f64], base: &[f64]) -> f64 {
    median(figures.iter().zip(base).map(|(figure, base)| figure / base))
}

/// Prints a table.
pub(crate) fn table(title: &str, columns: &[&str], rows: &[Vec<String>]) {
    println!("\n{title}\n\n{}", markdown(columns, rows));
}

fn markdown(columns: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(columns.len()));
    rows.iter().fold(line(&head) + &rule, |table, row| table + &line(row))
}

#[cfg(test)]
mod tests {
    use super::{markdown, median, ratio};

    #[test]
    fn the_median_is_the_middle() {
        for (name, figures, expected) in [
            ("odd", &[3.0, 1.0, 2.0][..], 2.0),
            ("even", &[4.0, 1.0, 3.0, 2.0], 2.5),
            ("one", &[7.0], 7.0),
            ("an outlier moves nothing", &[1.0, 1000.0, 1.0], 1.0),
        ] {
            assert!((median(figures.iter().copied()) - expected).abs() < 1e-9, "{name}");
        }
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_disturbed_round_does_not_change_a_ratio() {
        let ratio = ratio(&[20.0, 60.0, 22.0], &[10.0, 30.0, 11.0]);
        assert!((ratio - 2.0).abs() < 1e-9);
    }

    #[test]
    fn tables_are_markdown() {
        let rows = [vec!["a".to_owned(), "1".to_owned()]];
        assert_eq!(markdown(&["what", "figure"], &rows), "| what | figure |\n|---|---|\n| a | 1 |\n");
    }
}
