//! What the processes of a container may do.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bulkhead_sys::capability;
use serde::{Deserialize, Serialize};

use super::Malformed;
use super::malformed::{container_path, truth};

/// What the processes of a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Everything that the host's root may, on all devices (`--privileged`).
    #[serde(skip_serializing_if = "super::is_default")]
    pub privileged: bool,
    /// `--cap-add`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub add: Vec<Capability>,
    /// `--cap-drop`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub drop: Vec<Capability>,
    /// `--security-opt seccomp=…`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub seccomp: Seccomp,
    /// `--security-opt apparmor=…`: a profile's name, or `unconfined`; without it the default profile where there is one.
    #[serde(skip_serializing_if = "super::is_default")]
    pub apparmor: Option<String>,
    /// `--security-opt label=…`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub labels: Vec<Label>,
    /// `--security-opt no-new-privileges`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub no_new_privileges: bool,
    /// `--security-opt systempaths=…`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub system_paths: SystemPaths,
    /// `--security-opt mask=…`: further paths that cannot be read.
    #[serde(skip_serializing_if = "super::is_default")]
    pub mask: Vec<String>,
    /// `--security-opt unmask=…`: paths that are neither hidden nor read-only.
    #[serde(skip_serializing_if = "super::is_default")]
    pub unmask: Vec<String>,
    /// The container may change its own cgroups (`--security-opt writable-cgroups`).
    #[serde(skip_serializing_if = "super::is_default")]
    pub writable_cgroups: bool,
}

impl Security {
    /// Adds what one `--security-opt` says; a later one wins.
    ///
    /// # Errors
    /// A profile that is still the name of a file: the caller reads it, and gives [`SecurityOption::Seccomp`] with its text.
    pub fn apply(&mut self, option: SecurityOption) -> Result<(), Malformed> {
        match option {
            SecurityOption::NoNewPrivileges(value) => self.no_new_privileges = value,
            SecurityOption::Seccomp(seccomp) => self.seccomp = seccomp,
            SecurityOption::SeccompFile(path) => {
                return Err(Malformed::new(
                    "seccomp profile",
                    &path.display().to_string(),
                    "it has not been read",
                ));
            }
            SecurityOption::AppArmor(profile) => self.apparmor = Some(profile),
            SecurityOption::Label(label) => self.labels.push(label),
            SecurityOption::SystemPaths(paths) => self.system_paths = paths,
            SecurityOption::Mask(paths) => self.mask.extend(paths),
            SecurityOption::Unmask(paths) => self.unmask.extend(paths),
            SecurityOption::WritableCgroups(value) => self.writable_cgroups = value,
        }
        Ok(())
    }
}

/// The filter of system calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// Docker's policy, by the capabilities of the container; none for a privileged one.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This profile: the text of a file of docker's, or of the specification's form.
    Profile(String),
}

/// The paths of the kernel that containers do not see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemPaths {
    /// They are hidden or read-only, but for a privileged container.
    #[default]
    Masked,
    /// They are there.
    Unconfined,
}

/// A capability, `CAP_CHOWN`, or all of them, `ALL`; case and the prefix do not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(String);

impl Capability {
    /// Tells whether all are meant.
    pub fn is_all(&self) -> bool {
        self.0 == ALL
    }

    /// Returns the name as the specification has it, or `ALL`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const ALL: &str = "ALL";

impl FromStr for Capability {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match capability::NAMES.contains(&bare) {
            true => Ok(Self(format!("CAP_{bare}"))),
            false if bare == ALL => Ok(Self(ALL.to_owned())),
            false => Err(Malformed::new(
                "capability",
                text,
                "expected a name of capabilities(7), such as NET_ADMIN, or ALL",
            )),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Capability {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.0
    }
}

/// What one `--security-opt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// `no-new-privileges[=BOOL]`.
    NoNewPrivileges(bool),
    /// `seccomp=unconfined` or `seccomp=builtin`.
    Seccomp(Seccomp),
    /// `seccomp=FILE`, which the caller reads.
    SeccompFile(PathBuf),
    /// `apparmor=NAME`.
    AppArmor(String),
    /// `label=…`.
    Label(Label),
    /// `systempaths=unconfined`.
    SystemPaths(SystemPaths),
    /// `mask=PATH[:PATH]…`.
    Mask(Vec<String>),
    /// `unmask=PATH[:PATH]…`, or `ALL`, which is the same as `systempaths=unconfined`.
    Unmask(Vec<String>),
    /// `writable-cgroups[=BOOL]`.
    WritableCgroups(bool),
}

const NOUN: &str = "security option";

impl FromStr for SecurityOption {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
        // The colon is docker's old separator, and still works there.
        let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let needed = || value.filter(|value| !value.is_empty()).ok_or_else(|| wrong("expected KEY=VALUE"));
        let paths = |value: &str| {
            value.split(':').map(|path| container_path("path", path)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match key {
            "no-new-privileges" => Self::NoNewPrivileges(value.map_or(Ok(true), |value| truth(NOUN, value))?),
            "writable-cgroups" => Self::WritableCgroups(value.map_or(Ok(true), |value| truth(NOUN, value))?),
            "seccomp" => match needed()? {
                "unconfined" => Self::Seccomp(Seccomp::Unconfined),
                "builtin" => Self::Seccomp(Seccomp::Default),
                file => Self::SeccompFile(PathBuf::from(file)),
            },
            "apparmor" => Self::AppArmor(needed()?.to_owned()),
            "label" => Self::Label(needed()?.parse().map_err(|error: Malformed| error.within(NOUN, text))?),
            "systempaths" if value == Some("unconfined") => Self::SystemPaths(SystemPaths::Unconfined),
            "systempaths" => return Err(wrong("expected systempaths=unconfined")),
            "mask" => Self::Mask(paths(needed()?)?),
            "unmask" if value.is_some_and(|value| value.eq_ignore_ascii_case(ALL)) => {
                Self::SystemPaths(SystemPaths::Unconfined)
            }
            "unmask" => Self::Unmask(paths(needed()?)?),
            _ => {
                return Err(wrong(
                    "expected one of no-new-privileges, seccomp, apparmor, label, systempaths, mask, unmask, \
                     writable-cgroups",
                ));
            }
        })
    }
}

/// What is said of the SELinux context of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// There is none.
    Disable,
    /// The user.
    User(String),
    /// The role.
    Role(String),
    /// The type of its processes.
    Type(String),
    /// The level and categories, of processes and files.
    Level(String),
    /// The type of its files.
    FileType(String),
}

