//! Attempts on something that is not the sandbox's own: one attempt, and what became of it.
//!
//! Whether an attempt that was not refused reached the host is not for the one who makes it to say: a witness on the
//! host has a secret to be read or something to be changed, and looks. No attempt can hurt: what it would change is named
//! by the one who asks for it, and the clock is set to what it says.

use std::ffi::OsString;

use bulkhead_sys as sys;
use serde::Serialize;

use crate::error::{Error, Result};

mod files;
mod kernel;
mod processes;
mod sockets;
mod surroundings;

/// The most that is read, bytes.
const MOST: usize = 4096;

/// What an attempt gave: what was read, or the call that was refused.
type Attempt = sys::Result<Vec<u8>>;

/// A probe by its name.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// The arguments, for the help.
    pub(crate) takes: &'static str,
    /// What is attempted, for the help.
    pub(crate) says: &'static str,
    attempt: fn(&Words) -> Result<Attempt>,
}

/// All probes.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "file-read", takes: "PATH", says: "reads a file", attempt: |words| Ok(files::read(words)) },
    Kind { name: "file-write", takes: "PATH TEXT", says: "writes to a file that is there", attempt: files::write },
    Kind { name: "directory-make", takes: "PATH", says: "makes a directory", attempt: |words| Ok(files::make_directory(words)) },
    Kind { name: "handle-read", takes: "MOUNT KIND HEX", says: "reads the file that has this handle, on the file system of MOUNT", attempt: files::read_by_handle },
    Kind { name: "device-read", takes: "PATH block|char MAJOR MINOR", says: "makes a device node and reads the device", attempt: files::read_device },
    Kind { name: "mount-read", takes: "TYPE SOURCE PLACE FILE", says: "mounts a file system at PLACE, in a mount namespace of its own where it can, and reads a file of it", attempt: files::read_mounted },
    Kind { name: "memory-read", takes: "PID ADDRESS LENGTH", says: "reads another's memory", attempt: processes::read_memory },
    Kind { name: "memory-write", takes: "PID ADDRESS TEXT", says: "writes into another's memory", attempt: processes::write_memory },
    Kind { name: "ptrace", takes: "PID ADDRESS", says: "stops another and reads a word of its memory", attempt: processes::trace },
    Kind { name: "signal", takes: "PID", says: "sends SIGUSR1", attempt: processes::signal },
    Kind { name: "keyring-read", takes: "NAME", says: "reads a key of the user keyring", attempt: kernel::read_key },
    Kind { name: "keyring-write", takes: "NAME TEXT", says: "puts a key into the user keyring", attempt: kernel::write_key },
    Kind { name: "shared-memory", takes: "KEY", says: "reads a segment of System V", attempt: kernel::read_shared_memory },
    Kind { name: "kernel-log", takes: "", says: "reads the end of the kernel's log", attempt: |_| Ok(kernel::read_log()) },
    Kind { name: "perf", takes: "", says: "counts what the first processor does, whoever runs on it", attempt: |_| Ok(kernel::count_events()) },
    Kind { name: "bpf", takes: "", says: "lists the BPF programs of the machine, 32 bits each", attempt: |_| Ok(kernel::list_programs()) },
    Kind { name: "clock", takes: "", says: "sets the clock to what it says", attempt: |_| Ok(kernel::set_clock()) },
    Kind { name: "abstract-socket", takes: "NAME", says: "connects to an abstract unix socket and reads what it says", attempt: sockets::read_abstract },
    Kind { name: "tcp", takes: "ADDRESS:PORT", says: "connects and reads what is said", attempt: sockets::read_tcp },
];

/// A probe to be tried.
#[derive(Debug)]
pub(crate) struct Order {
    /// Which.
    pub(crate) kind: &'static Kind,
    /// On what.
    pub(crate) words: Vec<OsString>,
}

/// The line that a probe prints.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    probe: &'static str,
    result: Outcome,
    /// None when it was done.
    errno: Option<i32>,
    /// The call that was refused, and why; None when it was done.
    call: Option<String>,
    /// Hexadecimal.
    read: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Done,
    Refused,
}

/// Makes the attempt.
pub(crate) fn run(order: &Order) -> Result<Line> {
    let Kind { name: probe, takes, attempt, says: _ } = order.kind;
    let wanted = takes.split_whitespace().count();
    if order.words.len() != wanted {
        return Err(Error::Usage(format!("the probe {probe} takes {wanted} arguments: {takes}")));
    }
    surroundings::complete();
    Ok(match attempt(&Words(&order.words))? {
        Ok(bytes) => {
            let read = bytes.iter().take(MOST).map(|byte| format!("{byte:02x}")).collect();
            Line { probe, result: Outcome::Done, errno: None, call: None, read }
        }
        Err(error) => {
            let (errno, call) = (Some(error.errno().raw_os_error()), Some(error.to_string()));
            Line { probe, result: Outcome::Refused, errno, call, read: String::new() }
        }
    })
}

/// The arguments of a probe, as many as it takes.
struct Words<'a>(&'a [OsString]);

impl Words<'_> {
    fn os(&self, place: usize) -> &OsString {
        &self.0[place]
    }

    fn text(&self, place: usize) -> Result<&str> {
        let word = self.os(place);
        word.to_str().ok_or_else(|| Error::Usage(format!("{} is no text", word.display())))
    }

    /// A number, hexadecimal behind `0x`.
    fn number<T: TryFrom<u64>>(&self, place: usize) -> Result<T> {
        let text = self.text(place)?;
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let number = number.ok().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| Error::Usage(format!("{text} is no number, or too large")))
    }

    /// Bytes that were written as hexadecimal digits.
    fn bytes(&self, place: usize) -> Result<Vec<u8>> {
        let text = self.text(place)?;
        let pairs = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        bytes.ok_or_else(|| Error::Usage(format!("{text} is not hexadecimal")))
    }

    fn c_string(&self, place: usize) -> Result<std::ffi::CString> {
        let text = self.text(place)?;
        std::ffi::CString::new(text).map_err(|_| Error::Usage("a null byte is no name".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_what_they_are() {
        let words = ["12", "0xff", "x", "c0ffee", "c0f"].map(OsString::from);
        let words = Words(&words);
        assert_eq!(words.number::<i32>(0).unwrap(), 12);
        assert_eq!(words.number::<u8>(1).unwrap(), 255);
        assert!(words.number::<u64>(2).is_err(), "x is a number");
        assert_eq!(words.bytes(3).unwrap(), [0xc0, 0xff, 0xee]);
        assert!(words.bytes(4).is_err(), "half a byte is one");
    }

    #[test]
    fn a_probe_wants_all_its_arguments() {
        for kind in KINDS {
            let words = vec![OsString::from("1"); kind.takes.split_whitespace().count() + 1];
            let error = run(&Order { kind, words }).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the probe {} takes ", kind.name)), "{error}");
        }
    }
}
