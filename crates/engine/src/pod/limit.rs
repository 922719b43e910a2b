//! The limits of a pod: those of its cgroup, below which its containers' are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_cgroup::systemd::{Manager, Slice};
use bulkhead_cgroup::{Cgroup, CgroupPath, Devices, Host, Need, Places, Plan};
use bulkhead_spec::Resources;

use super::document::PodDocument;
use crate::cgroups;
use crate::configure::{self, Caller};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result, chain};
use crate::host;
use crate::request::{self, Request};

impl Engine {
    /// Decides the limits of a pod; nothing where none are asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit that cannot be, or for which there is no controller or no cgroup.
    pub(super) fn limits_of_pod(&self, limits: &request::Resources) -> Result<Option<Resources>> {
        if *limits == request::Resources::default() {
            return Ok(None);
        }
        let request = Request { resources: limits.clone(), ..Request::default() };
        let facts = self.facts(&request, &[], &BTreeMap::new())?;
        configure::limits_of_pod(&request, &facts)
    }

    /// Sets the limits of a pod, also of one whose cgroup is not there: before the first of its containers, and after a boot.
    /// The cgroup of a pod without any is made by its containers' runtimes.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the kernel, or systemd, refuses one.
    pub(super) fn limit_pod(&self, name: &str, document: &PodDocument) -> Result<()> {
        let (Some(path), Some(limits)) = (&document.cgroup, self.limits_of_pod(&document.request.limits)?)
        else {
            return Ok(());
        };
        let host = Host::detect();
        let set = host.and_then(|host| match path.starts_with('/') {
            true => set(&host, path, &limits),
            false => {
                let plan = Plan::for_container(Some(&limits), &host, Devices::Untouched)?;
                Slice::new(path, manager())?.start(&host, &plan).map(drop)
            }
        });
        set.map_err(|error| Error::Invalid { what: format!("limits of pod {name}"), reason: chain(&error) })?;
        if path.starts_with('/') { count_below(path) } else { Ok(()) }
    }
}

/// Removes the cgroup of a pod, in which no container has one any more. What systemd has made and does not remove, or cannot be
/// asked to, is removed without it.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn remove_cgroup(name: &str, document: &PodDocument) -> Result<()> {
    let Some(cgroup) = &document.cgroup else { return Ok(()) };
    if cgroup.starts_with('/') {
        return cgroups::find(Path::new(cgroup))?.iter().try_for_each(|path| cgroups::remove(path));
    }
    let failed = |reason| Error::Invalid { what: format!("cgroup {cgroup} of pod {name}"), reason };
    let slice = Slice::new(cgroup, manager()).map_err(|error| failed(chain(&error)))?;
    let Err(refusal) = slice.stop() else { return Ok(()) };
    let removed =
        cgroups_of(&slice).and_then(|found| found.iter().try_for_each(|path| cgroups::remove(path)));
    match removed {
        // Without limits there is nothing of ours in it.
        Err(error) if document.request.limits != request::Resources::default() => {
            Err(failed(format!("{}; and without systemd: {}", chain(&refusal), chain(&error))))
        }
        _ => Ok(()),
    }
}

/// Finds the cgroup of a slice without asking who manages it.
fn cgroups_of(slice: &Slice) -> Result<Vec<PathBuf>> {
    let above = match manager() {
        Manager::System => PathBuf::from("/"),
        Manager::User => {
            let own = fs::read_to_string("/proc/self/cgroup").doing(|| "read /proc/self/cgroup")?;
            let Some(above) = cgroup_of_session(&own) else { return Ok(Vec::new()) };
            above
        }
    };
    cgroups::find(&above.join(slice.path()))
}

/// Returns the cgroup of the user's own systemd, among whose processes this one is, by what the kernel says of it.
fn cgroup_of_session(own: &str) -> Option<PathBuf> {
    let path = Path::new(own.lines().find_map(|line| line.strip_prefix("0::"))?);
    let is_manager = |path: &&Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("user@") && name.ends_with(".service"))
    };
    path.ancestors().find(is_manager).map(Path::to_owned)
}

/// Makes the cgroup with its limits, or sets them anew where there are processes in it.
fn set(host: &Host, path: &str, limits: &Resources) -> bulkhead_cgroup::Result<()> {
    let places = Places::find(host, &CgroupPath::from_config(Some(path), "")?)?;
    let record = places.record()?;
    let cgroup = Cgroup::open(&record);
    if cgroup.is_empty()? {
        let plan = Plan::for_container(Some(limits), host, Devices::Untouched)?;
        Cgroup::create(&places, &record, &plan, Need::Required).map(drop)
    } else {
        cgroup.update(&Plan::for_update(limits, host)?).map(drop)
    }
}

/// Has memory of containers counted as their pod's, which version 1 does by itself since Linux 5.11.
fn count_below(path: &str) -> Result<()> {
    for cgroup in cgroups::find(Path::new(path))? {
        let file = cgroup.join("memory.use_hierarchy");
        if fs::read_to_string(&file).is_ok_and(|text| text.trim() == "0") {
            fs::write(&file, "1").doing(|| format!("write {}", file.display()))?;
        }
    }
    Ok(())
}

/// Whose systemd makes cgroups.
fn manager() -> Manager {
    if host::caller() == Caller::Root { Manager::System } else { Manager::User }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_of_a_user_s_systemd_is_above_its_own_processes() {
        let session = "/user.slice/user-1000.slice/user@1000.service";
        for (own, expected) in [
            (format!("0::{session}/app.slice/run-1.scope\n"), Some(session)),
            (format!("1:name=systemd:/x\n0::{session}\n"), Some(session)),
            ("0::/user.slice/user-1000.slice/session-3.scope\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(cgroup_of_session(&own), expected.map(PathBuf::from), "{own}");
        }
    }
}
