//! Strings that a reader of YAML 1.1 takes for something else when they stand without quotes.
//!
//! The library writes by YAML 1.2, in which `yes` is a string. `kubectl` reads by 1.1, in which it is a boolean, and then
//! refuses the environment variable that has it. So such strings are written with quotes: they are marked by characters that
//! the library can only write in double quotes, and the marks are taken out of the text again.

use serde_json::{Map, Value};

const MARK: &str = "\u{1}\u{2}\u{1}";
/// The mark as the library writes it, at the beginning of a string.
const WRITTEN: &str = "\"\\x01\\x02\\x01";

/// Marks the strings that need quotes, keys too.
pub(super) fn mark(value: Value) -> Value {
    match value {
        Value::String(text) if needs_quotes(&text) => Value::String(format!("{MARK}{text}")),
        Value::Array(items) => Value::Array(items.into_iter().map(mark).collect()),
        Value::Object(members) => {
            let marked = |name: String| if needs_quotes(&name) { format!("{MARK}{name}") } else { name };
            Value::Object(members.into_iter().map(|(name, value)| (marked(name), mark(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Takes the marks out of a written text.
pub(super) fn unmark(text: &str) -> String {
    text.replace(WRITTEN, "\"")
}

/// Whether the library would write it without.
fn needs_quotes(text: &str) -> bool {
    is_ambiguous(text) && serde_yaml::from_str::<serde_yaml::Value>(text).is_ok_and(|value| value.is_string())
}

/// The types of <https://yaml.org/type/>, beyond what the library knows itself.
fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "<<", "="];
    let word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    word || is_number(text.strip_prefix(['+', '-']).unwrap_or(text)) || is_date(text)
}

/// Numbers with underscores, to other bases, and those to base sixty, such as `1:30`.
fn is_number(text: &str) -> bool {
    let of = |digits: &str, legal: fn(char) -> bool| {
        !digits.is_empty() && digits.chars().all(|c| c == '_' || legal(c)) && digits.chars().any(legal)
    };
    let decimal = |digits: &str| of(digits, |c| c.is_ascii_digit());
    let based = |prefix: &str, legal| text.strip_prefix(prefix).is_some_and(|digits| of(digits, legal));
    if based("0b", |c| matches!(c, '0' | '1'))
        || based("0o", |c| c.is_digit(8))
        || based("0x", |c| c.is_ascii_hexdigit())
    {
        return true;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let plain = |digits: &str| digits.is_empty() || decimal(digits);
    if decimal(exponent) && plain(whole) && plain(fraction) && (decimal(whole) || decimal(fraction)) {
        return true;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let sixtieth = |part: &str| matches!(part.len(), 1 | 2) && part.parse::<u8>().is_ok_and(|part| part < 60);
    whole.contains(':') && plain(fraction) && parts.next().is_some_and(decimal) && parts.all(sixtieth)
}

/// A day, perhaps with a time behind it.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let day = rest.split(['T', 't', ' ', '\t']).next().unwrap_or_default();
    year.len() == 4 && digits(year) && month.len() <= 2 && digits(month) && day.len() <= 2 && digits(day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_ambiguous;
    use crate::yaml::{to_string_1_1, value};

    #[test]
    fn what_yaml_1_1_reads_as_no_string_is_ambiguous() {
        let ambiguous = [
            "y",
            "N",
            "yes",
            "Yes",
            "NO",
            "on",
            "OFF",
            "<<",
            "=",
            "1_0",
            "0b1",
            "0o7",
            "0x1F",
            "017",
            "+1",
            "-1",
            "1.",
            ".5",
            "1e3",
            "1_000.5e+3",
            "1:30",
            "190:20:30",
            "1:30.5",
            "2001-01-01",
            "2001-1-1T00:00:00Z",
            "2001-01-01 10:00",
        ];
        for text in ambiguous {
            assert!(is_ambiguous(text), "{text}");
        }
        let strings = [
            "",
            "yes!",
            "only",
            "1.2.3",
            "10.0.0.1",
            "0.0.0.0:5778",
            "1:30.x",
            "10.0.0.0/8",
            "5s",
            "100m",
            "128Mi",
            "a:1",
            "80:90",
            "1:2:x",
            "_1",
            "1,000",
            ".",
            "0x",
            "0xg",
            "e3",
            "2001-01",
            "2001-01-012",
            "12-01-01",
            "-",
            "+",
            "v1",
            "1-2",
        ];
        for text in strings {
            assert!(!is_ambiguous(text), "{text}");
        }
    }

    #[test]
    fn they_are_written_in_quotes_and_everything_else_as_before() {
        let document =
            json!({"on": "yes", "a": ["1_0", true, 1, "1.2.3", "line\nyes\n", "a \"quote\""], "b": {"n": null}});
        let text = to_string_1_1(document.clone()).unwrap();
        let expected = "\"on\": \"yes\"\na:\n- \"1_0\"\n- true\n- 1\n- 1.2.3\n- |\n  line\n  yes\n- a \"quote\"\nb:\n  \"n\": null\n";
        assert_eq!(text, expected);
        assert_eq!(value(&text).unwrap(), document);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "[-+.:_0-9a-fxonyeYT \n'\"\\\\]{0,12}") {
            let document = json!({"a": text, text.clone(): [text]});
            proptest::prop_assert_eq!(value(&to_string_1_1(document.clone()).unwrap()).unwrap(), document);
        }
    }
}
