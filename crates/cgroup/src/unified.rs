//! What a v2 directory needs before it can hold a container: the controllers, handed down from the root.

use std::collections::BTreeSet;

use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The controllers that also work in a threaded cgroup.
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];

/// The controllers that systemd hands down to its units as it sees fit.
const SYSTEMDS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Which of the controllers that the root offers are handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// All, because statistics need them too.
    All,
    /// What limits need, and for statistics those of which systemd knows nothing: hugetlb, rdma and the like.
    BesideSystemd,
    /// What limits need, where others decide about the rest: beside v1, whose controllers are shared with whoever else
    /// uses them.
    Needed,
}

/// Hands controllers down to a new directory.
pub(crate) fn enable(leaf: &Dir, mount_point: &str, share: Share, plan: &Plan) -> Result<()> {
    let needed: BTreeSet<&str> = plan.v2_controllers().collect();
    if share == Share::Needed && needed.is_empty() {
        return Ok(());
    }
    let is_wanted = |name: &&str| match share {
        Share::All => true,
        Share::BesideSystemd => needed.contains(name) || !SYSTEMDS.contains(name),
        Share::Needed => needed.contains(name),
    };
    let root = Dir::open(mount_point)?;
    let offered = root.read("cgroup.controllers")?;
    let wanted: BTreeSet<&str> = offered.split_whitespace().filter(is_wanted).collect();
    let lacks_any = |leaf: &Dir| -> Result<bool> {
        let there = leaf.read("cgroup.controllers")?;
        let there: BTreeSet<&str> = there.split_whitespace().collect();
        Ok(!wanted.is_subset(&there))
    };
    if !lacks_any(leaf)? {
        // One that has a controller of domains is a domain; one that has none may lie below a threaded one.
        let is_domain = wanted.iter().any(|name| !THREADED.contains(name));
        return if is_domain { Ok(()) } else { settle_type(leaf, &needed) };
    }
    hand_down(&root, leaf, &wanted, &needed)?;
    if lacks_any(leaf)? { settle_type(leaf, &needed) } else { Ok(()) }
}

/// Enables controllers for the children of every directory from the root to the parent of `leaf`.
///
/// A refusal is no error here: a controller may be in use by v1, or not be delegated to the caller. If a limit needs
/// it, its file is missing, and that is what the user is told.
fn hand_down(root: &Dir, leaf: &Dir, wanted: &BTreeSet<&str>, needed: &BTreeSet<&str>) -> Result<()> {
    let all: Vec<String> = wanted.iter().map(|name| format!("+{name}")).collect();
    let below = leaf.path().strip_prefix(root.path()).unwrap_or_default();
    let mut path = root.path().to_owned();
    for component in below.split('/').filter(|component| !component.is_empty()) {
        let dir = Dir::open(&path)?;
        if let Err(error) = dir.write("cgroup.subtree_control", &all.join(" ")) {
            // A directory with processes can only hand down threaded controllers, and becomes a threaded domain by
            // that, which restricts whoever else works there: not for mere statistics.
            let holds_processes = error.errno() == Some(Errno::BUSY);
            for name in wanted.iter().filter(|name| !holds_processes || needed.contains(*name)) {
                let _ = dir.write("cgroup.subtree_control", &format!("+{name}"));
            }
        }
        path = format!("{path}/{component}");
    }
    Ok(())
}

