//! How a monitor comes to be: it leaves everything of its caller's behind, and takes possession of its directory.

use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_sys::{process, signal};
use rustix::event::epoll::EventFlags;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketType};

use super::checks::Checks;
use super::clients::Clients;
use super::companion::{Companions, Ordered};
use super::error::{Doing, Error, Result};
use super::input::Input;
use super::life::Life;
use super::mounts;
use super::others::Others;
use super::policy::Policy;
use super::poll::{Poll, Token};
use super::runtime::{Runtime, lower_score};
use super::shared;
use super::{Begin, Monitor};
use crate::log::{Log, Stream};
use crate::order::Order;
use crate::protocol::NO_CLIENT;
use crate::ready::Ready;
use crate::status::{Process, Status};
use crate::{place, socket};

/// How long the lock may be held by others, who look whether somebody lives or who clean up.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Signals that ask the monitor to end, as those of a machine that shuts down.
pub(super) const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// What the caller gave (`client::spawn` says why as standard streams).
pub(super) struct Inherited {
    first_client: Option<OwnedFd>,
    ready: OwnedFd,
}

impl Inherited {
    /// Takes what is meant for the monitor and closes everything else.
    pub(super) fn take() -> Result<Self> {
        let doing = || "take the descriptors of the caller";
        let ready = process::take_inherited(1).doing(doing)?;
        let first_client = process::take_inherited(0).doing(doing)?;
        let found = rustix::fs::fstat(&first_client).doing(doing)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        let kept = [&ready, &first_client].map(|kept| kept.as_raw_fd().unsigned_abs());
        process::close_all_but(3, kept.to_vec()).doing(doing)?;
        Ok(Self { first_client: is_socket.then_some(first_client), ready })
    }
}

/// Tells the caller what became of the start; whether it still listens is its own business.
pub(super) fn tell(pipe: OwnedFd, what: &Ready) {
    if let Ok(text) = serde_json::to_vec(what) {
        let _ = rustix::io::write(pipe, &text);
    }
}

/// Makes this process a monitor, or nothing if the caller decides otherwise. The pipe to the caller comes back when that fails.
pub(super) fn begin(
    run_directory: &Path,
    begin: Begin,
    inherited: Inherited,
) -> (OwnedFd, Result<Option<Monitor>>) {
    let Inherited { first_client, ready } = inherited;
    let pipe = match ready.try_clone() {
        Ok(pipe) => pipe,
        Err(error) => {
            let failed = Err(Error::System { doing: "keep the pipe to the caller".into(), source: error });
            return (ready, failed);
        }
    };
    (pipe, monitor(run_directory, begin, first_client, ready))
}

