//! The witness on the host: it lays out secrets to be read and things to be changed, and looks afterwards (`look`).
//!
//! What it lays out has names that follow from the name of the measurement (`names`), so that [`sweep`] finds what a killed one
//! left.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use bulkhead_sys::bpf::{Instruction, load_device_program};
use bulkhead_sys::shared_memory::Segment;
use bulkhead_sys::{handle, keyring};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::cgroups;
use crate::error::{Doing as _, Error};

use super::probes::{Aims, MARKER, Sight};

mod look;
mod names;

use names::Names;
pub(crate) use names::sweep;

/// Where the secret lies in this process, and behind it room for a marker.
static MEMORY: [AtomicU8; ROOM + MARKER.len()] = [const { AtomicU8::new(0) }; ROOM + MARKER.len()];

/// The length of a secret, and of the room that it has.
const ROOM: usize = 32;

/// Everything that is laid out; it is taken away when this is dropped.
#[derive(Debug)]
pub(super) struct Witness {
    names: Names,
    secret: String,
    directory: PathBuf,
    sleeper: Child,
    _segment: Option<Segment>,
    unix: Option<UnixListener>,
    tcp: Option<TcpListener>,
    program: Option<(OwnedFd, u32)>,
    clock: Option<OwnedFd>,
    events: Option<OwnedFd>,
    disk: Option<(u32, u32)>,
    aims: Aims,
}

impl Witness {
    /// Lays everything out for the measurement of this name, which has `directory`. What the host refuses is left out.
    ///
    /// # Errors
    /// When not even files can be made.
    pub(super) fn lay(name: &str, directory: &Path) -> Result<Self, Error> {
        let names = Names::of(name);
        let secret = secret()?;
        let (secret_file, marker_file) = (directory.join("secret"), directory.join("marker"));
        for (path, text) in [(&secret_file, secret.as_str()), (&marker_file, "")] {
            fs::write(path, text).doing(|| format!("write {}", path.display()))?;
        }
        MEMORY.iter().zip(secret.bytes()).for_each(|(place, byte)| place.store(byte, Ordering::SeqCst));
        let key = |name: &CString, text: &str| {
            keyring::add(name, text.as_bytes()).ok().and_then(|()| name.to_str().ok().map(str::to_owned))
        };
        let address = SocketAddr::from_abstract_name(&names.socket).ok();
        let unix = address.and_then(|address| UnixListener::bind_addr(&address).ok());
        let tcp = TcpListener::bind("127.0.0.1:0").ok();
        let segment = Segment::create(names.segment, secret.as_bytes()).ok();
        let sleeper = sleeper(&secret)?;
        let disk = disk_of(directory);
        let top = cgroups::top().map(|top| top.join(&names.cgroup).display().to_string());
        let aims = Aims {
            pid: std::process::id(),
            secret_at: MEMORY.as_ptr().addr(),
            marker_at: MEMORY[ROOM..].as_ptr().addr(),
            secret: secret.clone(),
            sleeper: sleeper.id(),
            secret_file: secret_file.display().to_string(),
            marker_file: marker_file.display().to_string(),
            handle: handle::of(&secret_file)
                .ok()
                .map(|handle| (handle.kind.to_string(), hexadecimal(&handle.bytes))),
            disk,
            secret_key: key(&names.secret_key, &secret),
            marker_key: key(&names.marker_key, "nothing"),
            segment: segment.as_ref().map(|_| names.segment),
            socket: unix.as_ref().map(|_| names.socket.clone()),
            port: tcp.as_ref().and_then(|tcp| Some(tcp.local_addr().ok()?.port())),
            cgroup: top,
            ..Aims::default()
        };
        Ok(Self {
            names,
            secret,
            directory: directory.to_owned(),
            sleeper,
            _segment: segment,
            unix,
            tcp,
            program: program(),
            clock: None,
            events: None,
            disk,
            aims,
        })
    }

    /// What is aimed at; paths inside the sandbox are the caller's to add.
    pub(super) fn aims(&self) -> &Aims {
        &self.aims
    }

    /// Makes everything ready for one attempt. Returns why that cannot be.
    pub(super) fn arm(&mut self, sight: Sight) -> Result<(), String> {
        if self.sleeper.try_wait().is_ok_and(|status| status.is_some()) {
            self.sleeper = sleeper(&self.secret).map_err(|error| error.to_string())?;
            self.aims.sleeper = self.sleeper.id();
        }
        match sight {
            Sight::Memory => MEMORY[ROOM..].iter().for_each(|place| place.store(0, Ordering::SeqCst)),
            Sight::Clock => self.clock = Some(timer().map_err(|error| format!("no timer: {error}"))?),
            Sight::Event => self.events = Some(listener().map_err(|error| format!("no events: {error}"))?),
            Sight::Logged | Sight::Help => self.tell_log()?,
            _ => {}
        }
        Ok(())
    }

