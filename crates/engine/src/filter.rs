//! What of a list is wanted: docker's `--filter KEY=VALUE`.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::error::{Error, Result};

/// Filters by key. Of several values for one key one must fit, of labels all; and every key must fit.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    given: Vec<(&'static str, String)>,
}

impl Filters {
    /// Reads filters as they are typed, each `KEY=VALUE`, with one of the keys that are `known`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what has no `=` or another key; it names the known ones.
    pub fn parse(texts: &[impl AsRef<str>], known: &[&'static str]) -> Result<Self> {
        let read = |text: &str| {
            let invalid = |reason: String| Error::Invalid { what: format!("filter {text:?}"), reason };
            let (key, value) = text.split_once('=').ok_or_else(|| invalid("it is not KEY=VALUE".into()))?;
            let key = known.iter().find(|known| **known == key.trim());
            let key = key.ok_or_else(|| invalid(format!("its key is none of {}", known.join(", "))))?;
            Ok((*key, value.to_owned()))
        };
        Ok(Self { given: texts.iter().map(|text| read(text.as_ref())).collect::<Result<_>>()? })
    }

    /// Tells whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Returns the values of a key.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == key).map(|(_, value)| value.as_str())
    }

    /// Tells whether one of the key's values fits, or there are none.
    pub(crate) fn any(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        let mut values = self.values(key).peekable();
        values.peek().is_none() || values.any(fits)
    }

    /// Tells whether all labels that are asked for are there: `label=NAME`, `label=NAME=VALUE`, and the reverse with
    /// `label!`.
    pub fn fits_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").all(has) && !self.values("label!").any(has)
    }

    /// Makes patterns of the key's values.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that is no regular expression.
    pub(crate) fn patterns(&self, key: &'static str) -> Result<Patterns> {
        let read = |value: &str| {
            Regex::new(value).map_err(|error| Error::Invalid {
                what: format!("filter \"{key}={value}\""),
                reason: error.to_string(),
            })
        };
        Ok(Patterns(self.values(key).map(read).collect::<Result<_>>()?))
    }
}

/// Regular expressions, of which one must be found.
#[derive(Debug)]
pub(crate) struct Patterns(Vec<Regex>);

impl Patterns {
    /// Tells whether one is found in the text, or there are none.
    pub(crate) fn fit(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.is_match(text))
    }
}

/// Reads a filter's word for yes or no, as docker does.
///
/// # Errors
/// [`Error::Invalid`] for another word.
pub(crate) fn truth(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::Invalid {
            what: format!("filter \"{key}={value}\""),
            reason: "it is neither true nor false".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Filters {
        Filters::parse(texts, &["name", "label", "label!", "status"]).unwrap()
    }

    #[test]
    fn a_filter_is_a_known_key_and_a_value() {
        let given = filters(&["name=a=b", "label=x"]);
        assert_eq!(given.values("name").collect::<Vec<_>>(), ["a=b"]);
        for (text, words) in [("name", "not KEY=VALUE"), ("colour=red", "none of name, status")] {
            let error = Filters::parse(&[text], &["name", "status"]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(Filters::parse(&[] as &[&str], &[]).unwrap().is_empty());
    }

    #[test]
    fn one_value_of_a_key_must_fit_and_all_labels() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (texts, expected) in [
            (&["label=a"][..], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=c"], false),
            (&["label!=c"], true),
            (&["label!=a"], false),
        ] {
            assert_eq!(filters(texts).fits_labels(&labels), expected, "{texts:?}");
        }
        let given = filters(&["status=running", "status=paused"]);
        assert!(given.any("status", |value| value == "paused"));
        assert!(!given.any("status", |value| value == "exited"));
        assert!(given.any("name", |_| false), "nothing was asked of it");
    }

    #[test]
    fn names_are_patterns() {
        let fit = |text: &str, name: &str| filters(&[text]).patterns("name").unwrap().fit(name);
        assert!(fit("name=eb", "web-1"));
        assert!(!fit("name=^eb", "web-1"));
        assert!(fit("name=^web-[0-9]$", "web-1"));
        assert!(filters(&["name=["]).patterns("name").is_err());
    }
}
