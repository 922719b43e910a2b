//! A connection to systemd that makes one call at a time and waits for its answer.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};

use super::Manager;
use super::address::{Address, Peer, Socket, Surroundings};
use super::message::{Call, FIXED, Kind, Message};
use super::wire::{self, Reader, Writer};
use crate::error::{Error, Result};

/// How long an answer, or the end of a job, may take. systemd itself gives a job 90 seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest line of the greeting.
const LINE: usize = 512;

/// The name of systemd on a bus, and the prefix of its interfaces.
pub(crate) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(crate) const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: OwnedFd,
    serial: u32,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Message>,
    /// What came with the end of the greeting.
    early: Vec<u8>,
}

impl Bus {
    /// Connects to a manager, by the first of its sockets that takes us.
    ///
    /// # Errors
    /// [`Error::NoSystemd`] when nobody listens at any, [`Error::Bus`] for what went wrong with the last one else.
    pub(crate) fn connect(manager: Manager) -> Result<Self> {
        let mut failure = Error::NoSystemd { manager: manager.name() };
        for address in Surroundings::own().addresses(manager) {
            match open(&address.socket) {
                Ok(socket) => match Self::over(socket, address.peer) {
                    Ok(bus) => return Ok(bus),
                    Err(error) => failure = error,
                },
                Err(errno) if is_nobody(errno) => {}
                Err(errno) => failure = failed(&format!("connect({})", shown(&address)), errno),
            }
        }
        Err(failure)
    }

    /// Begins to talk over a socket.
    pub(crate) fn over(socket: OwnedFd, peer: Peer) -> Result<Self> {
        let mut bus = Self { socket, serial: 0, signals: VecDeque::new(), early: Vec::new() };
        bus.authenticate()?;
        if peer == Peer::Bus {
            bus.call_bus("Hello", "")?;
            bus.call_bus(
                "AddMatch",
                "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
            )?;
            // Without a listener systemd sends no signals to a bus.
            bus.call_manager("Subscribe", "", &[])?;
        }
        Ok(bus)
    }

    /// Says who we are, which the kernel vouches for: an empty identity stands for that of the socket, and so holds
    /// in any user namespace.
    ///
    /// All is said at once and no call follows before the answer: systemd would not look at a call that it reads
    /// together with BEGIN until something else comes.
    fn authenticate(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.line()?;
            match line.get(..2) {
                Some(b"OK") => return Ok(()),
                Some(b"DA") => {}
                _ => return Err(Error::BusProtocol { reason: "the other end does not let us in" }),
            }
        }
    }

    /// Reads a line of the greeting. What comes with the last one is a message already.
    fn line(&mut self) -> Result<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.early.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.early.split_off(at + 2);
                return Ok(std::mem::replace(&mut self.early, rest));
            }
            if self.early.len() >= LINE {
                return Err(Error::BusProtocol { reason: "the greeting does not end" });
            }
            let mut buffer = [0; LINE];
            let count = self.receive(&mut buffer, end)?;
            self.early.extend(&buffer[..count]);
        }
    }

    fn call_bus(&mut self, member: &str, argument: &str) -> Result<Message> {
        let mut body = Writer::default();
        let signature = if argument.is_empty() { "" } else { "s" };
        if !argument.is_empty() {
            body.string(argument);
        }
        let call = Call { destination: DBUS, path: DBUS_PATH, interface: DBUS, member, signature };
        self.call(&call, &body.into_bytes())
    }

    /// Calls a method of the manager.
    ///
    /// # Errors
    /// [`Error::Systemd`] when it refuses, [`Error::Bus`] when it does not answer.
    pub(crate) fn call_manager(&mut self, member: &str, signature: &str, body: &[u8]) -> Result<Message> {
        let call = Call { destination: SYSTEMD, path: SYSTEMD_PATH, interface: MANAGER, member, signature };
        self.call(&call, body)
    }

    /// Reads a property of the manager that is a text.
    ///
    /// # Errors
    /// As [`Bus::call_manager`].
    pub(crate) fn property(&mut self, name: &str) -> Result<String> {
        let mut body = Writer::default();
        body.string(MANAGER);
        body.string(name);
        let call = Call {
            destination: SYSTEMD,
            path: SYSTEMD_PATH,
            interface: PROPERTIES,
            member: "Get",
            signature: "ss",
        };
        let reply = self.call(&call, &body.into_bytes())?;
        text_of(&reply, "v", |reader| reader.variant_string())
    }

    fn call(&mut self, call: &Call<'_>, body: &[u8]) -> Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.encode(serial, body))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.message(end)?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(message),
                Kind::Error if message.reply_to == serial => {
                    return Err(Error::Systemd {
                        call: call.member.to_owned(),
                        reason: message.sentence().to_owned(),
                        name: message.error,
                    });
                }
                Kind::Signal => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Waits until a job has ended, and returns how.
    ///
    /// # Errors
    /// [`Error::Bus`] with ETIMEDOUT when it does not end.
    pub(crate) fn job_result(&mut self, job: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.message(end)?,
            };
            if message.kind != Kind::Signal || message.member != "JobRemoved" {
                continue;
            }
            let (path, result) = ended_job(&message).map_err(Error::BusMessage)?;
            if path == job {
                return Ok(result.to_owned());
            }
        }
    }

    fn message(&mut self, end: Instant) -> Result<Message> {
        let mut bytes = vec![0; FIXED];
        self.fill(&mut bytes, end)?;
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&bytes);
        bytes.resize(Message::length(&fixed).map_err(Error::BusMessage)?, 0);
        self.fill(&mut bytes[FIXED..], end)?;
        Message::parse(&bytes).map_err(Error::BusMessage)
    }

    fn fill(&mut self, mut buffer: &mut [u8], end: Instant) -> Result<()> {
        let count = self.early.len().min(buffer.len());
        let rest = self.early.split_off(count);
        buffer[..count].copy_from_slice(&std::mem::replace(&mut self.early, rest));
        buffer = &mut buffer[count..];
        while !buffer.is_empty() {
            let count = self.receive(buffer, end)?;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8], end: Instant) -> Result<usize> {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)))
            .map_err(|errno| failed("poll()", errno))?;
        if ready == 0 {
            return Err(failed("poll()", Errno::TIMEDOUT));
        }
        let (count, _) = retry_on_intr(|| recv(&self.socket, &mut *buffer, RecvFlags::empty()))
            .map_err(|errno| failed("recv()", errno))?;
        if count == 0 { Err(failed("recv()", Errno::CONNRESET)) } else { Ok(count) }
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let count = retry_on_intr(|| send(&self.socket, bytes, SendFlags::NOSIGNAL))
                .map_err(|errno| failed("send()", errno))?;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

