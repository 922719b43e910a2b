//! `registries.conf`, version 2: mirrors, blocked and insecure registries, prefixes, short names
//! (containers-registries.conf(5)).
//!
//! A name is looked up by its longest prefix. What stands after the prefix is put after the location of the registry and
//! of each mirror, which gives the endpoints in the order in which they are asked:
//!
//! ```text
//! prefix = "docker.io/library", location = "docker.io/library", mirror "10.0.0.5:5000/hub"
//! docker.io/library/alpine:3.22 ─► 10.0.0.5:5000/hub/alpine:3.22, then docker.io/library/alpine:3.22
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_image::{Name, name};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// What is configured of all registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// By prefix, in no order.
    rules: Vec<Rule>,
    aliases: BTreeMap<String, String>,
    search: Vec<String>,
    helpers: Vec<String>,
}

/// Where an image is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host, with its port when it has one.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// Whether the host has to prove who it is.
    pub wall: Wall,
    /// Whose credentials are used, where the place of a mirror does not have its own.
    pub(crate) kind: Kind,
}

/// How a registry is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wall {
    /// By TLS, with a certificate that is trusted.
    Trusted,
    /// By TLS with any certificate, else without.
    Insecure,
}

/// Which of the endpoints of a name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Mirror,
    Registry,
}

/// The images that a typed name could mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// One, in full.
    One(Name),
    /// A short name: the first of these that exists.
    FirstOf(Vec<Name>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    prefix: String,
    location: String,
    wall: Wall,
    access: Access,
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Open,
    Blocked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    location: String,
    wall: Wall,
    pulls: Pulls,
}

/// For which names a mirror is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pulls {
    All,
    DigestOnly,
    TagOnly,
}

/// The file as it is written; unknown keys are left to those who know them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    registries: Option<toml::Value>,
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<FileRule>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileRule {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<FileMirror>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<Pulls>,
}

impl Registries {
    /// Reads the first of `files` that exists, and all `*.conf` of the directories over it, in the order of their names;
    /// the later file wins.
    ///
    /// # Errors
    /// [`Error::Configuration`] and [`Error::File`].
    pub fn read(files: &[PathBuf], directories: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        for path in files {
            if all.add(path)? {
                break;
            }
        }
        for directory in directories {
            for path in files::listed(directory, "conf")? {
                all.add(&path)?;
            }
        }
        Ok(all)
    }

    /// Reads a file over what is known; tells whether it exists.
    fn add(&mut self, path: &Path) -> Result<bool> {
        let Some(bytes) = files::read(path, LONGEST)? else { return Ok(false) };
        let wrong = |reason: String| Error::Configuration { path: path.to_owned(), reason };
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
        self.add_text(&text).map_err(wrong)?;
        Ok(true)
    }

    /// Reads the text of one file over what is known.
    ///
    /// # Errors
    /// What is wrong with it, with its line where there is one.
    pub fn add_text(&mut self, text: &str) -> std::result::Result<(), String> {
        let file: File = toml::from_str(text).map_err(|error| one_line(&error.to_string()))?;
        let File { registries, unqualified_search_registries, credential_helpers, registry, aliases } = file;
        if registries.is_some() {
            return Err("has version 1 of the format, with [registries.…]; version 2 has [[registry]]".into());
        }
        let rules = registry.into_iter().map(rule).collect::<std::result::Result<Vec<_>, _>>()?;
        for (alias, target) in &aliases {
            let is_full = name::split_host(target).0.is_some() && Name::parse(target).is_ok();
            if !target.is_empty() && !is_full {
                return Err(format!("alias {alias:?} is {target:?}, which is no full name of an image"));
            }
        }
        for host in unqualified_search_registries.iter().flatten() {
            check_place(host, "unqualified-search-registries")?;
        }
        for rule in rules {
            self.rules.retain(|old| old.prefix != rule.prefix);
            self.rules.push(rule);
        }
        self.aliases.extend(aliases);
        self.search = unqualified_search_registries.unwrap_or_else(|| std::mem::take(&mut self.search));
        self.helpers = credential_helpers.unwrap_or_else(|| std::mem::take(&mut self.helpers));
        Ok(())
    }

