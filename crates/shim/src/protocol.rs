//! What is said on a monitor's socket.
//!
//! A connection is a SOCK_SEQPACKET socket of AF_UNIX: one message each time. The first client gets its end with its birth
//! (a socketpair), and its first message lets the monitor begin; others connect to `sock`. The client speaks first:
//!
//! ```text
//!   client                                             monitor
//!     │  Attach{streams, takes_end, patience} ──────────► │
//!     │  Stdin(bytes) … CloseStdin, Resize ─────────────► │   only what the container takes: the rest waits
//!     │ ◄──────────────────────── Stdout(bytes) … Stderr  │   as the container writes
//!     │ ◄───────────────── Exited{code, then: Restarts}   │   the connection stays: a policy starts it again
//!     │ ◄──────────────────────────────── Ending{code, …} │   only after Attach{hears_ending}: `Exited` follows
//!     │ ◄──────────────────────── Exited{code, then: Ends}│   the last word
//!     │  Taken ─────────────────────────────────────────► │   only after Attach{takes_end}: `at_end` is not needed
//!     ×                                                   ×   either may close at any time
//!
//!     │  Stop{…} | Signal(n) | Policy(…) | Resize{…} ───► │   one request for each connection
//!     │  Companions ────────────────────────────────────► │   the order names others now: it is read again
//!     │ ◄────────────────────────── Done | Refused(text)  │   to Stop: when the container has ended for good
//!     ×                                                   ×
//! ```
//!
//! A message is a byte that is [`VERSION`], a byte for its kind, and what belongs to the kind, numbers in the order of
//! little-endian machines. A monitor that lives across an upgrade may be older than its clients: whoever gets another version or an
//! unknown kind says `Refused`, whose form (`n` and a text) is the same in all versions to come.

use serde::{Deserialize, Serialize};

use crate::order::Restart;

/// The version of the protocol.
pub const VERSION: u8 = 1;

/// The most bytes that a message has: a chunk of a stream and its head.
pub const LONGEST: usize = CHUNK + HEAD;

/// The most bytes of a stream in one message. It is the kernel's page on most machines, twice.
pub const CHUNK: usize = 8192;

/// Version and kind.
pub const HEAD: usize = 2;

/// What a monitor hears instead of a first client: nobody attaches. Shorter than any message.
pub const NO_CLIENT: &[u8] = b".";

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToMonitor<'a> {
    /// It wants to hear, and perhaps to speak to, the container.
    Attach(Attach),
    /// Bytes for the standard input.
    Stdin(&'a [u8]),
    /// The standard input has ended.
    CloseStdin,
    /// The terminal has this size now.
    Resize(Size),
    /// The container is to be stopped, and not to be started again.
    Stop(Stop),
    /// The container's first process is to get a signal. SIGKILL, and the signal that stops it, count as a stop: its policy
    /// does not start it again.
    Signal(i32),
    /// Another restart policy holds from now on.
    Policy(Restart),
    /// The processes that serve the container from outside are from now on those that the order names, which may have been written
    /// anew; those that are not there are looked for at once. A monitor that is older refuses it, and stays with those that it knows.
    Companions,
    /// What follows the container's end has been done.
    Taken,
}

/// What a client wants of a container's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attach {
    /// It speaks to the standard input.
    pub stdin: bool,
    /// It hears the standard output, or the terminal.
    pub stdout: bool,
    /// It hears the standard error.
    pub stderr: bool,
    /// It does itself what the order has for the end, if it lives then.
    pub takes_end: bool,
    /// It wants to hear [`ToClient::Ending`], too, which older programs do not know.
    pub hears_ending: bool,
    /// For how many seconds the container waits for a client that does not read. 0 is for ever, as writers of a pipe wait;
    /// else the monitor closes the connection then, without `Exited`.
    pub patience: u32,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// How a container is to be stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stop {
    /// The signal; the order's without one.
    pub signal: Option<i32>,
    /// How long it may take until SIGKILL; the order's without one.
    pub grace: Option<Grace>,
}

/// How long a container may take to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// This many seconds.
    Seconds(u32),
    /// As long as it likes.
    Unlimited,
}

/// What a monitor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToClient<'a> {
    /// What the container wrote to its standard output, or to its terminal.
    Stdout(&'a [u8]),
    /// What the container wrote to its standard error.
    Stderr(&'a [u8]),
    /// The container's process has ended for good, and the runtime takes away what is left of it. Output may follow, and
    /// [`ToClient::Exited`] does. Said to who asked for it with [`Attach::hears_ending`].
    Ending(Ending),
    /// The container's process has ended.
    Exited(Exit),
    /// What was asked for is done.
    Done,
    /// What was asked for is not done, and why.
    Refused(&'a str),
}

/// How a container's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its code, or 128 and the signal.
    pub code: u8,
    /// What follows.
    pub then: Then,
    /// Whether the kernel had killed one of the container's processes for want of memory.
    pub oom_killed: bool,
}

/// An end of a container's process of which the container has yet to be cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The process's code, or 128 and the signal.
    pub code: u8,
    /// When, in nanoseconds since 1970: what the status will have as `finished`.
    pub time: u64,
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing: it stays ended.
    Ends,
    /// It is started again.
    Restarts,
}

