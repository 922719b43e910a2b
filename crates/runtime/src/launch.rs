//! The parent's side: from a bundle to a container's process that waits at its gate or runs.
//!
//! Everything is validated, then recorded, then made; a failure undoes what was made in reverse order.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bulkhead_cgroup::{Cgroup, Doors, systemd};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::{credentials, path, signal};
use rustix::fs::OFlags;

use crate::activation::Passed;
use crate::birth::{Birth, Cradle};
use crate::bundle::{Bundle, CONFIG};
use crate::cgroup_plan::{self, CgroupPlan};
use crate::clone::{Child, End, LAST_BREATH};
use crate::custody::Custody;
use crate::error::{Doing, Error, Result};
use crate::handshake::{self, Said};
use crate::hooks::{Document, Runner};
use crate::host::{self, Rights};
use crate::id::ContainerId;
use crate::idmap;
use crate::init::{self, Inheritance};
use crate::lifecycle::Status;
use crate::limits;
use crate::log::Log;
use crate::notify::{Manager, Proxy};
use crate::plan::ending::Ending;
use crate::plan::namespaces::host_id;
use crate::plan::rdt::Rdt;
use crate::plan::{OVERLAY_ANNOTATION, Plan};
use crate::resctrl::{self, Tree};
use crate::rootfs::Entry;
use crate::sources::{self, Opened};
use crate::state::{ProcessId, State, StateDir};
use crate::watch::Watch;
use crate::{deliver, device, gate, net_device, notify, relay};

/// What a caller wants of a new container.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the state of containers is.
    pub state_root: &'a Path,
    /// Its id.
    pub id: &'a ContainerId,
    /// Where its terminal goes.
    pub console_socket: Option<&'a Path>,
    /// Where a pidfd of its process goes.
    pub pidfd_socket: Option<&'a Path>,
    /// Where the pid of its process goes.
    pub pid_file: Option<&'a Path>,
    /// Which descriptors from 3 on it gets.
    pub passed: Passed,
    /// Who waits to hear that it is ready.
    pub manager: Option<Manager>,
    /// How its root is entered.
    pub entry: Entry,
    /// Which session keyring it gets.
    pub keyring: Keyring,
    /// Whether its program waits for `start`.
    pub start: Start,
    /// Whether it gets cgroups.
    pub cgroups: Cgroups,
    /// Signals that may interrupt the making; `None` where nobody stays with the container afterwards.
    pub watch: Option<&'a Watch>,
}

/// Which session keyring a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// A new one.
    New,
    /// The runtime's caller's.
    Inherited,
}

/// When the user's program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As soon as the container is ready.
    AtOnce,
    /// When `start` opens the gate.
    AtGate,
}

/// Whether a container gets cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Yes; lacking rights are an error.
    Required,
    /// Where the caller may make them, or limits were asked for.
    IfPermitted,
    /// Yes, as a unit of a systemd.
    Systemd(systemd::Manager),
    /// No: it stays in the caller's.
    None,
}

/// A container that was made.
#[derive(Debug)]
pub struct Launched {
    /// Its state directory; locked unless it was to start at once.
    pub dir: StateDir,
    /// Its record.
    pub state: State,
    /// Its process.
    pub child: Child,
    /// The master of its terminal, unless that was sent away.
    pub master: Option<OwnedFd>,
    /// What is to be done when it has ended.
    pub ending: Ending,
    /// Where it says that it is ready.
    pub proxy: Option<Proxy>,
}

/// Makes a container.
///
/// # Errors
/// Whatever is wrong with the bundle, the host or the request; nothing is left of the container then.
pub fn launch(bundle: &Bundle, request: &Request<'_>, log: &Log) -> Result<Launched> {
    let plan = plan(bundle, request, log)?;
    attempt(&plan, bundle, request, log, &mut |attempt, cgroup, rights| attempt.make(bundle, cgroup, rights))
}

