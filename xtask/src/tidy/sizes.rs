//! Sizes: a file holds one subject and a function one thought. Tests and data tables are apart.

use std::collections::BTreeSet;

use proc_macro2::{Group, TokenStream, TokenTree};

use super::source::{Source, brace, is_ident, is_punct, last_line, line};
use super::{Violation, Workspace};

/// The most lines of a file, without its tests and its data tables.
const FILE_LINES: usize = 800;

/// The most lines of code of a function's body; blank lines and comments do not count.
const FUNCTION_LINES: usize = 80;

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let code = workspace.sources.iter().filter(|source| !source.is_test());
    code.flat_map(|source| check_file(source).into_iter().chain(check_functions(source))).collect()
}

fn check_file(source: &Source) -> Option<Violation> {
    let mut apart = BTreeSet::new();
    for (first, last) in source.test_ranges().into_iter().chain(tables(source)) {
        apart.extend(first..=last.min(source.line_count));
    }
    let lines = source.line_count - apart.len();
    let sentence = || format!("{lines} lines without tests and tables, at most {FILE_LINES} are allowed");
    (lines > FILE_LINES).then(|| Violation::new(&source.path, 1, sentence()))
}

/// Line ranges of arrays that are the value of a `const` or `static`.
fn tables(source: &Source) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    source.each_level(|level| {
        for (index, tree) in level.iter().enumerate() {
            if !is_ident(tree, "const") && !is_ident(tree, "static") {
                continue;
            }
            let item = level[index..].iter().take_while(|tree| !is_punct(tree, ';'));
            let value = item.skip_while(|tree| !is_punct(tree, '='));
            let array = value.filter(|tree| matches!(tree, TokenTree::Group(_)));
            ranges.extend(array.map(|array| (line(array), last_line(array))));
        }
    });
    ranges
}

fn check_functions(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for (index, pair) in level.windows(2).enumerate() {
            let [keyword, TokenTree::Ident(name)] = pair else { continue };
            if !is_ident(keyword, "fn") || excused(&level[..index]) {
                continue;
            }
            let signature = level[index..].iter().take_while(|tree| !is_punct(tree, ';'));
            let Some(body) = signature.into_iter().find_map(brace) else { continue };
            let lines = code_lines(body);
            if lines > FUNCTION_LINES {
                let sentence =
                    format!("{name} has {lines} lines of code, at most {FUNCTION_LINES} are allowed");
                found.push(Violation::new(&source.path, line(keyword), sentence));
            }
        }
    });
    found
}

/// True when an `#[expect(clippy::too_many_lines, …)]` stands among the attributes right before a function.
fn excused(before: &[TokenTree]) -> bool {
    let item = before.iter().rev().take_while(|tree| !is_punct(tree, ';') && brace(tree).is_none());
    item.filter_map(|tree| match tree {
        TokenTree::Group(group) => Some(group.stream().to_string()),
        _ => None,
    })
    .any(|attribute| attribute.starts_with("expect") && attribute.contains("too_many_lines"))
}

/// Lines of a body on which a token stands, its own braces apart.
fn code_lines(body: &Group) -> usize {
    let mut lines = BTreeSet::new();
    add_lines(body.stream(), &mut lines);
    lines.len()
}

fn add_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => {
                lines.insert(group.span_open().start().line);
                add_lines(group.stream(), lines);
                lines.insert(group.span_close().end().line);
            }
            leaf => lines.extend(line(&leaf)..=last_line(&leaf)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    const PATH: &str = "crates/x/src/lib.rs";

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines))
    }

    #[test]
    fn a_function_may_have_80_lines_and_not_81() {
        assert_eq!(lines(check, PATH, &function(80)), [0; 0]);
        assert_eq!(lines(check, PATH, &function(81)), [1]);
    }

    #[test]
    fn comments_and_blank_lines_are_no_code() {
        let content = format!("fn f() {{\n{}}}\n", "    g();\n\n    // why\n".repeat(80));
        assert_eq!(lines(check, PATH, &content), [0; 0]);
    }

    #[test]
    fn a_method_in_a_macro_is_found() {
        let content = format!("m! {{ impl A {{\n{} }} }}", function(81));
        assert_eq!(lines(check, PATH, &content), [2]);
    }

    #[test]
    fn an_excuse_holds_for_its_own_function_alone() {
        let excuse = "#[expect(clippy::too_many_lines, reason = \"a table\")]\npub ";
        let content = format!("{excuse}{}{}", function(81), function(81));
        assert_eq!(lines(check, PATH, &content), [85]);
    }

    #[test]
    fn a_signature_without_body_is_no_function() {
        let content = format!(
            "trait A {{ fn f(); }} type F = fn(u8); mod m {{ {} }}",
            "const A: u8 = 1;\n".repeat(100)
        );
        assert_eq!(lines(check, PATH, &content), [0; 0]);
    }

    #[test]
    fn a_file_may_have_800_lines_and_not_801() {
        assert_eq!(lines(check, PATH, &"struct A;\n".repeat(800)), [0; 0]);
        assert_eq!(lines(check, PATH, &"struct A;\n".repeat(801)), [1]);
    }

    #[test]
    fn tests_and_tables_do_not_count_for_a_file() {
        let code = "struct A;\n".repeat(798);
        let table = format!("const T: &[u8] = &[\n{}];\n", "    1,\n".repeat(500));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    struct B;\n".repeat(500));
        assert_eq!(lines(check, PATH, &format!("{code}{table}{tests}")), [0; 0]);
        assert_eq!(lines(check, "crates/x/tests/big.rs", &"struct A;\n".repeat(2000)), [0; 0]);
    }
}
