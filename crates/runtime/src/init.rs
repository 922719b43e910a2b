//! The child's side: from the clone to the user's program, as an ordered list of steps over the plan.
//!
//! The steps are in the order that the kernel's rules force. Namespaces come first, since they give the rights for all
//! that follows; the root is entered after everything that needs the host's files; privileges are dropped last.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_cgroup::{Joiner, View};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{credentials as sys_credentials, net, path, process, signal};
use rustix::fs::{Mode, OFlags};

use crate::activation::Passed;
use crate::birth::{self, Birthplace};
use crate::console;
use crate::device::{self, Method};
use crate::error::{Doing, Error, Result, chain};
use crate::hooks::{Document, Runner};
use crate::idmap::{self, Groups};
use crate::lifecycle::Status;
use crate::overlay::Attributes;
use crate::persona::Persona;
use crate::plan::Plan;
use crate::plan::process::Process;
use crate::procfs::Procfs;
use crate::rootfs::{self, Entry};
use crate::sources::Place;
use crate::spent::Spent;
use crate::{credentials, gate, handshake, limits, mount, program};

/// Everything that the child gets from the parent.
pub(crate) struct Inheritance<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The program, completed where the container's files say more.
    pub process: Process,
    /// The conversation with the parent.
    pub socket: handshake::Child,
    /// Where the program waits for `start`; without one it is executed at once.
    pub gate: Option<OwnedFd>,
    /// The doors to the container's cgroup.
    pub cgroup: Option<&'a Joiner<'a>>,
    /// Whether the parent has it put into its cgroup, and says so first.
    pub awaits_scope: bool,
    /// The container's view of its control groups.
    pub cgroup_views: Vec<View>,
    /// Namespaces to join, opened by the parent, in order.
    pub joins: Vec<(Kind, OwnedFd)>,
    /// The mount namespace to return to when the root is made, if the container shares the runtime's.
    pub home: Option<OwnedFd>,
    /// Sources of mounts that the parent opened, by index.
    pub prepared: Vec<Option<OwnedFd>>,
    /// Whether the parent lends more of them once the process exists.
    pub borrows: bool,
    /// Device nodes that the parent has made for a user namespace.
    pub nodes: Option<OwnedFd>,
    /// The root, if the parent opened it.
    pub root_tree: Option<OwnedFd>,
    /// What hooks are told.
    pub document: &'a Document,
    /// Which descriptors from 3 on are passed.
    pub passed: Passed,
    /// How the root is entered.
    pub entry: Entry,
    /// Name of the session keyring; without one the runtime's is kept.
    pub keyring: Option<std::ffi::CString>,
    /// Whether supplementary groups can be set.
    pub groups: Groups,
    /// Whether the child must make its time namespace itself.
    pub own_time_offsets: bool,
    /// Signals that the runtime's caller ignores.
    pub ignored: Option<signal::Set>,
}

/// The work in progress.
struct Init<'a> {
    given: Inheritance<'a>,
    birthplace: Birthplace,
    root: Option<OwnedFd>,
    program: Option<std::ffi::CString>,
    /// Where labels are written, if there are any.
    procfs: Option<Procfs>,
    /// Mounts that become read-only once everything in them is made.
    unsealed: Vec<OwnedFd>,
    spent: Spent,
}

