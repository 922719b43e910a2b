//! What an attachment is called by.

use std::fmt;

use super::error::{Error, Result};

/// The length of a record's name that a file system takes, without what is appended to it.
const LONGEST: usize = 240;
/// IFNAMSIZ, without the NUL.
const LONGEST_DEVICE: usize = 15;

/// A network, a container and a device in that: what an attachment is called by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    network: String,
    container: String,
    interface: String,
}

impl Key {
    /// Checks the names. Those of networks and containers begin with a letter or a digit, and have `_`, `.` and `-` besides; that of
    /// the device has at most 15 bytes.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn new(network: &str, container: &str, interface: &str) -> Result<Self> {
        check_name("network", network)?;
        check_name("container", container)?;
        check_device(interface)?;
        let key = Self {
            network: network.to_owned(),
            container: container.to_owned(),
            interface: interface.to_owned(),
        };
        match key.stem().len() {
            0..=LONGEST => Ok(key),
            _ => Err(Error::name(
                "network and container",
                &format!("{network} {container}"),
                "are longer together than the name of a file can be",
            )),
        }
    }

    /// The network's name.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The container's id.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The device in the container, as `eth0`.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The name of its files, without what is appended: a `@` is in none of the first two names.
    pub(super) fn stem(&self) -> String {
        format!("{}@{}@{}", self.network, self.container, self.interface)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} in {}", self.interface, self.container, self.network)
    }
}

/// Checks the name of a network, or of a container, as the specification has it.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.bytes().all(is_fine) {
        return Ok(());
    }
    Err(Error::name(what, name, "must begin with a letter or a digit, and have only those, `_`, `.` and `-`"))
}

/// Checks the name of a device, as the kernel has it.
fn check_device(name: &str) -> Result<()> {
    let is_odd =
        |letter: char| letter == '/' || letter == ':' || letter.is_whitespace() || letter.is_control();
    let reason = match name {
        "" | "." | ".." => "is no name of a device",
        name if name.len() > LONGEST_DEVICE => "has more than 15 bytes",
        name if name.contains(is_odd) => "has a blank, `/` or `:` in it",
        _ => return Ok(()),
    };
    Err(Error::name("interface", name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for (network, container, interface) in [("a", "1", "eth0"), ("k8s-pod.net_1", "4f2a", "a@b")] {
            assert!(Key::new(network, container, interface).is_ok(), "{network} {container} {interface}");
        }
        let long = "x".repeat(120);
        for (network, container, interface, named) in [
            ("", "c", "eth0", "network"),
            ("../n", "c", "eth0", "network"),
            ("n", "-c", "eth0", "container"),
            ("n", "a/b", "eth0", "container"),
            ("n", "a@b", "eth0", "container"),
            ("n", "c", "", "interface"),
            ("n", "c", "..", "interface"),
            ("n", "c", "eth0/x", "interface"),
            ("n", "c", "eth 0", "interface"),
            ("n", "c", "sixteen-is-too-l", "interface"),
            (&long, &long, "eth0", "longer"),
        ] {
            let error = Key::new(network, container, interface).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
