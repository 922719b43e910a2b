//! The name by which everything that belongs to a sandbox is recognised.

use std::fmt;

/// A name such as `bh-test-4711-3`, unique on the machine while its sandbox lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// What all names begin with.
    pub(crate) const PREFIX: &str = "bh-test-";

    /// Numbers the sandboxes of a process.
    pub(crate) fn new(process: u32, number: usize) -> Name {
        Name(format!("{}{process}-{number}", Name::PREFIX))
    }

    /// Recognises the name of a directory as that of a sandbox.
    pub(crate) fn from_directory(directory: &str) -> Option<Name> {
        let (process, number) = directory.strip_prefix(Name::PREFIX)?.split_once('-')?;
        Some(Name::new(process.parse().ok()?, number.parse().ok()?))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether bytes contain the name, and not just that of a sandbox with a longer number.
    pub(crate) fn is_mentioned(&self, bytes: &[u8]) -> bool {
        let name = self.0.as_bytes();
        let ends_here = |at: usize| !bytes.get(at + name.len()).is_some_and(u8::is_ascii_digit);
        bytes.windows(name.len()).enumerate().any(|(at, window)| window == name && ends_here(at))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_mentioned_by_a_longer_one() {
        let name = Name::new(12, 1);
        assert!(name.is_mentioned(b"/tmp/bh-test-12-1"));
        assert!(name.is_mentioned(b"/bh-test-12-10/bh-test-12-1-web/rootfs"));
        assert!(!name.is_mentioned(b"/bh-test-12-10/web"));
        assert!(!name.is_mentioned(b"bh-test-12-"));
        assert!(!name.is_mentioned(b""));
    }

    #[test]
    fn a_directory_tells_its_name() {
        assert_eq!(Name::from_directory("bh-test-12-1"), Some(Name::new(12, 1)));
        for other in ["bh-test-12", "bh-test-x-1", "bh-test-12-1-web", "other"] {
            assert_eq!(Name::from_directory(other), None, "{other} is none");
        }
    }
}
