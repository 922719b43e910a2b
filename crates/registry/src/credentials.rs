//! Names and passwords: docker's `config.json`, `auth.json` of podman and others, and credential helpers.
//!
//! Both files have the same form; what is not known of it is kept when it is written:
//!
//! ```json
//! { "auths": { "host[/path]": { "auth": "base64 of NAME:PASSWORD", "identitytoken": "…" } },
//!   "credHelpers": { "host": "HELPER" }, "credsStore": "HELPER" }
//! ```
//! A helper is the program `docker-credential-HELPER`, called with `get`, `store` or `erase`, which reads from its standard
//! input and writes to its standard output.

use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_image::DOCKER;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files;

/// The longest file, and the longest answer of a helper, in bytes.
const LONGEST: u64 = 4 << 20;

/// What docker calls its own registry in its file.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// With this name a secret is an identity token.
const TOKEN_NAME: &str = "<token>";

/// Where names and passwords are kept.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The files, in the order in which they are asked.
    pub files: Vec<PathBuf>,
    /// The file that a login is written to.
    pub written: PathBuf,
    /// Helpers that are asked for every registry.
    pub helpers: Vec<String>,
}

/// Who somebody is for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password {
        /// The name.
        name: String,
        /// The password.
        secret: String,
    },
    /// A token that gets tokens.
    Identity(String),
}

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// In a file, where everybody who reads the file can read it.
    File(PathBuf),
    /// With a helper.
    Helper(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spoken {
    #[serde(default, rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { name, .. } => write!(formatter, "Password({name:?}, …)"),
            Self::Identity(_) => formatter.write_str("Identity(…)"),
        }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Helper(name) => write!(formatter, "docker-credential-{name}"),
        }
    }
}

impl Credentials {
    /// Finds who somebody is for a repository: the longest path that a file has, then its host.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::File`] and [`Error::Helper`].
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Login>> {
        for path in &self.files {
            let Some(file) = read(path)? else { continue };
            if let Some(login) = find_in(path, &file, host, repository)? {
                return Ok(Some(login));
            }
        }
        for helper in self.helpers.iter().filter(|helper| *helper != "containers-auth.json") {
            if let Some(login) = ask(helper, host)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// Keeps who somebody is for a registry, with the helper that the file names for it, else in the file, which only
    /// its owner can read.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::File`] and [`Error::Helper`].
    pub fn store(&self, host: &str, login: &Login) -> Result<Keeper> {
        let held = Held::take(&self.written)?;
        let mut file = read(&held.place)?.unwrap_or_default();
        let key = key(host);
        if let Some(helper) = helper_of(&file, host) {
            let (username, secret) = match login {
                Login::Password { name, secret } => (name.clone(), secret.clone()),
                Login::Identity(token) => (TOKEN_NAME.to_owned(), token.clone()),
            };
            let spoken = Spoken { server_url: key.to_owned(), username, secret };
            let input =
                serde_json::to_vec(&spoken).map_err(|error| helper_error(&helper, "store", &error))?;
            call(&helper, "store", &input)?;
            return Ok(Keeper::Helper(helper));
        }
        let entry = match login {
            Login::Password { name, secret } => {
                serde_json::json!({ "auth": STANDARD.encode(format!("{name}:{secret}")) })
            }
            Login::Identity(token) => serde_json::json!({ "auth": "", "identitytoken": token }),
        };
        let auths = file.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(auths) = auths else { return Err(wrong(&self.written, "auths is no object")) };
        auths.insert(key.to_owned(), entry);
        held.write(&file)?;
        Ok(Keeper::File(self.written.clone()))
    }

    /// Forgets who somebody is for a registry; tells where it was known.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::File`] and [`Error::Helper`].
    pub fn erase(&self, host: &str) -> Result<Vec<Keeper>> {
        let mut found = Vec::new();
        for path in self.files.iter().filter(|path| path.exists()) {
            let held = Held::take(path)?;
            let Some(mut file) = read(&held.place)? else { continue };
            if let Some(helper) = helper_of(&file, host)
                && ask(&helper, host)?.is_some()
            {
                call(&helper, "erase", key(host).as_bytes())?;
                found.push(Keeper::Helper(helper));
            }
            let Some(Value::Object(auths)) = file.get_mut("auths") else { continue };
            let before = auths.len();
            auths.retain(|entry, _| !names(entry, host));
            if auths.len() < before {
                held.write(&file)?;
                found.push(Keeper::File(path.clone()));
            }
        }
        Ok(found)
    }
}

fn find_in(path: &Path, file: &Map<String, Value>, host: &str, repository: &str) -> Result<Option<Login>> {
    if let Some(helper) = helper_of(file, host)
        && let Some(login) = ask(&helper, host)?
    {
        return Ok(Some(login));
    }
    let Some(Value::Object(auths)) = file.get("auths") else { return Ok(None) };
    let full = format!("{host}/{repository}");
    let mut place = full.as_str();
    while let Some((shorter, _)) = place.rsplit_once('/') {
        if let Some(entry) = auths.get(place) {
            return login(path, place, entry);
        }
        place = shorter;
    }
    let entry = auths.iter().find(|(entry, _)| names(entry, host));
    entry.map_or(Ok(None), |(key, entry)| login(path, key, entry))
}

/// Reads one entry of `auths`; an empty one says that a helper knows.
fn login(path: &Path, key: &str, entry: &Value) -> Result<Option<Login>> {
    let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Login::Identity(token.to_owned())));
    }
    if let (Some(name), Some(secret)) = (text("username"), text("password")) {
        return Ok(Some(Login::Password { name: name.to_owned(), secret: secret.to_owned() }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let bytes = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = bytes.as_deref().and_then(|text| text.split_once(':'));
    let (name, secret) =
        pair.ok_or_else(|| wrong(path, &format!("auth of {key} is not the base64 of NAME:PASSWORD")))?;
    // Old versions of docker filled the end with NUL.
    let secret = secret.trim_end_matches('\0');
    Ok(Some(Login::Password { name: name.to_owned(), secret: secret.to_owned() }))
}

fn helper_of(file: &Map<String, Value>, host: &str) -> Option<String> {
    let helpers = file.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| helpers.iter().find(|(entry, _)| names(entry, host)));
    let name = own.map(|(_, name)| name).or_else(|| file.get("credsStore"))?;
    name.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// What a registry is called in a file and by helpers.
fn key(host: &str) -> &str {
    if host == DOCKER { DOCKER_KEY } else { host }
}

/// Tells whether an entry is about a host: with a scheme and a version of the interface, as old files have it, too.
fn names(entry: &str, host: &str) -> bool {
    let bare = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://"));
    let bare = match bare {
        Some(bare) => bare.split('/').next().unwrap_or_default(),
        None => entry,
    };
    bare == host || host == DOCKER && matches!(bare, "index.docker.io" | "registry-1.docker.io")
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = files::read(path, LONGEST)? else { return Ok(None) };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Some(Map::new()));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(path, &error.to_string()))
}

