//! A test that skips itself says so by `skip!` or `requires!`, which `cargo xtask test` counts: what the print macros
//! write is swallowed with a passing test's output.

use proc_macro2::TokenTree;

use super::source::{Source, is_ident, is_punct, line};
use super::{Violation, Workspace};

const PRINTERS: &[&str] = &["print", "println", "eprint", "eprintln"];

const SENTENCE: &str = "nobody counts this: a test skips itself by testkit's skip! or requires!";

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for call in level.windows(3) {
            let prints = PRINTERS.iter().any(|name| is_ident(&call[0], name)) && is_punct(&call[1], '!');
            if prints && says_skipped(&call[2]) {
                found.push(Violation::new(&source.path, line(&call[0]), SENTENCE));
            }
        }
    });
    found
}

fn says_skipped(arguments: &TokenTree) -> bool {
    let TokenTree::Group(arguments) = arguments else { return false };
    let first = arguments.stream().into_iter().next();
    first.is_some_and(|text| text.to_string().starts_with("\"skipped: "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn printed_skips_are_found() {
        let path = "crates/x/src/lib.rs";
        for (content, expected) in [
            ("fn f() {\n    println!(\"skipped: needs {x}\");\n}", &[2][..]),
            ("fn f() { eprintln! { \"skipped: x\" } }", &[1]),
            ("fn f() { skip!(\"needs {x}\"); println!(\"{} skipped: {}\", 1, 2); }", &[]),
            ("fn f() { report(\"skipped: x\"); println!(); }", &[]),
        ] {
            assert_eq!(lines(check, path, content), expected, "wrong lines for {content}");
        }
    }
}
