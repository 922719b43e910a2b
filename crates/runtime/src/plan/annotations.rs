//! Annotations that change what the runtime does: those of crun, which podman sets or its users do.
//!
//! What has no meaning here is refused where a container without it would be another one than was asked for. Source:
//! crun(1), "Extensions to OCI".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_sys::namespace::Kind;

use super::namespaces::Namespaces;
use crate::error::{Error, Result};

/// Annotations that change what the runtime does; one that ends in `.` is a prefix. docs/annotations.md explains each.
pub const EFFECTIVE: &[&str] = &[
    super::OVERLAY_ANNOTATION,
    HOOKS_NAMESPACES,
    CRIU_CONFIG,
    bulkhead_cgroup::systemd::ANNOTATION_PREFIX,
    PREFIX,
];

/// The new namespaces of the container that the hooks of its creation get as descriptors; ours.
const HOOKS_NAMESPACES: &str = "org.bulkhead.hooks.namespaces";

/// How the annotations of crun begin.
const PREFIX: &str = "run.oci.";

/// The file with further options for CRIU; runc's.
pub const CRIU_CONFIG: &str = "org.criu.config";

/// The supplementary groups stay those of the runtime's caller.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// The option that carries `linux.mountLabel`.
const MOUNT_CONTEXT: &str = "run.oci.mount_context_type";
/// The unix socket that gets a pidfd of the container's process.
pub(super) const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// The unix socket of a seccomp agent, where the profile names none.
pub(super) const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// A system call that no kernel has is an error.
pub(super) const UNKNOWN_CALLS: &str = "run.oci.seccomp_fail_unknown_syscall";
/// The file to which the standard output of hooks is appended.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// The file to which the standard error of hooks is appended.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";

const HANDLER: &str = "run.oci.handler";
const SUBGROUP: &str = "run.oci.systemd.subgroup";

/// What is not carried out, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    (HANDLER, "there are no handlers: a container is its program, not a virtual machine or a module"),
    ("run.oci.seccomp.plugins", "no plugins are loaded; serve linux.seccomp.listenerPath instead"),
    ("run.oci.seccomp_bpf_data", "filters are compiled from linux.seccomp only"),
    (
        "run.oci.delegate-cgroup",
        "the container's cgroup itself is delegated, by a namespace of type \"cgroup\"",
    ),
    ("run.oci.systemd.force_cgroup_v1", "add a bind mount of the host's named hierarchy instead"),
];

/// The mount options that carry an SELinux context, mount(8).
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Refuses what is not carried out or has no meaning.
///
/// # Errors
/// The first such annotation, and what to do instead.
pub(super) fn check(annotations: &BTreeMap<String, String>, warnings: &mut Vec<String>) -> Result<()> {
    for (key, value) in annotations.range(PREFIX.to_owned()..) {
        if !key.starts_with(PREFIX) {
            break;
        }
        // As crun: a pod's own process needs none, though it has its pod's annotations.
        let is_sandbox =
            || annotations.get("io.kubernetes.cri.container-type").is_some_and(|t| t == "sandbox");
        if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| name == key) {
            if value.is_empty() || key == HANDLER && is_sandbox() {
                continue;
            }
            return Err(Error::invalid(pointer(key), *reason));
        }
        match key.as_str() {
            PIDFD_RECEIVER | SECCOMP_RECEIVER | HOOKS_STDOUT | HOOKS_STDERR => {
                if !value.starts_with('/') || value.contains('\0') {
                    return Err(Error::invalid(pointer(key), format!("{value:?} is not an absolute path")));
                }
            }
            MOUNT_CONTEXT => {
                if !CONTEXTS.contains(&value.as_str()) {
                    let reason = format!("{value:?} is not one of {}", CONTEXTS.join(", "));
                    return Err(Error::invalid(pointer(key), reason));
                }
            }
            SUBGROUP if !value.is_empty() => {
                warnings
                    .push(format!("ignoring annotation {key}: the container is in its scope's own cgroup"));
            }
            KEEP_GROUPS | UNKNOWN_CALLS | SUBGROUP => {}
            _ => warnings.push(format!("ignoring unknown annotation {key}")),
        }
    }
    Ok(())
}

/// Tells whether supplementary groups stay as they are.
pub(super) fn keeps_groups(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(KEEP_GROUPS).is_some_and(|value| value != "0")
}

/// Returns the mount option that carries `linux.mountLabel`.
pub(super) fn mount_context(annotations: &BTreeMap<String, String>) -> &'static str {
    let wanted = annotations.get(MOUNT_CONTEXT).map_or("", String::as_str);
    CONTEXTS.into_iter().find(|context| *context == wanted).unwrap_or("context")
}