impl FromStr for Label {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = || {
            let reason = "expected disable, or user, role, type, level or filetype with a colon and a value";
            Malformed::new("label", text, reason)
        };
        if text == "disable" {
            return Ok(Self::Disable);
        }
        let (key, value) = text.split_once(':').filter(|(_, value)| !value.is_empty()).ok_or_else(wrong)?;
        let value = value.to_owned();
        Ok(match key {
            "user" => Self::User(value),
            "role" => Self::Role(value),
            "type" => Self::Type(value),
            "level" => Self::Level(value),
            "filetype" => Self::FileType(value),
            _ => return Err(wrong()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_docker_reads_them() {
        let text = |text: &str| text.to_owned();
        for (option, expected) in [
            ("no-new-privileges", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges=true", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges:false", SecurityOption::NoNewPrivileges(false)),
            ("seccomp=unconfined", SecurityOption::Seccomp(Seccomp::Unconfined)),
            ("seccomp:unconfined", SecurityOption::Seccomp(Seccomp::Unconfined)),
            ("seccomp=builtin", SecurityOption::Seccomp(Seccomp::Default)),
            ("seccomp=a=b.json", SecurityOption::SeccompFile("a=b.json".into())),
            ("apparmor=docker-default", SecurityOption::AppArmor(text("docker-default"))),
            ("label=disable", SecurityOption::Label(Label::Disable)),
            ("label=level:s0:c1,c2", SecurityOption::Label(Label::Level(text("s0:c1,c2")))),
            ("label:type:svirt_t", SecurityOption::Label(Label::Type(text("svirt_t")))),
            ("systempaths=unconfined", SecurityOption::SystemPaths(SystemPaths::Unconfined)),
            ("unmask=all", SecurityOption::SystemPaths(SystemPaths::Unconfined)),
            ("mask=/a:/b/", SecurityOption::Mask(vec![text("/a"), text("/b")])),
            ("unmask=/proc/acpi", SecurityOption::Unmask(vec![text("/proc/acpi")])),
            ("writable-cgroups=true", SecurityOption::WritableCgroups(true)),
        ] {
            assert_eq!(option.parse(), Ok(expected), "{option}");
        }
        for option in [
            "",
            "seccomp",
            "seccomp=",
            "apparmor",
            "label=",
            "label=foo",
            "label=type:",
            "systempaths=masked",
            "no-new-privileges=maybe",
            "mask=a",
            "unknown=1",
            "no_new_privileges",
        ] {
            assert!(option.parse::<SecurityOption>().is_err(), "{option}");
        }
    }

    #[test]
    fn a_profile_must_have_been_read() {
        let mut security = Security::default();
        assert!(security.apply(SecurityOption::SeccompFile("x".into())).is_err());
        security.apply(SecurityOption::NoNewPrivileges(true)).unwrap();
        security.apply(SecurityOption::NoNewPrivileges(false)).unwrap();
        assert_eq!(security, Security::default());
    }

    #[test]
    fn capabilities_have_the_names_of_the_specification() {
        for (text, expected) in
            [("net_admin", "CAP_NET_ADMIN"), ("CAP_CHOWN", "CAP_CHOWN"), ("all", "ALL"), ("CAP_ALL", "ALL")]
        {
            assert_eq!(text.parse::<Capability>().unwrap().as_str(), expected);
        }
        for text in ["", "CAP_", "NET", "CAP_CAP_CHOWN", " CHOWN"] {
            assert!(text.parse::<Capability>().is_err(), "{text:?}");
        }
    }
}
