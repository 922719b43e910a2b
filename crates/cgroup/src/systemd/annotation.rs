//! Properties of the unit that annotations ask for: `org.systemd.property.TimeoutStopUSec: "uint64 5000000"`.
//!
//! The names are systemd's, the values have GVariant's text form, as under runc. A name that ends in `Sec` is one in
//! seconds, which systemd knows as one in microseconds that ends in `USec`.

use std::collections::BTreeMap;

use super::property::{Property, Value};
use crate::decimal;
use crate::error::{Error, Result};

/// How the annotations begin that set a property of the unit.
pub const PREFIX: &str = "org.systemd.property.";

/// Reads those annotations that are properties.
///
/// # Errors
/// [`Error::Annotation`] for a name that no property has, or a value that is none.
pub fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let with_prefix =
        annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    with_prefix
        .map(|(key, name, value)| {
            property(name, value).map_err(|reason| Error::Annotation { key: key.clone(), reason })
        })
        .collect()
}

fn property(name: &str, text: &str) -> std::result::Result<Property, &'static str> {
    let is_name =
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_name {
        return Err("is not named like a property of a unit");
    }
    if matches!(name, "PIDs" | "Slice" | "Delegate") {
        return Err("belongs to the runtime");
    }
    let text = text.trim();
    match name.strip_suffix("Sec") {
        Some(stem) if !stem.ends_with('U') => {
            let value = microseconds(text).ok_or("has a value that is no number of seconds")?;
            Ok(Property::new(&format!("{stem}USec"), Value::U64(value)))
        }
        _ => {
            let value = value(text).ok_or("has a value that is not of GVariant's text form")?;
            Ok(Property::new(name, value))
        }
    }
}

fn microseconds(text: &str) -> Option<u64> {
    decimal::scaled(text.rsplit(' ').next()?, 6)
}

fn value(text: &str) -> Option<Value> {
    if let Some((kind, number)) = text.split_once(' ') {
        let number = number.trim();
        match kind {
            "int32" => return number.parse().ok().map(Value::I32),
            "uint32" => return number.parse().ok().map(Value::U32),
            "int64" => return number.parse().ok().map(Value::I64),
            "uint64" => return number.parse().ok().map(Value::U64),
            _ => {}
        }
    }
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    if let Some(list) = text.strip_prefix('[') {
        return texts(list);
    }
    if text.starts_with(['\'', '"']) {
        let (text, rest) = quoted(text)?;
        return rest.is_empty().then_some(Value::Text(text));
    }
    text.parse().ok().map(Value::I32)
}

/// Reads `'a', 'b']`.
fn texts(list: &str) -> Option<Value> {
    let mut texts = Vec::new();
    let mut rest = list.trim_start();
    while rest != "]" {
        let (text, behind) = quoted(rest)?;
        texts.push(text);
        rest = behind.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if rest == "]" => rest,
            None => return None,
        };
    }
    Some(Value::Texts(texts))
}

/// Reads a text in quotes and returns what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut plain = String::new();
    let mut letters = text[1..].char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            '\\' => plain.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                escaped @ ('\\' | '\'' | '"') => escaped,
                _ => return None,
            }),
            '\0' => return None,
            c if c == quote => return Some((plain, &text[1 + at + 1..])),
            c => plain.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_that_their_text_says() {
        for (text, expected) in [
            ("true", Value::Bool(true)),
            ("5", Value::I32(5)),
            ("-5", Value::I32(-5)),
            ("int32 5", Value::I32(5)),
            ("uint32 5", Value::U32(5)),
            ("int64 -5", Value::I64(-5)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("'inactive-or-failed'", Value::Text("inactive-or-failed".into())),
            (r#""a\"'b""#, Value::Text("a\"'b".into())),
            ("['a', 'b']", Value::Texts(vec!["a".into(), "b".into()])),
            ("[]", Value::Texts(Vec::new())),
        ] {
            assert_eq!(property("Name", text), Ok(Property::new("Name", expected)), "{text}");
        }
        for text in ["", "x", "'a", "'a'b", "['a' 'b']", "['a'", "uint32 -1", "uint64 x", "'\\x'", "[1]"] {
            assert!(property("Name", text).is_err(), "{text:?} is no value");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (text, expected) in [("5", 5_000_000), ("uint64 2", 2_000_000), ("0.25", 250_000)] {
            let found = property("TimeoutStopSec", text);
            assert_eq!(found, Ok(Property::new("TimeoutStopUSec", Value::U64(expected))), "{text}");
        }
        let micros = property("TimeoutStopUSec", "uint64 5").unwrap();
        assert_eq!(micros, Property::new("TimeoutStopUSec", Value::U64(5)));
        for text in ["-1", "'a'", "1e300", "true"] {
            assert!(property("TimeoutStopSec", text).is_err(), "{text:?} is no number of seconds");
        }
    }

    #[test]
    fn only_annotations_with_the_prefix_count_and_must_name_properties() {
        let one = |key: &str, value: &str| {
            properties(&BTreeMap::from([(key.to_owned(), value.to_owned())])).map_err(|e| e.to_string())
        };
        assert_eq!(one("org.example.x", "?"), Ok(Vec::new()));
        assert_eq!(one("org.systemd.property.A", "1"), Ok(vec![Property::new("A", Value::I32(1))]));
        for name in ["", "a", "A-b", "A.b", "A b"] {
            let error = one(&format!("org.systemd.property.{name}"), "1").unwrap_err();
            assert!(error.contains("is not named like a property"), "{name:?}: {error}");
        }
        for name in ["PIDs", "Slice", "Delegate"] {
            let error = one(&format!("org.systemd.property.{name}"), "true").unwrap_err();
            assert!(error.contains("belongs to the runtime"), "{name:?}: {error}");
        }
    }
}
