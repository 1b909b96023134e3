//! Whether a text is an expression of CEL: its syntax, as Istio asks cel-go for it. What the expression means, and whether
//! its names exist, is the proxy's business.
//!
//! The grammar is that of the language definition (github.com/google/cel-spec, doc/langdef.md).

/// How deep an expression may be nested.
const DEEPEST: usize = 64;

/// Words that no variable can be called by.
const RESERVED: [&str; 20] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
    "true",
    "false",
];

/// What is wrong with an expression.
pub(super) fn problem(text: &str) -> Option<String> {
    let mut parser = Parser { rest: text, depth: 0 };
    let outcome = parser.expression().and_then(|_| {
        parser.blanks();
        if parser.rest.is_empty() { Ok(()) } else { Err("an operator is missing".to_owned()) }
    });
    let reason = outcome.err()?;
    let place = text.len() - parser.rest.len();
    Some(match parser.rest.chars().take(20).collect::<String>() {
        rest if rest.is_empty() => format!("{reason} at its end"),
        rest => format!(
            "{reason} at character {}, before {rest:?}",
            text.get(..place).unwrap_or_default().chars().count() + 1
        ),
    })
}

/// What an expression is, as far as macros ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A variable's name.
    Name,
    /// `a.b`
    Selection,
    Other,
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

type Parsed = Result<Shape, String>;

/// Functions that are macros: with how many arguments, and whether the first is the name of a variable.
const MACROS: [(&str, &[usize]); 6] =
    [("all", &[2]), ("exists", &[2]), ("exists_one", &[2]), ("existsOne", &[2]), ("map", &[2, 3]), ("filter", &[2])];

