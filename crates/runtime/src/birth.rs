//! How a process comes into its namespaces: some it is born with, some it is born into, the rest it joins itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{credentials, path};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clone::{self, Child, LAST_BREATH};
use crate::custody::{self, Custody, Keeper};
use crate::error::{Doing, Error, Result};
use crate::handshake::{self, Said};
use crate::host::Rights;
use crate::plan::{Plan, check};

/// How the container's process comes into its namespaces.
#[derive(Debug, Default)]
pub(crate) struct Birth {
    /// CLONE_NEW* bits.
    flags: u64,
    /// The runtime's mount namespace, to which the child returns from one that its mounts are made in.
    pub home: Option<OwnedFd>,
    /// Namespaces that the child joins itself, in order.
    pub joins: Vec<(Kind, OwnedFd)>,
    /// Namespaces to be born into that may belong to the host, out of a user namespace's reach: a process in between
    /// joins them before it joins or makes that.
    first: Vec<(Kind, OwnedFd)>,
    /// A pid namespace to be born into.
    pid: Option<OwnedFd>,
    /// Whether the runtime has to return from there.
    afterwards: Afterwards,
    /// A user namespace to be born into, which takes a process in between.
    user: Option<OwnedFd>,
    /// A new time namespace with offsets.
    time: Time,
    custody: Custody,
}

/// What the runtime does when the process is born.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// It may make others, hooks and helpers, which belong to its own pid namespace.
    #[default]
    MakesMore,
    /// It makes none.
    MakesNone,
}

/// Who makes a time namespace with offsets, which can be set only while nobody is in it.
#[derive(Debug, Default)]
enum Time {
    /// Nobody: there are no offsets.
    #[default]
    Untouched,
    /// The runtime, and the child is born into it. A child that hides from ptrace would have no right to its own file
    /// of offsets in a user namespace.
    Maker(String),
    /// The process in between, which has the rights in the user namespace and is in none where others see it.
    Between(String),
    /// The child: without the host's rights it alone has those in its new user namespace.
    Child,
}

/// The cgroup of the v2 hierarchy that a process is to be born into.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cradle<'a> {
    /// Its own.
    pub own: Option<BorrowedFd<'a>>,
    /// Finds another one, for when the kernel lets no process into that.
    pub instead: Option<&'a dyn Fn() -> Option<BorrowedFd<'a>>>,
}

/// Where a process was born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birthplace {
    /// In its cgroup of the v2 hierarchy.
    Cgroup,
    /// In its maker's cgroup.
    Elsewhere,
}

impl Birth {
    /// Opens what a new container joins, in the runtime's own namespaces.
    ///
    /// # Errors
    /// A namespace that is not there, or one of the runtime's own that the configuration would change.
    pub(crate) fn of_container(plan: &Plan, rights: Rights) -> Result<Self> {
        let namespaces = &plan.namespaces;
        let mut flags = namespaces.new_kinds().iter().fold(0, |flags, kind| flags | kind.flag());
        // Its root is the cgroup that the child joins first.
        flags &= !Kind::Cgroup.flag();
        let mut birth = Self { flags, ..Self::default() };
        if namespaces.shares_mounts() {
            birth.flags |= Kind::Mount.flag();
            birth.home = Some(shareable_mounts()?);
        }
        for (kind, path) in &namespaces.join {
            let namespace = path::open_host(path, OFlags::RDONLY)
                .doing(|| format!("open the {} namespace to join", kind.link()))
                .map_err(|error| error.at("/linux/namespaces"))?;
            if let Some(pointer) = plan.change_to(*kind)
                && is_own(&namespace, *kind)?
            {
                return Err(check::shared_with_host(pointer, *kind));
            }
            match kind {
                Kind::Pid => birth.pid = Some(namespace),
                Kind::User => birth.user = Some(namespace),
                Kind::Mount => birth.joins.push((*kind, namespace)),
                _ if rights == Rights::Privileged && namespaces.has(Kind::User) => {
                    birth.first.push((*kind, namespace));
                }
                _ => birth.joins.push((*kind, namespace)),
            }
        }
        if !namespaces.time_offsets.is_empty() {
            birth.flags &= !Kind::Time.flag();
            let offsets = namespaces.time_offsets.clone();
            birth.time = match rights {
                Rights::Privileged => Time::Maker(offsets),
                Rights::Unprivileged if birth.user.is_some() => Time::Between(offsets),
                Rights::Unprivileged => Time::Child,
            };
        }
        Ok(birth)
    }

