//! The verbs that only look: they change no container and take no lock.

mod columns;
mod events;
mod features;
mod ps;
mod report;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use bulkhead_cgroup::{Host, Layout};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

pub use events::events;

use crate::bundle::CONFIG;
use crate::cli::{Global, ListFormat, ListOptions, PsFormat, PsOptions, SpecOptions};
use crate::container::Container;
use crate::error::{Doing, Error, Result};
use crate::id::ContainerId;
use crate::log::Log;
use crate::template::{self, Audience};
use crate::{passwd, root, state};

/// `state`: the state document of a container.
///
/// # Errors
/// A container that is not there or cannot be looked at.
pub fn state(global: &Global, id: &ContainerId) -> Result<String> {
    let container = Container::find(&root::resolve(global)?, id)?;
    indented(&document(&container)?, b"  ")
}

/// `list`: all containers below the root. One that cannot be read is passed over with a warning, and one that is
/// deleted meanwhile without.
///
/// # Errors
/// A root that cannot be listed.
pub fn list(global: &Global, options: &ListOptions, log: &Log) -> Result<String> {
    let root = root::resolve(global)?;
    let mut documents = Vec::new();
    for id in state::list(&root)? {
        match Container::find(&root, &id).and_then(|container| document(&container)) {
            Ok(document) => documents.push(document),
            Err(Error::NotFound { .. }) => {}
            Err(error) => log
                .warn(format_args!("container {id} is left out: {}", crate::error::chain(&error).join(": "))),
        }
    }
    match options.format {
        ListFormat::Quiet => Ok(documents.iter().map(|document| format!("{}\n", document.id)).collect()),
        ListFormat::Json => line(&documents),
        ListFormat::Table => {
            let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
            let rows = documents.into_iter().map(row);
            Ok(columns::aligned(&[titles].into_iter().chain(rows).collect::<Vec<_>>()))
        }
    }
}

fn row(document: bulkhead_spec::State) -> [String; 6] {
    let pid = document.pid.unwrap_or(0).to_string();
    let (created, owner) = (document.created.unwrap_or_default(), document.owner.unwrap_or_default());
    [document.id, pid, document.status.to_string(), document.bundle, created, owner]
}

/// `ps`: the processes of a container.
///
/// # Errors
/// A container or cgroup that cannot be read, and what ps(1) complains about.
pub fn ps(global: &Global, options: &PsOptions) -> Result<Vec<u8>> {
    let container = Container::find(&root::resolve(global)?, &options.id)?;
    require_cgroup(&container, "list its processes")?;
    let pids = container.cgroup().procs()?;
    match &options.format {
        PsFormat::Json => Ok(line(&pids)?.into_bytes()),
        PsFormat::Table(arguments) => ps::table(arguments, &pids),
    }
}

/// `features`: what this program can do.
///
/// # Errors
/// None is known.
pub fn features() -> Result<String> {
    indented(&features::document(), b"    ")
}

/// `spec`: writes a configuration to begin with.
///
/// # Errors
/// A configuration that is there already, and a directory that cannot be written.
pub fn spec(options: &SpecOptions) -> Result<()> {
    let audience = match options.rootless {
        false => Audience::Root,
        true => Audience::User {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        },
    };
    // A host without cgroups is no reason to write nothing.
    let unified = Host::detect().is_ok_and(|host| host.layout() == Layout::Unified);
    let text = template::text(&template::config(audience, unified)).map_err(unserialisable)?;
    let bundle = options.bundle.as_deref().unwrap_or(Path::new("."));
    let file = create(bundle)?;
    std::fs::File::from(file).write_all(&text).doing(|| format!("write {CONFIG} in {}", bundle.display()))
}

/// Makes the file, and never opens one that is there, not even through a link.
fn create(bundle: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(bundle.join(CONFIG), flags, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => Err(Error::Usage(format!("File {CONFIG} exists. Remove it first"))),
        other => other.doing(|| format!("create {CONFIG} in {}", bundle.display())),
    }
}

/// Refuses what only a cgroup can tell, instead of telling nothing.
fn require_cgroup(container: &Container, purpose: &str) -> Result<()> {
    let state::State { id, cgroup, .. } = &container.state;
    match cgroup.paths.is_empty() {
        true => Err(Error::Usage(format!("cannot {purpose}: container {id} has no cgroup"))),
        false => Ok(()),
    }
}

/// Describes a container as runc does.
fn document(container: &Container) -> Result<bulkhead_spec::State> {
    let state = &container.state;
    let status = container.status()?;
    Ok(bulkhead_spec::State {
        oci_version: state.oci_version.clone(),
        id: state.id.clone(),
        pid: Some(container.pid()?.unwrap_or(0)),
        status,
        bundle: state.bundle.to_string_lossy().into_owned(),
        rootfs: Some(state.rootfs.to_string_lossy().into_owned()),
        created: Some(state.created.to_string()),
        annotations: state.annotations.clone(),
        owner: Some(passwd::name(state.owner)),
    })
}

fn line(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string(value).map_err(unserialisable)?;
    text.push('\n');
    Ok(text)
}

fn indented(value: &impl Serialize, indent: &[u8]) -> Result<String> {
    let mut text = Vec::with_capacity(4096);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(unserialisable)?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| Error::Usage(error.to_string()))
}

/// Our documents have no map whose keys are not text, which is all that serialising can fail for.
#[expect(clippy::needless_pass_by_value, reason = "the form of map_err")]
fn unserialisable(error: serde_json::Error) -> Error {
    Error::Usage(format!("write JSON: {error}"))
}