/// Returns the namespaces that hooks of the creation get, in order.
///
/// # Errors
/// A kind that is not handed out, or a namespace that belongs to others, too: then a hook would have what is theirs.
pub(super) fn hook_namespaces(
    annotations: &BTreeMap<String, String>,
    namespaces: &Namespaces,
) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    let text = annotations.get(HOOKS_NAMESPACES).map_or("", String::as_str);
    for word in text.split(',').filter(|_| !text.is_empty()) {
        let kind = if word == "user" { Kind::User } else { Kind::Network };
        let is_known = kind == Kind::User || word == "network";
        if !(is_known && namespaces.maps().is_some() && namespaces.is_new(kind)) {
            let reason = "hooks get a new `network` or `user` of a new user namespace alone";
            return Err(Error::invalid(pointer(HOOKS_NAMESPACES), format!("{word}: {reason}")));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

/// Returns the path that an annotation names.
pub fn path(annotations: &BTreeMap<String, String>, key: &str) -> Option<PathBuf> {
    annotations.get(key).map(|value| Path::new(value).to_owned())
}

fn pointer(key: &str) -> String {
    format!("/annotations/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn checked(pairs: &[(&str, &str)]) -> std::result::Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        check(&annotations(pairs), &mut warnings).map(|()| warnings).map_err(|error| error.to_string())
    }

    /// Returns the names in the first column of the table of docs/annotations.md.
    fn documented() -> Vec<&'static str> {
        let page = include_str!("../../../../docs/annotations.md");
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.filter_map(|row| row.split(" | ").next());
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
    }

    /// Whatever the sources call an annotation is in the list and on the page, which an engine reads that takes
    /// annotations from strangers.
    #[test]
    fn the_page_and_the_list_have_every_annotation_of_the_sources() {
        let page = documented();
        let covers =
            |name: &str, listed: &str| listed == name || listed.ends_with('.') && name.starts_with(listed);
        for listed in EFFECTIVE {
            assert!(page.iter().any(|name| covers(name, listed)), "{listed} is on the page: {page:?}");
        }
        for name in page {
            assert!(EFFECTIVE.iter().any(|listed| covers(name, listed)), "{name} is in the list");
        }
        let page = documented();
        for constant in named_in_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
            let is_told =
                |name: &&str| *name == constant || constant.ends_with('.') && name.starts_with(&constant);
            assert!(page.iter().any(is_told), "{constant} is on the page");
        }
    }

    /// Finds the text literals that are names of annotations of crun, runc, systemd and ours, but for those in tests.
    fn named_in_sources(directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(named_in_sources(&path));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let literals = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
            // The version is one that `features` gives, not one that it reads.
            let literals = literals.filter(|word| *word != "org.bulkhead.version");
            let prefixes = ["org.criu.", "org.bulkhead.", "org.systemd.", "run.oci."];
            let is_name = |word: &&str| prefixes.iter().any(|prefix| word.starts_with(prefix));
            found.extend(literals.filter(is_name).map(str::to_owned));
        }
        found
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_with_its_place() {
        for (key, value, words) in [
            (HANDLER, "wasm", "no handlers"),
            ("run.oci.seccomp.plugins", "/lib/plugin.so", "listenerPath"),
            ("run.oci.seccomp_bpf_data", "AAAA", "compiled from linux.seccomp"),
            ("run.oci.delegate-cgroup", "inner", "delegated"),
            ("run.oci.systemd.force_cgroup_v1", "/sys/fs/cgroup/systemd", "bind mount"),
            (PIDFD_RECEIVER, "socket", "not an absolute path"),
            (SECCOMP_RECEIVER, "/socket\0", "not an absolute path"),
            (HOOKS_STDOUT, "", "not an absolute path"),
            (MOUNT_CONTEXT, "context=x", "not one of context, fscontext"),
        ] {
            let error = checked(&[(key, value)]).unwrap_err();
            assert!(error.starts_with(&format!("config.json: /annotations/{key}: ")), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_empty_value_asks_for_nothing_and_a_pods_own_process_for_no_handler() {
        assert_eq!(
            checked(&[(HANDLER, ""), ("run.oci.delegate-cgroup", ""), (SUBGROUP, "")]),
            Ok(Vec::new())
        );
        let sandbox = ("io.kubernetes.cri.container-type", "sandbox");
        assert_eq!(checked(&[(HANDLER, "krun"), sandbox]), Ok(Vec::new()));
        assert!(checked(&[(HANDLER, "krun"), ("io.kubernetes.cri.container-type", "container")]).is_err());
        assert!(checked(&[("run.oci.delegate-cgroup", "inner"), sandbox]).is_err(), "of nothing else");
    }

    #[test]
    fn what_changes_nothing_is_a_warning_and_others_annotations_are_nobodys_business() {
        let warnings =
            checked(&[(SUBGROUP, "container"), ("run.oci.typo", "1"), ("org.example", "x")]).unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().any(|warning| warning.contains("unknown annotation run.oci.typo")));
        assert_eq!(checked(&[("run.ocean", "deep"), ("zzz", "")]), Ok(Vec::new()));
    }

    #[test]
    fn zero_takes_the_groups_away_as_under_crun() {
        assert!(!keeps_groups(&annotations(&[])));
        assert!(!keeps_groups(&annotations(&[(KEEP_GROUPS, "0")])));
        assert!(keeps_groups(&annotations(&[(KEEP_GROUPS, "1")])));
    }

    #[test]
    fn a_context_goes_by_the_option_that_is_named() {
        assert_eq!(mount_context(&annotations(&[])), "context");
        assert_eq!(mount_context(&annotations(&[(MOUNT_CONTEXT, "rootcontext")])), "rootcontext");
    }
}