    /// Describes a process that joins a container: it is born into the pid namespace, and as an ordinary user also
    /// into the user namespace, which gives the right to the others.
    pub(crate) fn into_container(pid: Option<OwnedFd>, user: Option<OwnedFd>) -> Self {
        Self { pid, user, afterwards: Afterwards::MakesNone, ..Self::default() }
    }

    /// Says who is to be the process's parent when its program is executed.
    pub(crate) fn in_custody_of(self, custody: Custody) -> Self {
        Self { custody, ..self }
    }

    /// Tells whether the child makes its time namespace itself, and sets the offsets.
    pub(crate) fn child_sets_time(&self) -> bool {
        matches!(self.time, Time::Child)
    }

    /// Makes the process, which runs `child` with `given` and gives up `parents`, the ends of sockets that are its
    /// maker's: it would never see the end of its maker while it holds them itself.
    ///
    /// # Errors
    /// No right to a namespace, a limit that is reached; the error names the setting.
    pub(crate) fn spawn<T>(
        self,
        cradle: Cradle<'_>,
        parents: &[BorrowedFd<'_>],
        given: T,
        child: fn(T, Birthplace) -> i32,
    ) -> Result<Child> {
        let work = Work { cradle, given, child };
        let Time::Maker(offsets) = &self.time else { return self.spawn_now(work, parents) };
        let own = own_namespace(Kind::Time)?;
        make_time(offsets)?;
        let child = self.spawn_now(work, parents);
        let returned = namespace::join(own.as_fd(), Kind::Time);
        match (child, returned.doing(|| "return to the runtime's time namespace")) {
            (Ok(child), Err(error)) => {
                child.put_an_end_to(LAST_BREATH);
                Err(error)
            }
            (child, _) => child,
        }
    }

    fn spawn_now<T>(self, work: Work<'_, T>, parents: &[BorrowedFd<'_>]) -> Result<Child> {
        if self.custody == Custody::Adopter || self.user.is_some() || !self.first.is_empty() {
            return self.clone_inside(work, parents);
        }
        let own_pid = match (&self.pid, self.afterwards) {
            (Some(_), Afterwards::MakesMore) => Some(own_namespace(Kind::Pid)?),
            _ => None,
        };
        // Who is root of a user namespace only, as an engine of an ordinary user is, would come in but never back.
        if own_pid.as_ref().is_some_and(|own| namespace::join(own.as_fd(), Kind::Pid).is_err()) {
            return self.clone_inside(work, parents);
        }
        self.enter_pid_namespace()?;
        let child = self.clone(work, parents, Relation::Child)?;
        // Hooks and helpers belong to the runtime's own namespace again.
        let returned = own_pid.map_or(Ok(()), |own| namespace::join(own.as_fd(), Kind::Pid));
        match returned.doing(|| "return to the runtime's pid namespace") {
            Ok(()) => Ok(child),
            Err(error) => {
                child.put_an_end_to(LAST_BREATH);
                Err(error)
            }
        }
    }

    fn enter_pid_namespace(&self) -> Result<()> {
        let Some(namespace) = &self.pid else { return Ok(()) };
        join(namespace, Kind::Pid)
    }

    /// In the process in between: makes the time namespace that the child is born into, and hides, which the child
    /// inherits: others may be in its pid namespace already.
    fn make_time_between(&self) -> Result<()> {
        let Time::Between(offsets) = &self.time else { return Ok(()) };
        make_time(offsets)?;
        credentials::set_dumpable(false).doing(|| "hide from ptrace")
    }

