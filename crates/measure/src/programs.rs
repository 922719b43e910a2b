//! Programs that others wrote, for the heavy profile: where they come from, and how they come into the root of all
//! sandboxes.
//!
//! All are taken from one tree, so that there is one C library: a directory that was named, or this machine's own files, or
//! what `cargo xtask heavy` unpacked, whichever has more of them, this machine first. Only what is needed is copied:
//! the programs, their libraries, and the files that they read. What is missing is missing with a reason.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_sys::path::open_in_root;
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

use crate::arena::WORKLOAD;
use crate::closure;
use crate::error::{Doing as _, Error};
use crate::platform::{self, find};
use crate::started::{Input, Started};
use crate::stats::Failure;

/// The tree in the cache of the project's own commands.
pub const CACHED: &str = "heavy";

/// What one load needs.
#[derive(Debug)]
pub struct Program {
    /// As the tasks and the report call it.
    pub name: &'static str,
    /// The packages of Debian that have it.
    pub packages: &'static [&'static str],
    /// Sought in [`PLACES`], and copied to `usr/bin`; the first tells its version.
    binaries: &'static [&'static str],
    /// Directories that are copied as they are.
    directories: &'static [&'static str],
}

/// All of them.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "redis",
        packages: &["redis-server", "redis-tools"],
        binaries: &["redis-server", "redis-benchmark"],
        directories: &[],
    },
    Program { name: "iperf3", packages: &["iperf3"], binaries: &["iperf3"], directories: &[] },
    Program { name: "fio", packages: &["fio"], binaries: &["fio"], directories: &[] },
    Program {
        name: "sysbench",
        packages: &["sysbench"],
        binaries: &["sysbench"],
        directories: &["usr/share/sysbench"],
    },
    // A shell, because initdb calls programs by one.
    Program { name: POSTGRESQL, packages: &["postgresql"], binaries: &["sh"], directories: &[] },
];

/// Of which there is one in each of a distribution's directories of versions.
pub(crate) const POSTGRESQL: &str = "postgresql";

/// Where programs lie in a tree.
const PLACES: &[&str] = &["usr/bin", "bin", "usr/local/bin", "usr/sbin", "usr/local/sbin"];

/// Below these each version of PostgreSQL has a directory.
const POSTGRESQL_PROGRAMS: &str = "usr/lib/postgresql";
const POSTGRESQL_FILES: &str = "usr/share/postgresql";

/// What its databases are made with, and its modules that are needed for that.
const POSTGRESQL_BINARIES: &[&str] =
    &["bin/postgres", "bin/initdb", "lib/plpgsql.so", "lib/dict_snowball.so"];

/// Devices of a root in which nobody mounts any: their names and minor numbers.
const DEVICES: &[(&str, u32)] = &[("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)];

/// Who the programs run as (`bulkload heavy`).
const USER: u32 = 65534;

/// Names for the users there are.
const USERS: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// What making and filling a database may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a root has of the programs.
#[derive(Clone, Debug)]
pub struct Brought(Vec<(&'static str, Result<String, Failure>)>);

impl Brought {
    /// Fails with the reason why one of these programs is not there.
    pub(crate) fn need(&self, names: &[&str]) -> Result<(), Failure> {
        for (name, found) in self.0.iter().filter(|(name, _)| names.contains(name)) {
            found.as_ref().map_err(|reason| Failure(format!("{name}: {reason}")))?;
        }
        Ok(())
    }

    /// Each program, and its version or why there is none.
    pub fn facts(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let said = |found: &Result<String, Failure>| match found {
            Ok(version) => version.clone(),
            Err(Failure(reason)) => format!("none: {reason}"),
        };
        self.0.iter().map(move |(name, found)| (format!("heavy: {name}"), said(found)))
    }
}

/// What there is to be copied.
#[derive(Clone, Debug)]
pub struct Supply {
    /// The root directory that has most of the programs.
    pub tree: PathBuf,
    /// Each program with its version, which is not known where only root can ask; or the reason why it is not there.
    pub programs: Vec<(&'static str, Result<Option<String>, Failure>)>,
}

/// Looks where the programs are, and copies none.
pub fn supply() -> Supply {
    let tree = best();
    let there = |program: &Program| match program.is_in(&tree) {
        true => Ok(program.version(&tree)),
        false => Err(program.missing()),
    };
    let programs = PROGRAMS.iter().map(|program| (program.name, there(program))).collect();
    Supply { tree, programs }
}

/// Copies what is to be had into `root`; `log` is a file for complaints.
///
/// # Errors
/// When the root cannot be written. A program that is missing or does not run there is no error.
pub(crate) fn bring(tree: Option<&Path>, root: &Path, log: &Path) -> Result<Brought, Error> {
    furnish(root)?;
    let tree = tree.map_or_else(best, Path::to_owned);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle =
        rustix::fs::open(&tree, flags, Mode::empty()).doing(|| format!("open {}", tree.display()))?;
    let from = Tree { path: tree, handle };
    let found = PROGRAMS.iter().map(|program| (program.name, from.give(program, root, log)));
    Ok(Brought(found.collect()))
}

/// This machine's files, unless the cache has more.
fn best() -> PathBuf {
    let machine = PathBuf::from("/");
    let cached = find::cache(|name| std::env::var_os(name)).map(|cache| cache.join(CACHED));
    let count = |tree: &Path| PROGRAMS.iter().filter(|program| program.is_in(tree)).count();
    cached.filter(|cached| count(cached) > count(&machine)).unwrap_or(machine)
}

/// What programs expect of any system.
fn furnish(root: &Path) -> Result<(), Error> {
    for (name, mode) in [("", 0o755), ("bin", 0o755), ("dev", 0o755), ("tmp", 0o1777), ("srv", 0o1777)] {
        let place = root.join(name);
        make(&place)?;
        fs::set_permissions(&place, Permissions::from_mode(mode))
            .doing(|| format!("change the mode of {}", place.display()))?;
    }
    for (name, text) in USERS {
        let place = root.join(name);
        fs::write(&place, text)
            .and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o644)))
            .doing(|| format!("write {}", place.display()))?;
    }
    for (name, minor) in DEVICES {
        let place = root.join("dev").join(name);
        let (mode, device) = (Mode::from_raw_mode(0o666), makedev(1, *minor));
        mknodat(CWD, &place, FileType::CharacterDevice, mode, device)
            .map_err(io::Error::from)
            .and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o666)))
            .doing(|| format!("make the device {}", place.display()))?;
    }
    Ok(())
}

