//! Containers that see their host's processes: with the rights of a debugger they could look into those of their users that are no container's,
//! as a runtime of others is while it works for an ordinary user ([`super::within`]).

use std::path::{Path, PathBuf};

use bulkhead_sys::mountinfo;

use crate::configure::{self, Caller};
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::host;
use crate::known::Known;
use crate::request::{Mount, MountKind, Pid, Root, UserNamespace};

impl Engine {
    /// Tells whether a container's runtime is called as root of its users.
    pub(crate) fn is_within(&self, document: &Document) -> Result<bool> {
        let Document { request, users, .. } = document;
        let kind = self.runtime(request.runtime.as_deref())?.kind();
        Ok(configure::is_within(kind, host::caller(), request, users.as_ref()))
    }

    /// Refuses a container that could look into the runtime of the one whose users it has, and one into whose runtime another that runs could look.
    ///
    /// # Errors
    /// [`Error::Invalid`], with both of them.
    pub(crate) fn refuse_onlookers(&self, known: &Known) -> Result<()> {
        let Known { record, document, .. } = known;
        if host::caller() == Caller::Root {
            return Ok(());
        }
        if let Some(UserNamespace::Container(owner)) = &document.request.namespaces.user {
            let owner = self.find(owner)?;
            let looks_on = looks_on(document, &owner.record.id)? && self.is_within(&owner.document)?;
            return if looks_on { Err(refused(&record.name, &owner.record.name)) } else { Ok(()) };
        }
        if !self.is_within(document)? {
            return Ok(());
        }
        let shared = Some(UserNamespace::Container(record.id.clone()));
        for other in self.store.containers()? {
            // Nobody starts what cannot be read.
            let Ok(document) = Document::read(&other) else { continue };
            let name = other.name.clone();
            if document.request.namespaces.user == shared
                && looks_on(&document, &record.id)?
                && self.look(other)?.life.state.is_active()
            {
                return Err(refused(&name, &record.name));
            }
        }
        Ok(())
    }
}

fn refused(name: &str, owner: &str) -> Error {
    let reason = format!(
        "it sees its host's processes, among which the runtime of container {owner} runs with the users of both: leave out --pid host and \
         mounts of the host's /proc, or --runtime of {owner}"
    );
    Error::Invalid { what: format!("container {name}"), reason }
}

/// Tells whether a container that has the users of another may see the host's processes.
fn looks_on(document: &Document, owner: &str) -> Result<bool> {
    match &document.request.namespaces.pid {
        // That of a container whose runtime is called as root of its users is its own.
        Pid::Container(of) if of == owner => binds_processes(document),
        _ => sees_processes(document),
    }
}

/// Tells whether a container may see its host's processes: by their numbers, or by a procfs of the host's.
pub(crate) fn sees_processes(document: &Document) -> Result<bool> {
    let has_own = matches!(document.request.namespaces.pid, Pid::Private | Pid::Pod);
    Ok(!has_own || binds_processes(document)?)
}

fn binds_processes(document: &Document) -> Result<bool> {
    let root = match &document.request.root {
        // What is mounted below it comes along.
        Root::Directory(root) if !root.overlay => Some(real(&root.path)),
        Root::Directory(_) | Root::Image(_) => None,
    };
    let sources = Vec::from_iter(document.mounts.iter().filter_map(source).chain(root));
    if sources.is_empty() {
        return Ok(false);
    }
    let mounts = mountinfo::read().doing(|| "list the mounts")?;
    let is_part =
        |procfs: &Path| sources.iter().any(|source| procfs.starts_with(source) || source.starts_with(procfs));
    Ok(mounts.iter().any(|mount| mount.kind == "proc" && is_part(&mount.point)))
}

/// The host's side of a mount, without links.
fn source(mount: &Mount) -> Option<PathBuf> {
    match &mount.kind {
        MountKind::Bind(bind) => Some(real(&bind.source)),
        MountKind::Volume(_) | MountKind::Tmpfs(_) => None,
    }
}

fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Request, RootDirectory};

    #[test]
    fn a_root_that_is_a_directory_has_the_procfs_that_is_mounted_below_it() {
        let mounts = mountinfo::read().unwrap();
        assert!(mounts.iter().any(|mount| mount.kind == "proc"), "there is one");
        for (path, overlay, expected) in [("/", false, true), ("/", true, false), ("/nowhere", false, false)]
        {
            let root = Root::Directory(RootDirectory { path: path.into(), overlay });
            let document = Document::new(Request { root, ..Request::default() });
            assert_eq!(sees_processes(&document).unwrap(), expected, "{path} {overlay}");
        }
    }
}