    /// Clones the child, into its v2 cgroup where the kernel allows that.
    fn clone<T>(&self, work: Work<'_, T>, parents: &[BorrowedFd<'_>], relation: Relation) -> Result<Child> {
        let Work { cradle, given, child } = work;
        let sibling = relation == Relation::ChildOfParent;
        let request = clone::Request { namespaces: self.flags, cgroup: cradle.own, sibling };
        let mut slot = Some(given);
        let mut run = |place| {
            for parent in parents {
                // An end that stays open costs only that the end of the maker is not seen.
                let _ = bulkhead_sys::process::close_copy(*parent);
            }
            slot.take().map_or(1, |given| child(given, place))
        };
        // What a threaded or occupied cgroup, or a kernel without CLONE_INTO_CGROUP, answers.
        let is_refused = |result: &bulkhead_sys::Result<Child>| {
            result.as_ref().is_err_and(|error| is_about_cgroup(error.errno()))
        };
        let mut result = match cradle.own {
            Some(_) => clone::spawn(&request, || run(Birthplace::Cgroup)),
            None => clone::spawn(&request, || run(Birthplace::Elsewhere)),
        };
        if cradle.own.is_some() && is_refused(&result) {
            let instead = cradle.instead.and_then(|find| find());
            if instead.is_some() {
                result =
                    clone::spawn(&clone::Request { cgroup: instead, ..request }, || run(Birthplace::Cgroup));
            }
            if is_refused(&result) {
                let nowhere = clone::Request { cgroup: None, ..request };
                result = clone::spawn(&nowhere, || run(Birthplace::Elsewhere));
            }
        }
        result.map_err(|source| Error::System { doing: self.explain(source.errno()), source })
    }

    /// Says what a refused clone3(2) means to a user.
    fn explain(&self, errno: Errno) -> String {
        let user = self.flags & Kind::User.flag() != 0;
        match errno {
            Errno::PERM | Errno::ACCESS if user => {
                "make a user namespace: this host forbids it (see the kernel parameters kernel.unprivileged_userns_clone \
                 and kernel.apparmor_restrict_unprivileged_userns)"
                    .to_owned()
            }
            Errno::PERM => "make the container's namespaces: the runtime lacks CAP_SYS_ADMIN".to_owned(),
            Errno::NOSPC | Errno::USERS => {
                "make the container's namespaces: a limit in /proc/sys/user/max_*_namespaces is reached".to_owned()
            }
            Errno::AGAIN => "make the container's process: a limit on processes is reached".to_owned(),
            _ => "make the container's process".to_owned(),
        }
    }

    /// Makes the child in a process in between, which joins namespaces, some of which the runtime could not leave again itself,
    /// and stays as the keeper of a child that is to be adopted.
    fn clone_inside<T>(&self, work: Work<'_, T>, parents: &[BorrowedFd<'_>]) -> Result<Child> {
        let (parent, socket) = handshake::pair()?;
        let mut slot = Some(work);
        let relation = match self.custody {
            Custody::Runtime => Relation::ChildOfParent,
            Custody::Adopter => Relation::Child,
        };
        let foreign = [parents, &[parent.as_fd(), socket.as_fd()]].concat();
        let between = clone::spawn(&clone::Request::default(), || {
            let born = self
                .first
                .iter()
                .try_for_each(|(kind, namespace)| join(namespace, *kind))
                .and_then(|()| self.user.iter().try_for_each(|user| join(user, Kind::User)))
                .and_then(|()| self.make_time_between())
                .and_then(|()| self.enter_pid_namespace())
                .and_then(|()| match slot.take() {
                    Some(work) => self.clone(work, &foreign, relation),
                    None => Err(Error::Usage("nothing to start".into())),
                })
                .and_then(|child| socket.born(child.pid, child.pidfd.as_fd()));
            match born {
                Ok(()) => {
                    if relation == Relation::Child {
                        custody::keep(&socket);
                    }
                    0
                }
                Err(error) => {
                    socket.failed(&crate::error::chain(&error));
                    1
                }
            }
        })
        .doing(|| "make the process that joins namespaces")?;
        drop((socket, slot));
        let said = parent.hear(None);
        let keeper = match (self.custody, &said) {
            (Custody::Adopter, Ok(Said::Born(..))) => Some(Keeper::new(parent, between.pidfd)),
            _ => {
                // It has nothing left to do. One that cannot be waited for is reaped when the runtime ends.
                let _ = retry_on_intr(|| waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED));
                None
            }
        };
        match said? {
            Said::Born(pid, pidfd) => Ok(Child::new(pid, pidfd, keeper)),
            Said::Failed(chain) => Err(Error::Init { chain }),
            _ => Err(Error::InitDied { how: "it could not join namespaces".into(), hint: "" }),
        }
    }
}

