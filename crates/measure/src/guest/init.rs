//! The guest's side: this program as its process 1.
//!
//! It moves from the initramfs to a file system in memory, since no runtime can leave an initramfs by pivot_root(2), makes
//! the machine as far as sandboxes need one, starts itself as `measure run`, and hands the journal to the host.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

use crate::error::{Doing as _, Error};
use crate::stats::Failure;

/// The workload.
pub(super) const WORKLOAD: &str = "/measure/bulkload";
/// What to run, a word a line.
pub(super) const WORDS: &str = "/measure/words";
/// The directory of the run.
pub(super) const OUT: &str = "/measure/out";
/// What the host has measured before.
pub(super) const EARLIER: &str = "/measure/out/journal.jsonl";

/// The new root, in the initramfs.
const ROOT: &str = "/root-to-be";

/// The disk that is a file of the host.
const DISK: &str = "/dev/nvme0n1";

/// How long the kernel may take to find the disk.
const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(200);

/// Where programs are that have no path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether this is process 1 of a guest that was made for a measurement.
pub fn is_guest() -> bool {
    std::process::id() == 1 && is_inside()
}

/// Whether this machine is such a guest.
pub fn is_inside() -> bool {
    [WORDS, WORKLOAD, "/init"].iter().all(|file| Path::new(file).exists())
}

/// The life of process 1; the machine is switched off at its end.
pub fn live() {
    if let Err(error) = measure() {
        // The console is what the host looks at when there is no journal.
        eprintln!("{}", Failure::of(&error));
    }
    // Where this fails the end of process 1 stops the kernel, which ends the emulator, too.
    let _ = reboot(RebootCommand::PowerOff);
}

fn measure() -> Result<(), Error> {
    settle()?;
    let mut disk = disk()?;
    let mut journal = File::open(EARLIER).doing(|| format!("open {EARLIER}"))?;
    // What the host has already is not handed over again.
    let mut known = Vec::new();
    journal.read_to_end(&mut known).doing(|| format!("read {EARLIER}"))?;
    let words = fs::read_to_string(WORDS).doing(|| format!("read {WORDS}"))?;
    let mut command = Command::new("/init");
    command.args(words.lines()).env("PATH", PATH);
    let mut child = command.spawn().doing(|| "start the measurement".to_owned())?;
    loop {
        let is_over = is_over(&mut child);
        hand_over(&mut journal, &mut disk).doing(|| "hand the journal over".to_owned())?;
        if is_over {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// What was added to the journal since the last time goes to the disk, whole.
fn hand_over(journal: &mut File, disk: &mut File) -> std::io::Result<()> {
    let mut text = Vec::new();
    journal.read_to_end(&mut text)?;
    if !text.is_empty() {
        disk.write_all(&text)?;
        disk.sync_all()?;
    }
    Ok(())
}

/// Collects all that ended, also processes that nobody else will wait for; tells whether `child` is among them.
fn is_over(child: &mut Child) -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _)))
                if u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == child.id()) =>
            {
                return true;
            }
            Ok(Some(_)) => {}
            Ok(None) => return false,
            // There is no child at all.
            Err(_) => return true,
        }
    }
}

/// Makes a machine of it: another root, the kernel's file systems, cgroups, loopback.
fn settle() -> Result<(), Error> {
    let none = MountFlags::empty();
    fs::create_dir_all(ROOT).doing(|| format!("make {ROOT}"))?;
    mount("root", ROOT, "tmpfs", none, Some(c"mode=755")).doing(|| "mount the root".to_owned())?;
    move_all(Path::new("/"), Path::new(ROOT)).doing(|| "move to the root".to_owned())?;
    for place in ["dev", "proc", "sys", "tmp", "run", "etc"] {
        let place = Path::new(ROOT).join(place);
        fs::create_dir_all(&place).doing(|| format!("make {}", place.display()))?;
    }
    rustix::process::chdir(ROOT).doing(|| format!("enter {ROOT}"))?;
    mount_move(".", "/").doing(|| "move the root".to_owned())?;
    rustix::process::chroot(".").doing(|| "change the root".to_owned())?;
    rustix::process::chdir("/").doing(|| "enter the root".to_owned())?;
    for (kind, place) in
        [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("cgroup2", "/sys/fs/cgroup")]
    {
        mount(kind, place, kind, none, None).doing(|| format!("mount {place}"))?;
    }
    for place in ["/dev/pts", "/dev/shm"] {
        // devtmpfs may have them.
        let _ = fs::create_dir(place);
    }
    mount("devpts", "/dev/pts", "devpts", none, None).doing(|| "mount /dev/pts".to_owned())?;
    bulkhead_sys::net::bring_loopback_up().map_err(|error| Error::System {
        what: "bring loopback up".to_owned(),
        source: std::io::Error::other(error),
    })
}

/// Moves what is in the initramfs, so that it is in memory only once, but for file systems that are mounted there.
fn move_all(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in from.read_dir()?.flatten() {
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if path == Path::new(ROOT) {
            continue;
        }
        if kind.is_dir() {
            fs::create_dir_all(&place)?;
            move_all(&path, &place)?;
        } else if kind.is_file() {
            fs::copy(&path, &place)?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The disk, which the kernel finds while this runs.
fn disk() -> Result<File, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        match OpenOptions::new().write(true).open(DISK) {
            Err(_) if Instant::now() < end => std::thread::sleep(POLL),
            opened => return opened.doing(|| format!("open {DISK}")),
        }
    }
}
