//! `exec`: another process in a container.

use crate::exit::ExitCode;

use bulkhead_cgroup::SubCgroups;

use crate::activation::Passed;
use crate::cli::{ExecOptions, Global};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::foreground::{self, Ward};
use crate::join::{self, Joined, Request};
use crate::lifecycle::Status;
use crate::log::Log;
use crate::plan::process::Process;
use crate::root;
use crate::watch::Watch;

/// Runs a process in a container and, unless it is detached, waits for it.
///
/// # Errors
/// A container that is not running, a process that cannot be made.
pub fn exec(global: &Global, options: &ExecOptions, log: &Log) -> Result<ExitCode> {
    let container = Container::find(&root::resolve(global)?, &options.id)?;
    match container.status()? {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            return Err(Error::Usage(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        _ => return Err(stopped()),
    }
    let stored = container.stored()?;
    let plan = container.plan(&stored)?;
    let mut warnings = Vec::new();
    let process = stored.joining_process(&options.process, &mut warnings)?;
    plan.namespaces.check_member(&process)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    if options.detach && process.terminal.is_some() && options.console_socket.is_none() {
        return Err(Error::Usage("a terminal needs --console-socket, or `exec` without --detach".into()));
    }
    let request = Request {
        container: &container,
        plan: &plan,
        sub_cgroups: SubCgroups::parse(&options.cgroups)?,
        console_socket: options.console_socket.as_deref(),
        pidfd_socket: options.pidfd_socket.as_deref(),
        pid_file: options.pid_file.as_deref(),
        passed: Passed::preserved(options.preserve_fds).count(),
        watch: None,
    };
    if options.detach {
        start(&request, process, log)?;
        return Ok(ExitCode::SUCCESS);
    }
    let watch = Watch::begin(true)?;
    let joined = start(&Request { watch: Some(&watch), ..request }, process, log)?;
    let ward = Ward { child: &joined.child, master: joined.master, proxy: None };
    let attended = foreground::attend(&watch, ward);
    if attended.is_err() {
        // A process that cannot be waited for must not outlive the command.
        joined.child.put_an_end_to(join::MOMENT);
    }
    attended.map(ExitCode::from)
}

/// Starts the process, unless the container ends meanwhile: then every step can fail, for that one reason.
fn start(request: &Request<'_>, process: Process, log: &Log) -> Result<Joined> {
    join::start(request, process, log).map_err(|error| match request.container.is_ending() {
        Ok(true) => stopped(),
        _ => error,
    })
}

/// The text is runc's.
fn stopped() -> Error {
    Error::Usage("cannot exec in a stopped container".into())
}
