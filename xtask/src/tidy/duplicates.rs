//! No dependency is built in two versions. Proc macros run at build time only and choose for themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, Workspace};

/// Crates that may be there twice, and why.
const EXCUSED: &[(&str, &str)] = &[(
    "getrandom",
    "ring, which TLS is made of, wants an older one than proptest, which is for tests alone",
)];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let metadata = &workspace.metadata;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.members().flat_map(|member| metadata.built(member)) {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    versions
        .into_iter()
        .filter(|(name, versions)| versions.len() > 1 && !EXCUSED.iter().any(|(excused, _)| excused == name))
        .map(|(name, versions)| {
            let line = workspace.manifest_line("Cargo.lock", &format!("name = \"{name}\""));
            let versions = Vec::from_iter(versions);
            let sentence = format!("{name} is built {} times: {}", versions.len(), versions.join(", "));
            Violation::new("Cargo.lock", line, sentence)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::planted::{external, member, metadata, proc_macro};

    #[test]
    fn two_versions_are_found_unless_a_proc_macro_brings_one() {
        let packages = vec![
            member("sys", &[]),
            external("once", "1.0.0", "MIT"),
            external("twice", "1.0.0", "MIT"),
            external("twice", "2.0.0", "MIT"),
            external("syn", "1.0.0", "MIT"),
            external("syn", "2.0.0", "MIT"),
            proc_macro(external("derive", "1.0.0", "MIT")),
        ];
        let edges = [
            ("bulkhead-sys", "once 1.0.0", None),
            ("bulkhead-sys", "twice 1.0.0", Some("dev")),
            ("once 1.0.0", "twice 2.0.0", None),
            ("bulkhead-sys", "syn 1.0.0", None),
            ("bulkhead-sys", "derive 1.0.0", None),
            ("derive 1.0.0", "syn 2.0.0", None),
        ];
        let workspace = Workspace { metadata: metadata(packages, &edges), ..Workspace::default() };
        let found: Vec<String> = check(&workspace).into_iter().map(|violation| violation.sentence).collect();
        assert_eq!(found, ["twice is built 2 times: 1.0.0, 2.0.0"]);
    }
}
