//! A process that joins a container: the parent's side of `exec`, and the child's.

use std::cell::LazyCell;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bulkhead_cgroup::{Cgroup, Doors, Host, Joiner, SubCgroups};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{
    credentials as sys_credentials, mountinfo, path, process as sys_process, schedule, signal,
};
use rustix::fs::{Mode, OFlags};

use crate::birth::{self, Birth, Birthplace, Cradle};
use crate::clone::Child;
use crate::container::Container;
use crate::custody::Custody;
use crate::error::{Doing, Error, Result, chain};
use crate::handshake::{self, Said};
use crate::host::{self, Rights};
use crate::idmap::{self, Groups};
use crate::limits;
use crate::log::Log;
use crate::persona::Persona;
use crate::plan::Plan;
use crate::plan::namespaces::Namespaces;
use crate::plan::process::Process;
use crate::procfs::Procfs;
use crate::resctrl::Tree;
use crate::watch::Watch;
use crate::{console, credentials, deliver, program, relay, rootfs};

/// How long a process that was killed is waited for: in a paused container it may not end before that goes on.
pub(crate) const MOMENT: Duration = Duration::from_secs(2);

/// What a caller wants of a process that joins a container.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container.
    pub container: &'a Container,
    /// What the container is.
    pub plan: &'a Plan,
    /// Where in the container's cgroup it runs.
    pub sub_cgroups: SubCgroups,
    /// Where its terminal goes.
    pub console_socket: Option<&'a Path>,
    /// Where a pidfd of it goes.
    pub pidfd_socket: Option<&'a Path>,
    /// Where its pid goes.
    pub pid_file: Option<&'a Path>,
    /// How many descriptors from 3 on it gets.
    pub passed: u32,
    /// Signals that may interrupt it; `None` where nobody stays with it.
    pub watch: Option<&'a Watch>,
}

/// A process that joined a container.
#[derive(Debug)]
pub struct Joined {
    /// The process.
    pub child: Child,
    /// The master of its terminal, unless that was sent away.
    pub master: Option<OwnedFd>,
}

/// Everything that the child gets from the parent.
struct Inheritance<'a> {
    plan: &'a Plan,
    process: Process,
    socket: handshake::Child,
    container: OwnedFd,
    kinds: Vec<Kind>,
    /// The root of its first process, where that is not the one of its mount namespace.
    root: Option<OwnedFd>,
    cgroup: Option<&'a Joiner<'a>>,
    groups: Groups,
    keyring: Option<CString>,
    passed: u32,
    ignored: Option<signal::Set>,
}

/// Starts a process in a container.
///
/// # Errors
/// A container that ended meanwhile, and whatever the kernel refuses; nothing is left of the process then.
pub fn start(request: &Request<'_>, process: Process, log: &Log) -> Result<Joined> {
    if process.terminal.is_none() && request.console_socket.is_some() {
        return Err(Error::Usage("--console-socket needs a terminal; ask for one with --tty".into()));
    }
    let rights = Rights::of_caller()?;
    let (rlimits, oom_score_adj) = (process.rlimits.clone(), process.oom_score_adj);
    let (parent, socket) = handshake::pair()?;
    let child = clone_child(request, process, (&parent, socket), rights)?;
    log.debug(format_args!("process {} joins container {}", child.pid, request.container.state.id));
    let mut attempt = Attempt { request, child, log };
    match attempt.converse(&parent, &rlimits, oom_score_adj, rights) {
        Ok(master) => Ok(Joined { child: attempt.child, master }),
        Err(error) => {
            attempt.undo();
            Err(error)
        }
    }
}

