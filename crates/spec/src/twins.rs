//! Names that stand twice in an object, read as Go does.
//!
//! Go's parser of JSON, and so runc, heeds no case and takes no offence at a name that is there again: objects become one,
//! and of numbers and texts the last counts. Scripts rely on it that add `CPU` to a configuration which has `cpu`. serde
//! takes a name once, so that the text is changed where it complains, which costs nothing where it does not:
//! `{"cpu": {"shares": 1}, "CPU": {"cpus": "0"}}` becomes `{ "CPU": {"shares": 1,"cpus": "0"}}`.
//!
//! What Go makes of the rest nobody can have meant, and it is refused: a second list is read into the elements of the first,
//! so that `[{"allow": true, "type": "c"}]` and `[{"allow": false}]` deny what has the type c; and null after a number or a
//! text takes that back or does nothing, as the field is declared.

use crate::locate::{offset, string_end, unquote};

/// Unites the first two members of a name whose second one has just been read, up to `line` and `column` as serde_json
/// counts them.
///
/// The text may be broken behind that place, and stays so: what has not been read yet is copied as it is. `None` for what
/// cannot be united.
#[cold]
pub(crate) fn unite(text: &str, line: usize, column: usize, name: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (first, second) = namesakes(bytes, offset(text, line, column), name)?;
    let mut united = bytes.get(..first.start)?.to_vec();
    let mut copied = first.next;
    let earlier = bytes.get(first.value..first.next.checked_sub(1)?)?.trim_ascii_end();
    match (earlier.first()?, bytes.get(second)?) {
        (b'[', b'[') => return None,
        (b'{' | b'[' | b'n', b'n') => {}
        (_, b'n') => return None,
        _ => {}
    }
    if let ([b'{', earlier @ .., b'}'], [b'{', later @ ..]) = (earlier, bytes.get(second..)?) {
        united.extend_from_slice(bytes.get(copied..=second)?);
        united.extend_from_slice(earlier);
        if !earlier.trim_ascii().is_empty() && later.trim_ascii_start().first() != Some(&b'}') {
            united.push(b',');
        }
        copied = second + 1;
    }
    united.extend_from_slice(bytes.get(copied..)?);
    String::from_utf8(united).ok()
}

/// One member of an object; the places are offsets in the text.
#[derive(Clone, Copy)]
struct Member {
    /// Where its name begins.
    start: usize,
    /// Where its value begins.
    value: usize,
    /// Behind the comma that follows; 0 before that is met.
    next: usize,
}

/// Finds the first two members of a name, in any case, in the innermost object that is open before `end`: the first, and
/// where the value of the second begins.
fn namesakes(bytes: &[u8], end: usize, name: &str) -> Option<(Member, usize)> {
    let mut open: Vec<(Option<Member>, Option<usize>)> = Vec::new();
    let mut at = 0;
    while at < end {
        match *bytes.get(at)? {
            b'"' => {
                let start = at;
                at = string_end(bytes, at + 1);
                let colon = blank_end(bytes, at);
                if bytes.get(colon) == Some(&b':') && unquote(&bytes[start..at]).eq_ignore_ascii_case(name) {
                    let value = blank_end(bytes, colon + 1);
                    match open.last_mut()? {
                        (first @ None, _) => *first = Some(Member { start, value, next: 0 }),
                        (Some(_), second) => *second = second.or(Some(value)),
                    }
                }
                continue;
            }
            b'{' | b'[' => open.push((None, None)),
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                if let Some((Some(first @ Member { next: 0, .. }), _)) = open.last_mut() {
                    first.next = at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let (first, second) = open.pop()?;
    Some((first?, second?))
}

fn blank_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}