/// Resolves what is asked for, and warns of what will not be as it says.
///
/// # Errors
/// Whatever is wrong with the configuration.
pub(crate) fn plan(bundle: &Bundle, request: &Request<'_>, log: &Log) -> Result<Plan> {
    let mut plan = Plan::new(&bundle.config, &bundle.path, &idmap::of_caller)?;
    add_callers_wishes(&mut plan, request);
    for warning in &plan.warnings {
        log.warn(warning);
    }
    warn_of_missing_capabilities(&plan, log);
    Ok(plan)
}

/// How the process of a container is made, and what is recorded of it: also returns the master of its terminal.
pub(crate) type Make<'a> = dyn FnMut(&mut Attempt<'_>, &mut Option<CgroupPlan>, Rights) -> Result<(State, Child, Option<OwnedFd>)>
    + 'a;

/// Makes a container around a process that `make` makes, and takes everything back if that fails.
///
/// # Errors
/// As [`launch`].
pub(crate) fn attempt(
    plan: &Plan,
    bundle: &Bundle,
    request: &Request<'_>,
    log: &Log,
    make: &mut Make<'_>,
) -> Result<Launched> {
    let rights = Rights::of_caller()?;
    check(plan, bundle, request, rights)?;
    let mut cgroup = CgroupPlan::new(plan, request, rights)?;
    for warning in cgroup.iter().flat_map(CgroupPlan::warnings) {
        log.warn(warning);
    }
    let rdt = plan.rdt.as_ref().map(|rdt| class_of_service(rdt, request.id)).transpose()?;
    let dir = StateDir::create(request.state_root, request.id)?;
    log.debug(format_args!("recorded in {}", dir.path("").display()));
    let mut attempt = Attempt {
        plan,
        request,
        log,
        dir,
        cgroup: None,
        devices: None,
        rdt,
        child: None,
        document: None,
        for_hooks: Vec::new(),
        proxy: None,
        hold: Hold::Own,
    };
    match make(&mut attempt, &mut cgroup, rights) {
        Ok((state, child, master)) => {
            let ending = Ending::of(plan);
            let Attempt { dir, proxy, .. } = attempt;
            Ok(Launched { dir, state, child, master, ending, proxy })
        }
        Err(error) => {
            match attempt.hold {
                Hold::Own => attempt.undo(),
                Hold::Lost => attempt.let_go(),
            }
            Err(error)
        }
    }
}

/// Adds what does not come from the bundle but from the runtime's own environment.
fn add_callers_wishes(plan: &mut Plan, request: &Request<'_>) {
    if request.manager.is_some() {
        notify::add_to(plan, &request.state_root.join(request.id.as_str()));
    }
}

/// Names what was asked for but cannot be given on (config.md wants a warning). A new user namespace has everything.
fn warn_of_missing_capabilities(plan: &Plan, log: &Log) {
    let Some(process) = plan.process.as_ref().filter(|_| !plan.namespaces.has(Kind::User)) else { return };
    for name in process.capabilities.beyond(host::bounding_set()) {
        log.warn(format!("ignoring capability CAP_{name}: it is outside the runtime's bounding set"));
    }
}

fn class_of_service(rdt: &Rdt, id: &ContainerId) -> Result<(Tree, resctrl::Record)> {
    let tree = Tree::find()?;
    let record = tree.record(rdt, id.as_str())?;
    Ok((tree, record))
}

/// Refuses what cannot work before anything is made.
fn check(plan: &Plan, bundle: &Bundle, request: &Request<'_>, rights: Rights) -> Result<()> {
    bundle.check_root(&plan.root.path)?;
    let Some(process) = &plan.process else {
        return Err(Error::invalid("/process", "there is no program to run"));
    };
    let terminal = process.terminal.is_some();
    // Only who stays can hold its master.
    if terminal && request.watch.is_none() && request.console_socket.is_none() {
        return Err(Error::Usage("a terminal needs --console-socket, or `run` without --detach".into()));
    }
    if !terminal && request.console_socket.is_some() {
        return Err(Error::Usage("--console-socket needs \"terminal\": true in the configuration".into()));
    }
    if rights == Rights::Unprivileged && !plan.net_devices.is_empty() {
        let reason = "moving network devices of the host takes its root";
        return Err(Error::invalid("/linux/netDevices", reason));
    }
    if rights == Rights::Unprivileged && plan.root.layers.is_some() {
        let reason = "mapping the ids of layers takes the host's root";
        return Err(Error::invalid(format!("/annotations/{OVERLAY_ANNOTATION}"), reason));
    }
    if rights == Rights::Unprivileged && !plan.namespaces.has(Kind::User) {
        return Err(Error::invalid(
            "/linux/namespaces",
            "an ordinary user needs a namespace of type \"user\"; `bulkrun spec --rootless` writes such a configuration",
        ));
    }
    Ok(())
}