fn monitor(
    run_directory: &Path,
    begin: Begin,
    mut first_client: Option<OwnedFd>,
    ready: OwnedFd,
) -> Result<Option<Monitor>> {
    let signals = detach()?;
    if let (Begin::WhenTold, Some(socket)) = (begin, &first_client) {
        match hear(socket)? {
            Word::GoneBefore => return Ok(None),
            Word::NoClient => first_client = None,
            Word::Client => {}
        }
    }
    let lock = lock(run_directory)?;
    let path = run_directory.join(place::ORDER);
    let mut order = Order::read(&path).doing(|| format!("read {}", path.display()))?;
    let ordered = Ordered::of(&mut order);
    let poll = Poll::new()?;
    poll.add(&signals, Token::Signals, EventFlags::IN)?;
    let listener = listen(run_directory)?;
    poll.add(&listener, Token::Listener, EventFlags::IN)?;
    let log = Log::open(order.log).doing(|| "open the log")?;
    let held = order.shared.as_ref().map(|shared| shared::hold(shared, run_directory)).transpose()?;
    let memory =
        order.shared.as_ref().map(|shared| shared::memory(shared, run_directory)).transpose()?.flatten();
    let home = mounts::make(order.overlay.as_ref(), &order.parts, memory)?;
    let mut companions = Companions::default();
    companions.stay(ordered, &poll);
    let mut clients = Clients::default();
    if let Some(client) = first_client {
        rustix::fs::fcntl_setfl(&client, OFlags::NONBLOCK).doing(|| "attach the first client")?;
        clients.add(client, &poll);
    }
    let own = std::process::id().cast_signed();
    let process = Process::find(own).ok_or(Errno::NOENT).doing(|| format!("read /proc/{own}/stat"))?;
    Ok(Some(Monitor {
        poll,
        signals,
        lock: Some(lock),
        listener: Some(listener),
        ready: Some(ready),
        runtime: Runtime {
            words: order.runtime,
            id: order.id,
            bundle: order.bundle,
            run_directory: run_directory.to_owned(),
            score: lower_score(),
            has_spawned: Cell::new(false),
        },
        _shared: held,
        others: Others::of(&order.joined, &order.parts),
        home,
        cgroup: order.cgroup,
        is_terminal: order.terminal,
        stdin_rule: order.stdin,
        stop: order.stop,
        at_end: order.at_end,
        status_path: order.status,
        status: Status { restarts: order.restarts, ..Status::of_new(process) },
        unwritten: None,
        policy: Policy::new(order.restart, order.restarts),
        log,
        clients,
        stdout: None,
        stderr: None,
        given: Stream::Stdout,
        stdin: Input::new(None),
        console: None,
        console_peer: None,
        size: order.size,
        life: Life::New,
        calls: Vec::new(),
        stopping: None,
        companions,
        memory: None,
        checks: Checks::new(order.health),
        rest: None,
        end_is_taken: false,
        heeded: signal::Set::EMPTY,
    }))
}

/// What a caller lets a monitor go on with.
enum Word {
    /// Its first client's message, which is still to be read.
    Client,
    NoClient,
    /// The caller ended, or could not make the directory.
    GoneBefore,
}

/// Waits for the caller's word.
fn hear(socket: &OwnedFd) -> Result<Word> {
    let mut start = [0; NO_CLIENT.len() + 1];
    let (_, length) =
        rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut start[..], RecvFlags::PEEK))
            .doing(|| "wait for the caller's word")?;
    Ok(match length {
        0 => Word::GoneBefore,
        _ if start[..length] == *NO_CLIENT => Word::NoClient,
        _ => Word::Client,
    })
}

/// Leaves the caller's session, streams, directory, signals and mask of new files.
fn detach() -> Result<OwnedFd> {
    let doing = || "leave the caller's session";
    // Somebody who starts it by hand, as its own process group's leader, has a session to himself.
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).doing(doing),
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).doing(doing)?;
    rustix::stdio::dup2_stdin(&null).doing(doing)?;
    rustix::stdio::dup2_stdout(&null).doing(doing)?;
    rustix::stdio::dup2_stderr(&null).doing(doing)?;
    rustix::process::chdir("/").doing(doing)?;
    // Processes of containers begin with it, and docker's with this.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    signal::reset_all(None).doing(doing)?;
    for ending in ENDING {
        signal::note(ending).doing(doing)?;
    }
    signal::set_mask(signal::Set::ALL).doing(doing)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .doing(|| "become the reaper of the container's orphans")?;
    signal::descriptor(signal::Set::ALL).doing(|| "open a descriptor for signals")
}

fn lock(run_directory: &Path) -> Result<OwnedFd> {
    let path = run_directory.join(place::LOCK);
    let doing = || format!("lock {}", path.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).doing(doing)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                let sentence =
                    format!("another monitor holds {}: the container runs already", path.display());
                return Err(Error::Usage(sentence));
            }
            Err(errno) => return Err(errno).doing(doing),
        }
    }
}

/// Opens the monitor's socket.
fn listen(run_directory: &Path) -> Result<OwnedFd> {
    let path = run_directory.join(place::SOCKET);
    let listener = socket::listen(&path, SocketType::SEQPACKET, 16);
    Ok(listener.doing(|| format!("make the socket {}", path.display()))?.socket)
}
