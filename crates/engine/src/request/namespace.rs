//! Which namespaces a container has of its own, and whose it shares.

use std::str::FromStr;

use bulkhead_shim::users::IdMapping;
use serde::{Deserialize, Serialize};

use super::{Malformed, Network};

/// The namespaces of a container. The defaults are docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// `--network`.
    pub network: Network,
    /// `--ipc`.
    pub ipc: Ipc,
    /// `--pid`.
    pub pid: Pid,
    /// `--uts`.
    pub uts: Uts,
    /// `--cgroupns`; without it the container's own, but the host's for a privileged one with cgroup v1.
    pub cgroup: Option<CgroupNamespace>,
    /// `--userns`, `--uidmap` and `--gidmap`; without it the host's, or for an ordinary user one with the user's ids.
    pub user: Option<UserNamespace>,
}

/// The System V IPC objects and message queues of a container, and its `/dev/shm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipc {
    /// Its own, without a `/dev/shm`.
    None,
    /// Its own.
    #[default]
    Private,
    /// Its own, which other containers may share.
    Shareable,
    /// The host's.
    Host,
    /// Those of a container, by name or id.
    Container(String),
    /// Its pod's, if that has some for all its containers; else its own.
    Pod,
}

impl FromStr for Ipc {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Ok(match text {
            "none" => Self::None,
            "" | "private" => Self::Private,
            "shareable" => Self::Shareable,
            "host" => Self::Host,
            _ => Self::Container(container("ipc", text)?.ok_or_else(|| {
                Malformed::new("ipc", text, "expected none, private, shareable, host or container:NAME")
            })?),
        })
    }
}

/// The processes that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pid {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Those of a container, by name or id.
    Container(String),
    /// Its pod's, if that has them in common for all its containers; else its own.
    Pod,
}

impl FromStr for Pid {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Ok(match text {
            "" | "private" => Self::Private,
            "host" => Self::Host,
            _ => Self::Container(
                container("pid", text)?
                    .ok_or_else(|| Malformed::new("pid", text, "expected private, host or container:NAME"))?,
            ),
        })
    }
}

/// The host name that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uts {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of a container, by name or id.
    Container(String),
    /// Its pod's, if that has one for all its containers; else its own.
    Pod,
}

impl FromStr for Uts {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Ok(match text {
            "" | "private" => Self::Private,
            "host" => Self::Host,
            _ => Self::Container(
                container("uts", text)?
                    .ok_or_else(|| Malformed::new("uts", text, "expected private, host or container:NAME"))?,
            ),
        })
    }
}

/// The root of the cgroup tree that a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupNamespace {
    /// Its own cgroup.
    Private,
    /// The host's.
    Host,
}

impl FromStr for CgroupNamespace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => Err(Malformed::new("cgroup namespace", text, "expected private or host")),
        }
    }
}

/// The users of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// They are the host's: root is root.
    Host,
    /// They are nobody's on the host, and no other container's.
    Auto {
        /// How many ids there are; without it as many as the image's files need, and at least 65536.
        size: Option<u32>,
    },
    /// They are the caller's subordinate ids, and the caller is none of them.
    NoMap,
    /// The caller is this user there, and the others come from the caller's subordinate ids.
    KeepId {
        /// The caller's user id in the container; without it the same.
        uid: Option<u32>,
        /// The caller's group id in the container; without it the same.
        gid: Option<u32>,
    },
    /// They are mapped as these say (`--uidmap`, `--gidmap`).
    Map {
        /// The users.
        uids: Vec<IdMap>,
        /// The groups; the same as the users where there are none.
        gids: Vec<IdMap>,
    },
    /// They are those of a container, by name or id.
    Container(String),
    /// They are those of its pod, which has users of its own.
    Pod,
}

