//! Text of strangers on a terminal: names, labels and logs, which may hold what moves the cursor, sets a title, or types.

/// A text without characters that a terminal acts upon, or that show other text than is there.
pub(crate) fn word(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        push(&mut escaped, letter);
    }
    escaped
}

/// What is printed for a whole template: its own lines and tabs stay.
pub(crate) fn lines(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => escaped.push(letter),
            _ => push(&mut escaped, letter),
        }
    }
    escaped
}

/// A document in JSON, in which the same characters are written as JSON has them, so that it means what it meant. What is not
/// in a text of it has none of them, but for the ends of lines.
pub(crate) fn json(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    for letter in document.chars() {
        // None of them needs two units of UTF-16.
        match letter {
            '\n' => escaped.push(letter),
            _ if letter.is_control() || reorders(letter) => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A line of a log: colours stay, as do tabs and the ends of lines; what else a terminal would act upon is shown.
pub(crate) fn log(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(letter) = rest.chars().next() {
            let (taken, kept) = match letter {
                '\n' | '\t' => (1, true),
                '\r' => (1, rest.starts_with("\r\n")),
                '\u{1b}' => colour(rest).map_or((1, false), |length| (length, true)),
                _ => (letter.len_utf8(), false),
            };
            if kept {
                escaped.push_str(&rest[..taken]);
            } else {
                push(&mut escaped, letter);
            }
            rest = &rest[taken..];
        }
        for byte in chunk.invalid() {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped.into_bytes()
}

/// The length of a sequence that sets colours (`ESC [ 1 ; 31 m`) at the beginning of a text.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length =
        parameters.find(|letter: char| !letter.is_ascii_digit() && letter != ';' && letter != ':')?;
    parameters[length..].starts_with('m').then_some(length + 3)
}

fn push(escaped: &mut String, letter: char) {
    match letter {
        '\n' => escaped.push_str("\\n"),
        '\r' => escaped.push_str("\\r"),
        '\t' => escaped.push_str("\\t"),
        '\u{1b}' => escaped.push_str("\\e"),
        _ if letter.is_control() && letter.is_ascii() => {
            escaped.push_str(&format!("\\x{:02x}", u32::from(letter)));
        }
        _ if letter.is_control() || reorders(letter) => {
            escaped.push_str(&format!("\\u{{{:x}}}", u32::from(letter)));
        }
        _ => escaped.push(letter),
    }
}

/// Whether a character changes the order in which others are shown, or is not to be seen at all.
fn reorders(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Writes text as in the query of an address, as Go does it.
pub(crate) fn query(text: &str) -> String {
    let mut written = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' => {
                written.push(char::from(byte));
            }
            b' ' => written.push('+'),
            _ => written.push_str(&format!("%{byte:02X}")),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_nothing_to_a_terminal() {
        for (text, expected) in [
            ("web-1 ü 漢", "web-1 ü 漢"),
            ("a\u{1b}]0;title\u{7}b", "a\\e]0;title\\x07b"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\u{9b}31m\u{202e}gnp", "\\u{9b}31m\\u{202e}gnp"),
        ] {
            assert_eq!(word(text), expected);
        }
        assert_eq!(lines("a\tb\n\u{8}"), "a\tb\n\\x08");
    }

    #[test]
    fn documents_mean_what_they_meant() {
        let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\u{7f}\"ü漢";
        let escaped = json(&serde_json::json!({ "a": evil }).to_string());
        assert_eq!(escaped, r#"{"a":"\u001b]0;x\u0007\u009b2J\u202e\u007f\"ü漢"}"#);
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["a"], evil);
    }

    #[test]
    fn logs_keep_their_colours_and_nothing_else() {
        for (bytes, expected) in [
            (&b"\x1b[1;31mred\x1b[m ok\r\n"[..], &b"\x1b[1;31mred\x1b[m ok\r\n"[..]),
            (b"\x1b[2Jgone\x1b]52;c;eA==\x07", b"\\e[2Jgone\\e]52;c;eA==\\x07"),
            (b"good\rbad\x08\x7f", b"good\\rbad\\x08\\x7f"),
            (b"\xff\xc3\xbc\x9b", "\\xffü\\x9b".as_bytes()),
            (b"\x1b[31", b"\\e[31"),
        ] {
            let told = String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(log(bytes), expected, "for {told:?}");
        }
    }
}
