//! What a container has of others that run: their namespaces, and parts of what is mounted there.
//!
//! A container that ends and is started again has other namespaces then. So the monitor asks anew before each start which
//! process the other one has, by the status that its monitor writes, and opens what it needs of that. A number alone says
//! nothing: it may be another process's by then, even one of the host's. What was opened counts only if the process with
//! that number and that start runs afterwards, since then it has had its number all the time. Descriptors stay what they
//! are, and the runtime finds them by links in the run directory.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bulkhead_sys::path;
use rustix::fs::OFlags;

use super::error::{Doing, Error, Result};
use super::mounts::Home;
use super::shared::of_kernel;
use crate::order::{JoinedNamespace, NamespaceKind, Other, Part, Whole};
use crate::place;
use crate::status::{Phase, Process, Status};

/// What the order says of others, and what the present start has of them.
#[derive(Debug)]
pub(super) struct Others {
    namespaces: Vec<JoinedNamespace>,
    parts: Vec<Part>,
    /// What links in the run directory lead to.
    held: Vec<(PathBuf, OwnedFd)>,
}

impl Others {
    /// Takes from an order what is to be had anew for each start.
    pub(super) fn of(joined: &[JoinedNamespace], parts: &[Part]) -> Self {
        let is_theirs = |part: &&Part| matches!(part.of, Whole::Container(_));
        Self {
            namespaces: joined.to_vec(),
            parts: parts.iter().filter(is_theirs).cloned().collect(),
            held: Vec::new(),
        }
    }

    /// Opens what a start needs.
    ///
    /// # Errors
    /// A container that does not run, or ends meanwhile.
    pub(super) fn open(&mut self, run_directory: &Path, home: Option<&Home>) -> Result<()> {
        self.release();
        // One that is started anew in between must not be had in halves.
        let mut known: Vec<(Other, Process)> = Vec::new();
        let mut process_of = |other: &Other| -> Result<Process> {
            if let Some((_, process)) = known.iter().find(|(of, _)| of == other) {
                return Ok(*process);
            }
            let process = process(other)?;
            known.push((other.clone(), process));
            Ok(process)
        };
        for JoinedNamespace { kind, of } in &self.namespaces {
            let namespace = namespace(*kind, of, &process_of(of)?)?;
            let link = place::joined(run_directory, *kind);
            leave_link(&link, &namespace)?;
            self.held.push((link, namespace));
        }
        let mut parts = Vec::new();
        for part in &self.parts {
            if let Whole::Container(of) = &part.of {
                parts.push((part, process_of(of)?));
            }
        }
        match home {
            Some(home) if !parts.is_empty() => home.renew(&parts),
            _ => Ok(()),
        }
    }

    /// Forgets what a start had: once it is over, the container's own processes keep what they are in.
    pub(super) fn release(&mut self) {
        for (link, _) in self.held.drain(..) {
            drop(std::fs::remove_file(link));
        }
    }
}

/// Leaves a link to what a descriptor of this process has open.
pub(super) fn leave_link(link: &Path, descriptor: &OwnedFd) -> Result<()> {
    drop(std::fs::remove_file(link));
    let target = format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd());
    symlink(target, link).doing(|| format!("make the link {}", link.display()))
}

/// Finds the process that another container has now.
fn process(other: &Other) -> Result<Process> {
    let status = Status::read(&other.status).doing(|| format!("read what container {} does", other.name))?;
    let status = status.filter(|status| status.phase == Phase::Running && status.is_of_this_boot());
    let process = status.and_then(|status| status.process).filter(Process::runs);
    let is_gone = || other.status.parent().is_some_and(|directory| !directory.exists());
    process.ok_or_else(|| if is_gone() { is_no_more(other) } else { does_not_run(other) })
}

fn namespace(kind: NamespaceKind, other: &Other, process: &Process) -> Result<OwnedFd> {
    let name = of_kernel(kind).link();
    let path = PathBuf::from(format!("/proc/{}/ns/{name}", process.pid));
    let opened = path::open_host(&path, OFlags::RDONLY);
    if !process.runs() {
        return Err(does_not_run(other));
    }
    opened.doing(|| format!("open the {name} namespace of container {}", other.name))
}

fn does_not_run(other: &Other) -> Error {
    let name = &other.name;
    Error::Usage(format!(
        "container {name}, whose namespaces are to be shared, does not run: start {name} first"
    ))
}

/// It was removed. One that was made under its name meanwhile is another.
fn is_no_more(other: &Other) -> Error {
    let name = &other.name;
    Error::Usage(format!(
        "the container {name} whose namespaces are to be shared is gone, and no other takes its place: make this one anew"
    ))
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;
    use serde_json::json;

    use super::*;

    /// A container of which its monitor has written that this is its process.
    fn other(scratch: &Scratch, process: Process, changes: &[(&str, serde_json::Value)]) -> Other {
        let mut status = json!({
            "version": 1, "boot": crate::identity::boot(), "monitor": process, "phase": "running", "process": process,
        });
        for (key, value) in changes {
            status[key] = value.clone();
        }
        let path = scratch.path().join("status.json");
        std::fs::write(&path, status.to_string()).unwrap();
        Other { name: "db".into(), status: path }
    }

    fn own() -> Process {
        Process::find(std::process::id().cast_signed()).unwrap()
    }

    fn opened(scratch: &Scratch, other: &Other) -> Result<PathBuf> {
        let namespaces = vec![JoinedNamespace { kind: NamespaceKind::Uts, of: other.clone() }];
        let mut others = Others { namespaces, parts: Vec::new(), held: Vec::new() };
        others.open(scratch.path(), None)?;
        let link = place::joined(scratch.path(), NamespaceKind::Uts);
        let found =
            std::fs::canonicalize(&link).or_else(|_| std::fs::read_link(std::fs::read_link(&link).unwrap()));
        others.release();
        assert!(!link.exists() && std::fs::symlink_metadata(&link).is_err(), "nothing is left of it");
        Ok(found.unwrap())
    }

    #[test]
    fn a_namespace_of_the_process_that_its_monitor_names_is_opened() {
        let scratch = Scratch::new();
        let found = opened(&scratch, &other(&scratch, own(), &[])).unwrap();
        assert!(found.to_string_lossy().contains("uts:["), "{}", found.display());
    }

    #[test]
    fn nothing_is_opened_of_a_process_that_only_has_the_number() {
        let scratch = Scratch::new();
        let later = Process { start: own().start + 1, ..own() };
        for (process, changes) in [
            (later, &[][..]),
            (own(), &[("boot", json!("another"))]),
            (own(), &[("phase", json!("restarting"))]),
            (own(), &[("process", json!(null))]),
        ] {
            let other = other(&scratch, process, changes);
            let error = opened(&scratch, &other).unwrap_err().to_string();
            assert!(error.contains("container db") && error.contains("does not run"), "{error}");
        }
        std::fs::remove_file(scratch.path().join("status.json")).unwrap();
        let gone = Other { name: "db".into(), status: scratch.path().join("status.json") };
        assert!(opened(&scratch, &gone).unwrap_err().to_string().contains("does not run"));
    }

    #[test]
    fn a_process_that_ends_before_it_was_looked_at_again_has_no_namespace() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::find(child.id().cast_signed()).unwrap();
        child.wait().unwrap();
        let other = Other { name: "db".into(), status: PathBuf::new() };
        let error = namespace(NamespaceKind::Network, &other, &process).unwrap_err().to_string();
        assert!(error.contains("does not run"), "{error}");
    }
}
