//! Attempts on files, devices and file systems.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bulkhead_sys::handle::Handle;
use bulkhead_sys::{self as sys, Call as _};
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::{Attempt, MOST, Words};
use crate::error::{Error, Result};

pub(super) fn read(words: &Words) -> Attempt {
    read_path(Path::new(words.os(0)))
}

pub(super) fn write(words: &Words) -> Result<Attempt> {
    let (path, text) = (Path::new(words.os(0)), words.text(1)?);
    Ok(attempt_to_write(path, text))
}

fn attempt_to_write(path: &Path, text: &str) -> Attempt {
    let mut file = opened(OpenOptions::new().write(true), path, "O_WRONLY")?;
    file.write_all(text.as_bytes()).call(|| format!("write({path:?}, {text:?})"))?;
    Ok(Vec::new())
}

pub(super) fn make_directory(words: &Words) -> Attempt {
    let path = Path::new(words.os(0));
    std::fs::create_dir(path).call(|| format!("mkdir({path:?})")).map(|()| Vec::new())
}

pub(super) fn read_by_handle(words: &Words) -> Result<Attempt> {
    let handle = Handle { kind: words.number(1)?, bytes: words.bytes(2)? };
    let mount = Path::new(words.os(0));
    let opened = File::open(mount).call(|| format!("openat({mount:?}, O_RDONLY)"));
    Ok(opened.and_then(|mount| sys::handle::open(mount, &handle)).and_then(|file| read_file(&file.into())))
}

pub(super) fn read_device(words: &Words) -> Result<Attempt> {
    let kind = match words.text(1)? {
        "block" => FileType::BlockDevice,
        "char" => FileType::CharacterDevice,
        other => return Err(Error::Usage(format!("{other} is no kind of device: block or char"))),
    };
    let device = rustix::fs::makedev(words.number(2)?, words.number(3)?);
    let path = Path::new(words.os(0));
    let made = rustix::fs::mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device);
    Ok(made.call(|| format!("mknodat({path:?}, {kind:?}, {device:#x})")).and_then(|()| {
        let read = read_path(path);
        rustix::fs::unlinkat(CWD, path, AtFlags::empty()).call(|| format!("unlinkat({path:?})"))?;
        read
    }))
}

pub(super) fn read_mounted(words: &Words) -> Result<Attempt> {
    let (kind, source) = (words.text(0)?, words.text(1)?);
    let place = Path::new(words.os(2));
    let file = place.join(words.os(3));
    // In a namespace of its own the host's is spared. Who may not have one, but may mount, does that in the sandbox's.
    if sys::namespace::unshare(sys::namespace::Kind::Mount).is_ok() {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        // A failure leaves it as it was: then the sandbox's own propagation holds.
        let _ = rustix::mount::mount_change("/", private);
    }
    let mounted = rustix::mount::mount(source, place, kind, MountFlags::empty(), None);
    Ok(mounted.call(|| format!("mount({source:?}, {place:?}, {kind:?}, 0)")).and_then(|()| {
        let read = read_path(&file);
        rustix::mount::unmount(place, UnmountFlags::DETACH).call(|| format!("umount2({place:?})"))?;
        read
    }))
}

/// Reads the beginning of a file without waiting for anything.
pub(super) fn read_path(path: &Path) -> Attempt {
    read_file(&opened(OpenOptions::new().read(true), path, "O_RDONLY")?)
}

fn opened(options: &mut OpenOptions, path: &Path, flags: &str) -> sys::Result<File> {
    let options = options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options.open(path).call(|| format!("openat({path:?}, {flags}|O_NONBLOCK)"))
}

/// By single reads: what some files of the kernel give ends with the first that gives less.
fn read_file(mut file: &File) -> Attempt {
    let mut bytes = vec![0; MOST];
    let mut length = 0;
    while length < MOST {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            // What was read counts.
            Err(_) if length > 0 => break,
            Err(error) => return Err(error).call(|| "read(file)"),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