/// A message that says nothing in this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The other end speaks another version.
    #[error("version {theirs} of the monitor's protocol is not version {VERSION}, which this program speaks")]
    Version {
        /// What it speaks.
        theirs: u8,
    },
    /// A kind that this version does not have, or one cut short.
    #[error("no message of the monitor's protocol: kind {kind:?}, {length} bytes")]
    Message {
        /// Its kind.
        kind: char,
        /// Its length.
        length: usize,
    },
}

const ATTACH: u8 = b'A';
const STDIN: u8 = b'i';
const CLOSE_STDIN: u8 = b'c';
const RESIZE: u8 = b'r';
const STOP: u8 = b's';
const SIGNAL: u8 = b'k';
const POLICY: u8 = b'p';
const COMPANIONS: u8 = b'h';
const TAKEN: u8 = b't';
pub(crate) const STDOUT: u8 = b'o';
pub(crate) const STDERR: u8 = b'e';
const ENDING: u8 = b'w';
const EXITED: u8 = b'x';
const DONE: u8 = b'd';
const REFUSED: u8 = b'n';

impl<'a> ToMonitor<'a> {
    /// Writes the message.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Attach(Attach { stdin, stdout, stderr, takes_end, hears_ending, patience }) => {
                let bits = [stdin, stdout, stderr, takes_end, hears_ending];
                let bits = bits.iter().rev().fold(0_u8, |bits, &set| bits << 1 | u8::from(set));
                message(ATTACH, &[&[bits], &patience.to_le_bytes()])
            }
            Self::Stdin(bytes) => message(STDIN, &[bytes]),
            Self::CloseStdin => message(CLOSE_STDIN, &[]),
            Self::Resize(Size { rows, columns }) => {
                message(RESIZE, &[&rows.to_le_bytes(), &columns.to_le_bytes()])
            }
            Self::Stop(Stop { signal, grace }) => {
                let (kind, seconds) = match grace {
                    None => (0, 0),
                    Some(Grace::Seconds(seconds)) => (1, seconds),
                    Some(Grace::Unlimited) => (2, 0),
                };
                // Signals begin with 1.
                message(STOP, &[&signal.unwrap_or(0).to_le_bytes(), &[kind], &seconds.to_le_bytes()])
            }
            Self::Signal(number) => message(SIGNAL, &[&number.to_le_bytes()]),
            Self::Policy(policy) => {
                let (kind, maximum) = match policy {
                    Restart::No => (0, 0),
                    Restart::OnFailure { maximum } => (1, maximum),
                    Restart::Always => (2, 0),
                    Restart::UnlessStopped => (3, 0),
                };
                message(POLICY, &[&[kind], &maximum.to_le_bytes()])
            }
            Self::Companions => message(COMPANIONS, &[]),
            Self::Taken => message(TAKEN, &[]),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for what is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = split(bytes)?;
        Self::of(kind, rest).ok_or_else(|| Malformed::Message { kind: kind.into(), length: bytes.len() })
    }

    fn of(kind: u8, rest: &'a [u8]) -> Option<Self> {
        Some(match kind {
            ATTACH => {
                let (bits, patience) = rest.split_first()?;
                let has = |place: u8| bits >> place & 1 == 1;
                Self::Attach(Attach {
                    stdin: has(0),
                    stdout: has(1),
                    stderr: has(2),
                    takes_end: has(3),
                    hears_ending: has(4),
                    patience: u32::from_le_bytes(patience.try_into().ok()?),
                })
            }
            STDIN => Self::Stdin(rest),
            CLOSE_STDIN if rest.is_empty() => Self::CloseStdin,
            RESIZE => {
                let &[a, b, c, d] = rest else { return None };
                Self::Resize(Size { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) })
            }
            STOP => {
                let (signal, rest) = rest.split_first_chunk::<4>()?;
                let (kind, seconds) = rest.split_first()?;
                let seconds = u32::from_le_bytes(seconds.try_into().ok()?);
                let grace = match kind {
                    0 => None,
                    1 => Some(Grace::Seconds(seconds)),
                    2 => Some(Grace::Unlimited),
                    _ => return None,
                };
                let signal = Some(i32::from_le_bytes(*signal)).filter(|&signal| signal != 0);
                Self::Stop(Stop { signal, grace })
            }
            SIGNAL => Self::Signal(i32::from_le_bytes(rest.try_into().ok()?)),
            POLICY => {
                let (kind, maximum) = rest.split_first()?;
                let maximum = u32::from_le_bytes(maximum.try_into().ok()?);
                Self::Policy(match kind {
                    0 => Restart::No,
                    1 => Restart::OnFailure { maximum },
                    2 => Restart::Always,
                    3 => Restart::UnlessStopped,
                    _ => return None,
                })
            }
            COMPANIONS if rest.is_empty() => Self::Companions,
            TAKEN if rest.is_empty() => Self::Taken,
            _ => return None,
        })
    }
}

