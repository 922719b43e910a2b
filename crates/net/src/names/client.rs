//! Talking to a helper, which is started where there is none.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_sys::{Call as _, message};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;

use super::protocol::{Answer, MOST, Request};
use super::sockets::Sockets;
use crate::attendant::{PATIENCE, Place};
use crate::error::{Doing as _, Error, Result};

/// How often a helper is started that ends at once.
const ATTEMPTS: usize = 3;

/// The helper of a network.
#[derive(Debug, Clone, Copy)]
pub struct Helper<'a> {
    /// The program `bulkdns`.
    pub program: &'a Path,
    /// The directory with the tables of all networks ([`Table`](super::Table)).
    pub tables: &'a Path,
    /// Where it listens. The directory is there, and belongs to the caller alone.
    pub socket: &'a Path,
    /// More words for it, as `--upstream` and an address; usually none.
    pub words: &'a [&'a str],
}

/// A connection to a helper.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// What keeps a container's sockets at a helper.
#[derive(Debug, Clone, Copy)]
pub enum Until<'a> {
    /// Somebody who will say `stay` within the grace, as a monitor does.
    SomebodyStays,
    /// The end of this: of a process, by its pidfd, or of a pipe.
    End(BorrowedFd<'a>),
}

/// Connects to a helper, and starts it first where nobody answers. Any number of callers may do so at once.
///
/// # Errors
/// [`Error::Program`] when it cannot be started, [`Error::Helper`] with its reason when it does not begin.
pub fn ensure(helper: &Helper<'_>) -> Result<Connection> {
    let place = Place::open(helper.socket).doing(|| "find the helper for names")?;
    for _ in 0..ATTEMPTS {
        let connected = place.connect(PATIENCE).doing(|| "connect to the helper for names")?;
        if let Some(connected) = connected {
            let connection = Connection::waiting(connected, PATIENCE)?;
            match connection.ask(&Request::Greet, &[]) {
                Ok(_) => return Ok(connection),
                // One that has just ended takes no more words.
                Err(error) if error.is(Errno::PIPE) || error.is(Errno::CONNRESET) => {}
                Err(error) => return Err(error),
            }
        }
        start(helper)?;
    }
    Err(Error::Helper { reason: "it ends whenever it is started".to_owned() })
}

/// Tells whether a container is served by the helper that listens here, if there is one. None is started.
///
/// # Errors
/// As connect(2), and as [`Connection::look`].
pub fn is_served(socket: &Path, container: &str) -> Result<bool> {
    let doing = || "find the helper for names";
    match Place::open(socket).doing(doing)?.connect(PATIENCE).doing(doing)? {
        Some(connected) => {
            let served = Connection::waiting(connected, PATIENCE)?.look()?;
            Ok(served.iter().any(|served| served == container))
        }
        None => Ok(false),
    }
}

/// Ends the helper of a network that is removed, and removes its socket, unless it serves somebody still; returns whether it
/// is gone. One that does not end within ten seconds, as somebody else's who has taken it over may not, is left without a socket.
///
/// # Errors
/// As connect(2) and unlink(2).
pub fn end(socket: &Path) -> Result<bool> {
    end_within(socket, PATIENCE)
}

fn end_within(socket: &Path, patience: Duration) -> Result<bool> {
    let doing = || "end the helper for names";
    let deadline = Instant::now() + patience;
    // None would be to wait for ever.
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let place = Place::open(socket).doing(doing)?;
    place.lock_until(deadline).doing(doing)?;
    let connected = match place.connect(left()) {
        // Nobody takes connections there.
        Err(error) if error.errno() == Errno::AGAIN => None,
        connected => connected.doing(doing)?,
    };
    if let Some(connected) = connected {
        let connection = Connection::waiting(connected, left())?;
        if matches!(connection.ask(&Request::End, &[]), Err(Error::Helper { .. })) {
            return Ok(false);
        }
        // It closes the connection when it ends.
        while Instant::now() < deadline {
            connection.wait(left())?;
            match message::receive(&connection.0, MOST) {
                Ok(message) if !message.bytes.is_empty() => {}
                _ => break,
            }
        }
    }
    place.remove().doing(doing)?;
    Ok(true)
}

fn start(helper: &Helper<'_>) -> Result<()> {
    let mut command = Command::new(helper.program);
    command.args(helper.arguments()).stdin(Stdio::null()).env_clear();
    let failed = |source| Error::Program { program: helper.program.to_owned(), source };
    let output = command.output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("bulkdns: ");
    let reason = if said.is_empty() { output.status.to_string() } else { said.to_owned() };
    Err(Error::Helper { reason })
}

impl Helper<'_> {
    /// Returns the words with which its program is run, by this crate or by somebody who sees it die: it returns when a helper
    /// answers at the socket, whoever has started that.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let Self { program: _, tables, socket, words } = self;
        let own: [&OsStr; 5] =
            ["start".as_ref(), "--tables".as_ref(), tables.as_ref(), "--socket".as_ref(), socket.as_ref()];
        own.into_iter().chain(words.iter().map(AsRef::as_ref)).map(OsStr::to_owned).collect()
    }
}

