//! Crates from elsewhere that only some of ours may link.

use super::metadata::{Metadata, Package};
use super::{Violation, Workspace};

/// A crate, the directories of ours that may link it, and why the others may not.
struct Restriction {
    name: &'static str,
    allowed: &'static [&'static str],
    reason: &'static str,
}

/// `engine` and what stands above it.
const SERVICES: &[&str] = &["engine", "cri", "docker", "cli", "registry"];

const RESTRICTIONS: &[Restriction] = &[
    Restriction {
        name: "tokio",
        allowed: SERVICES,
        reason: "below engine every program is single-threaded, and only registry streams",
    },
    Restriction {
        name: "tracing-subscriber",
        allowed: &["engine", "cri", "docker", "cli"],
        reason: "a library below engine does not decide where logs go",
    },
    Restriction {
        name: "anyhow",
        allowed: &["xtask"],
        reason: "a caller can branch only on an error enum; anyhow is for xtask and tests",
    },
    Restriction { name: "nix", allowed: &[], reason: "rustix and crates/sys make the system calls" },
    Restriction {
        name: "libseccomp",
        allowed: &[],
        reason: "the filter compiler is ours; libseccomp is its oracle in tests",
    },
];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let metadata = &workspace.metadata;
    metadata.members().flat_map(|member| check_member(workspace, metadata, member)).collect()
}

fn check_member(workspace: &Workspace, metadata: &Metadata, member: &Package) -> Vec<Violation> {
    let manifest = metadata.manifest(member);
    let linked = metadata.linked(member);
    RESTRICTIONS
        .iter()
        .filter(|restriction| !restriction.allowed.contains(&member.directory()))
        .filter(|restriction| linked.iter().any(|package| package.name == restriction.name))
        .map(|Restriction { name, reason, .. }| {
            let line = workspace.manifest_line(&manifest, name);
            Violation::new(&manifest, line, format!("{} links {name}: {reason}", member.directory()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::planted::{external, member, metadata};

    fn count(from: &str, edges: &[(&str, &str, Option<&str>)]) -> usize {
        let packages =
            vec![member(from, &[]), external("hyper", "1.0.0", "MIT"), external("tokio", "1.0.0", "MIT")];
        check(&Workspace { metadata: metadata(packages, edges), ..Workspace::default() }).len()
    }

    #[test]
    fn tokio_is_found_through_another_crate() {
        let hyper = ("hyper 1.0.0", "tokio 1.0.0", None);
        assert_eq!(count("store", &[("bulkhead-store", "hyper 1.0.0", None), hyper]), 1);
        assert_eq!(count("registry", &[("bulkhead-registry", "hyper 1.0.0", None), hyper]), 0);
        assert_eq!(count("engine", &[("bulkhead-engine", "hyper 1.0.0", None), hyper]), 0);
    }

    #[test]
    fn a_test_may_use_what_the_crate_may_not() {
        assert_eq!(count("sys", &[("bulkhead-sys", "tokio 1.0.0", Some("dev"))]), 0);
    }
}