impl<'a> ToClient<'a> {
    /// Writes the message.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Stdout(bytes) => message(STDOUT, &[bytes]),
            Self::Stderr(bytes) => message(STDERR, &[bytes]),
            Self::Ending(Ending { code, time }) => message(ENDING, &[&[code], &time.to_le_bytes()]),
            Self::Exited(Exit { code, then, oom_killed }) => {
                message(EXITED, &[&[code, u8::from(then == Then::Restarts), u8::from(oom_killed)]])
            }
            Self::Done => message(DONE, &[]),
            Self::Refused(text) => message(REFUSED, &[text.as_bytes()]),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for what is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if let &[_, REFUSED, ref text @ ..] = bytes {
            return Ok(Self::Refused(std::str::from_utf8(text).unwrap_or("it is not said why")));
        }
        let (kind, rest) = split(bytes)?;
        Ok(match (kind, rest) {
            (STDOUT, bytes) => Self::Stdout(bytes),
            (STDERR, bytes) => Self::Stderr(bytes),
            (ENDING, &[code, ref time @ ..]) if time.len() == size_of::<u64>() => {
                let time = time.try_into().map(u64::from_le_bytes).unwrap_or_default();
                Self::Ending(Ending { code, time })
            }
            (EXITED, &[code, then @ (0 | 1), oom_killed]) => {
                let then = if then == 1 { Then::Restarts } else { Then::Ends };
                Self::Exited(Exit { code, then, oom_killed: oom_killed != 0 })
            }
            (DONE, []) => Self::Done,
            _ => return Err(Malformed::Message { kind: kind.into(), length: bytes.len() }),
        })
    }
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + parts.iter().map(|part| part.len()).sum::<usize>());
    bytes.extend([VERSION, kind]);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

fn split(bytes: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    match *bytes {
        [VERSION, kind, ref rest @ ..] => Ok((kind, rest)),
        [theirs, _, ..] => Err(Malformed::Version { theirs }),
        _ => Err(Malformed::Message { kind: ' ', length: bytes.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_what_the_monitor_reads() {
        let attach = Attach {
            stdin: true,
            stdout: false,
            stderr: true,
            takes_end: false,
            hears_ending: false,
            patience: 70_000,
        };
        for message in [
            ToMonitor::Attach(attach),
            ToMonitor::Attach(Attach { takes_end: true, ..Attach::default() }),
            ToMonitor::Attach(Attach { hears_ending: true, ..Attach::default() }),
            ToMonitor::Stdin(b"bytes"),
            ToMonitor::Stdin(b""),
            ToMonitor::CloseStdin,
            ToMonitor::Resize(Size { rows: 24, columns: 300 }),
            ToMonitor::Stop(Stop::default()),
            ToMonitor::Stop(Stop { signal: Some(2), grace: Some(Grace::Seconds(0)) }),
            ToMonitor::Stop(Stop { signal: None, grace: Some(Grace::Unlimited) }),
            ToMonitor::Signal(64),
            ToMonitor::Policy(Restart::No),
            ToMonitor::Policy(Restart::OnFailure { maximum: 3 }),
            ToMonitor::Policy(Restart::Always),
            ToMonitor::Policy(Restart::UnlessStopped),
            ToMonitor::Companions,
            ToMonitor::Taken,
        ] {
            assert_eq!(ToMonitor::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn what_a_monitor_says_is_what_a_client_reads() {
        for message in [
            ToClient::Stdout(b"out"),
            ToClient::Stderr(b"err"),
            ToClient::Ending(Ending { code: 7, time: 1 << 60 }),
            ToClient::Exited(Exit { code: 137, then: Then::Ends, oom_killed: true }),
            ToClient::Exited(Exit { code: 0, then: Then::Restarts, oom_killed: false }),
            ToClient::Done,
            ToClient::Refused("no such signal"),
        ] {
            assert_eq!(ToClient::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_refusal_is_read_in_any_version_and_all_else_in_this_one_only() {
        assert_eq!(ToClient::decode(b"\x07nno"), Ok(ToClient::Refused("no")));
        assert_eq!(ToClient::decode(b"\x07obytes"), Err(Malformed::Version { theirs: 7 }));
        assert_eq!(ToMonitor::decode(b"\x02ibytes"), Err(Malformed::Version { theirs: 2 }));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x01?",
            b"\x01A",
            b"\x01A\x01\0\0",
            b"\x01cx",
            b"\x01hx",
            b"\x01s\0\0\0\0\x09\0\0\0\0",
        ] {
            assert!(ToMonitor::decode(bytes).is_err(), "{bytes:?} is no message");
        }
        for bytes in [&b""[..], b"\x01", b"\x01x\x01", b"\x01w\x01\0", b"\x01dd"] {
            assert!(ToClient::decode(bytes).is_err(), "{bytes:?} is no message");
        }
    }
}
