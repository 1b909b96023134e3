//! Kubernetes' resource quantities, such as `100m` or `128Mi`.

/// A quantity as a number.
pub fn amount(value: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 16] = [
        ("", 1.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
    ];
    let number = value.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(value.len());
    let (digits, suffix) = value.split_at(number);
    let digits: f64 = digits.parse().ok()?;
    if let Some((_, scale)) = UNITS.iter().find(|(unit, _)| *unit == suffix) {
        return Some(digits * scale);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(digits * 10_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn quantities_are_numbers() {
        let rows = [
            ("1", Some(1.0)),
            ("1.5", Some(1.5)),
            (".5", Some(0.5)),
            ("100m", Some(0.1)),
            ("2e3", Some(2000.0)),
            ("1E", Some(1e18)),
            ("2k", Some(2000.0)),
            ("0.5Gi", Some(536_870_912.0)),
            ("1Ki", Some(1024.0)),
            ("-1", Some(-1.0)),
            ("", None),
            ("Mi", None),
            ("1e", None),
            ("1 Mi", None),
            ("1mi", None),
            ("inf", None),
        ];
        for (text, expected) in rows {
            assert_eq!(amount(text), expected, "{text}");
        }
    }
}