    /// What somebody means who types a name: a name with a host is meant so; another is an alias, or in one of the
    /// registries that are searched; if none are configured, in docker's, as with docker.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn meaning(&self, typed: &str) -> Result<Meaning> {
        let before = typed.split_once('@').map_or(typed, |(name, _)| name);
        let (name, _) = name::split_tag(before);
        if name::split_host(name).0.is_some() {
            return Ok(Meaning::One(Name::parse(typed)?));
        }
        let rest = &typed[name.len()..];
        if let Some(target) = self.aliases.get(name).filter(|target| !target.is_empty()) {
            return Ok(Meaning::One(Name::parse(&format!("{target}{rest}"))?));
        }
        match self.search.as_slice() {
            [] => Ok(Meaning::One(Name::parse(typed)?)),
            [only] => Ok(Meaning::One(Name::parse(&format!("{only}/{typed}"))?)),
            several => {
                let all = several.iter().map(|host| Name::parse(&format!("{host}/{typed}")));
                Ok(Meaning::FirstOf(all.collect::<std::result::Result<_, _>>()?))
            }
        }
    }

    /// Where a name is asked for, in this order.
    ///
    /// # Errors
    /// [`Error::Blocked`], and [`Error::Name`] when a rule makes of it what is no name.
    pub fn endpoints(&self, reference: &Name) -> Result<Vec<Endpoint>> {
        let name = reference.repository();
        let Some((rule, rest)) = self.rule(reference) else {
            return Ok(vec![Endpoint::of(&name, Wall::Trusted, Kind::Registry)?]);
        };
        if rule.access == Access::Blocked {
            let prefix = rule.prefix.clone();
            return Err(Error::Blocked { name: reference.to_string(), prefix });
        }
        let by_digest = reference.digest().is_some();
        let is_asked = |mirror: &&Mirror| match mirror.pulls {
            Pulls::All => true,
            Pulls::DigestOnly => by_digest,
            Pulls::TagOnly => !by_digest,
        };
        let mirrors = rule.mirrors.iter().filter(is_asked);
        let mirrors = mirrors
            .map(|mirror| Endpoint::of(&format!("{}{rest}", mirror.location), mirror.wall, Kind::Mirror));
        // A prefix for many hosts has no location: each of them is its own.
        let own = if rule.location.is_empty() { name } else { format!("{}{rest}", rule.location) };
        let own = Endpoint::of(&own, rule.wall, Kind::Registry);
        mirrors.chain([own]).collect()
    }

    /// Where a name is pushed to: mirrors are for pulling.
    ///
    /// # Errors
    /// Those of [`Self::endpoints`].
    pub fn destination(&self, reference: &Name) -> Result<Endpoint> {
        let own = self.endpoints(reference)?.pop();
        own.map_or_else(|| Endpoint::of(&reference.repository(), Wall::Trusted, Kind::Registry), Ok)
    }

    /// How a host is talked to of which nothing but the name is known.
    pub(crate) fn wall(&self, host: &str) -> Wall {
        let of_host = self.rules.iter().filter(|rule| rule.prefix == host || rule.location == host);
        of_host.map(|rule| rule.wall).find(|wall| *wall == Wall::Insecure).unwrap_or(Wall::Trusted)
    }

    /// The helpers that are asked for the credentials of any registry.
    pub(crate) fn helpers(&self) -> &[String] {
        &self.helpers
    }

    /// The rule with the longest prefix of the name, and what stands behind the prefix.
    fn rule(&self, reference: &Name) -> Option<(&Rule, String)> {
        let name = reference.repository();
        let behind = |prefix: &str| {
            if is_pinned(prefix, reference) { Some(String::new()) } else { behind(prefix, &name) }
        };
        let matches = self.rules.iter().filter_map(|rule| Some((rule, behind(&rule.prefix)?)));
        matches.max_by_key(|(rule, _)| rule.prefix.len())
    }
}

impl Endpoint {
    fn of(name: &str, wall: Wall, kind: Kind) -> Result<Self> {
        let reference = Name::parse(name)?;
        Ok(Self { host: reference.domain().to_owned(), repository: reference.path().to_owned(), wall, kind })
    }
}

/// Tells whether a prefix is a whole reference, with its tag or digest.
fn is_pinned(prefix: &str, reference: &Name) -> bool {
    let (name, tag, digest) = (reference.repository(), reference.tag(), reference.digest());
    let is_tagged = |prefix: &str| tag.is_some_and(|tag| prefix == format!("{name}:{tag}"));
    match prefix.split_once('@') {
        Some((before, pin)) => {
            let is_named = before == name || is_tagged(before);
            is_named && digest.is_some_and(|digest| digest.to_string() == pin)
        }
        None => is_tagged(prefix),
    }
}

