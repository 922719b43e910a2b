//! What a container can have that shares the runtime's mount namespace, since it asks for none (config-linux.md,
//! "Namespaces").
//!
//! Its root and mounts are made in a mount namespace for that purpose, and leave it as a tree that is attached nowhere: no
//! mount of the container is ever in the runtime's namespace. In such a tree the kernel mounts and unmounts nothing, no
//! event comes in and none goes out.

use bulkhead_spec::{Linux, RootfsPropagation};
use bulkhead_sys::mount::Propagation;
use bulkhead_sys::namespace::Kind;

use super::mounts::Mount;
use super::namespaces::Namespaces;
use super::process::Process;
use crate::error::{Error, Result};

/// What such a container lacks, and how to have it.
const INSTEAD: &str = "takes a namespace of type \"mount\"";

/// Refuses what such a tree cannot be, and leaves out what it is anyway: cut off from all others.
///
/// # Errors
/// A user namespace, a propagation by which events are to come or go.
pub(super) fn settle(linux: &Linux, namespaces: &Namespaces, mounts: &mut [Mount]) -> Result<()> {
    if namespaces.has(Kind::User) {
        let reason =
            format!("a user namespace {INSTEAD} beside it: its root has no right to return to the runtime's");
        return Err(Error::invalid("/linux/namespaces", reason));
    }
    let spreads = |kind| matches!(kind, Propagation::Shared | Propagation::Slave);
    match linux.rootfs_propagation {
        None | Some(RootfsPropagation::Private | RootfsPropagation::RecursivePrivate) => {}
        // From what is attached nowhere nothing is bound either.
        Some(RootfsPropagation::Unbindable | RootfsPropagation::RecursiveUnbindable) => {}
        Some(_) => {
            return Err(Error::invalid("/linux/rootfsPropagation", format!("to share mounts {INSTEAD}")));
        }
    }
    for (index, mount) in mounts.iter_mut().enumerate() {
        if mount.propagation.iter().any(|&(kind, _)| spreads(kind)) {
            let reason = format!("to share mounts, or receive others', {INSTEAD}");
            return Err(Error::invalid(format!("/mounts/{index}/options"), reason));
        }
        // An unbindable mount would not come along.
        mount.propagation.clear();
    }
    Ok(())
}

/// Refuses a process that AppArmor is to confine: to its rules a file of such a tree has the path that it has in its own file
/// system, so that they would speak of others.
///
/// # Errors
/// A profile other than `unconfined`.
pub(super) fn check_process(process: &Process) -> Result<()> {
    match process.apparmor_profile.as_deref() {
        None | Some("unconfined") => Ok(()),
        Some(_) => {
            let reason = format!("to confine a process by the paths of its files {INSTEAD}");
            Err(Error::invalid("/process/apparmorProfile", reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_spec::Config;

    use super::super::Plan;
    use super::super::mounts::Mount;
    use super::*;

    fn plan(kinds: &str, linux: &str, options: &str, profile: &str) -> Result<Plan> {
        let text = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},
                "process":{{"args":["x"],"cwd":"/","apparmorProfile":"{profile}"}},
                "mounts":[{{"destination":"/a","type":"tmpfs"}},
                    {{"destination":"/b","source":"/b","options":["bind"{options}]}}],
                "linux":{{{linux}"namespaces":[{kinds}]}}}}"#
        );
        Plan::new(&Config::from_json(&text).unwrap(), Path::new("/bundle"), &|| {
            Ok(super::super::IdMaps::default())
        })
    }

    fn propagation(plan: &Plan) -> Vec<(Propagation, bulkhead_sys::mount::Reach)> {
        plan.mounts.iter().flat_map(|Mount { propagation, .. }| propagation.clone()).collect()
    }

    #[test]
    fn what_cannot_be_without_a_mount_namespace_is_refused_with_its_place() {
        let pid = r#"{"type":"pid"}"#;
        let user = r#"{"type":"user"}"#;
        for (kinds, linux, options, profile, place) in [
            (
                user,
                r#""uidMappings":[{"containerID":0,"hostID":9,"size":1}],"gidMappings":[{"containerID":0,"hostID":9,"size":1}],"#,
                "",
                "",
                "/linux/namespaces: ",
            ),
            (pid, r#""rootfsPropagation":"shared","#, "", "", "/linux/rootfsPropagation: "),
            (pid, r#""rootfsPropagation":"rslave","#, "", "", "/linux/rootfsPropagation: "),
            (pid, "", r#","rslave""#, "", "/mounts/1/options: "),
            (pid, "", r#","private","rshared""#, "", "/mounts/1/options: "),
            (pid, "", "", "docker-default", "/process/apparmorProfile: "),
        ] {
            let said = plan(kinds, linux, options, profile).unwrap_err().to_string();
            assert!(said.contains(place) && said.contains("\"mount\""), "{place} {said}");
        }
    }

    #[test]
    fn what_such_mounts_are_anyway_is_not_done() {
        for linux in ["", r#""rootfsPropagation":"private","#, r#""rootfsPropagation":"runbindable","#] {
            let plan = plan("", linux, r#","unbindable","rprivate""#, "unconfined").unwrap();
            assert_eq!(
                plan.root.propagation,
                (Propagation::Private, bulkhead_sys::mount::Reach::Tree),
                "{linux}"
            );
            assert_eq!(propagation(&plan), [], "{linux}");
        }
        let own = plan(r#"{"type":"mount"}"#, "", r#","unbindable""#, "some").unwrap();
        assert_eq!(propagation(&own).len(), 1, "with a mount namespace everything is as asked for");
    }
}