impl Program {
    fn is_in(&self, tree: &Path) -> bool {
        let has_all = self.binaries.iter().all(|name| place_of(tree, name).is_some());
        has_all && (self.name != POSTGRESQL || version_in(tree).is_some())
    }

    /// The version that it tells where it lies: with the libraries that lie there, too.
    fn version(&self, tree: &Path) -> Option<String> {
        if self.name == POSTGRESQL {
            return version_in(tree);
        }
        let place = Path::new("/").join(place_of(tree, self.binaries.first()?)?);
        let mut ask = Command::new("timeout");
        ask.arg("10");
        if tree != Path::new("/") {
            ask.arg("chroot").arg(tree);
        }
        let output = ask.arg(place).arg("--version").stdin(Stdio::null()).output().ok()?;
        platform::version(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned)
    }

    /// How one gets it.
    fn missing(&self) -> Failure {
        let packages = self.packages.join(" ");
        Failure(format!(
            "it is not installed: apt-get install {packages}, or cargo xtask heavy, which only unpacks it"
        ))
    }
}

/// The place of a program in a tree.
fn place_of(tree: &Path, name: &str) -> Option<PathBuf> {
    let mut places = PLACES.iter().map(|place| Path::new(place).join(name));
    // A link may lead to a file that is there only for those who have the tree as their root.
    places.find(|place| tree.join(place).symlink_metadata().is_ok_and(|found| !found.is_dir()))
}

/// The latest version of PostgreSQL in a tree.
fn version_in(tree: &Path) -> Option<String> {
    let versions = tree.join(POSTGRESQL_PROGRAMS).read_dir().ok()?.flatten();
    let names = versions.filter_map(|entry| entry.file_name().into_string().ok());
    let whole = names.filter(|name| {
        let place = tree.join(POSTGRESQL_PROGRAMS).join(name);
        POSTGRESQL_BINARIES.iter().all(|file| place.join(file).exists())
    });
    whole.max_by_key(|name| name.parse::<u32>().unwrap_or(0))
}

/// Where programs are copied from.
struct Tree {
    path: PathBuf,
    handle: OwnedFd,
}

impl Tree {
    /// Copies one program, and returns the version that it tells from inside the root.
    fn give(&self, program: &Program, root: &Path, log: &Path) -> Result<String, Failure> {
        if !program.is_in(&self.path) {
            return Err(program.missing());
        }
        self.copy_program(program, root)?;
        let mut version = Vec::new();
        for name in program.binaries.iter().filter(|name| **name != "sh") {
            version.push(tell(root, &format!("/usr/bin/{name}"), log)?);
        }
        if program.name == POSTGRESQL {
            version.push(make_database(root, log)?);
        }
        Ok(version.into_iter().next().unwrap_or_default())
    }