/// Makes a directory usable that lies below one with processes or threads, as far as the limits allow.
fn settle_type(leaf: &Dir, needed: &BTreeSet<&str>) -> Result<()> {
    let kind = leaf.read("cgroup.type")?;
    let kind = kind.trim();
    if kind == "domain" {
        return Ok(());
    }
    if needed.iter().any(|name| !THREADED.contains(name)) {
        return Err(Error::Threaded { cgroup: leaf.path().to_owned(), kind: kind.to_owned() });
    }
    if kind == "domain invalid" {
        leaf.write("cgroup.type", "threaded")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::testing::Fake;
    use crate::plan::{Devices, testing};
    use bulkhead_spec::Resources;

    fn plan(json: &str) -> Plan {
        let resources = Resources::from_json(json).unwrap();
        Plan::for_container(Some(&resources), &testing::unified(), Devices::Untouched).unwrap()
    }

    fn tree(offered: &str, there: &str, kind: &str) -> Fake {
        let fake = Fake::new(&[("cgroup.controllers", offered), ("cgroup.subtree_control", "")]);
        fake.put("a/cgroup.subtree_control", "");
        fake.put("a/b/cgroup.controllers", there);
        fake.put("a/b/cgroup.type", kind);
        fake
    }

    fn enabled(fake: &Fake, share: Share, json: &str) -> Result<()> {
        let leaf = fake.dir.open_below(c"a/b").unwrap();
        enable(&leaf, fake.dir.path(), share, &plan(json))
    }

    #[test]
    fn all_that_the_root_offers_is_handed_down_the_path() {
        let fake = tree("cpu memory\n", "\n", "domain\n");
        enabled(&fake, Share::All, "{}").unwrap();
        assert_eq!(fake.get("cgroup.subtree_control"), "+cpu +memory");
        assert_eq!(fake.get("a/cgroup.subtree_control"), "+cpu +memory");
    }

    #[test]
    fn nothing_is_written_when_all_is_there() {
        let fake = tree("cpu memory\n", "memory cpu io\n", "what is not read\n");
        enabled(&fake, Share::All, "{}").unwrap();
        assert_eq!(fake.get("cgroup.subtree_control"), "");
    }

    #[test]
    fn beside_v1_only_what_limits_need_is_handed_down() {
        let fake = tree("hugetlb rdma\n", "\n", "domain\n");
        enabled(&fake, Share::Needed, "{}").unwrap();
        assert_eq!(fake.get("cgroup.subtree_control"), "");
        enabled(&fake, Share::Needed, r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#).unwrap();
        assert_eq!(fake.get("cgroup.subtree_control"), "+hugetlb");
    }

    #[test]
    fn in_a_scope_what_systemd_knows_nothing_of_is_handed_down() {
        let offered = "cpuset cpu io memory hugetlb pids rdma misc\n";
        let fake = tree(offered, "cpu io memory pids\n", "domain\n");
        enabled(&fake, Share::BesideSystemd, "{}").unwrap();
        assert_eq!(fake.get("a/cgroup.subtree_control"), "+hugetlb +misc +rdma");
        let fake = tree(offered, "memory pids\n", "domain\n");
        enabled(&fake, Share::BesideSystemd, r#"{"cpu": {"cpus": "0"}}"#).unwrap();
        assert_eq!(fake.get("a/cgroup.subtree_control"), "+cpuset +hugetlb +misc +rdma");
        let fake = tree(offered, "hugetlb misc pids rdma\n", "what is not read\n");
        enabled(&fake, Share::BesideSystemd, "{}").unwrap();
        assert_eq!(fake.get("cgroup.subtree_control"), "", "all is there");
        let fake = tree("cpu memory pids\n", "pids\n", "domain\n");
        enabled(&fake, Share::BesideSystemd, "{}").unwrap();
        assert_eq!(fake.get("cgroup.subtree_control"), "", "the rest is systemd's");
    }

    #[test]
    fn below_processes_only_threaded_controllers_work() {
        let fake = tree("cpu memory pids\n", "cpu pids\n", "domain invalid\n");
        let error = enabled(&fake, Share::All, r#"{"memory": {"limit": 1}}"#).unwrap_err();
        assert!(matches!(&error, Error::Threaded { kind, .. } if kind == "domain invalid"), "{error}");
        enabled(&fake, Share::All, r#"{"pids": {"limit": 1}}"#).unwrap();
        assert!(fake.get("a/b/cgroup.type").starts_with("threaded"), "it was made threaded");
        // Where only such controllers are delegated, none is missing.
        let fake = tree("cpu pids\n", "cpu pids\n", "domain invalid\n");
        enabled(&fake, Share::All, "{}").unwrap();
        assert!(fake.get("a/b/cgroup.type").starts_with("threaded"), "it was made threaded");
    }
}
