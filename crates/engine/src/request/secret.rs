//! Files that only the container's processes see, and no image, no layer and no `inspect`.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;
use super::csv::{fields, key_value};
use super::malformed::normal;

/// A file of the host's that is copied for the container: `id=NAME,src=FILE[,target=PATH][,uid=N][,gid=N][,mode=OCTAL]`, or a
/// path alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The file on the host.
    pub source: PathBuf,
    /// Where it is in the container; by default its name below `/run/secrets`.
    pub target: String,
    /// Its owner in the container.
    pub uid: u32,
    /// Its group in the container.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

const NOUN: &str = "secret";

impl FromStr for Secret {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
        let (mut id, mut source, mut target) = (None, None, None);
        let mut secret = Self { source: PathBuf::new(), target: String::new(), uid: 0, gid: 0, mode: 0o444 };
        for field in fields(NOUN, text)? {
            let number = |value: &str| value.parse().map_err(|_| wrong("uid and gid are numbers"));
            match key_value(&field) {
                ("id", Some(value)) => id = Some(value.to_owned()),
                ("src" | "source", Some(value)) => source = Some(value.to_owned()),
                ("target" | "dst", Some(value)) => target = Some(value.to_owned()),
                ("uid", Some(value)) => secret.uid = number(value)?,
                ("gid", Some(value)) => secret.gid = number(value)?,
                ("mode", Some(value)) => {
                    let mode = u32::from_str_radix(value, 8).ok().filter(|&mode| mode <= 0o7777);
                    secret.mode = mode.ok_or_else(|| wrong("the mode is octal, such as 0400"))?;
                }
                ("type", Some("file" | "mount")) => {}
                ("type", _) => return Err(wrong("a secret is a file; give a variable by --env")),
                (path, None) if source.is_none() => source = Some(path.to_owned()),
                _ => return Err(wrong("expected id=NAME,src=FILE and perhaps target, uid, gid, mode")),
            }
        }
        let source =
            source.filter(|source| !source.is_empty()).ok_or_else(|| wrong("a secret needs src=FILE"))?;
        let last = source.rsplit('/').find(|part| !part.is_empty());
        let name = target.or(id).or_else(|| last.map(str::to_owned)).unwrap_or_default();
        let inside =
            if name.starts_with('/') { normal(&name) } else { normal(&format!("/run/secrets/{name}")) };
        if name.is_empty()
            || name.contains('\0')
            || !name.starts_with('/') && !inside.starts_with("/run/secrets/")
        {
            return Err(wrong("the target is a name below /run/secrets, or an absolute path"));
        }
        if inside == "/" {
            return Err(wrong("the target is the path of a file"));
        }
        secret.source = PathBuf::from(source);
        secret.target = inside;
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file() {
        for (text, source, target, mode) in [
            ("/etc/key.pem", "/etc/key.pem", "/run/secrets/key.pem", 0o444),
            ("id=key,src=k.pem", "k.pem", "/run/secrets/key", 0o444),
            ("src=k,target=/etc/k,mode=0400,uid=7", "k", "/etc/k", 0o400),
            ("id=a,src=k,target=b/c", "k", "/run/secrets/b/c", 0o444),
        ] {
            let secret: Secret = text.parse().unwrap();
            assert_eq!((secret.source.to_str(), secret.target.as_str()), (Some(source), target), "{text}");
            assert_eq!(secret.mode, mode);
        }
        for text in [
            "",
            "id=a",
            "src=k,mode=9",
            "src=k,uid=root",
            "src=k,target=..",
            "src=k,target=/",
            "src=k,type=env",
            "a,b",
        ] {
            assert!(text.parse::<Secret>().is_err(), "{text}");
        }
    }
}
