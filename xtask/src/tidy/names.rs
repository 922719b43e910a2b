//! A module is named after what it holds; these names say nothing (ARCHITECTURE.md, invariant 10).

use super::source::{Source, is_ident, line};
use super::{Violation, Workspace};

const FORBIDDEN: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "managers", "impl", "impls", "misc"];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace
        .sources
        .iter()
        .flat_map(|source| by_path(source).into_iter().chain(by_declaration(source)))
        .collect()
}

fn by_path(source: &Source) -> Option<Violation> {
    let mut parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    let name = parts.find(|part| FORBIDDEN.contains(part))?;
    Some(Violation::new(&source.path, 1, sentence(name)))
}

fn by_declaration(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for pair in level.windows(2).filter(|pair| is_ident(&pair[0], "mod")) {
            let declared = pair[1].to_string();
            let name = declared.trim_start_matches("r#");
            if FORBIDDEN.contains(&name) {
                found.push(Violation::new(&source.path, line(&pair[1]), sentence(name)));
            }
        }
    });
    found
}

fn sentence(name: &str) -> String {
    format!("a module called {name} says nothing of what it holds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn declarations_are_found() {
        let path = "crates/x/src/lib.rs";
        for (content, expected) in [
            ("mod utils;", &[1][..]),
            ("fn f() {}\npub(crate) mod helpers { }", &[2]),
            ("mod r#impl;", &[1]),
            ("mod mounts { mod common; }", &[1]),
            ("mod mounts;\nimpl A {}\nfn common() {}", &[]),
        ] {
            assert_eq!(lines(check, path, content), expected, "wrong lines for {content}");
        }
    }

    #[test]
    fn files_and_directories_are_found() {
        assert_eq!(lines(check, "crates/x/src/manager.rs", ""), [1]);
        assert_eq!(lines(check, "crates/x/tests/common/mod.rs", ""), [1]);
        assert_eq!(lines(check, "crates/x/src/commonly.rs", ""), [0; 0]);
    }
}