/// A prefix without its tag and digest.
fn unpinned(prefix: &str) -> &str {
    let before = prefix.split_once('@').map_or(prefix, |(before, _)| before);
    match before.rsplit_once(':') {
        // Behind a host stands its port.
        Some((name, _)) if name.contains('/') => name,
        _ => before,
    }
}

/// What stands behind the prefix in a name, if it is one: it ends where a component ends.
fn behind(prefix: &str, name: &str) -> Option<String> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let (host, rest) = name.split_once('/')?;
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let sub = host.strip_suffix(domain)?.strip_suffix('.')?;
        return (!sub.is_empty()).then(|| format!("/{rest}"));
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
}

fn rule(rule: FileRule) -> std::result::Result<Rule, String> {
    let FileRule { prefix, location, insecure, blocked, mirror_by_digest_only, mirror } = rule;
    let (prefix, location) = match (prefix, location) {
        (None, None) => return Err("a [[registry]] has neither prefix nor location".into()),
        (Some(prefix), None) if prefix.starts_with("*.") => (prefix, String::new()),
        (Some(prefix), None) => return Err(format!("registry {prefix:?} has no location")),
        (None, Some(location)) => (location.clone(), location),
        (Some(prefix), Some(location)) => (prefix, location),
    };
    check_place(unpinned(prefix.strip_prefix("*.").unwrap_or(&prefix)), "prefix")?;
    if !location.is_empty() {
        check_place(&location, "location")?;
    }
    let mirrors = mirror.into_iter().map(|FileMirror { location, insecure, pull_from_mirror }| {
        check_place(&location, "location of a mirror")?;
        let pulls =
            pull_from_mirror.unwrap_or(if mirror_by_digest_only { Pulls::DigestOnly } else { Pulls::All });
        Ok(Mirror { location, wall: wall(insecure), pulls })
    });
    Ok(Rule {
        prefix,
        location,
        wall: wall(insecure),
        access: if blocked { Access::Blocked } else { Access::Open },
        mirrors: mirrors.collect::<std::result::Result<_, String>>()?,
    })
}

fn wall(insecure: bool) -> Wall {
    if insecure { Wall::Insecure } else { Wall::Trusted }
}

/// A host and, behind it, the beginning of a path.
fn check_place(place: &str, what: &str) -> std::result::Result<(), String> {
    let (host, path) = place.split_once('/').map_or((place, None), |(host, path)| (host, Some(path)));
    if place.contains("://") {
        return Err(format!(
            "{what} {place:?} has a scheme: write {:?}",
            place.split_once("://").unwrap_or_default().1
        ));
    }
    // Docker's own images are in docker.io/library; anything else that is no path is no place.
    if name::is_host(host) && path.is_none_or(name::is_path) {
        return Ok(());
    }
    Err(format!("{what} {place:?} is no host with or without a path behind it"))
}

