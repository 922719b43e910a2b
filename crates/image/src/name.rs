//! What people call images: docker's references, normalised.
//!
//! ```text
//! docker.io/library/alpine:3.22@sha256:…
//! ╰─domain╯ ╰───path─────╯ ╰tag╯ ╰digest╯
//! ╰──────repository──────╯
//! ```
//! The grammar is that of the package `reference` of docker's distribution. The *familiar* form leaves out what is
//! understood: `alpine:3.22`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::Digest;

/// The registry that is meant when none is named.
pub const DOCKER: &str = "docker.io";
/// What docker called it once.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where that registry keeps images without an owner.
const OFFICIAL: &str = "library/";
/// The tag that is meant when none is given.
const DEFAULT_TAG: &str = "latest";

/// A normalised name of an image, with a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name {name:?}: {part} {reason}")]
pub struct NameError {
    /// What was given.
    pub name: String,
    /// The part of it that is wrong, such as `tag "a b"`.
    pub part: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Name {
    /// Reads a name as people type it: `alpine` is `docker.io/library/alpine:latest`.
    ///
    /// # Errors
    /// [`NameError`], which names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fault =
            |part: String, reason: &str| NameError { name: text.to_owned(), part, reason: reason.to_owned() };
        if text.is_empty() {
            return Err(fault("it".into(), "is empty"));
        }
        if Digest::from_hex(text).is_some() {
            return Err(fault("it".into(), "could be taken for an image's id"));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => match Digest::parse(digest) {
                Ok(digest) => (rest, Some(digest)),
                Err(error) => return Err(fault(format!("digest {digest:?}"), error.reason)),
            },
        };
        let (repository, tag) = split_tag(rest);
        if let Some((tag, reason)) = tag.and_then(|tag| Some((tag, tag_fault(tag)?))) {
            return Err(fault(format!("tag {tag:?}"), reason));
        }
        let (domain, path) = split_domain(repository);
        if let Some(reason) = domain_fault(domain) {
            return Err(fault(format!("registry {domain:?}"), reason));
        }
        if let Some(reason) = path_fault(&path) {
            return Err(fault(format!("repository {path:?}"), reason));
        }
        // As docker counts: the registry and the slash too.
        if domain.len() + 1 + path.len() > 255 {
            return Err(fault(
                format!("repository {path:?}"),
                "is longer than 255 letters with its registry",
            ));
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the registry's host, and its port if it has one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns where the image lies in the registry, such as `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag. A name without one has a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest of the manifest, or index, that the name insists on.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns registry and path, such as `docker.io/library/alpine`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns registry and path as people write them: `alpine`, `user/app`, `quay.io/user/app`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DOCKER {
            return self.repository();
        }
        match (self.path.strip_prefix(OFFICIAL), self.path.split_once('/')) {
            // Without its owner, what has a second slash would be read as something else.
            (Some(official), _) if !official.contains('/') => official.to_owned(),
            // So would what begins as a registry does.
            (_, Some((first, _))) if is_registry(first) => self.repository(),
            _ => self.path.clone(),
        }
    }

    /// Returns the whole as people write it, with the tag: `alpine:latest`.
    pub fn familiar(&self) -> String {
        self.written(self.familiar_repository())
    }

    /// Returns the name with this digest in place of tag and digest, as docker's `RepoDigests` has them.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { domain: self.domain.clone(), path: self.path.clone(), tag: None, digest: Some(digest) }
    }

    /// Returns the name with this digest besides its tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns the name without its digest; one that had no tag gets `latest`.
    #[must_use]
    pub fn tagged(&self) -> Self {
        let tag = self.tag.clone().or_else(|| Some(DEFAULT_TAG.to_owned()));
        Self { domain: self.domain.clone(), path: self.path.clone(), tag, digest: None }
    }

    fn written(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(self.repository()))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// Splits a tag off. A colon before the last slash belongs to a port.
pub fn split_tag(text: &str) -> (&str, Option<&str>) {
    let path_begins = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[path_begins..].split_once(':') {
        None => (text, None),
        Some((last, tag)) => (&text[..path_begins + last.len()], Some(tag)),
    }
}

