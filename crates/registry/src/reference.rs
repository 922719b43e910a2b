//! References: where an image is and which one it is.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The registry that names without one mean.
pub const DOCKER: &str = "docker.io";

/// The longest name of a host and a repository, in bytes; docker's.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// The name of an image in a registry, in full: `docker.io/library/alpine:3.22`, `host:5000/path@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as docker does: without a host it is in [`DOCKER`], without a path there in `library`, and with
    /// neither tag nor digest it has the tag `latest`.
    ///
    /// # Errors
    /// [`Error::Reference`].
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason| Error::Reference { text: text.to_owned(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "has a tag with other than letters, digits, `_`, `.` and `-`, or over 128 of them",
            ));
        }
        let (host, path) = split_host(name);
        if name.len() > LONGEST_NAME {
            return Err(wrong("has more than 255 bytes"));
        }
        if host.is_some_and(|host| !is_host(host)) {
            return Err(wrong("has no host before its first slash"));
        }
        if !is_repository(path) {
            return Err(wrong(if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
                "has capital letters in its path"
            } else {
                "has a path that is not made of small letters and digits with single `.`, `_` and `-` between"
            }));
        }
        let host = match host {
            None | Some("index.docker.io") => DOCKER,
            Some(host) => host,
        };
        let path =
            if host == DOCKER && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let latest = || digest.is_none().then_some("latest");
        let tag = tag.or_else(latest).map(str::to_owned);
        Ok(Self { host: host.to_owned(), repository: path, tag, digest })
    }

    /// The registry, with its port when it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path in the registry, without tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; there is a digest when there is none.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index that is meant.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and repository.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The same name, meaning the manifest of this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, tag, digest } = self;
        write!(formatter, "{host}/{repository}")?;
        if let Some(tag) = tag {
            write!(formatter, ":{tag}")?;
        }
        digest.iter().try_for_each(|digest| write!(formatter, "@{digest}"))
    }
}

/// The name and, after its last colon, the tag.
pub(crate) fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// What stands before the first slash is a host if it could not be a directory of docker's registry.
pub(crate) fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// Tells whether it is a host name or an address, with or without a port.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        let port = rest.strip_prefix(':');
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (rest.is_empty() || port.is_some_and(is_port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LONGEST_TAG).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

pub(crate) fn is_repository(path: &str) -> bool {
    path.split('/').all(|component| {
        let bytes = component.as_bytes();
        let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut separators = bytes.split(is_word).filter(|run| !run.is_empty());
        bytes.first().is_some_and(is_word)
            && bytes.last().is_some_and(is_word)
            && separators
                .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (typed, expected) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.22", "docker.io/library/alpine:3.22"),
            ("user/image", "docker.io/user/image:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("localhost/x", "localhost/x:latest"),
            ("host:5000/a/b-c.d__e---f/g:T_1.x", "host:5000/a/b-c.d__e---f/g:T_1.x"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("quay.io/a/b", "quay.io/a/b:latest"),
        ] {
            assert_eq!(Reference::parse(typed).unwrap().to_string(), expected);
        }
        let both = Reference::parse(&format!("a.b/c:1@{digest}")).unwrap();
        assert_eq!((both.tag(), both.wanted()), (Some("1"), digest.clone()));
        assert_eq!(Reference::parse(&format!("a.b/c@{digest}")).unwrap().tag(), None);
    }

    #[test]
    fn what_is_no_name_is_refused_with_a_reason() {
        for (typed, reason) in [
            ("", "a path that"),
            ("Alpine", "capital letters"),
            ("a.b/C", "capital letters"),
            ("a.b/", "a path that"),
            ("a//b", "a path that"),
            ("a.b/../c", "a path that"),
            ("a.b/x..y", "a path that"),
            ("a.b/x___y", "a path that"),
            ("a.b/-x", "a path that"),
            ("a:", "a tag"),
            ("a:.b", "a tag"),
            ("a:b\n", "a tag"),
            ("-a.b/c", "no host"),
            ("a.b:99999/c", "no host"),
            ("a.b:+5/c", "no host"),
            ("[::1/c", "no host"),
            ("a b", "a path that"),
            ("a@sha256:12", "digits"),
            (&format!("a.b/{}", "x".repeat(300)), "255"),
            (&format!("a:{}", "x".repeat(129)), "a tag"),
        ] {
            let error = Reference::parse(typed).unwrap_err().to_string();
            assert!(error.contains(reason), "{typed:?} says {error}");
        }
    }
}