impl AsFd for Bus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads JobRemoved: the job's number, the job, its unit, its result.
fn ended_job(message: &Message) -> wire::Result<(&str, &str)> {
    let mut arguments = message.arguments("uoss")?;
    arguments.u32()?;
    let job = arguments.string()?;
    arguments.string()?;
    Ok((job, arguments.string()?))
}

/// Takes the first argument of a reply.
pub(crate) fn text_of<'a>(
    reply: &'a Message,
    types: &str,
    take: impl FnOnce(&mut Reader<'a>) -> wire::Result<&'a str>,
) -> Result<String> {
    let text = reply.arguments(types).and_then(|mut reader| take(&mut reader));
    text.map(str::to_owned).map_err(Error::BusMessage)
}

fn failed(call: &str, errno: Errno) -> Error {
    Error::Bus { source: bulkhead_sys::Error::new(call, errno) }
}

/// Tells whether nobody listens at a socket.
fn is_nobody(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::ACCESS)
}

fn shown(address: &Address) -> String {
    match &address.socket {
        Socket::Path(path) => path.display().to_string(),
        Socket::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
    }
}

fn open(name: &Socket) -> std::result::Result<OwnedFd, Errno> {
    let address = match name {
        Socket::Path(path) => SocketAddrUnix::new(path.as_path())?,
        Socket::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    retry_on_intr(|| connect(&socket, &address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::peer::{Answer, Peer as Other};

    #[test]
    fn a_bus_is_greeted_and_asked_for_signals() {
        let (socket, other) = Other::new([Answer::Nothing; 3]).listen();
        Bus::over(socket, Peer::Bus).unwrap();
        assert_eq!(other.join().unwrap(), ["Hello", "AddMatch", "Subscribe"]);
    }

    #[test]
    fn a_signal_may_follow_the_greeting_at_once() {
        let early = Other { early_signal: true, ..Other::new([Answer::Job("/job/5", "done")]) };
        let (socket, other) = early.listen();
        let mut bus = Bus::over(socket, Peer::Manager).unwrap();
        bus.call_manager("StopUnit", "", &[]).unwrap();
        assert_eq!(bus.job_result("/job/5").unwrap(), "done");
        other.join().unwrap();
    }

    #[test]
    fn the_end_of_a_job_may_be_told_before_its_beginning() {
        for answer in [Answer::Job("/job/5", "timeout"), Answer::EarlyJob("/job/5", "timeout")] {
            let (socket, other) = Other::new([answer]).listen();
            let mut bus = Bus::over(socket, Peer::Manager).unwrap();
            bus.call_manager("StopUnit", "", &[]).unwrap();
            assert_eq!(bus.job_result("/job/5").unwrap(), "timeout", "{answer:?}");
            other.join().unwrap();
        }
    }

    #[test]
    fn a_refusal_says_what_and_why() {
        let (socket, other) = Other::new([Answer::Error("org.x.No")]).listen();
        let mut bus = Bus::over(socket, Peer::Manager).unwrap();
        let error = bus.call_manager("StopUnit", "", &[]).unwrap_err();
        assert_eq!(error.to_string(), "systemd refuses StopUnit: because (org.x.No)");
        other.join().unwrap();
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        let (socket, other) = Other::new([Answer::End]).listen();
        let mut bus = Bus::over(socket, Peer::Manager).unwrap();
        let error = bus.call_manager("StopUnit", "", &[]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::CONNRESET), "{error}");
        other.join().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(Bus::over(ours.into(), Peer::Manager).unwrap_err().errno(), Some(Errno::PIPE));
    }
}
