//! A connection to systemd that makes one call at a time and waits for its answer.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_sys::message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
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
const LIMIT: Duration = Duration::from_secs(60);
/// The same while something is taken back, after an error that a user waits to see.
const LIMIT_OF_UNDO: Duration = Duration::from_secs(10);
/// How long the other end may take to accept a connection, or bytes.
const LIMIT_OF_SOCKET: Duration = Duration::from_secs(10);
/// The longest line of the greeting, and how much the greeting may have in all.
const LINE: usize = 512;
const GREETING: usize = 8 * LINE;
/// How many jobs may end while an answer is waited for.
const ENDED_JOBS: usize = 4096;

const GREETING_WITHOUT_END: &str = "the greeting does not end";

/// The name of systemd on a bus, and the prefix of its interfaces.
pub(crate) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(crate) const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const JOB_REMOVED: &str = "JobRemoved";

/// Waits until a descriptor can be read, at most for so long, and tells whether it can. An error of its own ends all
/// waiting.
pub type Wait<'a> = &'a dyn Fn(BorrowedFd<'_>, Duration) -> Result<bool>;

/// How long answers are waited for, and how.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    limit: Duration,
    wait: Wait<'a>,
}

impl<'a> Patience<'a> {
    /// Of a caller who has an ear for other things meanwhile.
    pub(crate) fn of(wait: Wait<'a>) -> Self {
        Self { limit: LIMIT, wait }
    }

    /// Of one who has not.
    pub(crate) fn deaf() -> Patience<'static> {
        Patience { limit: LIMIT, wait: &wait }
    }

    /// Of one who takes something back.
    pub(crate) fn of_undo() -> Patience<'static> {
        Patience { limit: LIMIT_OF_UNDO, wait: &wait }
    }

    fn begin(self) -> Deadline<'a> {
        Deadline { end: Instant::now() + self.limit, wait: self.wait }
    }
}

/// When patience ends.
#[derive(Clone, Copy)]
struct Deadline<'a> {
    end: Instant,
    wait: Wait<'a>,
}

fn wait(descriptor: BorrowedFd<'_>, limit: Duration) -> Result<bool> {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)));
    ready.map(|ready| ready > 0).map_err(|errno| failed("poll()", errno))
}

/// A job that has ended, and how.
#[derive(Debug)]
struct EndedJob {
    job: String,
    result: String,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: OwnedFd,
    serial: u32,
    /// Whose signals count: on a bus anybody may send some. Empty without a bus.
    sender: String,
    /// Jobs that ended while an answer was waited for.
    ended: VecDeque<EndedJob>,
    /// What came with the end of the greeting.
    early: Vec<u8>,
}

impl Bus {
    /// Connects to a manager, by the first of its sockets that takes us.
    ///
    /// # Errors
    /// [`Error::NoSystemd`] when nobody listens at any, [`Error::Bus`] for what went wrong with the last one else.
    pub(crate) fn connect(manager: Manager, patience: Patience<'_>) -> Result<Self> {
        let mut failure = Error::NoSystemd { manager: manager.name() };
        for address in Surroundings::own().addresses(manager) {
            match open(&address.socket, LIMIT_OF_SOCKET) {
                Ok(socket) if is_abroad(&socket)? => failure = Error::ForeignPids,
                Ok(socket) => match Self::over(socket, address.peer, patience) {
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => failure = error,
                    bus => return bus,
                },
                Err(errno) if is_nobody(errno) => {}
                Err(errno) => failure = failed(&format!("connect({})", shown(&address)), errno),
            }
        }
        Err(failure)
    }

    /// Begins to talk over a socket.
    pub(crate) fn over(socket: OwnedFd, peer: Peer, patience: Patience<'_>) -> Result<Self> {
        let (sender, ended, early) = (String::new(), VecDeque::new(), Vec::new());
        let mut bus = Self { socket, serial: 0, sender, ended, early };
        bus.authenticate(patience.begin())?;
        if peer == Peer::Bus {
            bus.call_bus("Hello", "", patience)?;
            bus.call_bus(
                "AddMatch",
                "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
                 member='JobRemoved'",
                patience,
            )?;
            // Without a listener systemd sends no signals to a bus. Its answer, which the bus lets nobody forge, tells
            // by which name it will send them.
            bus.sender = bus.call_manager("Subscribe", "", &[], patience)?.sender;
        }
        Ok(bus)
    }

