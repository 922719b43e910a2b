//! Which platforms this machine has, and what exactly they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::{FOREIGN, KINDS, Kind, Platform};
use crate::error::{Doing as _, Error};

/// The variable that names the cache of the project's own commands.
pub const CACHE: &str = "BULKHEAD_CACHE";

/// Where unpacked programs lie below a directory of the cache.
const BINARY_DIRECTORIES: &[&str] = &["bin", "sbin", "usr/bin", "usr/sbin"];

/// A kind, and what the machine has of it.
#[derive(Debug)]
pub struct Entry {
    /// The kind.
    pub kind: &'static Kind,
    /// What was found; of several, the one that is taken first.
    pub found: Vec<Platform>,
}

/// Every kind and what is there of it.
///
/// # Errors
/// When a program that is there cannot be read.
pub fn all() -> Result<Vec<Entry>, Error> {
    KINDS.iter().map(|kind| Ok(Entry { kind, found: of_kind(kind)? })).collect()
}

/// The platforms that were asked for, each `name` or `name=path`. A name that is no kind of ours needs a path, and is
/// taken for an OCI runtime.
///
/// # Errors
/// When one is not there; the message says how to get it.
pub fn chosen(words: &[String]) -> Result<Vec<Platform>, Error> {
    let mut platforms: Vec<Platform> = Vec::new();
    for word in words {
        let platform = one(word)?;
        if platforms.iter().any(|other| other.name == platform.name) {
            return Err(Error::Unusable(format!("{} is asked for twice", platform.name)));
        }
        platforms.push(platform);
    }
    Ok(platforms)
}

/// The bare process, which is everywhere.
pub(crate) fn bare() -> Platform {
    let kind = &KINDS[0];
    let (program, version, sha256) = (PathBuf::new(), String::new(), String::new());
    Platform { name: kind.name.to_owned(), kind, program, version, sha256 }
}

fn one(word: &str) -> Result<Platform, Error> {
    let (name, path) = word.split_once('=').map_or((word, None), |(name, path)| (name, Some(path)));
    let kind = KINDS.iter().find(|kind| kind.name == name);
    match (kind, path) {
        (_, Some(path)) => {
            let program = Path::new(path);
            let absolute = program.canonicalize().doing(|| format!("find {path}"))?;
            identify(name, kind.unwrap_or(&FOREIGN), absolute)
        }
        (Some(kind), None) => of_kind(kind)?.into_iter().next().ok_or_else(|| {
            Error::Unusable(format!("{name} is not on this machine; to get it: {}", kind.get))
        }),
        (None, None) => Err(Error::Unusable(format!(
            "{name} is no platform that is known ({}); an OCI runtime is named as {name}=/path/to/it",
            Vec::from_iter(KINDS.iter().map(|kind| kind.name)).join(", ")
        ))),
    }
}

/// What there is of a kind: beside this program, in PATH, then in the cache, there the newest first.
fn of_kind(kind: &'static Kind) -> Result<Vec<Platform>, Error> {
    let Some(program) = kind.program else {
        return Ok(vec![identify(kind.name, kind, PathBuf::new())?]);
    };
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = beside.into_iter().chain(std::env::split_paths(&path));
    // Not everyone's PATH has the directories of administrators.
    let own = own.chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut found: Vec<PathBuf> = Vec::new();
    for place in own.map(|directory| directory.join(program)).filter(|place| is_program(place)) {
        let place = place.canonicalize().doing(|| format!("find {}", place.display()))?;
        if !found.contains(&place) {
            found.push(place);
        }
    }
    let mut platforms =
        found.into_iter().map(|place| identify(kind.name, kind, place)).collect::<Result<Vec<_>, _>>()?;
    let cached = in_cache(program)?.into_iter().map(|place| identify(kind.name, kind, place));
    let mut cached = cached.collect::<Result<Vec<_>, _>>()?;
    cached.sort_by_key(|platform| std::cmp::Reverse(numbers(&platform.version)));
    // An engine brings a runtime along that may be there already.
    cached.dedup_by(|one, other| !one.version.is_empty() && one.version == other.version);
    platforms.extend(cached);
    Ok(platforms)
}

