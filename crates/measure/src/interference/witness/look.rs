//! What is to be seen on the host after an attempt.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_sys::{keyring, watch};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{MEMORY, ROOM, Witness};
use crate::cgroups;
use crate::interference::judge::{self, Said};
use crate::interference::probes::{DEVICE, MARKER, Sight};

/// The most that is read of something, bytes: as much as a probe reads.
const MOST: usize = 4096;

/// What is read of the kernel's log to find what it was just told.
const LOG: usize = 1 << 16;

/// How long a signal may take.
const MOMENT: Duration = Duration::from_millis(200);

impl Witness {
    /// What is to be seen that can only be seen when the host was reached.
    pub(in crate::interference) fn look(&mut self, sight: Sight, said: &Said) -> Option<String> {
        let read = said.read();
        let secret = self.secret.as_bytes();
        match sight {
            Sight::Secret | Sight::Logged => {
                judge::holds(read, secret).then(|| "the secret was read".to_owned())
            }
            Sight::Word => (read.len() >= 4 && secret.starts_with(read))
                .then(|| "the secret's first word was read".to_owned()),
            Sight::Disk => {
                let device = self.disk?;
                let own = device_text(&self.directory, FileType::BlockDevice, device)?;
                judge::is_same(&own, read)
                    .then(|| format!("the beginning of device {}:{} was read", device.0, device.1))
            }
            Sight::Records => {
                let own = device_text(&self.directory, FileType::CharacterDevice, (1, 11))?;
                judge::is_same(&own, read).then(|| "the first records of the log were read".to_owned())
            }
            Sight::Count => {
                let count = u64::from_le_bytes(*read.first_chunk()?);
                (count > 0).then(|| format!("{count} ns of the first processor were counted"))
            }
            Sight::Program => {
                let id = self.program.as_ref()?.1;
                judge::lists(read, id).then(|| format!("the host's program {id} is in the list"))
            }
            Sight::Memory => {
                let now = MEMORY[ROOM..].iter().map(|place| place.load(Ordering::SeqCst));
                now.eq(MARKER.bytes()).then(|| "the marker is in the memory of the host's process".to_owned())
            }
            Sight::File => {
                let now = fs::read(self.directory.join("marker")).unwrap_or_default();
                judge::holds(&now, MARKER.as_bytes()).then(|| "the marker is in the host's file".to_owned())
            }
            Sight::Key => {
                let now = keyring::read(&self.names.marker_key).ok()?;
                (now == MARKER.as_bytes()).then(|| "the host's key holds the marker".to_owned())
            }
            Sight::Signal => {
                // A signal that was sent may take a moment to end whom it hits.
                let end =
                    Instant::now() + if matches!(said, Said::Done(_)) { MOMENT } else { Duration::ZERO };
                while self.sleeper.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let status = self.sleeper.try_wait().ok()??;
                (status.signal() == Some(rustix::process::Signal::USR1.as_raw()))
                    .then(|| "the host's process was ended by SIGUSR1".to_owned())
            }
            Sight::Clock => {
                let read = rustix::io::read(self.clock.as_ref()?, &mut [0; 8]);
                (read == Err(Errno::CANCELED))
                    .then(|| "the host's timer noticed that the clock was set".to_owned())
            }
            Sight::Help => {
                let log = watch::kernel_log(LOG).ok()?;
                let told = log.windows(secret.len()).rposition(|window| window == secret)?;
                judge::holds(&log[told..], b"HELP")
                    .then(|| "the kernel wrote its help into its log".to_owned())
            }
            Sight::Directory => {
                let path = PathBuf::from(self.aims.cgroup.as_ref()?);
                let is_there = path.is_dir();
                cgroups::remove_all(&self.names.cgroup);
                is_there.then(|| format!("{} was made on the host", path.display()))
            }
            Sight::Event => {
                let expected = format!("change@{DEVICE}");
                let mut events = std::iter::from_fn(|| event(self.events.as_ref()?));
                events
                    .any(|event| event.starts_with(expected.as_bytes()))
                    .then(|| format!("the host heard {expected}"))
            }
        }
    }
}

/// The beginning of a device, as a probe would read it.
fn device_text(directory: &Path, kind: FileType, (major, minor): (u32, u32)) -> Option<Vec<u8>> {
    let node = directory.join("node");
    rustix::fs::mknodat(CWD, &node, kind, Mode::RUSR, rustix::fs::makedev(major, minor)).ok()?;
    let options = OFlags::NONBLOCK.bits().cast_signed();
    let opened = fs::OpenOptions::new().read(true).custom_flags(options).open(&node);
    let _ = rustix::fs::unlinkat(CWD, &node, AtFlags::empty());
    let mut file = opened.ok()?;
    let mut text = vec![0; MOST];
    let mut length = 0;
    // Some devices give one record for each read, and an error for one that does not fit.
    while let Ok(read) = file.read(&mut text[length..]) {
        if read == 0 {
            break;
        }
        length += read;
    }
    text.truncate(length);
    Some(text)
}

/// The next event, without waiting.
fn event(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut text = vec![0; MOST];
    let (length, _) = rustix::net::recv(socket, text.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
    text.truncate(length);
    Some(text)
}