/// Splits off what stands before the first slash, if it could be no directory of docker's registry.
pub fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, text),
    }
}

/// Tells whether it is a host's name or address, with or without a port.
pub fn is_host(text: &str) -> bool {
    domain_fault(text).is_none()
}

/// Tells whether it is a path in a registry.
pub fn is_path(text: &str) -> bool {
    path_fault(text).is_none()
}

/// Tells whether it is a tag.
pub fn is_tag(text: &str) -> bool {
    tag_fault(text).is_none()
}

/// Splits a registry off; the official path is completed.
fn split_domain(repository: &str) -> (&str, String) {
    let (domain, path) = split_host(repository);
    let domain = match domain {
        None | Some(LEGACY_DOMAIN) => DOCKER,
        Some(domain) => domain,
    };
    let official = domain == DOCKER && !path.contains('/');
    (domain, if official { format!("{OFFICIAL}{path}") } else { path.to_owned() })
}

/// Tells whether what stands before the first slash names a registry, as docker has it.
fn is_registry(first: &str) -> bool {
    let is_upper = |letter: char| letter.is_ascii_uppercase();
    first.contains(['.', ':']) || first == "localhost" || first.contains(is_upper)
}

fn tag_fault(tag: &str) -> Option<&'static str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if tag.is_empty() {
        Some("is empty")
    } else if tag.len() > 128 {
        Some("is longer than 128 letters")
    } else if !tag.starts_with(is_word) {
        Some("does not begin with a letter, a digit or `_`")
    } else if !tag.chars().all(|letter| is_word(letter) || matches!(letter, '.' | '-')) {
        Some("has other letters than a-z, A-Z, 0-9, `_`, `.` and `-`")
    } else {
        None
    }
}

fn domain_fault(domain: &str) -> Option<&'static str> {
    let (host, port) = match domain.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return Some("has no `]`"),
        Some(Some((address, rest))) => {
            // Zones are not for names.
            if address.parse::<Ipv6Addr>().is_err() {
                return Some("has no IPv6 address between its brackets");
            }
            (None, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or_default()) })
        }
        None => match domain.split_once(':') {
            None => (Some(domain), None),
            Some((host, port)) => (Some(host), Some(port)),
        },
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !port.is_none_or(is_port) {
        return Some("has a port that is none");
    }
    let is_part = |part: &str| {
        let inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        !part.is_empty() && part.chars().all(inside) && !part.starts_with('-') && !part.ends_with('-')
    };
    (!host.is_none_or(|host| host.split('.').all(is_part))).then_some("is no host's name")
}

fn path_fault(path: &str) -> Option<&'static str> {
    if path.contains(|letter: char| letter.is_ascii_uppercase()) {
        return Some("must be in lower case");
    }
    for part in path.split('/') {
        if part.is_empty() {
            return Some("has an empty part");
        }
        if let Some(reason) = part_fault(part) {
            return Some(reason);
        }
    }
    None
}

