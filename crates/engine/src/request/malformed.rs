//! What is wrong with a value that was typed.

/// A value does not have the form that its flag takes.
///
/// Prints as `invalid size "12q": …`; the reason says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {noun} {value:?}: {reason}")]
pub struct Malformed {
    noun: &'static str,
    value: String,
    reason: String,
}

impl Malformed {
    /// Names the kind of value, what was typed, and why it cannot be.
    pub(crate) fn new(noun: &'static str, value: &str, reason: impl Into<String>) -> Self {
        Self { noun, value: value.to_owned(), reason: reason.into() }
    }

    /// Returns what is wrong, without the value.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Tells the same about the value of which this one is a part.
    pub(crate) fn within(self, noun: &'static str, whole: &str) -> Self {
        let reason = format!("{} {:?}: {}", self.noun, self.value, self.reason);
        Self { noun, value: whole.to_owned(), reason }
    }
}

/// Reads one of a few words.
pub(super) fn choose<T: Copy>(noun: &'static str, text: &str, choices: &[(&str, T)]) -> Result<T, Malformed> {
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let words: Vec<&str> =
            choices.iter().map(|&(word, _)| word).filter(|word| !word.is_empty()).collect();
        Malformed::new(noun, text, format!("expected one of {}", words.join(", ")))
    })
}

/// Reads a truth value as docker does, which is Go's `strconv.ParseBool`.
pub(super) fn truth(noun: &'static str, text: &str) -> Result<bool, Malformed> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Malformed::new(noun, text, "expected true or false")),
    }
}

/// Reads an absolute path in the container, and makes it normal: no `.`, no `..`, no doubled slash.
pub(super) fn container_path(noun: &'static str, text: &str) -> Result<String, Malformed> {
    if !text.starts_with('/') {
        return Err(Malformed::new(noun, text, "expected an absolute path in the container"));
    }
    if text.contains('\0') {
        return Err(Malformed::new(noun, text, "a path has no NUL byte"));
    }
    Ok(normal(text))
}

/// Makes an absolute path normal, without a look at links.
pub(super) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_normal() {
        for (text, expected) in
            [("/", "/"), ("/a//b/", "/a/b"), ("/a/../../b/.", "/b"), ("/..", "/"), ("/a b", "/a b")]
        {
            assert_eq!(container_path("path", text).unwrap(), expected, "{text}");
        }
        assert!(container_path("path", "a").unwrap_err().to_string().contains("absolute"));
        assert!(container_path("path", "/a\0").is_err());
    }

    #[test]
    fn an_error_names_value_and_way_out() {
        let error = choose("colour", "green", &[("", 0), ("red", 1), ("blue", 2)]).unwrap_err();
        assert_eq!(error.to_string(), r#"invalid colour "green": expected one of red, blue"#);
        let error = error.within("picture", "x=green").to_string();
        assert_eq!(error, r#"invalid picture "x=green": colour "green": expected one of red, blue"#);
    }
}