    /// What becomes readable when somebody connects.
    pub(super) fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let unix = self.unix.iter().map(|unix| unix.as_fd());
        unix.chain(self.tcp.iter().map(|tcp| tcp.as_fd()))
    }

    /// Tells the secret to whoever has connected.
    pub(super) fn serve(&self) {
        let is_called = |listener: BorrowedFd<'_>| {
            let mut ready = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
            rustix::event::poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0)
        };
        // Who has gone again hears nothing.
        if let Some(unix) = self.unix.as_ref().filter(|unix| is_called(unix.as_fd()))
            && let Ok((mut stream, _)) = unix.accept()
        {
            let _ = stream.write_all(self.secret.as_bytes());
        }
        if let Some(tcp) = self.tcp.as_ref().filter(|tcp| is_called(tcp.as_fd()))
            && let Ok((mut stream, _)) = tcp.accept()
        {
            let _ = stream.write_all(self.secret.as_bytes());
        }
    }

    /// Writes the secret into the kernel's log.
    fn tell_log(&self) -> Result<(), String> {
        let log = fs::OpenOptions::new().write(true).open("/dev/kmsg");
        let told =
            log.and_then(|mut log| log.write_all(format!("bulkhead measures: {}\n", self.secret).as_bytes()));
        told.map_err(|error| format!("the kernel's log cannot be told anything: {error}"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
        self.names.remove_keys();
        for file in ["secret", "marker"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
    }
}

/// Nobody can guess it.
fn secret() -> Result<String, Error> {
    let mut bytes = [0; ROOM / 2];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .doing(|| "read /dev/urandom".to_owned())?;
    Ok(hexadecimal(&bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A process of the host for everybody to find. It waits for the end of its input, which comes with the end of this process at
/// the latest, so that nobody has to look for it when a measurement is killed.
fn sleeper(secret: &str) -> Result<Child, Error> {
    let mut command = Command::new("cat");
    command.arg0(secret).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().doing(|| "start cat".to_owned())
}

/// The device that `directory` is on, or where that has none the first disk.
fn disk_of(directory: &Path) -> Option<(u32, u32)> {
    let device = fs::metadata(directory).ok()?.dev();
    let own = (rustix::fs::major(device), rustix::fs::minor(device));
    let partitions = fs::read_to_string("/proc/partitions").unwrap_or_default();
    if own.0 != 0 { Some(own) } else { first_disk(&partitions) }
}

fn first_disk(partitions: &str) -> Option<(u32, u32)> {
    partitions.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// A program that is loaded on the host, and its number.
fn program() -> Option<(OwnedFd, u32)> {
    const ALLOW: [Instruction; 2] = [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate: 1 },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let program = load_device_program(c"bulkhead_seen", &ALLOW).ok()?;
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    let id = facts.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())?;
    Some((program, id))
}

/// A timer that is cancelled when somebody sets the clock.
fn timer() -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    // In thirty years or so.
    let never = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec { tv_sec: i64::from(i32::MAX) * 2, tv_nsec: 0 },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
    Ok(timer)
}

/// What the kernel tells of devices.
fn listener() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(netlink::KOBJECT_UEVENT),
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;
    use rustix::io::Errno;

    use super::super::judge::Said;
    use super::*;

    #[test]
    fn the_first_disk_is_found() {
        let partitions = "major minor  #blocks  name\n\n 254        0  268435456 vda\n 254  1 5 vda1\n";
        assert_eq!(first_disk(partitions), Some((254, 0)));
        assert_eq!(first_disk(""), None);
    }

    #[test]
    fn what_is_laid_out_is_taken_away() {
        let scratch = Scratch::new();
        let name = format!("bh-witness-{}", std::process::id());
        let names = Names::of(&name);
        let directory = scratch.path().join("witness");
        fs::create_dir(&directory).unwrap();
        let mut witness = Witness::lay(&name, &directory).unwrap();
        let pid = witness.sleeper.id();
        let read = Said::Done(format!("..{}..", witness.secret).into_bytes());
        assert!(witness.look(Sight::Secret, &read).is_some());
        assert!(witness.look(Sight::Secret, &Said::Refused(String::new())).is_none());
        for sight in [Sight::Memory, Sight::File, Sight::Key, Sight::Signal, Sight::Directory] {
            witness.arm(sight).unwrap();
            assert_eq!(witness.look(sight, &Said::Done(Vec::new())), None, "{sight:?} was seen in nothing");
        }
        fs::write(directory.join("marker"), MARKER).unwrap();
        assert!(witness.look(Sight::File, &Said::Done(Vec::new())).is_some(), "a marker was not seen");
        drop(witness);
        assert!(!Path::new("/proc").join(pid.to_string()).exists(), "the sleeper lives");
        assert!(keyring::read(&names.secret_key).is_err(), "a key is left");
        assert_eq!(bulkhead_sys::shared_memory::read(names.segment).unwrap_err().errno(), Errno::NOENT);
        assert_eq!(directory.read_dir().unwrap().count(), 0, "files are left");
    }
}