    fn copy_program(&self, program: &Program, root: &Path) -> Result<(), Error> {
        for name in program.binaries {
            if let Some(place) = place_of(&self.path, name) {
                // The shell is called by its own name.
                let to = Path::new(if *name == "sh" { "bin" } else { "usr/bin" }).join(name);
                self.copy_binary(&place, &to, root)?;
            }
        }
        for directory in program.directories {
            self.copy_directory(Path::new(directory), root)?;
        }
        match version_in(&self.path).filter(|_| program.name == POSTGRESQL) {
            Some(version) => self.copy_postgresql(&version, root),
            None => Ok(()),
        }
    }

    fn copy_postgresql(&self, version: &str, root: &Path) -> Result<(), Error> {
        for name in POSTGRESQL_BINARIES {
            let place = Path::new(POSTGRESQL_PROGRAMS).join(version).join(name);
            self.copy_binary(&place, &place, root)?;
        }
        self.copy_directory(&Path::new(POSTGRESQL_FILES).join(version), root)
    }

    /// A program or a module, with all that the loader brings to it.
    fn copy_binary(&self, from: &Path, to: &Path, root: &Path) -> Result<(), Error> {
        self.copy(from, &root.join(to))?;
        // Those of a module are its program's.
        for library in closure::within(&self.path, from, &root.join(to))? {
            let inside = library.strip_prefix("/").unwrap_or(&library);
            let place = root.join(inside);
            if !place.exists() {
                self.copy(inside, &place)?;
            }
        }
        Ok(())
    }

    /// A tree of files; links become the files that they lead to, those that lead nowhere nothing.
    fn copy_directory(&self, directory: &Path, root: &Path) -> Result<(), Error> {
        let place = self.path.join(directory);
        make(&root.join(directory))?;
        for entry in place.read_dir().doing(|| format!("read {}", place.display()))?.flatten() {
            let inside = directory.join(entry.file_name());
            let kind = entry.file_type().doing(|| format!("look at {}", entry.path().display()))?;
            if kind.is_dir() {
                self.copy_directory(&inside, root)?;
            } else if kind.is_file() || self.open(&inside).is_ok() {
                self.copy(&inside, &root.join(&inside))?;
            }
        }
        Ok(())
    }

    fn open(&self, inside: &Path) -> io::Result<File> {
        let opened = open_in_root(&self.handle, inside, OFlags::RDONLY | OFlags::CLOEXEC);
        opened.map(File::from).map_err(|error| error.errno().into())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Error> {
        if let Some(directory) = to.parent() {
            make(directory)?;
        }
        let copied = || {
            let mut source = self.open(from)?;
            let mode = source.metadata()?.permissions().mode() & 0o755 | 0o444;
            let mut target = File::create(to)?;
            io::copy(&mut source, &mut target)?;
            target.set_permissions(Permissions::from_mode(mode))
        };
        copied().doing(|| format!("copy {} to {}", self.path.join(from).display(), to.display()))
    }
}

/// Makes a directory, and those above it, into which everyone may go.
fn make(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        make(above)?;
    }
    fs::create_dir(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
        .doing(|| format!("make {}", directory.display()))
}

/// Runs a program in the root.
fn inside(root: &Path, words: &[&str], limit: Duration, log: &Path) -> Result<String, Failure> {
    let mut command = Command::new("chroot");
    command.arg(root).args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let ended = Started::begin(command, Input::Nothing, log)?.finish(limit)?;
    Ok(String::from_utf8_lossy(&ended.output).into_owned())
}

/// The version that a program tells, or the first line that it says.
fn tell(root: &Path, program: &str, log: &Path) -> Result<String, Failure> {
    let failed = |Failure(reason)| Failure(format!("{program} does not run when it is copied: {reason}"));
    let told = inside(root, &[program, "--version"], PATIENCE, log).map_err(failed)?;
    Ok(platform::version(&told).or_else(|| told.lines().next()).unwrap_or_default().trim().to_owned())
}

/// Makes the database from which all runs begin.
fn make_database(root: &Path, log: &Path) -> Result<String, Failure> {
    let place = root.join("srv/postgresql");
    make(&place)?;
    let owned = chown(&place, Some(USER), Some(USER));
    owned.map_err(|error| Failure(format!("give {} to nobody: {error}", place.display())))?;
    let version = version_in(root).unwrap_or_default();
    let version = tell(root, &format!("/{POSTGRESQL_PROGRAMS}/{version}/bin/postgres"), log)?;
    inside(root, &[WORKLOAD, "heavy", POSTGRESQL, "--prepare"], PATIENCE, log)?;
    Ok(version)
}
