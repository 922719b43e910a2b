//! The verbs `checkpoint` and `restore`.

use super::{Afterwards, leave, request, stay};
use crate::bundle::Bundle;
use crate::checkpoint as effect;
use crate::cli::{CheckpointOptions, Global, RestoreOptions};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::exit::ExitCode;
use crate::launch::{Request, Start};
use crate::lifecycle::Status;
use crate::log::Log;
use crate::watch::Watch;
use crate::{host, restore as restoration, root};

/// `checkpoint`: writes a container to images, and removes it unless it is to run on.
///
/// # Errors
/// A container that does not run, and as CRIU says.
pub fn checkpoint(global: &Global, options: &CheckpointOptions, log: &Log) -> Result<ExitCode> {
    warn_ordinary_user(log)?;
    let container = Container::lock(&root::resolve(global)?, &options.id)?;
    match container.status()? {
        Status::Running | Status::Paused => {}
        status => return Err(Error::State { operation: "checkpoint", status }),
    }
    effect::checkpoint(&container, options, log)?;
    if !options.leave_running && !options.pre_dump {
        container.kill()?;
        container.remove(log)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `restore`: makes a container of images and, unless it is detached, waits for it.
///
/// # Errors
/// As CRIU says, and as for `run`.
pub fn restore(global: &Global, options: &RestoreOptions, log: &Log) -> Result<ExitCode> {
    warn_ordinary_user(log)?;
    let state_root = root::resolve(global)?;
    let create = &options.create;
    let bundle = Bundle::read(create.bundle.as_deref(), create.config.as_deref())?;
    let request = request(global, create, &state_root, Start::AtOnce)?;
    if options.detach {
        return leave(restoration::restore(&bundle, &request, options, log)?);
    }
    let watch = Watch::begin(!create.no_subreaper)?;
    let request = Request { watch: Some(&watch), ..request };
    let launched = restoration::restore(&bundle, &request, options, log)?;
    stay(&watch, launched, Afterwards::Removed, log)
}

/// CRIU needs root's rights for nearly everything; runc says the same.
fn warn_ordinary_user(log: &Log) -> Result<()> {
    if !host::is_real_root()? {
        log.warn("checkpoint and restore need root: CRIU can do little for an ordinary user");
    }
    Ok(())
}