/// A step of the set-up.
type Step = fn(&mut Init<'_>) -> Result<()>;

/// The set-up of a container, in order.
const STEPS: &[(&str, Step)] = &[
    ("wait for the scope", await_scope),
    ("set time offsets", set_time_offsets),
    ("take the identity that the user namespace gives", take_identity),
    ("borrow the host's mounts", borrow_mounts),
    ("join cgroups", join_cgroups),
    ("join namespaces", join_namespaces),
    ("unshare the cgroup namespace", unshare_cgroup),
    ("lead a session", lead_session),
    ("bring the loopback interface up", bring_loopback_up),
    ("set the host name", set_names),
    ("prepare the root", prepare_root),
    ("mount", mount_all),
    ("make devices", make_devices),
    ("run hooks", run_hooks),
    ("open the terminal", open_terminal),
    ("set kernel parameters", set_sysctl),
    ("hide paths", hide_paths),
    ("prepare the labels", prepare_labels),
    ("enter the root", enter_root),
    ("become the user", assume_persona),
    ("become ready", become_ready),
];

/// Sets the container up and becomes its program; ends with the exit status 1 after a failure, which was reported.
///
/// It never returns: descriptors that were closed all at once still have owners here, which must not be dropped.
pub(crate) fn run(given: Inheritance<'_>, birthplace: Birthplace) -> i32 {
    let mut init = Init {
        given,
        birthplace,
        root: None,
        program: None,
        procfs: None,
        unsealed: Vec::new(),
        spent: Spent::default(),
    };
    for (_, step) in STEPS {
        if let Err(error) = step(&mut init) {
            init.given.socket.failed(&chain(&error));
            process::exit_now(1);
        }
    }
    // From here on a failure is reported to whoever opens the gate.
    let socket = match &init.given.gate {
        None => init.given.socket,
        Some(gate) => match gate::wait(gate) {
            Ok(socket) => socket,
            Err(_) => process::exit_now(1),
        },
    };
    let error = finish(init.given.plan, &init.given.process, init.given.document, init.program.as_deref());
    socket.failed(&chain(&error));
    process::exit_now(1)
}

/// The last moments: hooks of the start, then the program. Returns only an error.
fn finish(plan: &Plan, process: &Process, document: &Document, program: Option<&std::ffi::CStr>) -> Error {
    // The filter holds for the hooks too, which are programs of the container; so it is in runc.
    let filter = plan.seccomp.as_ref().map(|filter| &filter.program);
    if let Err(error) = credentials::load_at_execution(process, filter) {
        return error;
    }
    let start_hooks = &plan.hooks.start_container;
    if !start_hooks.is_empty() {
        let document = document.inside(None);
        let runner = Runner { document: &document, status: Status::Created, watch: None, given: &[] };
        // They are programs of the image: the runtime's own environment is the host's affair.
        let hooks = start_hooks.iter().cloned().map(|hook| hook.or_environment(&process.env));
        if let Err(error) = runner.run("startContainer", &Vec::from_iter(hooks)) {
            return error;
        }
    }
    match program {
        Some(path) => program::execute(path, process),
        None => Error::Usage("there is no program to execute".into()),
    }
}

impl Init<'_> {
    fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::Usage("the root is not prepared".into()))
    }

    fn in_user_namespace(&self) -> bool {
        self.given.plan.namespaces.has(Kind::User)
    }
}

fn take_identity(init: &mut Init<'_>) -> Result<()> {
    if let Some(maps) = init.given.plan.maps() {
        init.given.socket.wait()?;
        // Files made from now on belong to the container's root.
        sys_credentials::set_gid(maps.first_gid()).doing(|| "become the root group of the user namespace")?;
        sys_credentials::set_uid(maps.first_uid()).doing(|| "become the root user of the user namespace")?;
        init.given.groups = idmap::groups_of("self")?;
    } else if !init.given.plan.net_devices.is_empty() {
        // Kernel parameters of a device can be set once it is there.
        init.given.socket.wait()?;
    }
    if init.given.plan.maps().is_none() && init.in_user_namespace() {
        init.given.groups = idmap::groups_of("self")?;
        // A foreign user namespace may not map these; then files are made as whoever the runtime is there.
        let _ = sys_credentials::set_gid(0);
        let _ = sys_credentials::set_uid(0);
    }
    sys_credentials::set_dumpable(false).doing(|| "hide from ptrace")
}

fn borrow_mounts(init: &mut Init<'_>) -> Result<()> {
    if !init.given.borrows {
        return Ok(());
    }
    for (place, tree) in init.given.socket.borrow_trees()? {
        match place {
            Place::Root => init.given.root_tree = Some(tree),
            Place::Mount(number) => {
                if let Some(prepared) = init.given.prepared.get_mut(number as usize) {
                    *prepared = Some(tree);
                }
            }
        }
    }
    Ok(())
}

