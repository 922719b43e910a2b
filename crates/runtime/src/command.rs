//! The verbs that change a container: what was typed becomes an operation of the library.

pub mod checkpoint;
pub mod exec;
pub mod update;

use crate::exit::ExitCode;
use std::os::fd::AsFd;
use std::path::Path;

use bulkhead_cgroup::systemd;
use bulkhead_sys::process;
use bulkhead_sys::signal::Signal;

use crate::activation::Passed;
use crate::bundle::Bundle;
use crate::cli::{
    CgroupManager, CreateOptions, DeleteOptions, Global, KillOptions, Rootless, RunOptions, Targets,
};
use crate::container::{self, Container};
use crate::error::{Doing, Error, Result};
use crate::foreground::{self, Ward};
use crate::hooks::{Document, Runner};
use crate::id::ContainerId;
use crate::launch::{self, Cgroups, Keyring, Launched, Request, Start};
use crate::lifecycle::Status;
use crate::log::Log;
use crate::notify::Manager;
use crate::rootfs::Entry;
use crate::state::StateDir;
use crate::watch::Watch;
use crate::{gate, host, root};

/// Decides whether a container gets cgroups, and by whom.
///
/// # Errors
/// A `/proc` that does not say who the caller is.
pub fn cgroups(global: &Global) -> Result<Cgroups> {
    let rootless = match global.rootless {
        Rootless::Yes => true,
        Rootless::No => false,
        Rootless::Auto => !host::is_real_root()?,
    };
    match global.cgroup_manager {
        CgroupManager::Disabled => Ok(Cgroups::None),
        CgroupManager::Systemd if rootless => Ok(Cgroups::Systemd(systemd::Manager::User)),
        CgroupManager::Systemd => Ok(Cgroups::Systemd(systemd::Manager::System)),
        CgroupManager::Cgroupfs if rootless => Ok(Cgroups::IfPermitted),
        CgroupManager::Cgroupfs => Ok(Cgroups::Required),
    }
}

/// `create`: makes a container whose program waits for `start`.
///
/// # Errors
/// As [`launch::launch`].
pub fn create(global: &Global, options: &CreateOptions, log: &Log) -> Result<ExitCode> {
    let state_root = root::resolve(global)?;
    let bundle = Bundle::read(options.bundle.as_deref(), options.config.as_deref())?;
    let request = request(global, options, &state_root, Start::AtGate)?;
    launch::launch(&bundle, &request, log)?;
    Ok(ExitCode::SUCCESS)
}

/// `run`: makes a container, lets its program run and, unless it is detached, waits for it.
///
/// # Errors
/// As [`launch::launch`], and what is left when the container cannot be removed.
pub fn run(global: &Global, options: &RunOptions, log: &Log) -> Result<ExitCode> {
    let state_root = root::resolve(global)?;
    let create = &options.create;
    let bundle = Bundle::read(create.bundle.as_deref(), create.config.as_deref())?;
    let request = request(global, create, &state_root, Start::AtOnce)?;
    if options.detach {
        return leave(launch::launch(&bundle, &request, log)?);
    }
    let watch = Watch::begin(!create.no_subreaper)?;
    let request = Request { watch: Some(&watch), ..request };
    let launched = launch::launch(&bundle, &request, log)?;
    stay(&watch, launched, if options.keep { Afterwards::Kept } else { Afterwards::Removed }, log)
}

/// Lets a container run, and goes once whoever waits for it has heard that it is ready.
fn leave(launched: Launched) -> Result<ExitCode> {
    if let Some(proxy) = launched.proxy {
        proxy.attend(launched.child.pidfd.as_fd(), launched.child.pid)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What becomes of a container that has ended in the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Removed,
    Kept,
}

/// Waits for a container in the foreground.
fn stay(watch: &Watch, launched: Launched, afterwards: Afterwards, log: &Log) -> Result<ExitCode> {
    let ward = Ward { child: &launched.child, master: launched.master, proxy: launched.proxy };
    let attended = foreground::attend(watch, ward);
    let container = Container { dir: launched.dir, state: launched.state };
    // A container that cannot be waited for must not outlive the command that was to remove it.
    let killed = if attended.is_err() { container.kill() } else { Ok(()) };
    if attended.is_err() || afterwards == Afterwards::Removed {
        // Whoever deletes it meanwhile does not make a failure of it.
        let ended = match container.dir.lock() {
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error @ Error::Busy { .. }) => {
                log.warn(format!("{error}: its removal is left to that"));
                killed
            }
            // Nobody is after this command to try again.
            _ => killed.and_then(|()| container.end(&launched.ending, log)),
        };
        return attended.and_then(|code| ended.map(|()| ExitCode::from(code)));
    }
    attended.map(ExitCode::from)
}

fn request<'a>(
    global: &Global,
    options: &'a CreateOptions,
    state_root: &'a Path,
    start: Start,
) -> Result<Request<'a>> {
    Ok(Request {
        state_root,
        id: &options.id,
        console_socket: options.console_socket.as_deref(),
        pidfd_socket: options.pidfd_socket.as_deref(),
        pid_file: options.pid_file.as_deref(),
        passed: Passed::with_activation(options.preserve_fds),
        manager: Manager::of_caller(),
        entry: if options.no_pivot { Entry::Move } else { Entry::Pivot },
        keyring: if options.no_new_keyring { Keyring::Inherited } else { Keyring::New },
        start,
        cgroups: cgroups(global)?,
        watch: None,
    })
}