impl FromStr for UserNamespace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = || {
            let reason = "expected host, auto[:size=N], keep-id[:uid=N,gid=N], nomap or container:NAME; \
                          give maps by --uidmap and --gidmap";
            Malformed::new("user namespace", text, reason)
        };
        if let Some(container) = container("user namespace", text)? {
            return Ok(Self::Container(container));
        }
        let (mode, options) =
            text.split_once(':').map_or((text, None), |(mode, options)| (mode, Some(options)));
        let mut numbers = std::collections::BTreeMap::new();
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            let (key, value) = option.split_once('=').ok_or_else(wrong)?;
            let number: u32 = value.parse().map_err(|_| wrong())?;
            numbers.insert(key, number);
        }
        let read = match mode {
            "host" if options.is_none() => Self::Host,
            "nomap" if options.is_none() => Self::NoMap,
            "auto" => Self::Auto { size: numbers.remove("size") },
            "keep-id" => Self::KeepId { uid: numbers.remove("uid"), gid: numbers.remove("gid") },
            _ => return Err(wrong()),
        };
        if numbers.is_empty() && read != (Self::Auto { size: Some(0) }) { Ok(read) } else { Err(wrong()) }
    }
}

/// One range of ids: `CONTAINER:HOST[:SIZE]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdMap(pub IdMapping);

impl FromStr for IdMap {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("map of ids", text, reason);
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        let (container_id, host_id, size) = match numbers.as_deref() {
            Ok(&[container, host]) => (container, host, 1),
            Ok(&[container, host, size]) => (container, host, size),
            _ => return Err(wrong("expected CONTAINER:HOST:SIZE, three numbers")),
        };
        let last = |first: u32| first.checked_add(size.checked_sub(1)?).filter(|&last| last != u32::MAX);
        if last(container_id).is_none() || last(host_id).is_none() {
            return Err(wrong("a range has at least one id, and ends below 4294967295"));
        }
        Ok(Self(IdMapping { container_id, host_id, size }))
    }
}

/// Reads `container:NAME`; what begins otherwise is none.
pub(super) fn container(noun: &'static str, text: &str) -> Result<Option<String>, Malformed> {
    match text.strip_prefix("container:") {
        Some("") => Err(Malformed::new(noun, text, "expected container:NAME with a container's name or id")),
        Some(name) => Ok(Some(name.to_owned())),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_docker_s_words() {
        let named = || "db".to_owned();
        assert_eq!("".parse(), Ok(Ipc::Private));
        assert_eq!("shareable".parse(), Ok(Ipc::Shareable));
        assert_eq!("container:db".parse(), Ok(Ipc::Container(named())));
        assert_eq!("container:db".parse(), Ok(Pid::Container(named())));
        assert_eq!("host".parse(), Ok(Uts::Host));
        assert_eq!("private".parse(), Ok(CgroupNamespace::Private));
        assert!("Host".parse::<Ipc>().is_err() && "none".parse::<Pid>().is_err());
        assert!("".parse::<CgroupNamespace>().is_err() && "shareable".parse::<Uts>().is_err());
    }

    #[test]
    fn users_are_mapped_in_several_ways() {
        for (text, expected) in [
            ("host", UserNamespace::Host),
            ("auto", UserNamespace::Auto { size: None }),
            ("auto:size=1000", UserNamespace::Auto { size: Some(1000) }),
            ("keep-id", UserNamespace::KeepId { uid: None, gid: None }),
            ("keep-id:uid=7,gid=8", UserNamespace::KeepId { uid: Some(7), gid: Some(8) }),
            ("nomap", UserNamespace::NoMap),
            ("container:db", UserNamespace::Container("db".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in
            ["", "host:", "auto:", "auto:size=0", "auto:size=x", "auto:uid=1", "keep-id:size=1", "nomap:"]
        {
            assert!(text.parse::<UserNamespace>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_map_is_a_range() {
        let map = |container_id, host_id, size| Ok(IdMap(IdMapping { container_id, host_id, size }));
        assert_eq!("0:100000:65536".parse(), map(0, 100_000, 65_536));
        assert_eq!("0:1000".parse(), map(0, 1000, 1));
        for text in ["", "0", "0:1:0", "0:4294967295:1", "1:2:3:4", "-1:2:3", "a:b:c", "4294967290:0:10"] {
            assert!(text.parse::<IdMap>().is_err(), "{text}");
        }
    }
}
