//! `config.json` is read in `runtime/src/plan*` and `bundle` only and becomes a plan (ARCHITECTURE.md,
//! invariant 3): no other file of the runtime names the file or the types of the configuration.

use proc_macro2::TokenTree;

use super::source::{Source, is_ident, is_punct, line};
use super::{Violation, Workspace};

const RUNTIME: &str = "crates/runtime/src/";

/// Files of the runtime that turn the configuration into a plan, or write one out (`bulkrun spec`).
const READERS: &[&str] = &["plan.rs", "plan/", "bundle.rs", "bundle/", "template.rs"];

/// The types of `bulkhead_spec` that only the configuration consists of. The others describe a value that a
/// plan may hold as it is, or belong to `exec --process`, `update --resources`, the state and the features.
const CONFIGURATION: &[&str] = &["Config", "Root", "Linux", "Mount"];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let effects = workspace.sources.iter().filter(|source| {
        let file = source.path.strip_prefix(RUNTIME);
        file.is_some_and(|file| !READERS.iter().any(|reader| file.starts_with(reader)))
    });
    effects.flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for (index, tree) in level.iter().enumerate() {
            if matches!(tree, TokenTree::Literal(literal) if is_the_file(&literal.to_string())) {
                let sentence = "config.json is named outside plan and bundle";
                found.push(Violation::new(&source.path, line(tree), sentence));
            }
            if let Some(name) = configuration_type(&level[index..]) {
                let sentence =
                    format!("bulkhead_spec::{name} is used outside plan and bundle: take it from the plan");
                found.push(Violation::new(&source.path, line(tree), sentence));
            }
        }
    });
    found.retain(|violation| !source.in_test(violation.line));
    found
}

/// Whether a literal is a path of the file; sentences, for people and in docs, may name it.
fn is_the_file(literal: &str) -> bool {
    let text = literal.trim_start_matches(['b', 'c', 'r', '#']).trim_matches(['"', '#']);
    !text.contains(' ') && text.rsplit('/').next() == Some("config.json")
}

/// The item of `bulkhead_spec :: ITEM` when it belongs to the configuration.
fn configuration_type(tokens: &[TokenTree]) -> Option<String> {
    let [root, first, second, item, ..] = tokens else { return None };
    if !is_ident(root, "bulkhead_spec") || !is_punct(first, ':') || !is_punct(second, ':') {
        return None;
    }
    let names: Vec<String> = match item {
        TokenTree::Group(group) => group
            .stream()
            .into_iter()
            .filter_map(|tree| matches!(tree, TokenTree::Ident(_)).then(|| tree.to_string()))
            .collect(),
        item => vec![item.to_string()],
    };
    names.into_iter().find(|name| CONFIGURATION.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn effects_do_not_read_the_configuration() {
        let path = "crates/runtime/src/mount.rs";
        for (content, expected) in [
            ("use bulkhead_spec::Mount;", &[1][..]),
            ("fn f(m: &bulkhead_spec::Root) {}", &[1]),
            ("use bulkhead_spec::{State, Linux};", &[1]),
            ("use bulkhead_spec::{State, Resources, features};", &[]),
            ("fn f() { read(\"config.json\") }", &[1]),
            ("fn f() { read(c\"/b/config.json\") }", &[1]),
            ("fn f() { say(\"config.json: /root/path is missing\") }", &[]),
            ("/// Wants a config.json\nfn f() {}", &[]),
            ("// config.json is read elsewhere\nfn f() {}", &[]),
            ("#[cfg(test)]\nmod tests {\n    use bulkhead_spec::Mount;\n}", &[]),
        ] {
            assert_eq!(lines(check, path, content), expected, "wrong lines for {content}");
        }
    }

    #[test]
    fn the_plan_reads_it() {
        for path in
            ["crates/runtime/src/plan.rs", "crates/runtime/src/plan/mounts.rs", "crates/cgroup/src/lib.rs"]
        {
            assert_eq!(lines(check, path, "use bulkhead_spec::Mount;"), [0; 0], "{path} was refused");
        }
    }
}