    /// Says who we are, which the kernel vouches for: an empty identity stands for that of the socket, and so holds
    /// in any user namespace.
    ///
    /// All is said at once and no call follows before the answer: systemd would not look at a call that it reads
    /// together with BEGIN until something else comes.
    fn authenticate(&mut self, deadline: Deadline<'_>) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut length = 0;
        while length < GREETING {
            let line = self.line(deadline)?;
            match line.get(..2) {
                Some(b"OK") => return Ok(()),
                Some(b"DA") => length += line.len(),
                _ => return Err(Error::BusProtocol { reason: "the other end does not let us in" }),
            }
        }
        Err(Error::BusProtocol { reason: GREETING_WITHOUT_END })
    }

    /// Reads a line of the greeting. What comes with the last one is a message already.
    fn line(&mut self, deadline: Deadline<'_>) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = self.early.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.early.split_off(at + 2);
                return Ok(std::mem::replace(&mut self.early, rest));
            }
            if self.early.len() >= LINE {
                return Err(Error::BusProtocol { reason: GREETING_WITHOUT_END });
            }
            let mut buffer = [0; LINE];
            let count = self.receive(&mut buffer, deadline)?;
            self.early.extend(&buffer[..count]);
        }
    }

    fn call_bus(&mut self, member: &str, argument: &str, patience: Patience<'_>) -> Result<Message> {
        let mut body = Writer::default();
        let signature = if argument.is_empty() { "" } else { "s" };
        if !argument.is_empty() {
            body.string(argument);
        }
        let call = Call { destination: DBUS, path: DBUS_PATH, interface: DBUS, member, signature };
        self.call(&call, &body.into_bytes(), patience)
    }

    /// Calls a method of the manager.
    ///
    /// # Errors
    /// [`Error::Systemd`] when it refuses, [`Error::Bus`] when it does not answer.
    pub(crate) fn call_manager(
        &mut self,
        member: &str,
        signature: &str,
        body: &[u8],
        patience: Patience<'_>,
    ) -> Result<Message> {
        let call = Call { destination: SYSTEMD, path: SYSTEMD_PATH, interface: MANAGER, member, signature };
        self.call(&call, body, patience)
    }

    /// Reads a property of the manager that is a text.
    ///
    /// # Errors
    /// As [`Bus::call_manager`].
    pub(crate) fn property(&mut self, name: &str, patience: Patience<'_>) -> Result<String> {
        self.property_of(SYSTEMD_PATH, MANAGER, name, patience)
    }

    /// Reads a property of an object that is a text.
    ///
    /// # Errors
    /// As [`Bus::call_manager`].
    pub(crate) fn property_of(
        &mut self,
        path: &str,
        interface: &str,
        name: &str,
        patience: Patience<'_>,
    ) -> Result<String> {
        let mut body = Writer::default();
        body.string(interface);
        body.string(name);
        let call = Call { destination: SYSTEMD, path, interface: PROPERTIES, member: "Get", signature: "ss" };
        let reply = self.call(&call, &body.into_bytes(), patience)?;
        text_of(&reply, "v", |reader| reader.variant_string())
    }

    fn call(&mut self, call: &Call<'_>, body: &[u8], patience: Patience<'_>) -> Result<Message> {
        self.serial += 1;
        // What ended before is no job of this call.
        self.ended.clear();
        self.send(&call.encode(self.serial, body))?;
        self.answer(call.member, patience)
    }

    /// Waits for the answer to the last call, which was of the method `member`; again, if patience has ended before.
    ///
    /// # Errors
    /// As [`Bus::call_manager`].
    pub(crate) fn answer(&mut self, member: &str, patience: Patience<'_>) -> Result<Message> {
        let serial = self.serial;
        let deadline = patience.begin();
        loop {
            let message = self.message(deadline)?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(message),
                Kind::Error if message.reply_to == serial => {
                    return Err(Error::Systemd {
                        call: member.to_owned(),
                        reason: message.sentence().to_owned(),
                        name: message.error,
                    });
                }
                _ => self.ended.extend(self.ended_job(&message)?),
            }
            if self.ended.len() > ENDED_JOBS {
                return Err(Error::BusProtocol { reason: "signals come instead of an answer" });
            }
        }
    }

    /// Waits until the job of the last call has ended, and returns how.
    ///
    /// # Errors
    /// [`Error::Bus`] with ETIMEDOUT when it does not end.
    pub(crate) fn job_result(&mut self, job: &str, patience: Patience<'_>) -> Result<String> {
        let deadline = patience.begin();
        loop {
            let ended = match self.ended.pop_front() {
                Some(ended) => Some(ended),
                None => {
                    let message = self.message(deadline)?;
                    self.ended_job(&message)?
                }
            };
            if let Some(ended) = ended.filter(|ended| ended.job == job) {
                return Ok(ended.result);
            }
        }
    }

    /// Reads JobRemoved: the job's number, the job, its unit, its result. Other messages, and what others say on a bus,
    /// are nothing.
    fn ended_job(&self, message: &Message) -> Result<Option<EndedJob>> {
        let counts = self.sender.is_empty() || message.sender == self.sender;
        if message.kind != Kind::Signal || message.member != JOB_REMOVED || !counts {
            return Ok(None);
        }
        let read = || {
            let mut arguments = message.arguments("uoss")?;
            arguments.u32()?;
            let job = arguments.string()?.to_owned();
            arguments.string()?;
            Ok(EndedJob { job, result: arguments.string()?.to_owned() })
        };
        read().map(Some).map_err(Error::BusMessage)
    }

    fn message(&mut self, deadline: Deadline<'_>) -> Result<Message> {
        let mut bytes = vec![0; FIXED];
        self.fill(&mut bytes, deadline)?;
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&bytes);
        bytes.resize(Message::length(&fixed).map_err(Error::BusMessage)?, 0);
        self.fill(&mut bytes[FIXED..], deadline)?;
        Message::parse(&bytes).map_err(Error::BusMessage)
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Deadline<'_>) -> Result<()> {
        let count = self.early.len().min(buffer.len());
        let rest = self.early.split_off(count);
        buffer[..count].copy_from_slice(&std::mem::replace(&mut self.early, rest));
        buffer = &mut buffer[count..];
        while !buffer.is_empty() {
            let count = self.receive(buffer, deadline)?;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8], deadline: Deadline<'_>) -> Result<usize> {
        let left = deadline.end.saturating_duration_since(Instant::now());
        if !(deadline.wait)(self.socket.as_fd(), left)? {
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

/// Tells whether the other end is in another pid namespace. There our pids mean other processes, which systemd would
/// take for the container's.
fn is_abroad(socket: &OwnedFd) -> Result<bool> {
    message::peer(socket).map(|pid| pid == 0).map_err(|source| Error::Bus { source })
}

fn shown(address: &Address) -> String {
    match &address.socket {
        Socket::Path(path) => path.display().to_string(),
        Socket::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
    }
}

fn open(name: &Socket, limit: Duration) -> std::result::Result<OwnedFd, Errno> {
    let address = match name {
        Socket::Path(path) => SocketAddrUnix::new(path.as_path())?,
        Socket::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Of connect(2), too: one whose queue is full would let us wait for ever.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    retry_on_intr(|| connect(&socket, &address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::peer::{Answer, Peer as Other};

    fn over(socket: OwnedFd, peer: Peer) -> Bus {
        Bus::over(socket, peer, Patience::deaf()).unwrap()
    }

    #[test]
    fn a_bus_is_greeted_and_asked_for_signals() {
        let (socket, other) = Other::new([Answer::Nothing; 3]).listen();
        over(socket, Peer::Bus);
        assert_eq!(other.join().unwrap(), ["Hello", "AddMatch", "Subscribe"]);
    }

    #[test]
    fn a_signal_may_follow_the_greeting_at_once() {
        let early = Other { early_signal: true, ..Other::new([Answer::Job("/job/5", "done")]) };
        let (socket, other) = early.listen();
        let mut bus = over(socket, Peer::Manager);
        bus.call_manager("StopUnit", "", &[], Patience::deaf()).unwrap();
        assert_eq!(bus.job_result("/job/5", Patience::deaf()).unwrap(), "done");
        other.join().unwrap();
    }

    #[test]
    fn the_end_of_a_job_may_be_told_before_its_beginning() {
        for answer in [Answer::Job("/job/5", "timeout"), Answer::EarlyJob("/job/5", "timeout")] {
            let (socket, other) = Other::new([answer]).listen();
            let mut bus = over(socket, Peer::Manager);
            bus.call_manager("StopUnit", "", &[], Patience::deaf()).unwrap();
            assert_eq!(bus.job_result("/job/5", Patience::deaf()).unwrap(), "timeout", "{answer:?}");
            other.join().unwrap();
        }
    }

    #[test]
    fn on_a_bus_only_systemd_ends_jobs() {
        let answers =
            [Answer::Nothing, Answer::Nothing, Answer::Nothing, Answer::ForgedJob("/job/5", "failed")];
        let (socket, other) = Other::new(answers).listen();
        let mut bus = over(socket, Peer::Bus);
        bus.call_manager("StopUnit", "", &[], Patience::deaf()).unwrap();
        assert_eq!(bus.job_result("/job/5", Patience::deaf()).unwrap(), "failed");
        other.join().unwrap();
    }

    #[test]
    fn nobody_keeps_us_busy_for_ever() {
        let (socket, other) = Other::new([Answer::Flood]).listen();
        let mut bus = over(socket, Peer::Manager);
        let error = bus.call_manager("StopUnit", "", &[], Patience::deaf()).unwrap_err().to_string();
        assert_eq!(error, "talk to systemd: signals come instead of an answer");
        drop(bus);
        other.join().unwrap();

        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut theirs, &b"DATA\r\n".repeat(GREETING)).unwrap();
        let error = Bus::over(ours.into(), Peer::Manager, Patience::deaf()).unwrap_err().to_string();
        assert_eq!(error, "talk to systemd: the greeting does not end");
    }

    #[test]
    fn a_silent_systemd_and_a_deaf_one_end_patience() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let short = Patience { limit: Duration::from_millis(20), wait: &wait };
        let error = Bus::over(ours.into(), Peer::Manager, short).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::TIMEDOUT));

        // The queue of one who accepts nobody has room for one.
        let name = format!("bulkhead-deaf-{}", std::process::id()).into_bytes();
        let address = SocketAddrUnix::new_abstract_name(&name).unwrap();
        let deaf = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&deaf, &address).unwrap();
        rustix::net::listen(&deaf, 0).unwrap();
        let name = Socket::Abstract(name);
        let _first = open(&name, Duration::from_millis(20)).unwrap();
        assert_eq!(open(&name, Duration::from_millis(20)).unwrap_err(), Errno::AGAIN);
    }

    #[test]
    fn whoever_waits_may_be_interrupted() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let interrupted: Wait<'_> = &|_, _| Err(Error::Interrupted);
        let result = Bus::over(ours.into(), Peer::Manager, Patience::of(interrupted));
        assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    }

    #[test]
    fn a_refusal_says_what_and_why() {
        let (socket, other) = Other::new([Answer::Error("org.x.No")]).listen();
        let mut bus = over(socket, Peer::Manager);
        let error = bus.call_manager("StopUnit", "", &[], Patience::deaf()).unwrap_err();
        assert_eq!(error.to_string(), "systemd refuses StopUnit: because (org.x.No)");
        other.join().unwrap();
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        let (socket, other) = Other::new([Answer::End]).listen();
        let mut bus = over(socket, Peer::Manager);
        let error = bus.call_manager("StopUnit", "", &[], Patience::deaf()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::CONNRESET), "{error}");
        other.join().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(
            Bus::over(ours.into(), Peer::Manager, Patience::deaf()).unwrap_err().errno(),
            Some(Errno::PIPE)
        );
    }
}
