//! What this engine and its host are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bulkhead_shim::order::JOURNAL;
use bulkhead_store::Digest;

use crate::configure::Facts;
use crate::container::State;
use crate::engine::{Engine, Programs};
use crate::error::{Doing, Result};
use crate::filter::Filters;
use crate::program;
use crate::request::Request;
use crate::runtime::OURS;

/// What is known of an engine and its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Names this engine among all of the world, as long as the machine's id and the root directory stay.
    pub id: String,
    /// How many containers there are.
    pub containers: usize,
    /// How many of them run.
    pub running: usize,
    /// How many are frozen.
    pub paused: usize,
    /// How many images there are.
    pub images: usize,
    /// What the host says.
    pub facts: Facts,
    /// The kernel's release, such as `6.12.0-1-amd64`.
    pub kernel: String,
    /// The machine, such as `x86_64`.
    pub machine: String,
    /// What the operating system calls itself, and its version (os-release(5)).
    pub system: (String, String),
    /// Bytes of memory.
    pub memory: u64,
    /// The file system below the engine's root directory, such as `ext4`.
    pub filesystem: String,
    /// The names and programs of the runtimes that are installed; ours is the first, if it is.
    pub runtimes: Vec<(String, PathBuf)>,
    /// Whether the host forwards packets between its IPv4 networks.
    pub forwards: bool,
    /// Whether journald runs.
    pub journal: bool,
    /// The program that is process 1 with `--init`.
    pub init: PathBuf,
}

/// The runtimes that are looked for.
const RUNTIMES: [&str; 5] = ["runc", "crun", "youki", "runsc", "kata-runtime"];

impl Engine {
    /// Tells what this engine and its host are.
    ///
    /// # Errors
    /// As the database, and as reading `/proc`.
    pub fn info(&self) -> Result<Info> {
        let containers = self.containers(&Filters::default())?;
        let count = |wanted: &[State]| {
            containers.iter().filter(|container| wanted.contains(&container.state)).count()
        };
        let uname = rustix::system::uname();
        let found = RUNTIMES.iter().filter_map(|name| Some(((*name).to_owned(), program::in_path(name)?)));
        let own = self.own_runtime().ok().map(|program| (OURS.to_owned(), program));
        Ok(Info {
            id: identity(&self.places().root),
            running: count(&[State::Running, State::Restarting]),
            paused: count(&[State::Paused]),
            containers: containers.len(),
            images: self.store.images()?.len(),
            facts: self.facts(&Request::default(), &[], &std::collections::BTreeMap::new())?,
            kernel: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            system: system()?,
            memory: crate::stats::memory_of(&read("/proc/meminfo")?),
            filesystem: filesystem(&self.places().root)?,
            runtimes: own.into_iter().chain(found).collect(),
            forwards: read("/proc/sys/net/ipv4/ip_forward")?.trim() == "1",
            journal: Path::new(JOURNAL).exists(),
            init: self.monitor()?,
        })
    }
}

impl Programs {
    /// Asks the monitor, the runtime, and what answers for names and carries ports for their versions; those that do not answer are left out.
    pub fn versions(&self) -> Vec<(String, String)> {
        [
            ("bulkmon", &self.monitor),
            (OURS, &self.runtime),
            ("bulkdns", &self.names),
            ("bulkproxy", &self.ports),
        ]
        .into_iter()
        .filter_map(|(name, program)| Some((name.to_owned(), version(program)?)))
        .collect()
    }
}

/// The last word of the first line of `PROGRAM --version`.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next()?.split_whitespace().last().map(str::to_owned)
}

/// What the operating system calls itself, and its version.
fn system() -> Result<(String, String)> {
    let read = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).doing(|| format!("read {path}")),
    };
    let text = match read("/etc/os-release")? {
        Some(text) => text,
        None => read("/usr/lib/os-release")?.unwrap_or_default(),
    };
    let field = |name: &str| field(&text, name);
    Ok((field("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()), field("VERSION_ID").unwrap_or_default()))
}

/// A variable of os-release(5).
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn filesystem(root: &Path) -> Result<String> {
    use bulkhead_sys::{mountinfo, path};
    use rustix::fs::OFlags;
    use std::os::fd::AsFd as _;
    let doing = || format!("find the file system of {}", root.display());
    let root = path::open_host(root, OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    let place = mountinfo::place(root.as_fd()).doing(doing)?;
    let mounts = mountinfo::read().doing(doing)?;
    Ok(mounts.into_iter().find(|mount| mount.id == place.mount).map(|mount| mount.kind).unwrap_or_default())
}

/// Makes an id that is the engine's alone out of the machine's, which is nobody's business (machine-id(5)); where there is none, of
/// the host's name.
fn identity(root: &Path) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = match machine.trim() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        machine => machine.to_owned(),
    };
    let digest = Digest::of(format!("bulkhead {machine} {}", root.display()).as_bytes());
    let hex = digest.hex();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).doing(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_one_and_the_same_by_its_root() {
        let [one, other] = ["/var/lib/bulkhead", "/srv"].map(|root| identity(Path::new(root)));
        assert_eq!(one, identity(Path::new("/var/lib/bulkhead")));
        assert_ne!(one, other);
        let lengths = Vec::from_iter(one.split('-').map(str::len));
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn an_operating_system_says_its_name() {
        let text = "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!(field(text, "PRETTY_NAME").as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(field(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(field(text, "VERSION"), None);
    }
}
