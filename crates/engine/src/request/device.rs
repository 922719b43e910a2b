//! Devices: nodes of the host, rules of the cgroup, and names of the Container Device Interface.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;
use super::csv::{fields, key_value};
use super::malformed::container_path;

/// What one `--device` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A node of the host, or a directory of them.
    Node(Node),
    /// A device that a specification of CDI describes.
    Cdi(CdiName),
}

/// A device node of the host, or a directory with all that are in it: `HOST[:CONTAINER][:ACCESS]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where it is in the container.
    pub container: String,
    /// What may be done with it.
    pub access: Access,
}

/// What may be done with a device: some of `r` (read), `w` (write), `m` (mknod).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Access(String);

impl Access {
    /// Everything.
    pub fn all() -> Self {
        Self("rwm".to_owned())
    }

    /// Returns the letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes one to three different letters of `rwm`.
    fn read(text: &str) -> Option<Self> {
        let once = |letter: char| "rwm".contains(letter) && text.matches(letter).count() == 1;
        (!text.is_empty() && text.chars().all(once)).then(|| Self(text.to_owned()))
    }
}

impl FromStr for Device {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if !text.starts_with('/') && text.contains('=') {
            return text.parse().map(Self::Cdi);
        }
        text.parse().map(Self::Node)
    }
}

impl FromStr for Node {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("device", text, reason);
        let parts: Vec<&str> = text.split(':').collect();
        let access = |letters: &str| {
            Access::read(letters).ok_or_else(|| wrong("the access is one to three different letters of rwm"))
        };
        let (container, access) = match parts[1..] {
            [] => (parts[0], Access::all()),
            [one] => match Access::read(one) {
                Some(access) => (parts[0], access),
                None => (one, Access::all()),
            },
            [container, letters] => (container, access(letters)?),
            _ => return Err(wrong("expected HOST[:CONTAINER][:ACCESS]")),
        };
        if !parts[0].starts_with('/') {
            return Err(wrong(
                "expected an absolute path of the host, or a name of CDI such as vendor.com/class=name",
            ));
        }
        let container =
            container_path("device path", container).map_err(|error| error.within("device", text))?;
        Ok(Self { host: PathBuf::from(parts[0]), container, access })
    }
}

/// One rule of a device cgroup: `TYPE MAJOR:MINOR ACCESS` with `a`, `b` or `c`, and `*` for any number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a` for all, `b` for block and `c` for character devices.
    pub kind: char,
    /// The major number; without it any.
    pub major: Option<u32>,
    /// The minor number; without it any.
    pub minor: Option<u32>,
    /// What is allowed.
    pub access: Access,
}

impl FromStr for DeviceRule {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let read = || {
            let mut words = text.split(' ');
            let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
            let kind = matches!(kind, "a" | "b" | "c").then(|| kind.chars().next()).flatten()?;
            let number = |text: &str| match text {
                "*" => Some(None),
                _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
                _ => None,
            };
            let (major, minor) = numbers.split_once(':')?;
            let (major, minor, access) = (number(major)?, number(minor)?, Access::read(access)?);
            words.next().is_none().then_some(Self { kind, major, minor, access })
        };
        read().ok_or_else(|| {
            Malformed::new("device rule", text, "expected TYPE MAJOR:MINOR ACCESS, such as c 189:* rwm")
        })
    }
}

/// The full name of a device of CDI: `vendor.com/class=name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CdiName {
    /// The vendor and the class, which a specification is for: `nvidia.com/gpu`.
    pub kind: String,
    /// The device's name there.
    pub name: String,
}

impl FromStr for CdiName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts = || {
            let (kind, name) = text.split_once('=')?;
            let (vendor, class) = kind.split_once('/')?;
            let named = is_name(vendor, "_-.") && is_name(class, "_-") && starts_with_letter(vendor, class);
            let device = is_name(name, "_-.:") && !name.is_empty();
            (named && device).then(|| Self { kind: kind.to_owned(), name: name.to_owned() })
        };
        parts().ok_or_else(|| {
            Malformed::new(
                "name of a CDI device",
                text,
                "expected VENDOR/CLASS=NAME, such as nvidia.com/gpu=all",
            )
        })
    }
}

