//! `unsafe` lives in `crates/sys` and in the one file that clones (ARCHITECTURE.md, invariant 1).

use super::source::{Source, is_ident, line};
use super::{Violation, Workspace};

/// Places that may say `unsafe`.
const ALLOWED: &[&str] = &["crates/sys/", "crates/runtime/src/clone.rs"];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let elsewhere = |source: &&Source| !ALLOWED.iter().any(|place| source.path.starts_with(place));
    workspace.sources.iter().filter(elsewhere).flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for tree in level.iter().filter(|tree| is_ident(tree, "unsafe")) {
            let sentence = "unsafe belongs into crates/sys (or crates/runtime/src/clone.rs)";
            found.push(Violation::new(&source.path, line(tree), sentence));
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn code_is_found_and_text_is_not() {
        let path = "crates/cgroup/src/lib.rs";
        for (content, expected) in [
            ("fn f() { unsafe { g() } }", &[1][..]),
            ("\nunsafe fn f() {}", &[2]),
            ("unsafe impl Send for A {}", &[1]),
            ("macro_rules! m { () => { \n unsafe { g() } } }", &[2]),
            ("#[unsafe(no_mangle)] fn f() {}", &[1]),
            ("// unsafe { }\n/* unsafe */ /// unsafe\nfn f() {}", &[]),
            ("const TEXT: &str = \"unsafe { }\"; const RAW: &str = r#\"unsafe\"#;", &[]),
            ("#![deny(unsafe_code)]", &[]),
        ] {
            assert_eq!(lines(check, path, content), expected, "wrong lines for {content}");
        }
    }

    #[test]
    fn two_places_are_allowed() {
        let content = "fn f() { unsafe { g() } }";
        assert_eq!(lines(check, "crates/sys/src/seccomp.rs", content), [0; 0]);
        assert_eq!(lines(check, "crates/runtime/src/clone.rs", content), [0; 0]);
        assert_eq!(lines(check, "crates/runtime/src/launch.rs", content), [1]);
        assert_eq!(lines(check, "crates/system/src/lib.rs", content), [1]);
    }
}