/// The program `bulkload`, beside this program or in PATH.
pub fn workload() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path));
    places.map(|directory| directory.join("bulkload")).find(|place| is_program(place))
}

fn in_cache(program: &str) -> Result<BTreeSet<PathBuf>, Error> {
    let Some(cache) = cache(|name| std::env::var_os(name)) else { return Ok(BTreeSet::new()) };
    let unpacked = cache.join("peers").read_dir().into_iter().flatten().flatten();
    let places = unpacked.flat_map(|directory| {
        BINARY_DIRECTORIES.iter().map(move |place| directory.path().join(place).join(program))
    });
    // A package may have a program under two names.
    let whole = |place: PathBuf| place.canonicalize().doing(|| format!("find {}", place.display()));
    places.filter(|place| is_program(place)).map(whole).collect()
}

/// `$BULKHEAD_CACHE`, else `$XDG_CACHE_HOME/bulkhead`, else `~/.cache/bulkhead`: where the project's own commands keep
/// what takes long to make. None when no variable names an absolute path.
pub fn cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(CACHE)
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("bulkhead")))
        .or_else(|| Some(absolute("HOME")?.join(".cache/bulkhead")))
}

pub(super) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn identify(name: &str, kind: &'static Kind, program: PathBuf) -> Result<Platform, Error> {
    let nothing = program.as_os_str().is_empty();
    // It is started from elsewhere, too.
    let program = if nothing { program } else { std::path::absolute(&program).unwrap_or(program) };
    let version = if nothing { String::new() } else { said(&program) };
    let sha256 = if nothing { String::new() } else { hash(&program)? };
    Ok(Platform { name: name.to_owned(), kind, program, version, sha256 })
}

/// What the program says when it is asked for its version.
fn said(program: &Path) -> String {
    let text = answer(program, "--version");
    version(&text).or_else(|| text.lines().next()).unwrap_or_default().to_owned()
}

/// What the program answers to one word, in ten seconds; empty when it fails.
fn answer(program: &Path, word: &str) -> String {
    let mut ask = Command::new("timeout");
    ask.arg("10").arg(program).arg(word).stdin(Stdio::null());
    let Ok(output) = ask.output() else { return String::new() };
    // Some take it for a message.
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    if output.status.success() { String::from_utf8_lossy(said).into_owned() } else { String::new() }
}

/// How this gVisor catches system calls unless it is told otherwise: `ptrace`, `systrap`.
pub(super) fn gvisor_platform(program: &Path) -> Option<String> {
    default_platform(&answer(program, "flags")).map(str::to_owned)
}

/// From the list of its flags, in which each has a line that begins with it, and one that says what it does.
fn default_platform(flags: &str) -> Option<&str> {
    let says = flags.lines().skip_while(|line| !line.trim_start().starts_with("-platform ")).nth(1)?;
    let (before, _) = says.split_once(" (default)")?;
    before.split([' ', ',', ':']).next_back().filter(|name| !name.is_empty())
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> Result<String, Error> {
    let failed = || format!("read {}", path.display());
    let mut file = File::open(path).doing(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer).doing(failed)?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..count]);
    }
}

/// The version in the first line of what `--version` printed, without a distribution's additions.
pub fn version(text: &str) -> Option<&str> {
    let words = text.lines().next()?.split_whitespace();
    // gVisor, fio and redis write the number behind something in one word.
    let bare = |word| {
        ["release-", "fio-", "v="].iter().find_map(|before| str::strip_prefix(word, before)).unwrap_or(word)
    };
    let number = words.map(bare).find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    // Debian puts this before the date of what has no versions.
    number.strip_prefix("0.0~").unwrap_or(number).split(['+', '-', '~', ',']).next()
}

