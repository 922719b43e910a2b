//! The journal of systemd, by its native protocol: a datagram for each entry, with a field in each line
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! An entry that is too long for a datagram comes in a sealed file in memory, whose descriptor an empty datagram carries.
//!
//! A field whose value has more than one line, or bytes that are no text, is written as its name, a line feed, the
//! value's length in eight little-endian bytes, and the value.

use std::fs::File;
use std::io::{Error, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::{Line, Reason, Stream};
use crate::order::JOURNAL;

#[derive(Debug)]
pub(super) struct Journal {
    socket: OwnedFd,
    /// The fields that are the same in all entries.
    fields: Vec<u8>,
}

impl Journal {
    pub(super) fn open(fields: &[(String, String)]) -> Result<Self, Reason> {
        Self::open_at(JOURNAL, fields)
    }

    fn open_at(path: &str, fields: &[(String, String)]) -> Result<Self, Reason> {
        let mut all = Vec::new();
        for (name, value) in fields {
            if !is_name(name) {
                let sentence = format!(
                    "{name:?} is no name of a field of the journal: A-Z, 0-9 and _, as in CONTAINER_TAG"
                );
                return Err(Error::new(ErrorKind::InvalidInput, sentence));
            }
            field(name, value.as_bytes(), &mut all);
        }
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket, fields: all })
    }

    /// Sends an entry, and waits while the journal is busy.
    pub(super) fn send(&mut self, line: Line<'_>) -> Result<(), Reason> {
        let mut entry = self.fields.clone();
        entry.extend_from_slice(match line.stream {
            Stream::Stdout => b"PRIORITY=6\n",
            Stream::Stderr => b"PRIORITY=3\n",
        });
        if !line.ends {
            entry.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n");
        }
        field("MESSAGE", line.bytes, &mut entry);
        match rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &entry, SendFlags::NOSIGNAL)) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_in_file(&entry),
            sent => sent.map(drop).map_err(Reason::from),
        }
    }

    /// Sends an entry that no datagram can hold: as a file in memory that can change no more, whose descriptor is the message.
    fn send_in_file(&self, entry: &[u8]) -> Result<(), Reason> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("entry", flags)?;
        File::from(file.try_clone()?).write_all(entry)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, seals)?;
        Ok(bulkhead_sys::message::send(&self.socket, &[], &[file.as_fd()])?)
    }
}

/// Says whether the journal takes fields of this name from clients: it drops others without a word.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(allowed)
        && name.as_bytes()[0].is_ascii_uppercase()
}

fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if value.iter().any(|&byte| byte == b'\n' || byte < b' ' && byte != b'\t') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn an_entry_is_a_datagram_of_fields() {
        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let fields = [("CONTAINER_TAG".to_owned(), "web".to_owned())];
        let mut log = Journal::open_at(path.to_str().unwrap(), &fields).unwrap();
        let mut said = |stream, bytes, ends| {
            log.send(Line { stream, bytes, ends, time: 0 }).unwrap();
            let mut buffer = [0; 256];
            let length = journal.recv(&mut buffer).unwrap();
            buffer[..length].to_vec()
        };
        let entry = said(Stream::Stdout, b"hello\tworld", true);
        assert_eq!(entry, b"CONTAINER_TAG=web\nPRIORITY=6\nMESSAGE=hello\tworld\n");
        let entry = said(Stream::Stderr, b"\x1b[1m", false);
        let expected = b"CONTAINER_TAG=web\nPRIORITY=3\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE\n\x04\0\0\0\0\0\0\0\x1b[1m\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn an_entry_without_room_in_a_datagram_comes_in_a_sealed_file() {
        use std::io::{Read as _, Seek as _};

        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let long = "v".repeat(1 << 20);
        let fields = [("LONG".to_owned(), long.clone())];
        let mut log = Journal::open_at(path.to_str().unwrap(), &fields).unwrap();
        log.send(Line { stream: Stream::Stdout, bytes: b"hello", ends: true, time: 0 }).unwrap();
        let message = bulkhead_sys::message::receive(&journal, 64).unwrap();
        assert!(message.bytes.is_empty());
        let [file] = <[OwnedFd; 1]>::try_from(message.descriptors).unwrap();
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::WRITE), "nobody changes it while it is read");
        let mut file = File::from(file);
        file.rewind().unwrap();
        let mut entry = String::new();
        file.read_to_string(&mut entry).unwrap();
        assert_eq!(entry, format!("LONG={long}\nPRIORITY=6\nMESSAGE=hello\n"));
    }

    #[test]
    fn a_journal_that_does_not_run_and_fields_that_it_would_drop_are_errors() {
        let scratch = Scratch::new();
        let path = scratch.path().join("none");
        assert!(Journal::open_at(path.to_str().unwrap(), &[]).is_err());
        for name in ["", "lower", "_PID", "A=B", "1ST"] {
            let error = Journal::open_at("/none", &[(name.to_owned(), String::new())]).unwrap_err();
            assert!(error.to_string().contains("no name of a field"), "{name:?}: {error}");
        }
    }
}
