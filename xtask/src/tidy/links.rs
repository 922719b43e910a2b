//! The privileged binary links few crates of others: each is code that runs as root on every start.

use super::metadata::Metadata;
use super::{Violation, Workspace};

/// The package whose program is privileged.
const PRIVILEGED: &str = "bulkhead-runtime";

/// The most crates from elsewhere that it may link; proc macros run at build time and do not count.
const LIMIT: usize = 35;

/// The crates from elsewhere that the privileged binary links.
pub(super) fn linked(metadata: &Metadata) -> Vec<String> {
    let package = metadata.members().find(|member| member.name == PRIVILEGED);
    let linked = package.map(|package| metadata.linked(package)).unwrap_or_default();
    linked.iter().filter(|linked| !linked.is_ours()).map(|linked| linked.name.clone()).collect()
}

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let metadata = &workspace.metadata;
    let Some(package) = metadata.members().find(|member| member.name == PRIVILEGED) else {
        return Vec::new();
    };
    let linked = linked(metadata);
    if linked.len() <= LIMIT {
        return Vec::new();
    }
    let sentence = format!(
        "{PRIVILEGED} links {} crates from elsewhere, at most {LIMIT} are allowed: {}",
        linked.len(),
        linked.join(" ")
    );
    vec![Violation::new(&metadata.manifest(package), 1, sentence)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::planted::{external, member, metadata, proc_macro};

    /// Violations when the runtime links `plain` crates and a proc macro that brings `behind_macro` more.
    fn count(plain: usize, behind_macro: usize) -> usize {
        let mut packages = vec![member("runtime", &[]), proc_macro(external("derive", "1.0.0", "MIT"))];
        let mut edges = vec![(PRIVILEGED.to_owned(), "derive 1.0.0".to_owned())];
        for number in 0..plain + behind_macro {
            let package = external(&format!("crate{number}"), "1.0.0", "MIT");
            let from = if number < plain { PRIVILEGED } else { "derive 1.0.0" };
            edges.push((from.to_owned(), package.id.clone()));
            packages.push(package);
        }
        let edges: Vec<_> = edges.iter().map(|(from, to)| (from.as_str(), to.as_str(), None)).collect();
        check(&Workspace { metadata: metadata(packages, &edges), ..Workspace::default() }).len()
    }

    #[test]
    fn the_limit_is_allowed_and_one_more_is_not() {
        assert_eq!(count(LIMIT, 0), 0);
        assert_eq!(count(LIMIT + 1, 0), 1);
    }

    #[test]
    fn proc_macros_and_what_they_need_do_not_count() {
        assert_eq!(count(LIMIT, 20), 0);
    }
}
