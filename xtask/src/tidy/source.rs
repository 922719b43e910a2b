//! Files of the checkout, and Rust files as token trees.
//!
//! The rules work on tokens, not on text: what stands in a comment or a string is not code, and what stands in
//! a macro is.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Names that hold no text of ours (`.git` is a file in a second work tree).
const SKIPPED: &[&str] = &[".git", "target", "corpus", "seeds", "artifacts"];

/// A text file, its path relative to the root of the checkout.
pub(super) struct Text {
    pub(super) path: String,
    pub(super) content: String,
}

impl Text {
    #[cfg(test)]
    pub(super) fn new(path: &str, content: &str) -> Self {
        Self { path: path.to_owned(), content: content.to_owned() }
    }

    /// The first line (from 1) that contains `needle`.
    pub(super) fn line_of(&self, needle: &str) -> Option<usize> {
        self.content.lines().position(|line| line.contains(needle)).map(|index| index + 1)
    }
}

/// A Rust file, lexed.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) line_count: usize,
    tokens: TokenStream,
}

impl Source {
    pub(super) fn parse(text: &Text) -> Result<Self> {
        let tokens = text.content.parse().map_err(|error| anyhow!("lex {}: {error}", text.path))?;
        Ok(Self { path: text.path.clone(), line_count: text.content.lines().count(), tokens })
    }

    /// True for integration tests and for test modules in a file of their own.
    pub(super) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
    }

    /// Shows `visit` the tokens between every pair of delimiters, the file itself first.
    pub(super) fn each_level(&self, mut visit: impl FnMut(&[TokenTree])) {
        descend(self.tokens.clone(), &mut visit);
    }

    /// Line ranges (first, last) of everything behind `#[cfg(test)]`.
    pub(super) fn test_ranges(&self) -> Vec<(usize, usize)> {
        let mut ranges = Vec::new();
        self.each_level(|level| {
            for (index, pair) in level.windows(2).enumerate() {
                if is_punct(&pair[0], '#') && is_cfg_test(&pair[1]) {
                    ranges.push((line(&pair[0]), item_end(&level[index + 2..])));
                }
            }
        });
        ranges
    }

    /// True when `line` belongs to a test.
    pub(super) fn in_test(&self, line: usize) -> bool {
        self.is_test() || self.test_ranges().iter().any(|(first, last)| (*first..=*last).contains(&line))
    }
}

fn descend(tokens: TokenStream, visit: &mut impl FnMut(&[TokenTree])) {
    let level: Vec<TokenTree> = tokens.into_iter().collect();
    visit(&level);
    for tree in level {
        if let TokenTree::Group(group) = tree {
            descend(group.stream(), visit);
        }
    }
}

/// The last line of the item whose tokens (attributes included) begin here: its `;` or its first brace group.
fn item_end(rest: &[TokenTree]) -> usize {
    let end = rest.iter().find(|tree| is_punct(tree, ';') || brace(tree).is_some());
    end.map_or(usize::MAX, last_line)
}

fn is_cfg_test(tree: &TokenTree) -> bool {
    let TokenTree::Group(group) = tree else { return false };
    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
    let [name, TokenTree::Group(arguments)] = inner.as_slice() else { return false };
    is_ident(name, "cfg") && arguments.stream().into_iter().any(|argument| is_ident(&argument, "test"))
}

/// The line (from 1) on which a token begins.
pub(super) fn line(tree: &TokenTree) -> usize {
    tree.span().start().line
}

/// The line on which a token ends.
pub(super) fn last_line(tree: &TokenTree) -> usize {
    tree.span().end().line
}

pub(super) fn is_ident(tree: &TokenTree, name: &str) -> bool {
    matches!(tree, TokenTree::Ident(ident) if ident == name)
}

pub(super) fn is_punct(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// The group when the token is `{ … }`.
pub(super) fn brace(tree: &TokenTree) -> Option<&Group> {
    match tree {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    }
}

/// Reads every text file of the checkout; files that are not UTF-8 are no text.
pub(super) fn texts(root: &Path) -> Result<Vec<Text>> {
    let mut found = Vec::new();
    collect(root, "", &mut found)?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn collect(directory: &Path, prefix: &str, found: &mut Vec<Text>) -> Result<()> {
    for entry in directory.read_dir().with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let kind = entry.file_type()?;
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).with_context(|| format!("read {path}"))?;
            found.extend(String::from_utf8(bytes).ok().map(|content| Text { path, content }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_module_ends_with_its_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::parse(&Text::new("crates/x/src/lib.rs", text)).unwrap();
        assert_eq!(source.test_ranges(), [(2, 5)]);
        assert!(source.in_test(4));
        assert!(!source.in_test(6));
    }

    #[test]
    fn test_files_are_known_by_their_path() {
        for (path, expected) in [
            ("crates/x/tests/run.rs", true),
            ("crates/x/src/plan/tests.rs", true),
            ("crates/x/src/lib.rs", false),
            ("crates/x/src/contests.rs", false),
        ] {
            let source = Source::parse(&Text::new(path, "")).unwrap();
            assert_eq!(source.is_test(), expected, "{path} was taken for the wrong kind");
        }
    }
}