impl<'a> Parser<'a> {
    fn blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            let Some(comment) = self.rest.strip_prefix("//") else { return };
            self.rest = comment.find('\n').and_then(|end| comment.get(end..)).unwrap_or_default();
        }
    }

    fn takes(&mut self, token: &str) -> bool {
        self.blanks();
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    fn expects(&mut self, token: &str) -> Result<(), String> {
        if self.takes(token) { Ok(()) } else { Err(format!("{token:?} is missing")) }
    }

    /// `in`, which is a word.
    fn takes_in(&mut self) -> bool {
        self.blanks();
        let Some(rest) = self.rest.strip_prefix("in") else { return false };
        if rest.starts_with(is_of_name) {
            return false;
        }
        self.rest = rest;
        true
    }

    /// `a ? b : c`
    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is nested too deep".to_owned());
        }
        let mut shape = self.either()?;
        if self.takes("?") {
            self.either()?;
            self.expects(":")?;
            self.expression()?;
            shape = Shape::Other;
        }
        self.depth -= 1;
        Ok(shape)
    }

    fn either(&mut self) -> Parsed {
        let mut shape = self.both()?;
        while self.takes("||") {
            self.both()?;
            shape = Shape::Other;
        }
        Ok(shape)
    }

    fn both(&mut self) -> Parsed {
        let mut shape = self.relation()?;
        while self.takes("&&") {
            self.relation()?;
            shape = Shape::Other;
        }
        Ok(shape)
    }

    fn relation(&mut self) -> Parsed {
        let mut shape = self.sum()?;
        while ["<=", ">=", "==", "!=", "<", ">"].into_iter().any(|operator| self.takes(operator)) || self.takes_in() {
            self.sum()?;
            shape = Shape::Other;
        }
        Ok(shape)
    }

    fn sum(&mut self) -> Parsed {
        let mut shape = self.product()?;
        while self.takes("+") || self.takes("-") {
            self.product()?;
            shape = Shape::Other;
        }
        Ok(shape)
    }

    fn product(&mut self) -> Parsed {
        let mut shape = self.unary()?;
        while self.takes("*") || self.takes("/") || self.takes("%") {
            self.unary()?;
            shape = Shape::Other;
        }
        Ok(shape)
    }

    /// `!!a` or `--a`, of one kind.
    fn unary(&mut self) -> Parsed {
        for operator in ["!", "-"] {
            if self.takes(operator) {
                while self.takes(operator) {}
                self.member()?;
                return Ok(Shape::Other);
            }
        }
        self.member()
    }

    /// `a.b`, `a.b(c)`, `a[b]`
    fn member(&mut self) -> Parsed {
        let mut shape = self.primary()?;
        loop {
            if self.takes(".") {
                let name = self.field()?;
                shape = Shape::Selection;
                if self.takes("(") {
                    self.call(name, true)?;
                    shape = Shape::Other;
                }
            } else if self.takes("[") {
                self.expression()?;
                self.expects("]")?;
                shape = Shape::Other;
            } else {
                return Ok(shape);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        if self.takes("(") {
            let shape = self.expression()?;
            self.expects(")")?;
            return Ok(shape);
        }
        if self.takes("[") {
            return self.list("]", |parser| parser.expression().map(drop)).map(|()| Shape::Other);
        }
        if self.takes("{") {
            return self.map(|parser| parser.expression().map(drop));
        }
        self.blanks();
        if let Some(end) = literal(self.rest)? {
            self.rest = self.rest.get(end..).unwrap_or_default();
            return Ok(Shape::Other);
        }
        // The sign of a number: `!-1`.
        let before = self.rest;
        if self.takes("-") {
            self.blanks();
            if self.rest.starts_with(|first: char| first.is_ascii_digit() || first == '.')
                && let Some(end) = literal(self.rest)?
            {
                self.rest = self.rest.get(end..).unwrap_or_default();
                return Ok(Shape::Other);
            }
            self.rest = before;
        }
        let absolute = self.takes(".");
        let name = self.name().ok_or("a value is missing")?;
        if ["true", "false", "null"].contains(&name) && !absolute {
            return Ok(Shape::Other);
        }
        let reserved = RESERVED.contains(&name) || name == "null";
        if !reserved && self.takes("(") {
            self.call(name, false)?;
            return Ok(Shape::Other);
        }
        // `a.b{c: d}` makes a message. What turns out to be none is read again by `member`.
        let before = self.rest;
        let mut is_path = true;
        while is_path && self.takes(".") {
            is_path = self.field().is_ok();
        }
        if is_path && self.takes("{") {
            return self.map(|parser| parser.field().map(drop));
        }
        self.rest = before;
        if reserved {
            return Err(format!("{name:?} is a reserved word"));
        }
        Ok(Shape::Name)
    }

    /// The arguments of a function, of which macros want certain ones.
    fn call(&mut self, name: &str, of_something: bool) -> Result<(), String> {
        let mut shapes = Vec::new();
        while !self.takes(")") {
            if !shapes.is_empty() {
                self.expects(",")?;
            }
            shapes.push(self.expression()?);
        }
        if !of_something && name == "has" && shapes.len() == 1 && shapes != [Shape::Selection] {
            return Err("has() takes a field, such as has(a.b),".to_owned());
        }
        let is_macro = |(own, counts): &(&str, &[usize])| *own == name && counts.contains(&shapes.len());
        if of_something && MACROS.iter().any(is_macro) && shapes.first() != Some(&Shape::Name) {
            return Err(format!("{name}() takes the name of a variable first,"));
        }
        Ok(())
    }

    /// What stands between brackets, of which the first is read; a comma may end it.
    fn list(&mut self, end: &str, mut entry: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        // A comma alone is a list of nothing.
        if self.takes(end) {
            return Ok(());
        }
        if self.takes(",") {
            return self.expects(end);
        }
        loop {
            entry(self)?;
            if self.takes(end) {
                return Ok(());
            }
            self.expects(",")?;
            if self.takes(end) {
                return Ok(());
            }
        }
    }

    fn map(&mut self, mut key: impl FnMut(&mut Self) -> Result<(), String>) -> Parsed {
        self.list("}", |parser| {
            key(parser)?;
            parser.expects(":")?;
            parser.expression().map(drop)
        })?;
        Ok(Shape::Other)
    }

    /// The name of a field, which may be any word but those of the grammar itself.
    fn field(&mut self) -> Result<&'a str, String> {
        let name = self.name().ok_or("a name is missing")?;
        if ["in", "true", "false", "null"].contains(&name) {
            return Err(format!("{name:?} is no name"));
        }
        Ok(name)
    }

    fn name(&mut self) -> Option<&'a str> {
        self.blanks();
        let end = self.rest.find(|character| !is_of_name(character)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(name)
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Where a number or a text at the beginning ends; none for what is neither.
fn literal(text: &str) -> Result<Option<usize>, String> {
    let number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    if number(text) || text.strip_prefix('.').is_some_and(number) {
        return Ok(Some(end_of_number(text)));
    }
    // `r"..."`, `b'...'` and both; a raw text has no escapes.
    let prefix = text.find(|character: char| !"rRbB".contains(character)).unwrap_or(text.len());
    let (prefix, quoted) = text.split_at(prefix.min(2));
    if !quoted.starts_with(['"', '\'']) || !["", "r", "b", "rb", "br"].contains(&prefix.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    let raw = prefix.contains(['r', 'R']);
    let quote = if quoted.starts_with("\"\"\"") || quoted.starts_with("'''") { 3 } else { 1 };
    let (quote, body) = quoted.split_at(quote);
    let mut rest = body;
    loop {
        if let Some(after) = rest.strip_prefix(quote) {
            return Ok(Some(text.len() - after.len()));
        }
        let escape = if raw { None } else { rest.strip_prefix('\\') };
        let after = match escape {
            Some(escaped) => escaped.get(escape_length(escaped).ok_or("an escape in a text is unknown")?..),
            None => rest
                .chars()
                .next()
                .filter(|c| quote.len() == 3 || !"\n\r".contains(*c))
                .and_then(|c| rest.get(c.len_utf8()..)),
        };
        rest = after.ok_or("a text is not closed")?;
    }
}

fn end_of_number(text: &str) -> usize {
    let digits = |text: &str, of: fn(&char) -> bool| text.chars().take_while(of).count();
    let unsigned = |end: usize| end + usize::from(text.get(end..).is_some_and(|rest| rest.starts_with(['u', 'U'])));
    if let Some(hex) = text.strip_prefix("0x") {
        let length = digits(hex, char::is_ascii_hexdigit);
        if length > 0 {
            return unsigned(2 + length);
        }
    }
    let whole = digits(text, char::is_ascii_digit);
    let mut end = whole;
    let after_point =
        text.get(end..).and_then(|rest| rest.strip_prefix('.')).map(|rest| digits(rest, char::is_ascii_digit));
    if let Some(fraction) = after_point.filter(|fraction| *fraction > 0) {
        end += 1 + fraction;
    }
    if let Some(exponent) = text.get(end..).and_then(|rest| rest.strip_prefix(['e', 'E'])) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let length = digits(exponent.get(sign..).unwrap_or_default(), char::is_ascii_digit);
        if length > 0 {
            end += 1 + sign + length;
        }
    }
    if end == whole { unsigned(end) } else { end }
}

/// The length of an escape behind its backslash.
fn escape_length(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let digits = |from: usize, count: usize, radix: u32| {
        let of = text.get(from..from + count)?;
        of.chars().all(|digit| digit.is_digit(radix)).then_some(from + count)
    };
    match first {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => Some(1),
        'x' | 'X' => digits(1, 2, 16),
        'u' => digits(1, 4, 16),
        'U' => digits(1, 8, 16),
        '0'..='3' => digits(0, 3, 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};

    use super::problem;

    #[test]
    fn expressions() {
        let good = [
            "response.code >= 400",
            "response.code >= 400 && response.code < 500 || !has(request.headers.x)",
            "request.headers['x-a'] == \"b\" ? true : false",
            "!('x' in request.headers)",
            "request.url_path.startsWith('/a') && size(request.headers) > -1",
            "[1, 2u, 0xFF, 1.5e3, .5, null,].exists(x, x == 1)",
            "{'a': 1, 'b': [2]}['a'] % 2 == 0",
            "{1: 2}.all(k, k > 0) && [1].map(x, x > 0, x * 2) == []",
            "google.protobuf.Duration{seconds: 1,} == duration('1s')",
            "a.b.c(d)[e].f",
            "a in [b] // a comment",
            "'it' == r'\\d' || b'\\x41' == '\\u00e9' || '''a\n'b''' == \"\\\"\"",
            "inside == 1 && a.package == true_",
            "((a))",
            "--1 == - 1",
            "!-1 || [,] == [] || T{} == a.b{c: 1,}",
        ];
        for text in good {
            assert_eq!(problem(text), None, "{text}");
        }
        let bad = [
            ("", "a value is missing at its end"),
            ("response.code >=", "a value is missing at its end"),
            ("response.code >= 400 response", "an operator is missing at character 22, before \"response\""),
            ("(a", "\")\" is missing at its end"),
            ("a[1", "\"]\" is missing at its end"),
            ("a.", "a name is missing at its end"),
            ("f(a b)", "\",\" is missing at character 5, before \"b)\""),
            ("'a", "a text is not closed at character 1, before \"'a\""),
            ("'\\q'", "an escape in a text is unknown at character 1, before \"'\\\\q'\""),
            ("a = 1", "an operator is missing at character 3, before \"= 1\""),
            ("a & b", "an operator is missing at character 3, before \"& b\""),
            ("if == 1", "\"if\" is a reserved word at character 3, before \" == 1\""),
            ("has(a)", "has() takes a field, such as has(a.b), at its end"),
            ("has(a['b'])", "has() takes a field, such as has(a.b), at its end"),
            ("a.all(1, true)", "all() takes the name of a variable first, at its end"),
            ("a ? b", "\":\" is missing at its end"),
            ("{a}", "\":\" is missing at character 3, before \"}\""),
            ("é", "a value is missing at character 1, before \"é\""),
        ];
        for (text, expected) in bad {
            assert_eq!(problem(text).as_deref(), Some(expected), "{text}");
        }
        assert!(problem(&"(".repeat(100_000)).is_some(), "and nothing overflows");
        assert!(problem(&"!".repeat(100_000)).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_answer_is_given(text in r#"([a-c.()\[\]{}?:,!&|<>=+*/%'"\\ -]|[0-9]|true|in |has|é|\n){0,30}"#) {
            let _ = problem(&text);
        }
    }
}