/// The message of a parser without its drawing of the place, on one line.
fn one_line(message: &str) -> String {
    let lines = message.lines().filter(|line| !line.contains('|') || line.contains("expected"));
    Vec::from_iter(lines.map(str::trim).filter(|line| !line.is_empty())).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        unqualified-search-registries = ["docker.io"]
        short-name-mode = "permissive"
        [[registry]]
        prefix = "docker.io/library"
        location = "docker.io/library"
        [[registry.mirror]]
        location = "10.0.0.5:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "mirror.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "bad.example"
        blocked = true
        [[registry]]
        prefix = "bad.example/but/good"
        location = "good.example/x"
        [[registry]]
        location = "plain.example:5000"
        insecure = true
        [[registry]]
        prefix = "*.corp.example"
        [[registry.mirror]]
        location = "cache.corp:5000"
        [aliases]
        "debian" = "quay.io/debian/debian"
    "#;

    fn read(texts: &[&str]) -> Registries {
        let mut all = Registries::default();
        texts.iter().for_each(|text| all.add_text(text).unwrap());
        all
    }

    fn places(registries: &Registries, name: &str) -> Vec<String> {
        let found = registries.endpoints(&Name::parse(name).unwrap()).unwrap();
        let place = |endpoint: &Endpoint| {
            let mark = if endpoint.wall == Wall::Insecure { "!" } else { "" };
            format!("{}/{}{mark}", endpoint.host, endpoint.repository)
        };
        found.iter().map(place).collect()
    }

    #[test]
    fn a_prefix_may_be_one_tag_or_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let registries = read(&[&format!(
            r#"
            [[registry]]
            prefix = "example.com/foo:latest"
            location = "one.example/foo"
            [[registry]]
            prefix = "example.com:5000/foo@{digest}"
            location = "two.example/foo"
            "#
        )]);
        for (name, expected) in [
            ("example.com/foo:latest", "one.example/foo"),
            ("example.com/foo:latest1", "example.com/foo"),
            ("example.com/foo/x:latest", "example.com/foo/x"),
            (&format!("example.com:5000/foo@{digest}"), "two.example/foo"),
            ("example.com:5000/foo:latest", "example.com:5000/foo"),
        ] {
            assert_eq!(places(&registries, name), [expected], "{name}");
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let registries = read(&[FILE]);
        let digest = format!("alpine@sha256:{}", "a".repeat(64));
        for (name, expected) in [
            ("alpine", &["10.0.0.5:5000/hub/alpine!", "docker.io/library/alpine"][..]),
            (&digest, &["10.0.0.5:5000/hub/alpine!", "mirror.example/alpine", "docker.io/library/alpine"]),
            ("docker.io/user/x", &["docker.io/user/x"]),
            ("docker.io/libraryx/y", &["docker.io/libraryx/y"]),
            ("bad.example/but/good/x", &["good.example/x/x"]),
            ("plain.example:5000/x", &["plain.example:5000/x!"]),
            ("a.corp.example/x", &["cache.corp:5000/x", "a.corp.example/x"]),
            ("corp.example/x", &["corp.example/x"]),
            ("other.example/x", &["other.example/x"]),
        ] {
            let found = registries.endpoints(&Name::parse(name).unwrap());
            let found = found.map(|_| places(&registries, name)).unwrap();
            assert_eq!(found, expected, "{name}");
        }
        let blocked = registries.endpoints(&Name::parse("bad.example/x").unwrap()).unwrap_err();
        assert!(blocked.to_string().contains("is blocked"), "{blocked}");
        let pushed = registries.destination(&Name::parse("alpine").unwrap()).unwrap();
        assert_eq!(pushed.host, "docker.io", "a push went to a mirror");
        assert_eq!(registries.wall("plain.example:5000"), Wall::Insecure);
    }

    #[test]
    fn short_names_mean_what_is_configured() {
        let full = |name| Meaning::One(Name::parse(name).unwrap());
        let one = read(&[FILE]);
        assert_eq!(one.meaning("debian:12").unwrap(), full("quay.io/debian/debian:12"));
        assert_eq!(one.meaning("x").unwrap(), full("docker.io/library/x"));
        assert_eq!(one.meaning("h.example/x").unwrap(), full("h.example/x"));
        assert_eq!(Registries::default().meaning("user/x:1").unwrap(), full("docker.io/user/x:1"));
        let two = read(&[FILE, r#"unqualified-search-registries = ["a.b", "c.d:1"]"#]);
        let expected = ["a.b/x", "c.d:1/x"].map(|name| Name::parse(name).unwrap());
        assert_eq!(two.meaning("x").unwrap(), Meaning::FirstOf(expected.to_vec()));
    }

    #[test]
    fn a_later_file_wins() {
        let registries = read(&[
            FILE,
            "[[registry]]\nlocation = \"bad.example\"\n[aliases]\ndebian = \"\"\nother = \"q.io/o\"",
        ]);
        assert_eq!(places(&registries, "bad.example/x"), ["bad.example/x"]);
        assert_eq!(
            registries.meaning("debian").unwrap(),
            Meaning::One(Name::parse("docker.io/library/debian").unwrap()),
            "an empty alias does not take the alias away"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, reason) in [
            ("[registries.search]\nregistries = []", "version 1"),
            ("[[registry]]\nblocked = true", "neither prefix nor location"),
            ("[[registry]]\nprefix = \"a.b\"", "no location"),
            ("[[registry]]\nlocation = \"https://a.b\"", "write \"a.b\""),
            ("[[registry]]\nlocation = \"a.b/../c\"", "no host"),
            ("[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\nlocation = \"\"", "mirror"),
            ("[aliases]\nx = \"y\"", "no full name"),
            ("unqualified-search-registries = [\"a b\"]", "no host"),
            ("[[registry]\n", "line 1"),
            ("[[registry]]\nlocation = 1", "expected a string"),
        ] {
            let error = Registries::default().add_text(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains('\n'), "{text} says {error}");
        }
    }
}