fn starts_with_letter(vendor: &str, class: &str) -> bool {
    [vendor, class].iter().all(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Letters, digits, and inside also some marks (cdi's `parser.ValidateVendorName` and its kin).
fn is_name(text: &str, marks: &str) -> bool {
    let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    ends && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

impl fmt::Display for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.name)
    }
}

impl TryFrom<String> for CdiName {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<CdiName> for String {
    fn from(name: CdiName) -> Self {
        name.to_string()
    }
}

/// What one `--gpus` asks for, as names of CDI: `all`, a number, `device=0,1`, with `driver=VENDOR` for others than NVIDIA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpus(pub Vec<CdiName>);

/// How many can be asked for by number.
const MOST_GPUS: u32 = 64;

impl FromStr for Gpus {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("request for GPUs", text, reason);
        let expected = "expected all, a number, or device=NAME, as in --gpus '\"device=0,1\"'";
        let (mut vendor, mut names) = ("nvidia.com".to_owned(), Vec::new());
        for field in fields("request for GPUs", text)? {
            match key_value(&field) {
                ("driver", Some("nvidia" | "cdi")) => {}
                ("driver", Some("amd")) => "amd.com".clone_into(&mut vendor),
                ("driver", Some(other)) if other.contains('.') => other.clone_into(&mut vendor),
                ("driver", _) => {
                    return Err(wrong("the driver is nvidia, amd, or the name of a vendor as CDI has it"));
                }
                ("device", Some(devices)) => names.extend(devices.split(',').map(str::to_owned)),
                ("capabilities", Some("gpu" | "")) => {}
                ("capabilities" | "options", _) => {
                    return Err(wrong(
                        "what a GPU can do stands in its CDI specification; leave capabilities and options out",
                    ));
                }
                ("count", Some(count)) | (count, None) => {
                    names.extend(counted(count).ok_or_else(|| wrong(expected))?);
                }
                _ => return Err(wrong(expected)),
            }
        }
        if names.is_empty() {
            names.push("all".to_owned());
        }
        let name = |name: String| format!("{vendor}/gpu={name}").parse();
        names.into_iter().map(name).collect::<Result<_, Malformed>>().map(Self).map_err(|_| wrong(expected))
    }
}

fn counted(count: &str) -> Option<Vec<String>> {
    match count {
        "all" | "-1" => Some(vec!["all".to_owned()]),
        _ => {
            let count = count.parse::<u32>().ok().filter(|count| (1..=MOST_GPUS).contains(count))?;
            Some((0..count).map(|number| number.to_string()).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_node_or_a_name() {
        for (text, host, container, access) in [
            ("/dev/snd", "/dev/snd", "/dev/snd", "rwm"),
            ("/dev/snd:rw", "/dev/snd", "/dev/snd", "rw"),
            ("/dev/snd:/dev/a", "/dev/snd", "/dev/a", "rwm"),
            ("/dev/snd:/dev/../a:mr", "/dev/snd", "/a", "mr"),
            ("/dev/a=b", "/dev/a=b", "/dev/a=b", "rwm"),
        ] {
            let node = Node {
                host: host.into(),
                container: container.to_owned(),
                access: Access(access.to_owned()),
            };
            assert_eq!(text.parse(), Ok(Device::Node(node)), "{text}");
        }
        let name = CdiName { kind: "vendor.com/net-card".to_owned(), name: "gpu0:1".to_owned() };
        assert_eq!("vendor.com/net-card=gpu0:1".parse(), Ok(Device::Cdi(name)));
    }

    #[test]
    fn other_devices_are_refused() {
        for (text, words) in [
            ("", "absolute path of the host"),
            ("snd", "absolute path of the host"),
            ("/dev/a:dev/b", "absolute path in the container"),
            ("/dev/a:/dev/b:", "different letters"),
            ("/dev/a:/dev/b:rr", "different letters"),
            ("/dev/a:/dev/b:x", "different letters"),
            ("/dev/a:rw:m", "absolute path in the container"),
            ("/dev/a:/b:r:w", "expected HOST"),
            ("/dev/a:", "absolute path in the container"),
            ("vendor/class=", "VENDOR/CLASS=NAME"),
            ("0vendor.com/class=a", "VENDOR/CLASS=NAME"),
            ("vendor.com/cl.ass=a", "VENDOR/CLASS=NAME"),
            ("vendor.com=a", "VENDOR/CLASS=NAME"),
            ("vendor.com/class=a-", "VENDOR/CLASS=NAME"),
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn rules_have_a_fixed_form() {
        let rule: DeviceRule = "c 189:* rwm".parse().unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor, rule.access.as_str()), ('c', Some(189), None, "rwm"));
        assert_eq!("a *:* m".parse::<DeviceRule>().unwrap().major, None);
        for text in [
            "", "c 1:2", "d 1:2 r", "c 1:2 x", "c 1:2 rr", "c -1:2 r", "c 1 r", "c  1:2 r", "c 1:2 r ",
            "c 1: r",
        ] {
            // An empty number parses to nothing.
            assert!(text.parse::<DeviceRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn gpus_are_names_of_cdi() {
        for (text, expected) in [
            ("all", "nvidia.com/gpu=all"),
            ("-1", "nvidia.com/gpu=all"),
            ("2", "nvidia.com/gpu=0 nvidia.com/gpu=1"),
            ("count=1", "nvidia.com/gpu=0"),
            ("device=GPU-3a23", "nvidia.com/gpu=GPU-3a23"),
            ("\"device=0,2\"", "nvidia.com/gpu=0 nvidia.com/gpu=2"),
            ("driver=amd,count=1", "amd.com/gpu=0"),
            ("all,capabilities=gpu", "nvidia.com/gpu=all"),
            ("driver=nvidia", "nvidia.com/gpu=all"),
        ] {
            let read: Gpus = text.parse().unwrap();
            let names: Vec<String> = read.0.iter().map(ToString::to_string).collect();
            assert_eq!(names.join(" "), expected, "{text}");
        }
        for text in ["0", "65", "two", "", "device=", "capabilities=video", "driver=x", "a=b", "options=a"] {
            assert!(text.parse::<Gpus>().is_err(), "{text}");
        }
    }
}
