//! Whether every block of a template ends, and every end has a block. The engine's parser takes the end of the text for
//! the end of what is open, and a stray `{{end}}` for the end of the text, where Go refuses both.

/// Checks it; the error names the line.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut rest = text;
    while let Some((_, action)) = rest.split_once("{{") {
        let line = text
            .len()
            .checked_sub(action.len())
            .map_or(1, |at| 1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count());
        let body = action.strip_prefix("- ").or_else(|| action.strip_prefix("-\n")).unwrap_or(action).trim_start();
        if body.starts_with("/*") {
            rest = body.split_once("*/").map_or("", |(_, after)| after);
            continue;
        }
        let keyword = body.find(|c: char| !c.is_ascii_alphabetic()).and_then(|end| body.get(..end)).unwrap_or(body);
        match keyword {
            "if" | "range" | "with" | "define" | "block" => open.push((keyword, line)),
            "end" if open.pop().is_none() => return Err(format!("line {line}: {{{{end}}}} ends nothing")),
            _ => {}
        }
        rest = after_action(body);
    }
    match open.pop() {
        Some((keyword, line)) => Err(format!("line {line}: {{{{{keyword}}}}} has no {{{{end}}}}")),
        None => Ok(()),
    }
}

/// What follows an action; braces in its texts do not end it.
fn after_action(action: &str) -> &str {
    let mut quote = None;
    let mut characters = action.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None, '"' | '`' | '\'') => quote = Some(character),
            (None, '}') if action.get(at..).is_some_and(|rest| rest.starts_with("}}")) => {
                return action.get(at + 2..).unwrap_or_default();
            }
            (Some('"' | '\''), '\\') => {
                characters.next();
            }
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn blocks_are_whole() {
        let rows = [
            ("a {{ .b }} c", Ok(())),
            ("{{- if .a }}x{{ else if .b }}y{{- else -}}z{{ end -}}", Ok(())),
            ("{{ define \"x\" }}{{ range . }}{{ . }}{{ end }}{{ end }}", Ok(())),
            ("{{ print \"}} {{ if\" `{{ end }}` '}' }}", Ok(())),
            ("{{/* {{ if }} */}}", Ok(())),
            ("{{ $iffy := .end }}{{ $iffy }}", Ok(())),
            ("a\n{{ if .a }}", Err("line 2: {{if}} has no {{end}}")),
            ("{{ with .a }}{{ range .b }}{{ end }}", Err("line 1: {{with}} has no {{end}}")),
            ("a\n\n{{ end }}b", Err("line 3: {{end}} ends nothing")),
        ];
        for (text, expected) in rows {
            assert_eq!(check(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
