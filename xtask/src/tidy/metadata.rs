//! What `cargo metadata` says of the workspace and its dependencies on Linux.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The prefix of our packages' names; their directories carry none.
pub(super) const PREFIX: &str = "bulkhead-";

/// Packages and the resolved edges between them.
#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    resolve: Resolve,
    workspace_root: String,
}

/// One package, ours or a dependency.
#[derive(Default, Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    /// Where the package came from; none for the members of the workspace.
    pub(super) source: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) manifest_path: String,
    targets: Vec<Target>,
}

/// A dependency as the manifest declares it.
#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `dev`, `build`, or none for a normal one.
    pub(super) kind: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    pub(super) fn load() -> Result<Self> {
        let arch = std::env::consts::ARCH;
        let output = crate::workspace::cargo()?
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
            .arg(format!("{arch}-unknown-linux-gnu"))
            .output()
            .context("run cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let metadata: Self =
            serde_json::from_slice(&output.stdout).context("read cargo metadata's answer")?;
        Ok(metadata.only_resolved())
    }

    /// Drops the packages of other platforms, which cargo lists although it resolves no edge to them.
    fn only_resolved(mut self) -> Self {
        let resolved: BTreeSet<&str> = self.resolve.nodes.iter().map(|node| node.id.as_str()).collect();
        self.packages.retain(|package| resolved.contains(package.id.as_str()));
        self
    }

    /// The packages of the workspace itself.
    pub(super) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_ours())
    }

    /// The packages that come from elsewhere.
    pub(super) fn externals(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !package.is_ours())
    }

    /// Path of a member's manifest relative to the root of the checkout.
    pub(super) fn manifest(&self, member: &Package) -> String {
        let relative = member.manifest_path.strip_prefix(&self.workspace_root);
        relative.unwrap_or(&member.manifest_path).trim_start_matches('/').to_owned()
    }

    /// Every package that ends up in the program or library `root`: normal dependencies, transitively, without
    /// proc macros and what only those need.
    pub(super) fn linked(&self, root: &Package) -> Vec<&Package> {
        self.reached(root, Edge::is_normal)
    }

    /// Every package built for `root`, its tests and build scripts included, but for proc macros and what only
    /// those need.
    pub(super) fn built(&self, root: &Package) -> Vec<&Package> {
        self.reached(root, |_| true)
    }

    fn reached(&self, root: &Package, follows: fn(&Edge) -> bool) -> Vec<&Package> {
        let packages: BTreeMap<&str, &Package> =
            self.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        let nodes: BTreeMap<&str, &Node> =
            self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut seen = BTreeSet::new();
        let mut open = vec![root.id.as_str()];
        while let Some(id) = open.pop() {
            let edges = nodes.get(id).map_or(&[][..], |node| node.deps.as_slice());
            for edge in edges.iter().filter(|edge| follows(edge)) {
                let linked = packages.get(edge.pkg.as_str()).is_some_and(|package| !package.is_proc_macro());
                if linked && seen.insert(edge.pkg.as_str()) {
                    open.push(&edge.pkg);
                }
            }
        }
        seen.into_iter().filter_map(|id| packages.get(id).copied()).collect()
    }
}

impl Package {
    pub(super) fn is_ours(&self) -> bool {
        self.source.is_none()
    }

    /// The directory name of one of our packages: `sys` for `bulkhead-sys`.
    pub(super) fn directory(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or(&self.name)
    }

    fn is_proc_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }
}

impl Edge {
    fn is_normal(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.is_none())
    }
}

#[cfg(test)]
pub(super) mod planted {
    //! Metadata of a made-up workspace.

    use super::*;

    /// A member called `bulkhead-NAME` (or plain `xtask`) whose manifest declares `(dependency, kind)`.
    pub(in crate::tidy) fn member(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let name = if name == "xtask" { name.to_owned() } else { format!("{PREFIX}{name}") };
        let declare = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        };
        Package {
            id: name.clone(),
            manifest_path: format!("/checkout/crates/{}/Cargo.toml", name.trim_start_matches(PREFIX)),
            name,
            dependencies: dependencies.iter().map(declare).collect(),
            ..Package::default()
        }
    }

    /// A package from a registry.
    pub(in crate::tidy) fn external(name: &str, version: &str, license: &str) -> Package {
        Package {
            id: format!("{name} {version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some(license.to_owned()),
            source: Some("registry".to_owned()),
            ..Package::default()
        }
    }

    /// The same package as a proc macro.
    pub(in crate::tidy) fn proc_macro(mut package: Package) -> Package {
        package.targets.push(Target { kind: vec!["proc-macro".to_owned()] });
        package
    }

    /// The workspace of `packages` with resolved edges `(from id, to id, kind)`.
    pub(in crate::tidy) fn metadata(
        packages: Vec<Package>,
        edges: &[(&str, &str, Option<&str>)],
    ) -> Metadata {
        let node = |package: &Package| Node {
            id: package.id.clone(),
            deps: edges
                .iter()
                .filter(|(from, ..)| *from == package.id)
                .map(|(_, to, kind)| Edge {
                    pkg: (*to).to_owned(),
                    dep_kinds: vec![EdgeKind { kind: kind.map(str::to_owned) }],
                })
                .collect(),
        };
        let resolve = Resolve { nodes: packages.iter().map(node).collect() };
        Metadata { packages, resolve, workspace_root: "/checkout".to_owned() }
    }
}
