//! One line of docker's json-file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// The stream on which a container said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Its standard output, or its terminal.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A line of output, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was read, in nanoseconds since 1970 (UTC).
    pub time: u64,
    /// Where it was said.
    pub stream: Stream,
    /// What was said, with the newline if it had one.
    pub text: Cow<'a, str>,
    /// What each line was to say besides, by names.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: Stream,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// How each line begins.
const BEGIN: &[u8] = b"{\"log\":";

impl<'a> Entry<'a> {
    /// Reads a line; `None` when it is no entry.
    ///
    /// A monitor that was killed, or a disk that was full, leaves a torn line, to whose end the next one was written: of
    /// those the last is read.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let parsed = serde_json::from_slice::<Line<'a>>(line).ok().or_else(|| {
            let begin = line.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
            serde_json::from_slice(&line[begin..]).ok()
        })?;
        let Line { log: text, stream, time, attrs: attributes } = parsed;
        let time: jiff::Timestamp = time.parse().ok()?;
        Some(Self { time: time.as_nanosecond().try_into().ok()?, stream, text, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_lines_are_entries() {
        let line = br#"{"log":"a \"b\"\n","stream":"stderr","time":"1970-01-01T00:00:01.000000002Z"}"#;
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.time, entry.stream, &*entry.text), (1_000_000_002, Stream::Stderr, "a \"b\"\n"));
        let with_attributes =
            br#"{"log":"x","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-01T00:00:00Z"}"#;
        let entry = Entry::parse(with_attributes).unwrap();
        assert_eq!((&*entry.text, entry.attributes["a"].as_str()), ("x", "b"));
    }

    #[test]
    fn of_a_torn_line_the_rest_is_read_and_nonsense_is_left_out() {
        let torn = br#"{"log":"lo{"log":"whole\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(Entry::parse(torn).unwrap().text, "whole\n");
        for nonsense in
            [&b""[..], b"{", b"null", br#"{"log":"x","stream":"stdin","time":"2026-01-01T00:00:00Z"}"#]
        {
            assert_eq!(Entry::parse(nonsense), None);
        }
    }
}
