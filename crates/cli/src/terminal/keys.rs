//! The keys by which a person leaves a container that goes on.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use crate::failure::{Failure, NOT_STARTED};

/// A sequence of keys, such as docker's `ctrl-p,ctrl-q`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

impl Default for Keys {
    fn default() -> Self {
        Keys(vec![CTRL_P, CTRL_Q])
    }
}

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Keys, String> {
        if text.is_empty() {
            return Ok(Keys::default());
        }
        text.split(',').map(key).collect::<Result<_, _>>().map(Keys)
    }
}

fn key(text: &str) -> Result<u8, String> {
    let wrong = || format!("{text:?} is no key: a letter is, or ctrl- with a letter or one of @ [ \\ ] ^ _");
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([letter], _) if letter.is_ascii_graphic() => Ok(*letter),
        (_, Some([letter])) => match letter.to_ascii_uppercase() {
            letter @ b'@'..=b'_' => Ok(letter - b'@'),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

impl Keys {
    /// The keys that were typed as an option, else those of docker's `config.json`, else docker's.
    ///
    /// # Errors
    /// A configuration whose `detachKeys` are no keys.
    pub(crate) fn or_configured(typed: Option<Keys>) -> Result<Keys, Failure> {
        typed.map_or_else(configured, Ok)
    }
}

fn configured() -> Result<Keys, Failure> {
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = directory("DOCKER_CONFIG").or_else(|| Some(directory("HOME")?.join(".docker")));
    let Some(path) = own.map(|own| own.join("config.json")) else { return Ok(Keys::default()) };
    match std::fs::read(&path) {
        Ok(bytes) => of_document(&bytes)
            .map_err(|reason| Failure::new(format!("{}: {reason}", path.display())).code(NOT_STARTED)),
        // Who must not read it has no wishes there.
        Err(_) => Ok(Keys::default()),
    }
}

fn of_document(bytes: &[u8]) -> Result<Keys, String> {
    #[derive(Deserialize)]
    struct Wishes {
        #[serde(default, rename = "detachKeys")]
        keys: String,
    }
    let Wishes { keys } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    keys.parse().map_err(|error| format!("detachKeys: {error}"))
}

/// Looks for keys in what is typed.
#[derive(Debug)]
pub(super) struct Watch {
    keys: Vec<u8>,
    /// How many of the keys were typed last.
    typed: usize,
}

impl Watch {
    pub(super) fn new(keys: Keys) -> Watch {
        Watch { keys: keys.0, typed: 0 }
    }

    /// Passes on what was typed, but for the keys, and holds back what may become them. Tells whether they were typed.
    pub(super) fn pass(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> bool {
        for byte in bytes {
            if self.keys[self.typed] != *byte {
                to.extend(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if self.keys[self.typed] == *byte {
                self.typed += 1;
            } else {
                to.push(*byte);
            }
            if self.typed == self.keys.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_docker_names_them() {
        for (text, expected) in [
            ("ctrl-p,ctrl-q", &[16, 17][..]),
            ("", &[16, 17]),
            ("a,ctrl-A,ctrl-@,ctrl-[,ctrl-_", &[b'a', 1, 0, 27, 31]),
            ("ctrl-\\", &[28]),
        ] {
            assert_eq!(text.parse(), Ok(Keys(expected.to_vec())), "{text}");
        }
        for text in ["ctrl-", "ctrl-1", "ab", "a,", "ctrl-pq", "ü"] {
            assert!(text.parse::<Keys>().is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_configured_as_docker_s() {
        for (text, expected) in [
            ("{}", Ok(Keys::default())),
            (r#"{ "detachKeys": "ctrl-e,e", "auths": {} }"#, Ok(Keys(vec![5, b'e']))),
            (r#"{ "detachKeys": "" }"#, Ok(Keys::default())),
        ] {
            assert_eq!(of_document(text.as_bytes()), expected, "{text}");
        }
        for text in [r#"{ "detachKeys": "ctrl-1" }"#, r#"{ "detachKeys": 1 }"#, "x"] {
            assert!(of_document(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_only_begins_like_the_keys_is_passed_on() {
        for (typed, passed, left) in [
            (&[&b"abc"[..]][..], &b"abc"[..], false),
            (&[b"a\x10\x11b"], b"a", true),
            (&[b"a\x10", b"\x11"], b"a", true),
            (&[b"\x10", b"x\x11"], b"\x10x\x11", false),
            (&[b"\x10\x10\x11"], b"\x10", true),
            (&[b"\x11\x10"], b"\x11", false),
        ] {
            let mut watch = Watch::new(Keys::default());
            let mut to = Vec::new();
            let found = typed.iter().any(|bytes| watch.pass(bytes, &mut to));
            assert_eq!((to.as_slice(), found), (passed, left), "{typed:?}");
        }
    }
}
