//! Lints are excused by `#[expect(…, reason = …)]`, which ends with its cause; tests are never ignored.

use proc_macro2::{Group, TokenTree};

use super::source::{Source, is_ident, is_punct, line};
use super::{Violation, Workspace};

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for (index, tree) in level.iter().enumerate().filter(|(_, tree)| is_punct(tree, '#')) {
            let rest = &level[index + 1..];
            let inner = rest.first().is_some_and(|tree| is_punct(tree, '!'));
            if let Some(TokenTree::Group(attribute)) = rest.get(usize::from(inner)) {
                let sentence = faults(attribute);
                found.extend(sentence.map(|sentence| Violation::new(&source.path, line(tree), sentence)));
            }
        }
    });
    found
}

fn faults(attribute: &Group) -> Option<&'static str> {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let (name, rest) = tokens.split_first()?;
    let arguments = match rest.first() {
        Some(TokenTree::Group(arguments)) => Some(arguments),
        _ => None,
    };
    if is_ident(name, "allow") {
        return Some("allow hides a lint for ever: use expect with a reason");
    }
    if is_ident(name, "ignore") {
        return Some("an ignored test tests nothing: let it print why it skips");
    }
    if is_ident(name, "cfg_attr") {
        return behind_condition(arguments?);
    }
    let has_reason = |arguments: &Group| arguments.stream().into_iter().any(|tree| is_ident(&tree, "reason"));
    if is_ident(name, "expect") && !arguments.is_some_and(has_reason) {
        return Some("expect gives no reason");
    }
    None
}

/// The fault of the attributes in `cfg_attr(condition, attribute, …)`.
fn behind_condition(arguments: &Group) -> Option<&'static str> {
    let tokens: Vec<TokenTree> = arguments.stream().into_iter().collect();
    let attributes = tokens.split(|tree| is_punct(tree, ',')).skip(1);
    attributes
        .filter_map(|attribute| {
            let stream = attribute.iter().cloned().collect();
            faults(&Group::new(proc_macro2::Delimiter::Bracket, stream))
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn switched_off_lints_and_tests_are_found() {
        let path = "crates/x/src/lib.rs";
        for (content, expected) in [
            ("#[allow(dead_code)]\nfn f() {}", &[1][..]),
            ("#![allow(dead_code)]", &[1]),
            ("fn f() {\n    #[allow(unused)]\n    let a = 1;\n}", &[2]),
            ("#[test]\n#[ignore]\nfn f() {}", &[2]),
            ("#[test]\n#[ignore = \"slow\"]\nfn f() {}", &[2]),
            ("#[cfg_attr(miri, ignore)]\nfn f() {}", &[1]),
            ("#[cfg_attr(test, allow(dead_code))]\nfn f() {}", &[1]),
            ("#[expect(dead_code)]\nfn f() {}", &[1]),
            ("#[expect(dead_code, reason = \"read by the debugger\")]\nfn f() {}", &[]),
            ("#[cfg_attr(test, derive(Debug))]\nstruct A;", &[]),
            ("// #[allow(dead_code)]\nfn ignore() { allow(1); x.expect(\"#[ignore]\"); }", &[]),
        ] {
            assert_eq!(lines(check, path, content), expected, "wrong lines for {content}");
        }
    }
}