/// systemd makes a cgroup only around a process that exists. Before anything else happens to it: whose it is decides
/// whether a user's systemd may move it.
fn await_scope(init: &mut Init<'_>) -> Result<()> {
    if init.given.awaits_scope { init.given.socket.wait() } else { Ok(()) }
}

fn join_cgroups(init: &mut Init<'_>) -> Result<()> {
    if let Some(joiner) = init.given.cgroup {
        joiner.join_self()?;
        if init.birthplace == Birthplace::Elsewhere {
            joiner.join_self_v2()?;
        }
    } else if !init.given.awaits_scope {
        return Ok(());
    }
    limits::forget_affinity();
    Ok(())
}

fn join_namespaces(init: &mut Init<'_>) -> Result<()> {
    init.given.joins.iter().try_for_each(|(kind, namespace)| birth::join(namespace, *kind))
}

/// After the cgroups are joined: they become the root of the namespace.
fn unshare_cgroup(init: &mut Init<'_>) -> Result<()> {
    if init.given.plan.namespaces.is_new(Kind::Cgroup) {
        namespace::unshare(Kind::Cgroup).doing(|| "make a cgroup namespace")?;
    }
    Ok(())
}

/// As an ordinary user: while the process can be traced its files in /proc are its own.
fn set_time_offsets(init: &mut Init<'_>) -> Result<()> {
    if !init.given.own_time_offsets {
        return Ok(());
    }
    birth::make_time(&init.given.plan.namespaces.time_offsets)?;
    let made = path::open_host("/proc/self/ns/time_for_children".as_ref(), OFlags::RDONLY)
        .doing(|| "open the new time namespace")?;
    namespace::join(made.as_fd(), Kind::Time).doing(|| "enter the new time namespace")
}

fn lead_session(_: &mut Init<'_>) -> Result<()> {
    process::new_session().doing(|| "lead a session")
}

fn bring_loopback_up(init: &mut Init<'_>) -> Result<()> {
    if init.given.plan.namespaces.is_new(Kind::Network) {
        net::bring_loopback_up().doing(|| "bring the loopback interface up")?;
    }
    Ok(())
}

fn set_names(init: &mut Init<'_>) -> Result<()> {
    if let Some(name) = &init.given.plan.hostname {
        rustix::system::sethostname(name.as_bytes()).doing(|| "set /hostname")?;
    }
    if let Some(name) = &init.given.plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).doing(|| "set /domainname")?;
    }
    Ok(())
}

fn prepare_root(init: &mut Init<'_>) -> Result<()> {
    // Modes of nodes and directories are exactly those asked for; the program's own umask is set at the end.
    rustix::process::umask(Mode::empty());
    let attributes = if init.in_user_namespace() { Attributes::User } else { Attributes::Trusted };
    let prepared = init.given.root_tree.take();
    init.root =
        Some(rootfs::prepare(&init.given.plan.root, prepared, mount::cut_of(init.given.plan), attributes)?);
    Ok(())
}

fn mount_all(init: &mut Init<'_>) -> Result<()> {
    let context = mount::Context {
        root: init.root()?,
        namespaces: &init.given.plan.namespaces,
        cgroups: &init.given.cgroup_views,
        prepared: &init.given.prepared,
        socket: &init.given.socket,
        cut: mount::cut_of(init.given.plan),
        label: init.given.plan.mount_label.as_ref(),
        spent: &init.spent,
    };
    let mounts = init.given.plan.mounts.iter().enumerate();
    let unsealed: Result<Vec<_>> =
        mounts.filter_map(|(index, mount)| mount::perform(&context, index, mount).transpose()).collect();
    init.unsealed = unsealed?;
    init.given.prepared.clear();
    Ok(())
}

