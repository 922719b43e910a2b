//! Where in a layer an entry belongs, by its name alone.

use super::{Error, Limits, Result};

/// The longest name of one file (NAME_MAX).
const COMPONENT: usize = 255;

/// A path in a layer: names between single slashes, none of them `.` or `..`. The layer's root has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Vec<u8>);

impl Place {
    /// Makes a place of a name as archives have it. A slash before it means nothing, as with docker and GNU tar; `..` is
    /// refused, also where it would stay inside: nobody who makes images writes it.
    ///
    /// # Errors
    /// [`Error::Entry`] about `entry`, of which `subject` is meant.
    pub(super) fn of(raw: &[u8], entry: &[u8], subject: Subject, limits: &Limits) -> Result<Self> {
        let fault = |fault: &str| Err(Error::entry(entry, format!("{}{fault}", subject.prefix(raw))));
        if raw.len() > limits.name {
            return Err(Error::Limit {
                entry: Some(entry.to_vec()),
                of: "bytes in a name",
                limit: limits.name as u64,
            });
        }
        let mut path = Vec::with_capacity(raw.len());
        let mut depth = 0;
        for name in raw.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            if name == b".." {
                return fault("has `..` in its name, which could lead out of the layer");
            }
            if name.len() > COMPONENT {
                return fault("has a part that is longer than the 255 bytes that a file's name can have");
            }
            if name.contains(&0) {
                return fault("has a NUL in its name");
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            depth += 1;
        }
        if depth > limits.depth {
            let limit = limits.depth as u64;
            return Err(Error::Limit {
                entry: Some(entry.to_vec()),
                of: "directories below each other",
                limit,
            });
        }
        Ok(Self(path))
    }

    /// Returns the place of a name in a directory.
    pub(super) fn within(parent: &[u8], name: &[u8]) -> Self {
        match parent {
            [] => Self(name.to_vec()),
            parent => Self([parent, name].join(&b'/')),
        }
    }

    /// Returns the path, which is empty for the root.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Splits off the last name. The root has none.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        split(&self.0)
    }
}

/// Splits off the last name of a path.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    })
}

/// Whose name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The entry's own.
    Entry,
    /// What the entry is a hard link to.
    Target,
}

impl Subject {
    fn prefix(self, raw: &[u8]) -> String {
        match self {
            Self::Entry => String::new(),
            Self::Target => format!("is a hard link to {}, which ", super::error::Quoted(raw)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_places_in_the_layer() {
        let long = "x".repeat(256);
        let deep = "d/".repeat(1025);
        let endless = "d".repeat(4097);
        for (raw, expected) in [
            ("etc/passwd", Ok("etc/passwd")),
            ("./etc//./passwd/", Ok("etc/passwd")),
            ("/etc/passwd", Ok("etc/passwd")),
            ("///", Ok("")),
            (".", Ok("")),
            ("", Ok("")),
            ("...", Ok("...")),
            ("..a/b..", Ok("..a/b..")),
            ("..", Err("has `..` in its name")),
            ("../etc/passwd", Err("has `..` in its name")),
            ("a/../b", Err("has `..` in its name")),
            ("a/..", Err("has `..` in its name")),
            ("/..", Err("has `..` in its name")),
            ("a\0b", Err("has a NUL")),
            (&long, Err("longer than the 255 bytes")),
            (&deep, Err("more than 1024 directories")),
            (&endless, Err("more than 4096 bytes in a name")),
        ] {
            let place = Place::of(raw.as_bytes(), raw.as_bytes(), Subject::Entry, &Limits::default());
            match (place, expected) {
                (Ok(place), Ok(path)) => assert_eq!(place.bytes(), path.as_bytes(), "of {raw:?}"),
                (Err(error), Err(sentence)) => assert!(error.to_string().contains(sentence), "{error}"),
                (place, expected) => panic!("{raw:?} becomes {place:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_hard_link_that_leads_out_is_named_with_its_target() {
        let error = Place::of(b"../shadow", b"etc/x", Subject::Target, &Limits::default()).unwrap_err();
        let expected = "\"etc/x\" is a hard link to \"../shadow\", which has `..` in its name, which could lead out of \
                        the layer";
        assert_eq!(error.to_string(), expected);
    }
}
