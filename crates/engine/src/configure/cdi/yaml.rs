//! YAML as JSON: what configuration files have of it, which is one document of maps, lists, texts, numbers and truths. What
//! JSON cannot say, such as anchors and tags, is refused: no file of a few lines becomes one of millions.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// How deep lists and maps may lie in each other.
const DEPTH: usize = 64;

/// Something that is not closed yet.
enum Open {
    List(Vec<Value>),
    /// A map, and the key whose value is to come.
    Map(Map<String, Value>, Option<String>),
}

/// Reads a document.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut document = None;
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| format!("line {}: {}", error.marker().line(), error.info()))?;
        let at = |reason: &str| Err(format!("line {}: {reason}", span.start.line()));
        let value = match event {
            Event::Alias(_) => return at("aliases are not understood"),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return at("anchors are not understood");
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return at("tags are not understood"),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEPTH => {
                return at("lists and maps lie too deep in each other");
            }
            Event::DocumentStart(_) if document.is_some() => return at("there is more than one document"),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::Scalar(text, style, ..) => {
                if let Some(Open::Map(map, key @ None)) = open.last_mut() {
                    if map.contains_key(text.as_ref()) {
                        return at(&format!("{text:?} is there twice"));
                    }
                    *key = Some(text.into_owned());
                    continue;
                }
                if style == ScalarStyle::Plain { plain(&text) } else { Value::String(text.into_owned()) }
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return at("something is closed that was not open"),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            None => document = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => drop(map.insert(key, value)),
                None => return at("a key is no text"),
            },
        }
    }
    document.ok_or_else(|| "it is empty".to_owned())
}

/// What a text without quotes means. Octal numbers are those of YAML 1.1 and 1.2, since files of both are about.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = |text: &str, radix| u64::from_str_radix(text, radix).ok().filter(|_| !text.starts_with('+'));
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0')).filter(|rest| !rest.is_empty());
    let number = match text.strip_prefix("0x") {
        Some(rest) => digits(rest, 16).map(Number::from),
        None => octal.and_then(|rest| digits(rest, 8)).map(Number::from),
    };
    // JSON's own numbers, of which none begins with a zero but that itself.
    let number = number.or_else(|| text.strip_prefix('+').unwrap_or(text).parse().ok());
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_json_would_say_it() {
        for (text, expected) in [
            (
                "a: 1\nb: [x, 'y', \"z\"]\nc:\n- d: true\n  e: null\n- {}\n",
                json!({
                    "a": 1, "b": ["x", "y", "z"], "c": [{ "d": true, "e": null }, {}],
                }),
            ),
            ("{\"a\": [1, -2, 1.5, \"1\"]}", json!({ "a": [1, -2, 1.5, "1"] })),
            ("0640", json!(0o640)),
            ("0o640", json!(0o640)),
            ("0x1F", json!(31)),
            ("0", json!(0)),
            ("+7", json!(7)),
            ("'0640'", json!("0640")),
            ("0.6.0", json!("0.6.0")),
            ("08", json!("08")),
            ("yes", json!("yes")),
            ("|\n  a\n  b\n", json!("a\nb\n")),
            ("---\na:\n...\n", json!({ "a": null })),
            ("# nothing else\n- 1\n", json!([1])),
        ] {
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused_with_its_line() {
        for (text, words) in [
            ("a: &x 1\nb: *x\n", "line 1: anchors"),
            ("a: !!binary x\n", "line 1: tags"),
            ("a: 1\na: 2\n", "line 2: \"a\" is there twice"),
            ("? [a]\n: 1\n", "a key is no text"),
            ("a: [\n", "line "),
            ("a: 1\n---\nb: 2\n", "line 2: there is more than one document"),
            ("", "it is empty"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        assert!(read(&("- ".repeat(100) + "x")).unwrap_err().contains("too deep"));
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