/// What a new process does, and where.
struct Work<'a, T> {
    cradle: Cradle<'a>,
    given: T,
    child: fn(T, Birthplace) -> i32,
}

/// Whose child the container's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// Of the process that makes it.
    Child,
    /// Of the parent of the process that makes it.
    ChildOfParent,
}

fn is_about_cgroup(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::BUSY | Errno::OPNOTSUPP | Errno::INVAL | Errno::ACCESS | Errno::NOENT | Errno::TOOBIG
    )
}

/// Makes a time namespace for the children of the calling process, and sets its offsets.
///
/// # Errors
/// ERANGE for a clock that would be before zero or overflow, EPERM without CAP_SYS_TIME.
pub(crate) fn make_time(offsets: &str) -> Result<()> {
    namespace::unshare(Kind::Time).doing(|| "make a time namespace")?;
    std::fs::write("/proc/self/timens_offsets", offsets).doing(|| "set /linux/timeOffsets")
}

/// Opens the runtime's mount namespace for a container that is to share it.
///
/// # Errors
/// A namespace over which the runtime has no rights, and what [`refuse_confinement`] refuses.
fn shareable_mounts() -> Result<OwnedFd> {
    refuse_confinement()?;
    let own = own_namespace(Kind::Mount)?;
    if namespace::is_within(own.as_fd()).doing(|| "look for the owner of the runtime's mount namespace")? {
        return Ok(own);
    }
    let reason = "the runtime has no rights over its own mount namespace, which a container without a namespace of type \
        \"mount\" shares: add one";
    Err(Error::invalid("/linux/namespaces", reason))
}

/// Refuses to hand a profile of AppArmor down to a process whose files have no path that it could read, see
/// `plan::shared_mounts`.
///
/// # Errors
/// A profile that confines the runtime itself.
pub(crate) fn refuse_confinement() -> Result<()> {
    let label = std::fs::read("/proc/self/attr/apparmor/current").unwrap_or_default();
    if label.is_empty() || label.starts_with(b"unconfined") {
        return Ok(());
    }
    let reason = "a profile of AppArmor confines the runtime, which the container would inherit: that takes a namespace of \
        type \"mount\"";
    Err(Error::invalid("/linux/namespaces", reason))
}

/// Moves the calling process into a namespace of the configuration.
///
/// # Errors
/// As setns(2), in words.
pub(crate) fn join(namespace: &OwnedFd, kind: Kind) -> Result<()> {
    namespace::join(namespace.as_fd(), kind).map_err(|source| {
        let why = match source.errno() {
            Errno::INVAL => ": its path names something else",
            Errno::PERM => ": it belongs to a user namespace over which the runtime has no rights",
            _ => "",
        };
        Error::System { doing: format!("join the {} namespace{why}", kind.link()), source }
    })
}

/// Tells whether a namespace is the one that the runtime is in.
fn is_own(namespace: &OwnedFd, kind: Kind) -> Result<bool> {
    let identity = |namespace: &OwnedFd| -> Result<_> {
        let found = rustix::fs::fstat(namespace).doing(|| format!("look at a {} namespace", kind.link()))?;
        Ok((found.st_dev, found.st_ino))
    };
    Ok(identity(namespace)? == identity(&own_namespace(kind)?)?)
}

/// Opens the namespace of this kind that the caller is in.
///
/// # Errors
/// ENOENT where /proc is not mounted.
pub(crate) fn own_namespace(kind: Kind) -> Result<OwnedFd> {
    let link = format!("/proc/self/ns/{}", kind.link());
    path::open_host(Path::new(&link), OFlags::RDONLY).doing(|| format!("open {link}"))
}