/// A container that is being made, with everything to take back.
pub(crate) struct Attempt<'a> {
    /// What is to be made.
    pub(crate) plan: &'a Plan,
    /// What the caller wants.
    pub(crate) request: &'a Request<'a>,
    /// Where to say what happens.
    pub(crate) log: &'a Log,
    /// The state directory.
    pub(crate) dir: StateDir,
    /// The cgroup, once it is made.
    pub(crate) cgroup: Option<Cgroup>,
    /// Network devices that have been moved, until somebody else may have to do with them.
    devices: Option<net_device::Move>,
    /// The class of service, once it is chosen.
    rdt: Option<(Tree, resctrl::Record)>,
    /// The process, once it is made.
    pub(crate) child: Option<Child>,
    /// What hooks are told.
    pub(crate) document: Option<Document>,
    /// The container's namespaces that hooks of the creation get, until these are done.
    for_hooks: Vec<(Kind, OwnedFd)>,
    proxy: Option<Proxy>,
    hold: Hold,
}

/// Whose the container is while it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// This command's: it holds the lock, or nobody else wants it.
    Own,
    /// Another command's, which has removed it or is about to; its id and its cgroup may be a new container's already.
    Lost,
}

impl Attempt<'_> {
    fn make(
        &mut self,
        bundle: &Bundle,
        cgroup: &mut Option<CgroupPlan>,
        rights: Rights,
    ) -> Result<(State, Child, Option<OwnedFd>)> {
        let mut state = self.record(bundle, cgroup.as_ref())?;
        let mut document = Document::new(&state, None);
        if self.plan.hooks.inside() {
            document.open_output()?;
        }
        let (parent, socket) = handshake::pair()?;
        let child = self.clone_child((&parent, socket), &state, &document, cgroup.as_ref(), rights)?;
        state.process = Some(ProcessId { pid: child.pid, start_time: 0 });
        self.document = Some(Document::new(&state, Some(child.pid)));
        self.child = Some(child);
        let namespaces = &self.plan.namespaces;
        self.log.debug(format_args!(
            "its process is {}, with new namespaces {:?}, and {:?} to join",
            self.child.as_ref().map_or(0, |child| child.pid),
            namespaces.new_kinds(),
            namespaces.join
        ));
        self.enter_scope(&parent, cgroup.as_mut(), &mut state)?;
        let master = self.converse(&parent, &mut state, rights)?;
        if self.request.start == Start::AtOnce {
            if let Said::Failed(chain) = parent.hear(self.request.watch)? {
                return Err(Error::Init { chain });
            }
            self.log.debug("its program runs");
            // It is complete: a hook may use it, also by commands that lock it.
            self.dir.unlock()?;
            if let Err(error) = self.after_start() {
                if self.dir.lock().is_err() {
                    self.hold = Hold::Lost;
                }
                return Err(error);
            }
        }
        let child =
            self.child.take().ok_or_else(|| Error::Usage("the container's process is gone".into()))?;
        Ok((state, child, master))
    }

    /// Records what is about to be made, and makes the cgroup.
    pub(crate) fn record(&mut self, bundle: &Bundle, cgroup: Option<&CgroupPlan>) -> Result<State> {
        let record = cgroup.map(CgroupPlan::record).transpose()?.unwrap_or_default();
        let mut state = State::new(self.request.id, &bundle.path, self.plan, record);
        state.boot_id = host::boot_id()?;
        state.rdt = self.rdt.as_ref().map(|(_, record)| record.clone());
        state.keyring = self.request.keyring == Keyring::New;
        self.dir.write(CONFIG, bundle.text.as_bytes())?;
        self.dir.save(&state)?;
        self.prepare_notifications()?;
        if let (Some((tree, record)), Some(rdt)) = (&mut self.rdt, &self.plan.rdt) {
            tree.make(record, rdt)?;
            if state.rdt.as_ref() != Some(record) {
                state.rdt = Some(record.clone());
                self.dir.save(&state)?;
            }
        }
        if let Some(made) = cgroup.and_then(|cgroup| cgroup.make(&state.cgroup).transpose()) {
            self.has(made?, &mut state);
        }
        Ok(state)
    }

    /// Owns a cgroup from here on.
    fn has(&mut self, made: Cgroup, state: &mut State) {
        state.cgroup = made.record();
        let paths = made.paths();
        for path in paths.values() {
            self.log.debug(format_args!("its cgroup is {path}"));
        }
        if paths.is_empty() {
            self.log.warn(
                "the container runs without a cgroup, and so without limits: there is no right to make one here \
                 (`systemd-run --user --scope -p Delegate=yes` starts a command where there is)",
            );
        }
        self.cgroup = Some(made);
    }

    /// Lets systemd make the cgroup around the container's process, which waits for it.
    fn enter_scope(
        &mut self,
        parent: &handshake::Parent,
        cgroup: Option<&mut CgroupPlan>,
        state: &mut State,
    ) -> Result<()> {
        let pid = self.child.as_ref().map_or(0, |child| child.pid);
        if !self.make_scope(pid, cgroup, state)? {
            return Ok(());
        }
        parent.proceed().map_err(|error| if handshake::is_over(&error) { self.died() } else { error })
    }

    /// Lets systemd make the cgroup around a process, if that is systemd's to do; tells whether it has.
    pub(crate) fn make_scope(
        &mut self,
        pid: i32,
        cgroup: Option<&mut CgroupPlan>,
        state: &mut State,
    ) -> Result<bool> {
        let made = cgroup.and_then(|cgroup| cgroup.make_around(pid, self.request.watch).transpose());
        let Some(made) = made else { return Ok(false) };
        self.has(made?, state);
        Ok(true)
    }

    fn prepare_notifications(&mut self) -> Result<()> {
        let Some(manager) = &self.request.manager else { return Ok(()) };
        Manager::make_directory(&self.dir)?;
        if self.request.start == Start::AtOnce {
            self.proxy = Some(manager.listen(&self.dir)?);
        }
        Ok(())
    }

    /// Makes the container's process. All that needs the host's rights or files is opened before.
    fn clone_child(
        &self,
        (parent, socket): (&handshake::Parent, handshake::Child),
        state: &State,
        document: &Document,
        cgroup: Option<&CgroupPlan>,
        rights: Rights,
    ) -> Result<Child> {
        let plan = self.plan;
        let Some(process) = plan.process.clone() else {
            return Err(Error::invalid("/process", "there is no program to run"));
        };
        if rights == Rights::Privileged || plan.maps().is_none() && plan.namespaces.time_offsets.is_empty() {
            // The child inherits it and is never visible without. Only where an unprivileged parent has to write the
            // child's maps, or the child its own time offsets, the child hides afterwards: nobody else is in its new user
            // namespace yet. Offsets in a user namespace that is joined are set by the process in between, which hides.
            credentials::set_dumpable(false).doing(|| "hide from ptrace")?;
        }
        let in_user_namespace = plan.namespaces.has(Kind::User);
        let doors = if in_user_namespace { Doors::OpenedByParent } else { Doors::OpenedByChild };
        let joiner = self.cgroup.as_ref().map(|cgroup| cgroup.joiner(doors)).transpose()?;
        let gate = (self.request.start == Start::AtGate).then(|| gate::build(&self.dir)).transpose()?;
        let with_host_rights = in_user_namespace && rights == Rights::Privileged;
        let opened = Opened::of(plan, rights == Rights::Privileged);
        let is_left_alone = self.request.start == Start::AtOnce && self.request.watch.is_none();
        let custody = if is_left_alone { Custody::Adopter } else { Custody::Runtime };
        let mut birth = Birth::of_container(plan, rights)?.in_custody_of(custody);
        let cgroup_views = cgroup_plan::views(plan, cgroup, self.cgroup.as_ref());
        let inheritance = Inheritance {
            plan,
            process,
            socket,
            gate,
            cgroup: joiner.as_ref(),
            awaits_scope: cgroup.is_some_and(CgroupPlan::is_for_systemd),
            cgroup_views,
            joins: std::mem::take(&mut birth.joins),
            home: birth.home.take(),
            prepared: sources::prepare(plan, opened)?,
            borrows: opened == Opened::InNewNamespace,
            nodes: match plan.maps() {
                Some(maps) if with_host_rights => device::prepare(&plan.devices, maps)?,
                _ => None,
            },
            root_tree: sources::prepare_root(plan, opened)?,
            document,
            passed: self.request.passed,
            entry: self.request.entry,
            keyring: state.keyring_name(),
            groups: idmap::Groups::Allowed,
            own_time_offsets: birth.child_sets_time(),
            ignored: host::ignored_signals(),
        };
        let connection = cgroup.and_then(CgroupPlan::connection);
        let ends: Vec<_> = std::iter::once(parent.as_fd()).chain(connection).collect();
        let own = joiner.as_ref().and_then(bulkhead_cgroup::Joiner::into_cgroup_fd);
        birth.spawn(Cradle { own, instead: None }, &ends, inheritance, init::run)
    }

    /// Opens those new namespaces of the container that hooks are to get, while its process has not hidden yet: an ordinary user
    /// cannot later, and nothing of the container may ever have to be seen by its hooks.
    fn open_for_hooks(&mut self, pid: i32) -> Result<()> {
        let kinds = if self.plan.hooks.during_creation() { &self.plan.hook_namespaces[..] } else { &[] };
        for kind in kinds {
            let path = format!("/proc/{pid}/ns/{}", kind.link());
            let opened =
                path::open_host(path.as_ref(), OFlags::RDONLY).doing(|| "open a new namespace for hooks")?;
            self.for_hooks.push((*kind, opened));
        }
        Ok(())
    }

    /// Answers the child until it is ready.
    fn converse(
        &mut self,
        parent: &handshake::Parent,
        state: &mut State,
        rights: Rights,
    ) -> Result<Option<OwnedFd>> {
        let pid = self.child.as_ref().map_or(0, |child| child.pid);
        self.open_for_hooks(pid)?;
        self.before_setup(pid, rights)?;
        if self.plan.maps().is_some() || !self.plan.net_devices.is_empty() {
            parent.proceed()?;
        }
        if let Some(child) = &self.child
            && Opened::of(self.plan, rights == Rights::Privileged) == Opened::InNewNamespace
        {
            sources::lend(self.plan, child, parent, self.log)?;
        }
        let mut master = None;
        loop {
            match self.hear(parent)? {
                Said::Prepared => {
                    self.log.debug("its mounts and devices are made, and hooks may run");
                    // For hooks that ask about their container, and for whoever must remove it while one hangs.
                    state.process = Some(self.identify(pid)?);
                    self.dir.save(state)?;
                    self.creation_hooks()?;
                    // Nothing of the container runs yet, and nobody needs them any more.
                    self.for_hooks.clear();
                    parent.proceed()?;
                }
                Said::Console(terminal) => {
                    self.log.debug("it has a terminal");
                    master = self.deliver_console(terminal)?;
                }
                Said::Listener(listener) => {
                    self.log.debug("its filter asks an agent");
                    self.deliver_listener(&listener, pid, state)?;
                    parent.proceed()?;
                }
                Said::Unmapped(number, tree) => {
                    sources::map_for_child(self.plan, &tree, number)?;
                    parent.proceed()?;
                }
                Said::Ready => break,
                Said::Failed(chain) => return Err(Error::Init { chain }),
                Said::Stuck(_) | Said::Born(..) | Said::Made(_) | Said::Nothing => return Err(self.died()),
            }
        }
        self.log.debug("it is in its root, with its identity, and has found its program");
        self.after_setup(pid, state)?;
        self.devices = None;
        self.child.iter_mut().for_each(Child::leave_alone);
        parent.proceed().map_err(|error| if handshake::is_over(&error) { self.died() } else { error })?;
        Ok(master)
    }

    /// Waits for what the child says next. A silence may mean that it is stopped together with all that is below a frozen
    /// cgroup: then nobody knows for how long.
    fn hear(&self, parent: &handshake::Parent) -> Result<Said> {
        parent.hear_patiently(self.request.watch, || match (&self.cgroup, &self.child) {
            (Some(cgroup), Some(child)) => Ok(cgroup.refuse_frozen_above(child.pid)?),
            _ => Ok(()),
        })
    }

    fn before_setup(&mut self, pid: i32, rights: Rights) -> Result<()> {
        if let Some(process) = self.plan.process.as_ref().filter(|_| self.plan.namespaces.has(Kind::User)) {
            limits::raise_hard_limits(pid, &process.rlimits)?;
        }
        if let Some(maps) = self.plan.maps() {
            idmap::write(pid, maps, rights == Rights::Privileged)?;
        }
        self.move_net_devices(pid)?;
        self.join_class(pid)?;
        // What an ordinary user has made is that user's own.
        if rights == Rights::Privileged {
            self.give_cgroup_away(pid)?;
        }
        let score = self.plan.process.as_ref().and_then(|process| process.oom_score_adj);
        score.map_or(Ok(()), |score| limits::set_oom_score(pid, score, rights, self.log))
    }

    /// Puts a process, and those that it will make, into the container's class of service, if it has one.
    pub(crate) fn join_class(&self, pid: i32) -> Result<()> {
        self.rdt.as_ref().map_or(Ok(()), |(tree, record)| tree.join(record, pid))
    }

    fn move_net_devices(&mut self, pid: i32) -> Result<()> {
        let Plan { net_devices, namespaces, .. } = self.plan;
        if net_devices.is_empty() {
            return Ok(());
        }
        // The child is born into a new one, but may not be in one that it joins yet.
        let path = namespaces.path(Kind::Network).map(Path::to_owned);
        let path = path.unwrap_or_else(|| format!("/proc/{pid}/ns/net").into());
        self.devices.insert(net_device::Move::to(&path)?).all(net_devices)
    }

    /// Returns what was moved, while nobody but this command has been in the container.
    fn give_devices_back(&mut self) {
        let Some(devices) = self.devices.take() else { return };
        if self.plan.namespaces.is_new(Kind::Network) {
            if let Err(error) = devices.give_back() {
                self.log.warn(crate::error::chain(&error).join(": "));
            }
        } else if !devices.names().is_empty() {
            self.log.warn(format!(
                "the network namespace that was to be joined keeps {}: others in it may have changed what came from the host",
                devices.names().join(", ")
            ));
        }
    }

    /// Gives the cgroup to the container's user, where that is to have it. Someone who is not of the host gets nothing.
    pub(crate) fn give_cgroup_away(&self, pid: i32) -> Result<()> {
        let (Some(cgroup), Some(user)) = (&self.cgroup, self.plan.cgroup_owner()) else { return Ok(()) };
        let owner = match self.plan.maps() {
            Some(maps) => host_id(&maps.uids, user),
            None if self.plan.namespaces.joins(Kind::User) => idmap::host_uid(pid, user)?,
            None => Some(user),
        };
        match owner {
            None | Some(0) => Ok(()),
            Some(owner) => Ok(cgroup.delegate(owner)?),
        }
    }

    fn identify(&self, pid: i32) -> Result<ProcessId> {
        match host::process_stat(pid)? {
            Some(found) => Ok(ProcessId { pid, start_time: found.start }),
            None if self.child.as_ref().is_some_and(|child| !child.ends_within(Duration::ZERO)) => {
                let why = "the container's process is not in /proc, which belongs to another pid namespace";
                Err(Error::Usage(why.into()))
            }
            None => Err(self.died()),
        }
    }

    /// Records the process; only then may it execute the user's program.
    pub(crate) fn after_setup(&self, pid: i32, state: &mut State) -> Result<()> {
        state.process = Some(self.identify(pid)?);
        state.ready = true;
        self.dir.save(state)?;
        if let Some(path) = self.request.pid_file {
            deliver::pid_file(path, pid)?;
        }
        let Some(child) = &self.child else { return Ok(()) };
        let mut sockets = self.request.pidfd_socket.into_iter().chain(self.plan.pidfd_receiver.as_deref());
        sockets.try_for_each(|path| deliver::descriptor(path, child.pidfd.as_fd(), self.request.id.as_str()))
    }

    pub(crate) fn creation_hooks(&self) -> Result<()> {
        let Some(document) = &self.document else { return Ok(()) };
        let runner = |status| Runner { document, status, watch: self.request.watch, given: &self.for_hooks };
        // These come after the step that "creating" is about (runtime.md, "Lifecycle"), and the specification's own
        // tests expect it said so; for those of newer kinds runc says otherwise, and others after it.
        runner(Status::Created).run("prestart", &self.plan.hooks.prestart)?;
        runner(Status::Creating).run("createRuntime", &self.plan.hooks.create_runtime)
    }

    /// A failure here stops the container, like one before (config.md, "Lifecycle").
    fn after_start(&self) -> Result<()> {
        let Some(document) = &self.document else { return Ok(()) };
        let runner = Runner { document, status: Status::Running, watch: self.request.watch, given: &[] };
        runner.run("poststart", &self.plan.hooks.poststart)
    }

    pub(crate) fn deliver_console(&self, master: OwnedFd) -> Result<Option<OwnedFd>> {
        match self.request.console_socket {
            Some(path) => deliver::console(path, master.as_fd()).map(|()| None),
            None => {
                relay::prepare(&master);
                Ok(Some(master))
            }
        }
    }

    fn deliver_listener(&self, listener: &OwnedFd, pid: i32, state: &State) -> Result<()> {
        let document = Document::new(state, Some(pid)).with_status(Status::Creating);
        deliver::listener(self.plan.seccomp.as_ref(), listener.as_fd(), pid, document)
    }

    /// Says how the child ended, which it could not say itself.
    fn died(&self) -> Error {
        let end = self.child.as_ref().map_or(End::Unknown, Child::end);
        let oom = end == End::Signal(signal::KILL)
            && self.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kill_count().is_ok_and(|n| n > 0));
        let hint = if oom { " by the kernel: its memory limit is too low even to start it" } else { "" };
        Error::InitDied { how: end.to_string(), hint }
    }

    /// Ends what is this command's own for certain: its child. Whoever holds the container sees to the rest.
    fn let_go(self) {
        if let Some(child) = self.child {
            child.put_an_end_to(LAST_BREATH);
        }
    }

    /// Takes back what was made, the last first. What cannot be taken back stays recorded for `delete`.
    fn undo(mut self) {
        self.give_devices_back();
        if let Some(child) = self.child.take() {
            child.put_an_end_to(LAST_BREATH);
        }
        if let Some(document) = &self.document {
            let runner = Runner { document, status: Status::Stopped, watch: None, given: &[] };
            for warning in runner.run_all("poststop", &self.plan.hooks.poststop) {
                self.log.warn(warning);
            }
        }
        let cgroup = match self.cgroup.take() {
            Some(cgroup) => cgroup.kill_all(signal::KILL).and_then(|()| cgroup.remove()),
            None => Ok(()),
        };
        let rdt = self.rdt.iter().try_for_each(|(tree, record)| tree.undo(record));
        let removed = cgroup.map_err(Error::from).and(rdt);
        match removed {
            Ok(()) => {
                if let Err(error) = self.dir.remove() {
                    self.log.warn(crate::error::chain(&error).join(": "));
                }
            }
            Err(error) => self.log.warn(crate::error::chain(&error).join(": ")),
        }
    }
}