/// A part is made of words of a-z and 0-9, with one `.`, one or two `_`, or any number of `-` between them.
fn part_fault(part: &str) -> Option<&'static str> {
    let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    if !part.chars().all(|letter| is_word(letter) || matches!(letter, '.' | '_' | '-')) {
        return Some("has other letters than a-z, 0-9, `.`, `_` and `-`");
    }
    if !part.starts_with(is_word) || !part.ends_with(is_word) {
        return Some("has a part that does not begin and end with a letter or digit");
    }
    let separators = part.split(is_word).filter(|between| !between.is_empty());
    let is_separator =
        |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|dash| dash == '-');
    (!separators.into_iter().all(is_separator)).then_some("has a part with separators in a row")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_and_made_familiar_again() {
        let long = "a".repeat(128);
        for (text, normal, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.22", "docker.io/library/alpine:3.22", "alpine:3.22"),
            ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/library/alpine:1", "docker.io/library/alpine:1", "alpine:1"),
            ("docker.io/library/foo/bar", "docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("quay.io/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest"),
            ("HOST/a", "HOST/a:latest", "HOST/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("[fe80::1]/a:T", "[fe80::1]/a:T", "[fe80::1]/a:T"),
            ("a__b/c---d.e_f:V1.0_x-y", "docker.io/a__b/c---d.e_f:V1.0_x-y", "a__b/c---d.e_f:V1.0_x-y"),
            ("under:_tag", "docker.io/library/under:_tag", "under:_tag"),
            ("docker.io/libra.io/a", "docker.io/libra.io/a:latest", "docker.io/libra.io/a:latest"),
            ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
            (&format!("a:{long}"), &format!("docker.io/library/a:{long}"), &format!("a:{long}")),
            (
                &format!("alpine@sha256:{HEX}"),
                &format!("docker.io/library/alpine@sha256:{HEX}"),
                &format!("alpine@sha256:{HEX}"),
            ),
            (
                &format!("quay.io/a:t@sha256:{HEX}"),
                &format!("quay.io/a:t@sha256:{HEX}"),
                &format!("quay.io/a:t@sha256:{HEX}"),
            ),
        ] {
            let name = Name::parse(text).unwrap_or_else(|error| panic!("{text} is a name: {error}"));
            assert_eq!(name.to_string(), normal, "{text} normalised");
            assert_eq!(name.familiar(), familiar, "{text} as people write it");
            assert_eq!(Name::parse(&name.to_string()).unwrap(), name, "{text} normalised is read the same");
            assert_eq!(Name::parse(&name.familiar()).unwrap(), name, "{text} made familiar is read the same");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_part() {
        let long = "a".repeat(256);
        for (text, part) in [
            ("", "it is empty"),
            (HEX, "it could be taken for an image's id"),
            ("Alpine", "repository \"library/Alpine\" must be in lower case"),
            ("a:", "tag \"\" is empty"),
            ("a:-b", "tag \"-b\" does not begin with"),
            ("a:b c", "tag \"b c\" has other letters"),
            (&format!("a:{long}"), "is longer than 128 letters"),
            (&long, "is longer than 255 letters"),
            ("a@sha256:12", "digest \"sha256:12\" wants 64 digits"),
            ("a@b@c", "digest \"b@c\" does not begin with"),
            ("a//b", "repository \"a//b\" has an empty part"),
            ("/a", "repository \"/a\" has an empty part"),
            ("a/", "repository \"a/\" has an empty part"),
            ("a..b", "separators in a row"),
            ("a___b", "separators in a row"),
            ("a.-b", "separators in a row"),
            ("-a", "does not begin and end with"),
            ("a_", "does not begin and end with"),
            ("a/../b", "does not begin and end with"),
            ("ä", "has other letters"),
            ("a b", "has other letters"),
            ("a\u{1b}[2j", "has other letters"),
            ("-x.y/a", "registry \"-x.y\" is no host's name"),
            ("x..y/a", "registry \"x..y\" is no host's name"),
            ("x.y:z/a", "registry \"x.y:z\" has a port that is none"),
            ("x.y:/a", "registry \"x.y:\" has a port that is none"),
            ("[::1/a", "registry \"[::1\" has no `]`"),
            ("[::1%eth0]/a", "has no IPv6 address"),
            ("[::1]5000/a", "has a port that is none"),
            ("[:::]/a", "has no IPv6 address"),
            ("x.y:99999/a", "has a port that is none"),
            ("x.y:+5/a", "has a port that is none"),
            ("https://x.y/a", "registry \"https:\" has a port that is none"),
        ] {
            let error = Name::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text:?} is refused with {error:?}, not {part:?}");
        }
    }

    #[test]
    fn forms_of_one_repository() {
        let name = Name::parse(&format!("quay.io/a/b:t@sha256:{HEX}")).unwrap();
        assert_eq!(name.tagged().to_string(), "quay.io/a/b:t");
        assert_eq!(name.at(Digest::of(b"")).to_string(), format!("quay.io/a/b@sha256:{HEX}"));
        assert_eq!(name.at(Digest::of(b"")).tagged().to_string(), "quay.io/a/b:latest");
        assert_eq!((name.domain(), name.path(), name.tag()), ("quay.io", "a/b", Some("t")));
    }
}
