//! Names and name servers.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// What is written to `/etc/hosts` and `/etc/resolv.conf` of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hosts {
    /// `--dns`; without it the host's servers.
    #[serde(skip_serializing_if = "super::is_default")]
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; without it the host's; `.` alone is none.
    #[serde(skip_serializing_if = "super::is_default")]
    pub search: Vec<String>,
    /// `--dns-option`; without it the host's.
    #[serde(skip_serializing_if = "super::is_default")]
    pub options: Vec<String>,
    /// `--add-host`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub entries: Vec<HostEntry>,
}

/// Reads a word of `/etc/resolv.conf` (`--dns-search`, `--dns-option`): what has blanks in it would be several, or other lines.
///
/// # Errors
/// An empty word, and one with blanks or control characters.
pub fn resolver_word(text: &str) -> Result<String, Malformed> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == ';')
    {
        return Err(Malformed::new("word of resolv.conf", text, "expected one word without blanks"));
    }
    Ok(text.to_owned())
}

/// One more name in `/etc/hosts`: `NAME:ADDRESS` or `NAME=ADDRESS`, in which `host-gateway` is the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub address: HostAddress,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAddress {
    /// This address.
    Address(IpAddr),
    /// The host, as the container's network reaches it.
    Gateway,
}

impl FromStr for HostEntry {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("host entry", text, reason);
        // An address of IPv6 has colons itself: the first mark separates, and `=` where there is one.
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .ok_or_else(|| wrong("expected NAME:ADDRESS"))?;
        if name.is_empty()
            || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '#')
        {
            return Err(wrong("expected NAME:ADDRESS with a host's name"));
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => HostAddress::Gateway,
            _ => HostAddress::Address(
                bare.parse().map_err(|_| wrong("expected an address of IPv4 or IPv6, or host-gateway"))?,
            ),
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_no_lines() {
        for text in [".", "example.org", "ndots:2", "rotate"] {
            assert_eq!(resolver_word(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a\nnameserver 6.6.6.6", "a\r", "\u{85}", "#"] {
            assert!(resolver_word(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_stands_for_an_address() {
        for (text, name, address) in [
            ("db:10.0.0.1", "db", Some("10.0.0.1")),
            ("db=10.0.0.1", "db", Some("10.0.0.1")),
            ("db:::1", "db", Some("::1")),
            ("db:[::1]", "db", Some("::1")),
            ("db=2001:db8::1", "db", Some("2001:db8::1")),
            ("h.docker.internal:host-gateway", "h.docker.internal", None),
        ] {
            let address = address
                .map_or(HostAddress::Gateway, |address| HostAddress::Address(address.parse().unwrap()));
            assert_eq!(text.parse(), Ok(HostEntry { name: name.to_owned(), address }), "{text}");
        }
        for text in [
            "",
            "db",
            "db:",
            ":10.0.0.1",
            "db:10.0.0",
            "d b:10.0.0.1",
            "db\n:1.1.1.1",
            "a:b=1.2.3.4",
            "#:1.1.1.1",
        ] {
            assert!(text.parse::<HostEntry>().is_err(), "{text}");
        }
    }
}