/// A file of credentials that no other of us changes meanwhile: its directory is locked.
struct Held {
    directory: OwnedFd,
    name: OsString,
    /// Where the file is; a link to it stays one.
    place: PathBuf,
}

impl Held {
    /// Waits until nobody else changes the file. Its directory is made for its owner if it is not there.
    fn take(path: &Path) -> Result<Self> {
        let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
        let name = place.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?.to_owned();
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty());
        let directory = directory.map_err(|error| failed(error.into()))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive))
            .map_err(|error| failed(error.into()))?;
        Ok(Self { directory, name, place })
    }

    /// Puts another file in the place of this one. The directory may be somebody else's, so that the new file has a name
    /// that nobody foresees, and is no link.
    fn write(&self, file: &Map<String, Value>) -> Result<()> {
        let new = format!(".{}.{:016x}", self.name.to_string_lossy(), random());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, &new, flags, Mode::RUSR | Mode::WUSR);
        let written = opened.map_err(io::Error::from).and_then(|target| {
            let mut target = File::from(target);
            let written = serde_json::to_writer_pretty(&mut target, file)
                .map_err(io::Error::from)
                .and_then(|()| target.write_all(b"\n"))
                .and_then(|()| target.sync_all())
                .and_then(|()| Ok(rustix::fs::renameat(&self.directory, &new, &self.directory, &self.name)?));
            if written.is_err() {
                let _ = rustix::fs::unlinkat(&self.directory, &new, AtFlags::empty());
            }
            written
        });
        written.map_err(|source| Error::File { action: "write", path: self.place.clone(), source })
    }
}

/// A number that another process does not foresee.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

fn wrong(path: &Path, reason: &str) -> Error {
    Error::Configuration { path: path.to_owned(), reason: reason.to_owned() }
}

/// Asks a helper for a login; none if it knows none.
fn ask(helper: &str, host: &str) -> Result<Option<Login>> {
    let output = match call(helper, "get", key(host).as_bytes()) {
        Ok(output) => output,
        // The protocol says this by a sentence.
        Err(Error::Helper { reason, .. }) if reason.contains("credentials not found") => return Ok(None),
        Err(error) => return Err(error),
    };
    let spoken: Spoken =
        serde_json::from_slice(&output).map_err(|error| helper_error(helper, "get", &error))?;
    let Spoken { server_url: _, username, secret } = spoken;
    Ok(Some(match username.as_str() {
        TOKEN_NAME => Login::Identity(secret),
        _ => Login::Password { name: username, secret },
    }))
}

fn call(helper: &str, verb: &'static str, input: &[u8]) -> Result<Vec<u8>> {
    let wrong = |reason: String| Error::Helper { helper: helper.to_owned(), verb, reason };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(is_word) {
        return Err(wrong("is no name of a program".into()));
    }
    let mut command = Command::new(format!("docker-credential-{helper}"));
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(|error| wrong(format!("start it: {error}")))?;
    // A helper that reads nothing has its reason for it, and says it.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let mut output = Vec::new();
    let read = child.stdout.take().map(|stdout| stdout.take(LONGEST).read_to_end(&mut output));
    let status = child.wait().map_err(|error| wrong(format!("wait for it: {error}")))?;
    read.transpose().map_err(|error| wrong(format!("read what it says: {error}")))?;
    if status.success() {
        return Ok(output);
    }
    let said = crate::message::cleaned(&String::from_utf8_lossy(&output));
    Err(wrong(if said.is_empty() { format!("ends with {status}") } else { said }))
}

fn helper_error(helper: &str, verb: &'static str, error: &serde_json::Error) -> Error {
    Error::Helper { helper: helper.to_owned(), verb, reason: format!("answers no JSON: {error}") }
}

#[cfg(test)]
mod tests;
