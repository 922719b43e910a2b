//! From line and column to the JSON pointer of the value that stands there.
//!
//! serde_json reports where in the text it gave up. Tracking the path while parsing would cost time on every good
//! document and a second copy of every parser; walking the text once more, only after a failure, costs neither.

/// One open bracket around the position.
enum Step {
    /// An object, with the key of the member that has begun, if one has.
    Object { key: Option<String>, in_value: bool },
    /// An array, with the index of the element that is awaited or has begun.
    Array { index: usize, begun: bool },
}

impl Step {
    /// Notes that a value begins inside this bracket.
    fn begin_value(&mut self) {
        if let Step::Array { begun, .. } = self {
            *begun = true;
        }
    }

    /// Goes behind a comma.
    fn next(&mut self) {
        match self {
            Step::Object { key, in_value } => (*key, *in_value) = (None, false),
            Step::Array { index, begun } => (*index, *begun) = (*index + 1, false),
        }
    }
}

/// Returns the pointer (RFC 6901) of the innermost value that has begun at a position.
///
/// `line` and `column` are serde_json's: from 1, the column in bytes, naming the last byte that was looked at. The
/// text may be broken there, but not before. Right behind a value means that value, at a key that key's value.
pub(crate) fn pointer(text: &str, line: usize, column: usize) -> String {
    let bytes = &text.as_bytes()[..offset(text, line, column)];
    let mut path: Vec<Step> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' => {
                path.last_mut().map(Step::begin_value);
                path.push(match byte {
                    b'{' => Step::Object { key: None, in_value: false },
                    _ => Step::Array { index: 0, begun: false },
                });
            }
            // The last byte closes the value that is meant: it stays open, but without its last member.
            b'}' | b']' if at == bytes.len() => {
                path.last_mut().map(Step::next);
            }
            b'}' | b']' => {
                path.pop();
            }
            b',' => {
                path.last_mut().map(Step::next);
            }
            b':' => {
                if let Some(Step::Object { in_value, .. }) = path.last_mut() {
                    *in_value = true;
                }
            }
            b'"' => {
                at = string_end(bytes, at);
                match path.last_mut() {
                    Some(Step::Object { key, in_value: false }) => *key = Some(unquote(&bytes[start..at])),
                    Some(step) => step.begin_value(),
                    None => {}
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                path.last_mut().map(Step::begin_value);
            }
        }
    }
    path.iter().filter_map(token).collect()
}

/// Returns how many bytes have been looked at, at most the whole text.
///
/// An object or an array where another type is expected is refused before its bracket counts as looked at.
pub(crate) fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let end = (start + column).min(text.len());
    match text.as_bytes().get(end) {
        Some(b'{' | b'[') => end + 1,
        _ => end,
    }
}

/// Returns the index behind the quote that closes a string whose first byte is at `at`.
pub(crate) fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Resolves the escapes of a key; one that is broken or cut off is shown as it stands.
pub(crate) fn unquote(quoted: &[u8]) -> String {
    serde_json::from_slice(quoted)
        .unwrap_or_else(|_| String::from_utf8_lossy(quoted).trim_matches('"').to_owned())
}

/// Returns a step's part of the pointer, if a member or an element has begun.
fn token(step: &Step) -> Option<String> {
    match step {
        Step::Object { key: Some(key), .. } => {
            Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
        }
        Step::Array { index, begun: true } => Some(format!("/{index}")),
        Step::Object { key: None, .. } | Step::Array { begun: false, .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The position is written into the text as `^`, behind the last byte that was looked at.
    #[test]
    fn the_position_leads_to_the_innermost_value() {
        for (marked, expected) in [
            (r#"{^"a": 1}"#, ""),
            (r#"{"a"^: 1}"#, "/a"),
            (r#"{"a": 1^}"#, "/a"),
            (r#"{"a": 1}^"#, ""),
            (r#"{"a": {^"b": 1}}"#, "/a"),
            (r#"{"a": {"b": 1}^}"#, "/a"),
            (r#"{"a": {"b": 1},^"c": 2}"#, ""),
            (r#"{"a": [^1, 2]}"#, "/a"),
            (r#"{"a": [^[], 2]}"#, "/a/0"),
            (r#"{"a": [1, ^{}]}"#, "/a/1"),
            (r#"{"a": [1^, 2]}"#, "/a/0"),
            (r#"{"a": [1, 2^]}"#, "/a/1"),
            (r#"{"a": [1, 2]^}"#, "/a"),
            (r#"{"a": [[], {}, {"b": tru^e}]}"#, "/a/2/b"),
            (r#"["x^"]"#, "/0"),
            (r#"{"a\"}/~": "x"^}"#, "/a\"}~1~0"),
            (r#"{"a": "{[\"", "b": "x"^}"#, "/b"),
            ("{\n  \"a\": 1,\n  \"b\": [\n    {\"c\": 2^}]}", "/b/0/c"),
            ("{\"ä\": \"ö\"^}", "/ä"),
            ("^", ""),
            ("nonsense^", ""),
            ("]],:^", ""),
        ] {
            let end = marked.find('^').unwrap();
            let text = marked.replace('^', "");
            let line = text[..end].matches('\n').count() + 1;
            let column = end - text[..end].rfind('\n').map_or(0, |newline| newline + 1);
            assert_eq!(pointer(&text, line, column), expected, "in {marked}");
        }
    }

    #[test]
    fn a_position_outside_the_text_is_its_end() {
        assert_eq!(pointer("{\"a\": [1", 7, 99), "/a/0");
        assert_eq!(pointer("", 0, 0), "");
    }
}