impl Connection {
    /// Makes one of which neither an answer nor room for a word is waited for any longer.
    fn waiting(socket: OwnedFd, patience: Duration) -> Result<Self> {
        let connection = Self(socket);
        connection.wait(patience)?;
        Ok(connection)
    }

    fn wait(&self, patience: Duration) -> Result<()> {
        for (timeout, name) in [(Timeout::Recv, "SO_RCVTIMEO"), (Timeout::Send, "SO_SNDTIMEO")] {
            let set = rustix::net::sockopt::set_socket_timeout(&self.0, timeout, Some(patience));
            set.call(|| format!("setsockopt({name})")).doing(|| "connect to the helper for names")?;
        }
        Ok(())
    }

    /// Has a container's questions answered that arrive at its sockets, which take the place of earlier ones. What is no name of
    /// its networks is asked of `resolvers`, or if there are none of those that the host asks.
    ///
    /// # Errors
    /// [`Error::Helper`] with its reason; a connection that has ended, after which [`ensure`] helps.
    pub fn serve(
        &self,
        container: &str,
        sockets: &Sockets,
        resolvers: &[IpAddr],
        until: Until<'_>,
    ) -> Result<()> {
        let request = Request::Serve { container: container.to_owned(), resolvers: resolvers.to_vec() };
        let mut descriptors = vec![sockets.udp.as_fd(), sockets.tcp.as_fd()];
        if let Until::End(end) = until {
            descriptors.push(end);
        }
        self.ask(&request, &descriptors).map(drop)
    }

    /// Keeps a container's sockets there as long as this connection lasts, which the caller holds from now on; those that come
    /// along take the place of earlier ones.
    ///
    /// # Errors
    /// As [`Connection::serve`].
    pub fn stay(&self, container: &str, sockets: Option<&Sockets>) -> Result<()> {
        let request = Request::Stay { container: container.to_owned(), resolvers: Vec::new() };
        let descriptors = sockets.map(|sockets| [sockets.udp.as_fd(), sockets.tcp.as_fd()]);
        self.ask(&request, descriptors.as_ref().map_or(&[], |both| both)).map(drop)
    }

    /// Has a container's sockets given up, if they are there.
    ///
    /// # Errors
    /// As [`Connection::serve`].
    pub fn leave(&self, container: &str) -> Result<()> {
        self.ask(&Request::Leave { container: container.to_owned() }, &[]).map(drop)
    }

    /// Returns whose questions are answered.
    ///
    /// # Errors
    /// As [`Connection::serve`].
    pub fn look(&self) -> Result<Vec<String>> {
        Ok(self.ask(&Request::Look, &[])?.containers.unwrap_or_default())
    }

    /// Returns the process that is asked.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn process(&self) -> Result<i32> {
        message::peer(&self.0).doing(|| "find the helper for names")
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer> {
        let doing = || "ask the helper for names";
        message::send(&self.0, &request.encode(), descriptors).doing(doing)?;
        let answer = message::receive(&self.0, MOST.max(1 << 20)).doing(doing)?;
        if answer.bytes.is_empty() {
            let ended = bulkhead_sys::Error::new("recvmsg()", Errno::PIPE);
            return Err(ended).doing(|| "ask the helper for names, which has ended");
        }
        let answer = Answer::decode(&answer.bytes)
            .map_err(|reason| Error::Helper { reason: format!("its answer cannot be read: {reason}") })?;
        match answer.error {
            Some(reason) => Err(Error::Helper { reason }),
            None => Ok(answer),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn one_that_talks_and_does_not_end_is_not_waited_for_without_end() {
        let scratch = Scratch::new();
        let path = scratch.path().join("n1.socket");
        let listener = Place::open(&path).unwrap().bind().unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let connected = rustix::net::accept(&listener).unwrap();
                let answer = Answer::default().encode();
                while message::send(&connected, &answer, &[]).is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let begun = Instant::now();
            assert!(end_within(&path, Duration::from_millis(300)).unwrap());
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        });
        assert!(!path.exists(), "it is left without a socket");
    }

    #[test]
    fn one_that_hears_nobody_is_not_waited_for_without_end() {
        let scratch = Scratch::new();
        let path = scratch.path().join("n1.socket");
        let place = Place::open(&path).unwrap();
        let listener = place.bind().unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let waiting = place.connect(Duration::from_secs(1)).unwrap();
        let begun = Instant::now();
        assert!(end_within(&path, Duration::from_millis(300)).unwrap());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop((waiting, listener));
    }

    #[test]
    fn a_directory_that_somebody_else_has_locked_is_not_waited_for_without_end() {
        let scratch = Scratch::new();
        let path = scratch.path().join("n1.socket");
        let other = Place::open(&path).unwrap();
        other.lock().unwrap();
        let error = end_within(&path, Duration::from_millis(100)).unwrap_err();
        assert!(error.is(Errno::AGAIN), "{error}");
        drop(other);
        assert!(end_within(&path, Duration::from_millis(100)).unwrap());
    }
}