fn make_devices(init: &mut Init<'_>) -> Result<()> {
    let plan = init.given.plan;
    if plan.devices.is_empty() {
        return Ok(());
    }
    let nodes = init.given.nodes.take();
    let root = init.root()?;
    let method = match init.in_user_namespace() {
        true => Method::Bind(nodes),
        false => Method::Make,
    };
    device::make(root, &plan.devices, &method)?;
    let dev = crate::target::directory(root, "/dev".as_ref())?;
    device::link(dev.as_fd())?;
    init.spent.take(dev);
    Ok(())
}

fn run_hooks(init: &mut Init<'_>) -> Result<()> {
    let plan = init.given.plan;
    if plan.hooks.during_creation() {
        init.given.socket.prepared()?;
    }
    if plan.hooks.create_container.is_empty() {
        return Ok(());
    }
    // The root is not entered yet: to the hook it is still at its place on the host.
    let document = init.given.document.inside(Some(&plan.root.path));
    let runner = Runner { document: &document, status: Status::Creating, watch: None, given: &[] };
    runner.run("createContainer", &plan.hooks.create_container)
}

fn open_terminal(init: &mut Init<'_>) -> Result<()> {
    let Some(size) = init.given.process.terminal else { return Ok(()) };
    let root = init.root()?;
    let terminal = console::open(root, size)?;
    console::bind(root, &terminal.slave)?;
    init.given.socket.console(terminal.master.as_fd())?;
    console::adopt(&terminal.slave)
}

fn set_sysctl(init: &mut Init<'_>) -> Result<()> {
    let parameters = &init.given.plan.sysctl;
    if parameters.is_empty() {
        return Ok(());
    }
    let procfs = Procfs::mount_or_copy()?;
    for parameter in parameters {
        procfs.write(&PathBuf::from("sys").join(&parameter.path), &parameter.value)?;
    }
    Ok(())
}

fn hide_paths(init: &mut Init<'_>) -> Result<()> {
    let plan = init.given.plan;
    let root = init.root()?;
    if init.given.process.cwd != Path::new("/") {
        program::make_directory(root, &init.given.process.cwd)?;
    }
    mount::seal(&init.unsealed)?;
    rootfs::make_readonly(root, &plan.readonly, &init.spent)?;
    if plan.masked.is_empty() {
        return Ok(());
    }
    let null = rootfs::host_null()?;
    rootfs::mask(root, &plan.masked, null.as_fd(), &init.spent)?;
    init.spent.take(null);
    Ok(())
}

fn prepare_labels(init: &mut Init<'_>) -> Result<()> {
    if init.given.process.is_labelled() {
        init.procfs = Some(Procfs::mount_or_copy()?);
    }
    Ok(())
}

fn enter_root(init: &mut Init<'_>) -> Result<()> {
    let (root, plan) = (init.root()?, &init.given.plan.root);
    let Some(home) = &init.given.home else { return rootfs::enter(root, plan, init.given.entry) };
    let root = rootfs::carry_home(root, plan, home)?;
    if init.given.process.terminal.is_some() { console::adopt_again(root.as_fd()) } else { Ok(()) }
}

fn assume_persona(init: &mut Init<'_>) -> Result<()> {
    let procfs = init.procfs.take();
    let given = &mut init.given;
    for (name, value) in given.passed.variables() {
        given.process.set_variable(name, &value);
    }
    let persona = Persona {
        filter: given.plan.seccomp.as_ref().map(|filter| &filter.program),
        keyring: given.keyring.as_deref(),
        groups: given.groups,
        in_user_namespace: given.plan.namespaces.has(Kind::User),
        passed: given.passed.count(),
        ignored: given.ignored,
        socket: &given.socket,
        gate: given.gate.as_ref().map(AsFd::as_fd),
        procfs,
        kept: given.document.descriptors().collect(),
    };
    init.program = Some(persona.assume(&mut given.process)?);
    Ok(())
}

fn become_ready(init: &mut Init<'_>) -> Result<()> {
    init.given.socket.ready()
}