/// `start`: opens the gate of a created container.
///
/// # Errors
/// A container that is not created, a program that cannot be executed.
pub fn start(global: &Global, id: &ContainerId, log: &Log) -> Result<ExitCode> {
    let container = Container::lock(&root::resolve(global)?, id)?;
    match container.status()? {
        Status::Created => {}
        status => return Err(Error::State { operation: "start", status }),
    }
    let proxy = Manager::of_caller().map(|manager| manager.listen(&container.dir)).transpose()?;
    let pidfd = container.pidfd()?;
    gate::open(&container.dir)?;
    log.debug(format_args!("the program of container {id} runs"));
    // It is complete: a hook may use it, also by commands that lock it.
    container.dir.unlock()?;
    if let Err(error) = after_start(&container) {
        // config.md, "Lifecycle": the container is stopped and goes the way of a deleted one.
        match container.dir.lock() {
            Ok(()) => {
                container.kill()?;
                container.remove(log)?;
            }
            Err(Error::NotFound { .. }) => {} // Somebody has deleted it meanwhile.
            Err(busy) => log.warn(format!("{busy}: the container is left to that")),
        }
        return Err(error);
    }
    if let (Some(proxy), Some(pidfd), Some(process)) = (proxy, pidfd, container.state.process) {
        proxy.attend(pidfd.as_fd(), process.pid)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn after_start(container: &Container) -> Result<()> {
    let hooks = container.stored()?.hooks()?;
    let document = Document::new(&container.state, container.state.process.map(|process| process.pid));
    let runner = Runner { document: &document, status: Status::Running, watch: None, given: &[] };
    runner.run("poststart", &hooks.poststart)
}

/// `kill`: sends a signal to the first process, or to all.
///
/// # Errors
/// A container that is not running; the text is runc's, since engines look for it.
pub fn kill(global: &Global, options: &KillOptions, log: &Log) -> Result<ExitCode> {
    each(global, &options.targets, log, &|root, id| kill_one(root, id, options))
}

/// Does something to one container, or to every one that matches, whatever becomes of the others.
fn each(
    global: &Global,
    targets: &Targets,
    log: &Log,
    act: &dyn Fn(&Path, &ContainerId) -> Result<()>,
) -> Result<ExitCode> {
    let root = root::resolve(global)?;
    let pattern = match targets {
        Targets::One(id) => return act(&root, id).map(|()| ExitCode::SUCCESS),
        Targets::Matching(pattern) => pattern,
    };
    let mut code = ExitCode::SUCCESS;
    for id in crate::state::list(&root)?.iter().filter(|id| pattern.is_in(id.as_str())) {
        match act(&root, id) {
            // It ended its life by itself meanwhile.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => {
                log.fatal(crate::error::chain(&error).join(": "), None);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn kill_one(root: &Path, id: &ContainerId, options: &KillOptions) -> Result<()> {
    let container = Container::find(root, id)?;
    let number = options.signal.number();
    if options.all {
        container.cgroup().kill_all(number)?;
        return Ok(());
    }
    if options.signal == Signal::KILL && container.stored()?.shares_pids() && container.has_processes()? {
        // Nobody dies with its first process.
        container.cgroup().kill_all(number)?;
        return Ok(());
    }
    let Some(pidfd) = container.pidfd()? else { return Err(Error::Usage("container not running".into())) };
    process::signal(&pidfd, number).doing(|| format!("send {} to the container", options.signal))?;
    if options.signal == Signal::KILL && container.status()? == Status::Paused {
        // A frozen process dies only once it may run.
        container.cgroup().thaw()?;
    }
    Ok(())
}

/// `delete`: removes a container that has ended, or with force any.
///
/// # Errors
/// A container that runs, or, without force, one that is not there.
pub fn delete(global: &Global, options: &DeleteOptions, log: &Log) -> Result<ExitCode> {
    each(global, &options.targets, log, &|root, id| delete_one(root, id, options.force, log))
}

fn delete_one(root: &Path, id: &ContainerId, force: bool, log: &Log) -> Result<()> {
    let found = StateDir::open(root, id).and_then(|dir| match force {
        true => dir.lock().map(|()| dir),
        false => dir.lock_created().map(|_| dir),
    });
    let dir = match found {
        Err(Error::NotFound { .. }) if force => return Ok(()),
        other => other?,
    };
    let state = match dir.load() {
        Ok(Some(state)) if state.ready => state,
        _ if force => {
            container::remove_leftovers(dir, log)?;
            return Ok(());
        }
        Ok(_) => return Err(dir.interrupted()),
        Err(error) => return Err(error),
    };
    let container = Container { dir, state };
    match container.status()? {
        Status::Stopped => {}
        Status::Created => container.kill()?,
        _ if force => container.kill()?,
        status => {
            return Err(Error::Usage(format!(
                "cannot delete container {} that is not stopped: {status}",
                id.as_str()
            )));
        }
    }
    container.remove(log)?;
    Ok(())
}

/// `pause`: freezes all processes.
///
/// # Errors
/// A container that is not created or running.
pub fn pause(global: &Global, id: &ContainerId) -> Result<ExitCode> {
    let container = Container::lock(&root::resolve(global)?, id)?;
    match container.status()? {
        Status::Created | Status::Running => container.cgroup().freeze()?,
        status => return Err(Error::State { operation: "pause", status }),
    }
    Ok(ExitCode::SUCCESS)
}

/// `resume`: lets all processes of a paused container go on.
///
/// # Errors
/// A container that is not paused.
pub fn resume(global: &Global, id: &ContainerId) -> Result<ExitCode> {
    let container = Container::lock(&root::resolve(global)?, id)?;
    match container.status()? {
        Status::Paused => container.cgroup().thaw()?,
        status => return Err(Error::State { operation: "resume", status }),
    }
    Ok(ExitCode::SUCCESS)
}
