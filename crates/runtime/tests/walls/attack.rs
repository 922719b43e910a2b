//! Attackers that run inside a container: this test program itself, started again in there.
//!
//! The container sees the host's libraries read-only, since the program needs them, and shares `/shared` with the test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Bundle, Sandbox, wait_until};

/// Names the attack for the program in the container.
const VARIABLE: &str = "BULKHEAD_ATTACK";
/// How long an attacker goes on at most, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A container with an attacker, and the directory that both sides see.
pub(crate) struct Attacker {
    pub(crate) bundle: Bundle,
    shared: PathBuf,
}

impl Attacker {
    /// Makes the bundle; its program is the attacker until a test says otherwise.
    pub(crate) fn new(sandbox: &Sandbox, attack: &str) -> Self {
        let shared = sandbox.directory().join("shared");
        fs::create_dir_all(&shared).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut bundle = sandbox
            .bundle(attack)
            .bind(program, "/attacker", &["ro"])
            .bind(&shared, "/shared", &[])
            .args(Self::command())
            .env(&format!("{VARIABLE}={attack}"));
        for libraries in ["/usr", "/lib", "/lib64"] {
            if Path::new(libraries).exists() {
                bundle = bundle.bind(libraries, libraries, &["ro"]);
            }
        }
        Self { bundle, shared }
    }

    /// The command that attacks, for `exec`.
    pub(crate) fn command() -> [&'static str; 4] {
        ["/attacker", "--exact", "attack::inside", "--test-threads=1"]
    }

    /// Waits until the attacker says that something has happened.
    pub(crate) fn wait_for(&self, event: &str) {
        wait_until(&format!("the attacker says {event}"), || self.said(event));
    }

    /// Tells whether the attacker has said that something happened.
    pub(crate) fn said(&self, event: &str) -> bool {
        self.shared.join(event).exists()
    }

    /// Returns what the attacker has captured.
    pub(crate) fn loot(&self) -> String {
        fs::read_to_string(self.shared.join("loot")).unwrap_or_default()
    }

    /// Tells the attacker to end.
    pub(crate) fn stop(&self) {
        fs::write(self.shared.join("stop"), "").unwrap();
    }
}

/// Not a test of its own but the attacker, which does nothing unless it runs in an attacker's container.
#[test]
fn inside() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("overwrite") => overwrite(),
        Ok("spy") => spy(),
        Ok("climb") => crate::shared_mounts::climb(),
        _ => {}
    }
}

fn say(event: &str) {
    fs::write(Path::new("/shared").join(event), "").unwrap();
}

fn loot(line: &str) {
    let mut file = File::options().append(true).create(true).open("/shared/loot").unwrap();
    writeln!(file, "{line}").unwrap();
}

/// Calls `visit` with the pid of every process but this one, until it is told to stop.
fn watch(mut visit: impl FnMut(&str) -> bool) {
    let begin = Instant::now();
    let own = std::process::id().to_string();
    while begin.elapsed() < PATIENCE && !Path::new("/shared/stop").exists() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            else {
                continue;
            };
            if pid != own && visit(pid) {
                return;
            }
        }
    }
}

/// CVE-2019-5736: keeps hold of the program of whatever process is not from this image, and writes to it once nobody
/// runs it any more.
fn overwrite() {
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    let own = ["/proc/self/exe", "/bin/busybox", "/script", "/interpreted"];
    let own = own.map(|path| File::open(path).and_then(|file| identity(&file)).unwrap_or_default());
    let foreign = |path: &Path| {
        let file = File::open(path).ok()?;
        let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
        // What is mapped is also the host's dynamic linker and libraries, on a mount that cannot be written.
        (!own.contains(&(found.dev(), found.ino())) && !is_library(path)).then_some(file)
    };
    say("ready");
    watch(|pid| {
        let mapped = fs::read_dir(format!("/proc/{pid}/map_files")).into_iter().flatten().flatten();
        let program = foreign(Path::new(&format!("/proc/{pid}/exe")));
        program.or_else(|| mapped.map(|entry| entry.path()).find_map(|path| foreign(&path))).is_some_and(
            |file| {
                say("caught");
                write_when_idle(&file)
            },
        )
    });
    say("done");
}

fn is_library(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.display().to_string().contains(".so"))
}

/// Opens a file again for writing, which is refused (ETXTBSY) as long as somebody executes it.
fn write_when_idle(program: &File) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        let again = format!("/proc/self/fd/{}", program.as_raw_fd());
        if let Ok(file) = File::options().write(true).open(&again) {
            let written = file.write_at(b"#!/bin/false\n", 0);
            let path = fs::read_link(&again).unwrap_or_default();
            loot(&format!("opened {} for writing: {written:?}", path.display()));
            return true;
        }
        thread::yield_now();
    }
    false
}

/// CVE-2016-9962: looks into every process that appears, until it has seen the inside of one.
///
/// The test lets only processes appear that never become a program of the container.
fn spy() {
    say("ready");
    let mut seen = 0_u64;
    watch(|pid| {
        seen += 1;
        if seen == 1 {
            say("saw-a-process");
        }
        let process = PathBuf::from(format!("/proc/{pid}"));
        let links = ["exe", "root", "cwd"].map(|name| fs::read_link(process.join(name)));
        for target in links.into_iter().flatten() {
            loot(&format!("read a link of process {pid}: {}", target.display()));
        }
        for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                loot(&format!("saw a descriptor of process {pid}: {}", target.display()));
            }
        }
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        let first = maps.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
        // Opening it for writing needs the same right as ptrace(2).
        let memory = File::options().read(true).write(true).open(process.join("mem"));
        if let (Some(start), Ok(memory)) = (first, memory) {
            let read = memory.read_at(&mut [0], start);
            loot(&format!("opened the memory of process {pid}: {read:?}"));
        }
        let mut environment = String::new();
        let opened = File::open(process.join("environ"));
        if opened.is_ok_and(|mut file| file.read_to_string(&mut environment).is_ok_and(|length| length > 0)) {
            loot(&format!("read the environment of process {pid}"));
        }
        false
    });
    say("done");
}
