//! `cargo xtask tidy`: the project's rules that a program can check, one small file each.
//!
//! A rule is a function from the workspace to the violations it found. Every violation is printed as
//! `file:line: sentence`, and any violation fails the command.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lexopt::Parser;

use self::metadata::Metadata;
use self::source::{Source, Text};

mod attributes;
mod config_reads;
mod docs;
mod duplicates;
mod externals;
mod layers;
mod licences;
mod links;
mod map;
mod metadata;
mod names;
mod places;
mod sizes;
mod skips;
mod source;
mod unsafety;

/// The name that `--list` prints and the check behind it.
const RULES: &[(&str, Rule)] = &[
    ("dependencies point only to a lower layer", layers::check),
    ("tokio and others stay where they belong", externals::check),
    ("the privileged binary links few crates", links::check),
    ("licences of dependencies are known", licences::check),
    ("no dependency is there twice", duplicates::check),
    ("unsafe lives in two places", unsafety::check),
    ("config.json is read in one place", config_reads::check),
    ("modules are named after what they hold", names::check),
    ("files and functions hold one thought", sizes::check),
    ("public items are documented", docs::check),
    ("the map has every module of the runtime", map::check),
    ("lints and tests are not switched off", attributes::check),
    ("tests that skip themselves are counted", skips::check),
    ("no text names the machine it was written on", places::check),
];

type Rule = fn(&Workspace) -> Vec<Violation>;

/// Everything the rules look at, read once.
#[derive(Default)]
struct Workspace {
    sources: Vec<Source>,
    texts: Vec<Text>,
    metadata: Metadata,
    /// Strings that would give away the machine this runs on, see [`places`].
    places: Vec<String>,
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    line: usize,
    sentence: String,
}

impl Violation {
    fn new(path: &str, line: usize, sentence: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, sentence: sentence.into() }
    }
}

/// Runs every rule and prints what they found.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    match parser.next()? {
        None => {}
        Some(lexopt::Arg::Long("list")) => {
            RULES.iter().for_each(|(name, _)| println!("{name}"));
            return Ok(ExitCode::SUCCESS);
        }
        Some(other) => return Err(other.unexpected()).context("usage: cargo xtask tidy [--list]"),
    }
    let violations = violations(&Workspace::load()?);
    for Violation { path, line, sentence } in &violations {
        println!("{path}:{line}: {sentence}");
    }
    if violations.is_empty() {
        println!("tidy: {} rules hold", RULES.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} broken", violations.len());
    Ok(ExitCode::FAILURE)
}

fn violations(workspace: &Workspace) -> Vec<Violation> {
    let mut found: Vec<Violation> = RULES.iter().flat_map(|(_, rule)| rule(workspace)).collect();
    found.sort();
    found
}

/// How many crates from elsewhere the privileged program links.
pub(crate) fn linked_by_the_privileged_program() -> Result<usize> {
    Ok(links::linked(&Metadata::load()?).len())
}

impl Workspace {
    fn load() -> Result<Self> {
        let root = crate::workspace::root()?;
        let texts = source::texts(&root)?;
        let sources = texts.iter().filter(|text| text.path.ends_with(".rs"));
        Ok(Self {
            sources: sources.map(Source::parse).collect::<Result<_>>()?,
            metadata: Metadata::load()?,
            places: places::of_this_machine(&root),
            texts,
        })
    }

    /// The manifest of a workspace member and the line of it that names `needle` (1 when none does).
    fn manifest_line(&self, manifest: &str, needle: &str) -> usize {
        let text = self.texts.iter().find(|text| text.path == manifest);
        text.and_then(|text| text.line_of(needle)).unwrap_or(1)
    }
}

#[cfg(test)]
impl Workspace {
    /// A workspace of these files alone, `(path, content)`.
    fn of(files: &[(&str, &str)]) -> Self {
        let texts: Vec<Text> = files.iter().map(|(path, content)| Text::new(path, content)).collect();
        let sources = texts.iter().filter(|text| text.path.ends_with(".rs"));
        Self { sources: sources.map(|text| Source::parse(text).unwrap()).collect(), texts, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines a rule complains about in one planted file.
    pub(super) fn lines(rule: Rule, path: &str, content: &str) -> Vec<usize> {
        rule(&Workspace::of(&[(path, content)])).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn violations_come_sorted_by_place() {
        let workspace = Workspace::of(&[
            ("crates/spec/src/b.rs", "unsafe fn f() {}"),
            ("crates/spec/src/a.rs", "\n#[allow(dead_code)]\nunsafe fn f() {}"),
        ]);
        let found: Vec<_> = violations(&workspace).into_iter().map(|v| (v.path, v.line)).collect();
        assert_eq!(
            found,
            [
                ("crates/spec/src/a.rs".to_owned(), 2),
                ("crates/spec/src/a.rs".to_owned(), 3),
                ("crates/spec/src/b.rs".to_owned(), 1),
            ]
        );
    }
}
