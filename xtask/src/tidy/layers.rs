//! Arrows between our crates point only to a lower layer (ARCHITECTURE.md, the workspace's table).

use super::metadata::{Metadata, PREFIX, Package};
use super::{Violation, Workspace};

/// Each crate's directory and the crates of ours that it may depend on, other than in its tests.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("image", &[]),
    ("spec", &[]),
    ("seccomp", &["spec"]),
    ("cgroup", &["sys", "spec"]),
    ("runtime", &["sys", "spec", "seccomp", "cgroup"]),
    ("shim", &["sys"]),
    ("store", &["image", "sys"]),
    ("registry", &["image"]),
    ("net", &["sys", "seccomp"]),
    ("engine", &["store", "registry", "net", "shim", "cgroup", "seccomp", "spec", "sys"]),
    ("cri", &["engine"]),
    ("docker", &["engine"]),
    ("workload", &["sys"]),
    ("measure", &["spec", "seccomp", "sys"]),
    ("cli", &["engine", "cri", "docker", "measure", "sys"]),
    ("testkit", &["sys"]),
    (
        "targets",
        &[
            "engine", "registry", "store", "image", "net", "shim", "runtime", "measure", "seccomp", "cgroup",
            "spec", "sys",
        ],
    ),
    ("xtask", &["measure", "seccomp", "spec", "sys", "testkit"]),
];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let metadata = &workspace.metadata;
    metadata.members().flat_map(|member| check_member(workspace, metadata, member)).collect()
}

fn check_member(workspace: &Workspace, metadata: &Metadata, member: &Package) -> Vec<Violation> {
    let manifest = metadata.manifest(member);
    let name = member.directory();
    let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(directory, _)| *directory == name) else {
        let sentence =
            format!("{name} is not in the table of layers (ARCHITECTURE.md and xtask/src/tidy/layers.rs)");
        return vec![Violation::new(&manifest, 1, sentence)];
    };
    let ours = member.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
    ours.filter_map(|dependency| dependency.name.strip_prefix(PREFIX))
        .filter(|target| !allowed.contains(target))
        .map(|target| {
            let line = workspace.manifest_line(&manifest, &format!("{PREFIX}{target}"));
            let sentence =
                format!("{name} must not depend on {target}: it may depend on [{}]", allowed.join(" "));
            Violation::new(&manifest, line, sentence)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::planted::{member, metadata};

    fn sentences(packages: Vec<Package>) -> Vec<String> {
        let workspace = Workspace { metadata: metadata(packages, &[]), ..Workspace::default() };
        check(&workspace).into_iter().map(|violation| violation.sentence).collect()
    }

    #[test]
    fn the_table_only_points_down() {
        for (position, (name, targets)) in MAY_DEPEND_ON.iter().enumerate() {
            for target in *targets {
                let below = MAY_DEPEND_ON[..position].iter().any(|(directory, _)| directory == target);
                assert!(below, "{name} may depend on {target}, which the table lists later");
            }
        }
    }

    #[test]
    fn a_dependency_downwards_is_fine() {
        let packages = vec![member("cgroup", &[("bulkhead-sys", None), ("serde", None)])];
        assert_eq!(sentences(packages), [""; 0]);
    }

    #[test]
    fn a_dependency_upwards_is_found() {
        let found = sentences(vec![member("sys", &[("bulkhead-runtime", None)])]);
        assert_eq!(found, ["sys must not depend on runtime: it may depend on []"]);
    }

    #[test]
    fn a_build_dependency_counts_and_a_test_dependency_does_not() {
        let build = vec![member("spec", &[("bulkhead-sys", Some("build"))])];
        assert_eq!(sentences(build).len(), 1);
        let test = vec![member("spec", &[("bulkhead-testkit", Some("dev"))])];
        assert_eq!(sentences(test), [""; 0]);
    }

    #[test]
    fn an_unknown_crate_is_found() {
        let found = sentences(vec![member("stuff", &[])]);
        assert!(found[0].starts_with("stuff is not in the table"), "{found:?}");
    }
}