fn clone_child(
    request: &Request<'_>,
    process: Process,
    (parent, socket): (&handshake::Parent, handshake::Child),
    rights: Rights,
) -> Result<Child> {
    let container = request.container;
    let Some(pidfd) = container.pidfd()? else { return Err(Error::Usage("container not running".into())) };
    // Before the child exists: once it is in the container's pid namespace, nobody there may trace it.
    sys_credentials::set_dumpable(false).doing(|| "hide from ptrace")?;
    let namespaces = &request.plan.namespaces;
    let pid = container.state.process.map_or(0, |process| process.pid);
    let open = |kind: Kind| -> Result<Option<OwnedFd>> {
        if !namespaces.has(kind) {
            return Ok(None);
        }
        let link = format!("/proc/{pid}/ns/{}", kind.link());
        let namespace = path::open_host(Path::new(&link), OFlags::RDONLY);
        namespace.map(Some).doing(|| format!("open the container's {} namespace", kind.link()))
    };
    // With the host's rights the child joins the user namespace itself, together with the others.
    let user = if rights == Rights::Unprivileged { open(Kind::User)? } else { None };
    let custody = if request.watch.is_none() { Custody::Adopter } else { Custody::Runtime };
    let birth = Birth::into_container(open(Kind::Pid)?, user).in_custody_of(custody);
    let root = namespaces.shares_mounts().then(|| top_of(pid)).transpose()?;
    if container.pidfd()?.is_none() {
        return Err(Error::Usage("container not running".into()));
    }
    let born_into = |kind: Kind| kind == Kind::Pid || (kind == Kind::User && rights == Rights::Unprivileged);
    // The mount namespace is joined also where it is that of the runtime which made the container: this one may have another.
    let is_joined = |kind: Kind| (namespaces.has(kind) || kind == Kind::Mount) && !born_into(kind);
    let kinds = Kind::ALL.into_iter().filter(|&kind| is_joined(kind)).collect();
    // As under runc: a container with sub-cgroups may have no room left for processes in its own, and one that may
    // write to the host's hierarchy may have left it altogether.
    let with_first = LazyCell::new(|| {
        let pid = container.state.process.filter(|_| request.sub_cgroups.is_empty())?.pid;
        Cgroup::of_process(&Host::detect().ok()?, pid).ok()
    });
    let cgroup = container.cgroup().sub(&request.sub_cgroups).map_err(Error::Adding)?;
    let joiner = match cgroup.joiner(Doors::OpenedByParent) {
        Ok(joiner) => Some(joiner),
        Err(_) if cgroup.paths().is_empty() => None,
        Err(error) => match with_first.as_ref().filter(|_| error.is_gone()) {
            Some(found) => Some(found.joiner(Doors::OpenedByParent)?),
            None => return Err(error.into()),
        },
    };
    let instead = || with_first.as_ref().and_then(Cgroup::v2_directory);
    let cradle = Cradle { own: joiner.as_ref().and_then(Joiner::into_cgroup_fd), instead: Some(&instead) };
    let inheritance = Inheritance {
        plan: request.plan,
        process,
        socket,
        container: pidfd,
        kinds,
        root,
        cgroup: joiner.as_ref(),
        groups: groups(container, namespaces)?,
        keyring: container.state.keyring_name(),
        passed: request.passed,
        ignored: host::ignored_signals(),
    };
    birth.spawn(cradle, &[parent.as_fd()], inheritance, run)
}

/// Opens the top of the tree of mounts in which the root directory of a process is: what it has left by chroot(2) is the
/// container's, too.
fn top_of(pid: i32) -> Result<OwnedFd> {
    birth::refuse_confinement()?;
    let link = format!("/proc/{pid}/root");
    let doing = || format!("open {link}, the container's root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut top = path::open_host(Path::new(&link), flags).doing(doing)?;
    loop {
        let above = rustix::fs::openat(&top, "..", flags, Mode::empty()).doing(doing)?;
        if mountinfo::place(above.as_fd()).doing(doing)? == mountinfo::place(top.as_fd()).doing(doing)? {
            return Ok(top);
        }
        top = above;
    }
}

/// Asks whether groups can be set in the container, whoever made its user namespace.
fn groups(container: &Container, namespaces: &Namespaces) -> Result<Groups> {
    match container.state.process {
        Some(process) if namespaces.has(Kind::User) => idmap::groups_of(&process.pid.to_string()),
        _ => Ok(Groups::Allowed),
    }
}

/// The child: joins the container and becomes the program; ends with the exit status 255 after a failure, which was
/// reported. As in the container's first process, owners of closed descriptors must not be dropped.
fn run(mut given: Inheritance<'_>, birthplace: Birthplace) -> i32 {
    let error = match become_member(&mut given, birthplace) {
        Ok(path) => {
            let filter = given.plan.seccomp.as_ref().map(|filter| &filter.program);
            credentials::load_at_execution(&given.process, filter)
                .map_or_else(|error| error, |()| program::execute(&path, &given.process))
        }
        Err(error) => error,
    };
    given.socket.failed(&chain(&error));
    sys_process::exit_now(255)
}

fn become_member(given: &mut Inheritance<'_>, birthplace: Birthplace) -> Result<CString> {
    if let Some(mask) = &given.process.exec_affinity.initial {
        schedule::set_affinity(mask).doing(|| "set /process/execCPUAffinity/initial")?;
    }
    if let Some(joiner) = given.cgroup {
        joiner.join_self()?;
        if birthplace == Birthplace::Elsewhere {
            match joiner.join_self_v2() {
                // The parent may know somebody who has the right.
                Err(error @ bulkhead_cgroup::Error::NoEntry { .. }) => given.socket.stuck(&chain(&error))?,
                other => other?,
            }
        }
    }
    match &given.process.exec_affinity.last {
        Some(mask) => schedule::set_affinity(mask).doing(|| "set /process/execCPUAffinity/final")?,
        None => limits::forget_affinity(),
    }
    // What may not be mounted here, as by an ordinary user, may be in the container's user namespace.
    let procfs = if given.process.is_labelled() { Procfs::mount_or_copy().ok() } else { None };
    namespace::join_process(&given.container, &given.kinds).doing(|| "join the container's namespaces")?;
    given.root.iter().try_for_each(rootfs::change_to)?;
    if given.plan.namespaces.has(Kind::User) {
        // Not every namespace maps root; then the process goes on as whoever it is there.
        let _ = sys_credentials::set_gid(0);
        let _ = sys_credentials::set_uid(0);
    }
    sys_credentials::set_dumpable(false).doing(|| "hide from ptrace")?;
    sys_process::new_session().doing(|| "lead a session")?;
    open_terminal(given)?;
    let persona = Persona {
        filter: given.plan.seccomp.as_ref().map(|filter| &filter.program),
        keyring: given.keyring.as_deref(),
        groups: given.groups,
        in_user_namespace: given.plan.namespaces.has(Kind::User),
        passed: given.passed,
        ignored: given.ignored,
        socket: &given.socket,
        gate: None,
        procfs,
        kept: Vec::new(),
    };
    let found = persona.assume(&mut given.process)?;
    given.socket.ready()?;
    Ok(found)
}

fn open_terminal(given: &Inheritance<'_>) -> Result<()> {
    let Some(size) = given.process.terminal else { return Ok(()) };
    let root = path::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).doing(|| "open the root")?;
    let terminal = console::open(root.as_fd(), size)?;
    given.socket.console(terminal.master.as_fd())?;
    console::adopt(&terminal.slave)
}