/// The year of a version that is a date, such as gVisor's `20221219.0`.
pub(super) fn year(version: &str) -> Option<u32> {
    let date = version.split('.').next().filter(|date| date.len() == "YYYYMMDD".len())?;
    date.parse::<u32>().ok().map(|date| date / 10_000)
}

/// The parts of a version, for comparing.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_first_line() {
        for (text, expected) in [
            ("crun version 1.28\ncommit: 1.28-1\n", Some("1.28")),
            ("runc version 1.3.6+ds1\nspec: 1.2.1\n", Some("1.3.6")),
            ("youki version 0.7.0\n", Some("0.7.0")),
            ("Version: 4.2.1\n", Some("4.2.1")),
            ("runsc version release-20240729.0\nspec: 1.1.0\n", Some("20240729.0")),
            ("runsc version 0.0~20240729.0\nspec: 1.1.0\n", Some("20240729.0")),
            ("Docker version 28.5.2+dfsg4, build 9cc6dea35e9a\n", Some("28.5.2")),
            ("Docker version 28.2.2, build e6534b4\n", Some("28.2.2")),
            ("chroot (GNU coreutils) 9.1\n", Some("9.1")),
            ("systemd 252 (252.39-1)\n", Some("252")),
            ("fio-3.33\n", Some("3.33")),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n", Some("7.0.15")),
            ("iperf 3.12 (cJSON 1.7.15)\nLinux\n", Some("3.12")),
            ("usage: what\n", None),
        ] {
            assert_eq!(version(text), expected, "wrong version in {text:?}");
        }
    }

    #[test]
    fn a_version_that_is_a_date_has_a_year() {
        for (version, expected) in
            [("20221219.0", Some(2022)), ("20240729.0", Some(2024)), ("1.28", None), ("", None)]
        {
            assert_eq!(year(version), expected, "{version}");
        }
    }

    #[test]
    fn the_platform_of_gvisor_is_its_default() {
        for (flags, expected) in [
            (
                "  -panic-signal int\n  -platform string\n\tspecifies which platform to use: ptrace (default), kvm.",
                Some("ptrace"),
            ),
            (
                "  -platform value\n\tspecifies which platform to use: systrap (default), ptrace.\n",
                Some("systrap"),
            ),
            ("  -platform string\n\tspecifies which.\n  -platform_device_path string\n", None),
            ("  -platform_device_path string\n\tx (default)\n", None),
        ] {
            assert_eq!(default_platform(flags), expected, "wrong platform in {flags:?}");
        }
    }

    #[test]
    fn newer_versions_come_first() {
        assert!(numbers("1.28") > numbers("1.8.1"));
    }

    #[test]
    fn the_first_absolute_variable_names_the_cache() {
        for (variables, expected) in [
            (&[("BULKHEAD_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")][..], Some("/a")),
            (&[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")], Some("/b/bulkhead")),
            (&[("HOME", "/c")], Some("/c/.cache/bulkhead")),
            (&[("BULKHEAD_CACHE", "relative"), ("HOME", "/c")], Some("/c/.cache/bulkhead")),
            (&[], None),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(cache(variable), expected.map(PathBuf::from), "wrong place for {variables:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_there_or_the_way_to_it_is_said() {
        let choose = |words: &[&str]| chosen(&Vec::from_iter(words.iter().map(|word| (*word).to_owned())));
        let both = choose(&["bare", "mine=/bin/sh"]).unwrap();
        assert_eq!(both[1].name, "mine");
        assert_eq!(both[1].sha256.len(), 64);
        for (words, expected) in [
            (&["bare", "bare"][..], "bare is asked for twice"),
            (&["warp"], "warp=/path/to/it"),
            (&["runc=/no/such/place"], "find /no/such/place"),
        ] {
            let error = choose(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }

    #[test]
    fn a_hash_is_the_file_s() {
        let file = std::env::temp_dir().join(format!("bh-hash-{}", std::process::id()));
        std::fs::write(&file, "abc").unwrap();
        let hash = hash(&file);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(hash.unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
