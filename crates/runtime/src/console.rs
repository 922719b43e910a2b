//! The container's terminal: a pseudo-terminal of the container's own devpts.
//!
//! Nothing here trusts a name in the image: the slave comes from the master by TIOCGPTPEER, and both are checked by
//! their device numbers before they are used.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::mount::{self as sys_mount, Reach};
use rustix::fs::{FileType, Gid, OFlags, Uid};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Doing, Error, Result};
use crate::plan::process::TerminalSize;
use crate::target;

/// Magic number of devpts, statfs(2).
const DEVPTS_MAGIC: i64 = 0x1cd1;
/// Device majors of pseudo-terminal slaves.
const SLAVE_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The end of whoever talks to the container.
    pub master: OwnedFd,
    /// The container's end.
    pub slave: OwnedFd,
}

/// Opens a terminal of the devpts that is mounted inside `root`.
///
/// # Errors
/// No devpts at `/dev/pts`, or something that looks like one.
pub fn open(root: BorrowedFd<'_>, size: TerminalSize) -> Result<Terminal> {
    let doing = || "open a terminal in the container";
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = target::open(root, Path::new("/dev/pts/ptmx"), flags)?
        .ok_or_else(|| Error::Usage("a terminal needs a devpts mounted at /dev/pts".into()))?;
    let found = rustix::fs::fstat(&master).doing(doing)?;
    if found.st_rdev != rustix::fs::makedev(5, 2) || !is_devpts(&master) {
        return Err(Error::Usage("the container's /dev/pts/ptmx is not a terminal multiplexer".into()));
    }
    rustix::pty::unlockpt(&master).doing(doing)?;
    let peer_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer_flags).doing(doing)?;
    let found = rustix::fs::fstat(&slave).doing(doing)?;
    let is_slave = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && SLAVE_MAJORS.contains(&rustix::fs::major(found.st_rdev));
    if !is_slave || !is_devpts(&slave) {
        return Err(Error::Usage("the container's terminal is not a pseudo-terminal".into()));
    }
    if size != TerminalSize::default() {
        resize(&slave, size).doing(doing)?;
    }
    Ok(Terminal { master, slave })
}

fn is_devpts(descriptor: &OwnedFd) -> bool {
    rustix::fs::fstatfs(descriptor).is_ok_and(|found| found.f_type == DEVPTS_MAGIC)
}

fn resize(terminal: &OwnedFd, size: TerminalSize) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// Binds the container's end at `/dev/console`.
///
/// # Errors
/// EROFS where `/dev` is read-only.
pub fn bind(root: BorrowedFd<'_>, slave: &OwnedFd) -> Result<()> {
    let doing = || "bind the terminal at /dev/console";
    let target = target::file(root, Path::new("/dev/console"))?;
    let tree = sys_mount::clone_tree(slave, Path::new(""), Reach::Mount).doing(doing)?;
    sys_mount::attach(&tree, &target).doing(doing)
}

/// Makes the container's end the standard streams and the controlling terminal of the calling session.
///
/// # Errors
/// EPERM unless the caller leads a session.
pub fn adopt(slave: &OwnedFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).doing(|| "make the terminal the controlling one")?;
    replace_streams(slave)
}

fn replace_streams(slave: &OwnedFd) -> Result<()> {
    let doing = || "make the terminal the standard streams";
    rustix::stdio::dup2_stdin(slave).doing(doing)?;
    rustix::stdio::dup2_stdout(slave).doing(doing)?;
    rustix::stdio::dup2_stderr(slave).doing(doing)
}

/// Opens the terminal of the standard streams again, by its name below `root`, and adopts that: a name in a tree of mounts
/// that the process has left is none to it.
///
/// # Errors
/// Another file of that name.
pub fn adopt_again(root: BorrowedFd<'_>) -> Result<()> {
    let doing = || "open the terminal again";
    let known = rustix::fs::fstat(rustix::stdio::stdin()).doing(doing)?;
    let path = format!("/dev/pts/{}", rustix::fs::minor(known.st_rdev));
    let again = target::open(root, Path::new(&path), OFlags::RDWR | OFlags::NOCTTY)?;
    let again = again.ok_or(rustix::io::Errno::NOENT).doing(doing)?;
    let found = rustix::fs::fstat(&again).doing(doing)?;
    if (found.st_dev, found.st_ino) != (known.st_dev, known.st_ino) {
        return Err(Error::Usage(format!("the container's {path} is not its terminal")));
    }
    replace_streams(&again)
}

/// Gives the standard streams to the container's user, so that it can open `/dev/stdout` again, as runc does.
///
/// Pipes and sockets also get its group, as under crun. Terminals keep theirs, which lets write(1) reach them, and files
/// of the host keep theirs because the owner is enough.
///
/// # Errors
/// None: a stream that cannot be given away (a read-only file system, an id that is not mapped) stays whose it is.
pub fn give_streams(uid: u32, gid: u32) {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let Ok(found) = rustix::fs::fstat(stream) else { continue };
        let kind = FileType::from_raw_mode(found.st_mode);
        let null = kind == FileType::CharacterDevice && found.st_rdev == rustix::fs::makedev(1, 3);
        let nameless = matches!(kind, FileType::Fifo | FileType::Socket);
        let group = (nameless && found.st_gid != gid).then(|| Gid::from_raw(gid));
        if !null && (found.st_uid != uid || group.is_some()) {
            let _ = rustix::fs::fchown(stream.as_fd(), Some(Uid::from_raw(uid)), group);
        }
    }
}