/// A process that is being made.
struct Attempt<'a> {
    request: &'a Request<'a>,
    child: Child,
    log: &'a Log,
}

impl Attempt<'_> {
    fn converse(
        &mut self,
        parent: &handshake::Parent,
        rlimits: &[crate::plan::process::Rlimit],
        oom_score_adj: Option<i32>,
        rights: Rights,
    ) -> Result<Option<OwnedFd>> {
        if self.request.plan.namespaces.has(Kind::User) {
            limits::raise_hard_limits(self.child.pid, rlimits)?;
        }
        if let Some(score) = oom_score_adj {
            limits::set_oom_score(self.child.pid, score, rights, self.log)?;
        }
        if let Some(record) = &self.request.container.state.rdt {
            Tree::find()?.join(record, self.child.pid)?;
        }
        let mut master = None;
        loop {
            match self.hear(parent)? {
                Said::Console(terminal) => match self.request.console_socket {
                    Some(path) => deliver::console(path, terminal.as_fd())?,
                    None => {
                        relay::prepare(&terminal);
                        master = Some(terminal);
                    }
                },
                Said::Listener(listener) => {
                    self.deliver_listener(&listener)?;
                    parent.proceed()?;
                }
                Said::Stuck(chain) => {
                    self.move_into_cgroup(chain, rights)?;
                    parent.proceed()?;
                }
                Said::Ready => break,
                Said::Failed(chain) => return Err(Error::Joining { chain }),
                Said::Prepared | Said::Born(..) | Said::Made(_) | Said::Unmapped(..) | Said::Nothing => {
                    return Err(self.died());
                }
            }
        }
        if let Some(path) = self.request.pid_file {
            deliver::pid_file(path, self.child.pid)?;
        }
        if let Some(path) = self.request.pidfd_socket {
            deliver::descriptor(path, self.child.pidfd.as_fd(), &self.request.container.state.id)?;
        }
        self.child.leave_alone();
        parent.proceed().map_err(|error| if handshake::is_over(&error) { self.died() } else { error })?;
        match self.hear(parent)? {
            Said::Failed(chain) => Err(Error::Joining { chain }),
            _ => Ok(master),
        }
    }

    /// Waits for what the process says next. It may have been stopped as soon as it was in the container's cgroup, by one
    /// that is frozen above that: then nobody knows for how long.
    fn hear(&self, parent: &handshake::Parent) -> Result<Said> {
        let cgroup = self.request.container.cgroup();
        parent.hear_patiently(self.request.watch, || Ok(cgroup.refuse_frozen_above(self.child.pid)?))
    }

    /// Has the process moved into the container's cgroup, which it may not enter from where it is.
    ///
    /// An ordinary user's goes on without, as under runc: who is of another session has no right to what is above both.
    fn move_into_cgroup(&self, chain: Vec<String>, rights: Rights) -> Result<()> {
        let (cgroup, subs) = (self.request.container.cgroup(), &self.request.sub_cgroups);
        match cgroup.attach_by_systemd(self.child.pid, subs) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.log
                    .debug(format_args!("systemd does not help: {}", crate::error::chain(&error).join(": ")));
                if rights == Rights::Privileged || !subs.is_empty() {
                    return Err(Error::Joining { chain });
                }
                self.log.warn(format_args!(
                    "the process runs without the container's limits: {}",
                    chain.join(": ")
                ));
                Ok(())
            }
        }
    }

    fn deliver_listener(&self, listener: &OwnedFd) -> Result<()> {
        let container = self.request.container;
        let init = container.state.process.map(|process| process.pid);
        let state = crate::hooks::Document::new(&container.state, init).with_status(container.status()?);
        deliver::listener(self.request.plan.seccomp.as_ref(), listener.as_fd(), self.child.pid, state)
    }

    fn died(&self) -> Error {
        Error::InitDied { how: self.child.end().to_string(), hint: "" }
    }

    fn undo(self) {
        self.child.put_an_end_to(MOMENT);
    }
}
