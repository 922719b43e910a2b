//! Names with values: variables, labels, annotations, kernel parameters, and files of them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// An environment variable that is set, or taken away.
///
/// Reads `NAME=value`. `NAME` alone takes the caller's value, which [`Variable::inherit`] looks up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value; without one a variable of the image's is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl FromStr for Variable {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err(Malformed::new("variable", text, "expected NAME=value or NAME"));
        }
        if text.contains('\0') {
            return Err(Malformed::new("variable", text, "a variable has no NUL byte"));
        }
        Ok(Self { name: name.to_owned(), value: value.map(str::to_owned) })
    }
}

impl Variable {
    /// Gives a variable without a value the one that `lookup` finds, if any.
    #[must_use]
    pub fn inherit(self, lookup: impl FnOnce(&str) -> Option<String>) -> Self {
        let Self { name, value } = self;
        let value = value.or_else(|| lookup(&name));
        Self { name, value }
    }
}

/// A name with a value: `name=value`, or `name` alone for an empty one (`--label`, `--annotation`, `--sysctl`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// What stands before the first `=`.
    pub key: String,
    /// What stands behind it.
    pub value: String,
}

impl FromStr for KeyValue {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.trim().is_empty() {
            return Err(Malformed::new("name with a value", text, "expected name=value"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Reads a file of variables (`--env-file`): a `NAME=value` or `NAME` in each line; blank lines and those that begin with `#`
/// say nothing. Quotation marks and blanks behind `=` belong to the value.
///
/// # Errors
/// The first line that is neither, or whose name has a blank in it.
pub fn variable_file(text: &str) -> Result<Vec<Variable>, Malformed> {
    lines(text).map(|line| checked_name("variable", line)?.parse()).collect()
}

/// Reads a file of labels (`--label-file`), by the rules of [`variable_file`].
///
/// # Errors
/// As there.
pub fn label_file(text: &str) -> Result<Vec<KeyValue>, Malformed> {
    lines(text).map(|line| checked_name("label", line)?.parse()).collect()
}

/// Docker drops a byte order mark at the front, and blanks at the front of a line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn checked_name<'a>(noun: &'static str, line: &'a str) -> Result<&'a str, Malformed> {
    let name = line.split_once('=').map_or(line, |(name, _)| name);
    if name.contains(char::is_whitespace) {
        return Err(Malformed::new(noun, line, "a name in a file has no blanks"));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: Option<&str>) -> Variable {
        Variable { name: name.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn a_variable_has_a_name() {
        for (text, expected) in [
            ("A=b", variable("A", Some("b"))),
            ("A=", variable("A", Some(""))),
            ("A=b=c d", variable("A", Some("b=c d"))),
            ("A", variable("A", None)),
            ("a.b-c=1", variable("a.b-c", Some("1"))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "=b", "=", "A=\0"] {
            assert!(text.parse::<Variable>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_alone_takes_the_callers_value() {
        let lookup = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        assert_eq!(variable("HOME", None).inherit(lookup), variable("HOME", Some("/root")));
        assert_eq!(variable("HOME", Some("")).inherit(lookup), variable("HOME", Some("")));
        assert_eq!(variable("X", None).inherit(lookup), variable("X", None));
    }

    #[test]
    fn a_file_has_a_variable_in_each_line() {
        let text = "\u{feff}# comment\nA=1\r\n\n  B = quoted \"x\" # no comment\nHOME\nC=\n";
        let error = variable_file(text).unwrap_err().to_string();
        assert!(error.contains("no blanks") && error.contains("B = quoted"), "{error}");
        let read = variable_file(&text.replace("B = ", "B= ")).unwrap();
        assert_eq!(
            read,
            [
                variable("A", Some("1")),
                variable("B", Some(" quoted \"x\" # no comment")),
                variable("HOME", None),
                variable("C", Some("")),
            ]
        );
        assert!(variable_file("=x").is_err());
        assert_eq!(
            label_file("a.b=c\nd").unwrap()[1],
            KeyValue { key: "d".to_owned(), value: String::new() }
        );
        assert!(label_file("a b=c").is_err());
    }
}
