//! `cargo xtask fuzz`: gives the fuzzers more time, and keeps count of all the time they ever had.
//!
//! ```text
//! CACHE/fuzz/TARGET/corpus      what the fuzzer found worth keeping; a later run goes on from there
//! CACHE/fuzz/TARGET/findings    inputs that broke a promise
//! CACHE/fuzz/TARGET/total.json  executions and seconds of all runs, those that docs/fuzzing.md tells of included
//! fuzz/seeds/TARGET             the small part of the corpus that tests replay
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use lexopt::Parser;
use serde::{Deserialize, Serialize};

use crate::{cache, invoke, marked, value, workspace};

const USAGE: &str = "usage: cargo xtask fuzz [--minutes N] [--write] [TARGET]…";

/// The page that tells the totals, and its line after which they stand.
const PAGE: &str = "docs/fuzzing.md";
const BEGIN: &str = "<!-- begin: cargo xtask fuzz --write -->";

/// An input that is kept has at most this many bytes, and a target at most this many of them.
const LONGEST_SEED: u64 = 1024;
const MOST_SEEDS: usize = 64;

/// What was typed.
#[derive(Debug, PartialEq)]
struct Arguments {
    /// For each target; 0 to fuzz no more.
    minutes: u64,
    /// Put the totals into docs/fuzzing.md, and a small part of the corpora into the checkout.
    write: bool,
    /// All when empty.
    targets: Vec<String>,
}

/// All that a target's fuzzer ever did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Total {
    executions: u64,
    seconds: u64,
    /// Runs that ended with a broken promise.
    findings: u64,
}

/// One target and its places.
struct Target {
    name: String,
    corpus: PathBuf,
    findings: PathBuf,
    total: PathBuf,
    seeds: PathBuf,
}

/// Fuzzes each target in turn; fails when one found something.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let arguments = parse(parser)?;
    let known = names()?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !known.contains(name)) {
        bail!("no target {unknown}; there are {}", known.join(", "));
    }
    ensure!(
        !arguments.write || arguments.targets.is_empty(),
        "--write is about all targets: leave their names away"
    );
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    let targets = chosen.iter().map(|name| Target::new(name)).collect::<Result<Vec<_>>>()?;
    if arguments.minutes > 0 {
        ensure!(
            invoke::in_path("cargo-fuzz"),
            "cargo-fuzz is not in PATH: cargo install cargo-fuzz; it needs a nightly toolchain, too"
        );
    }
    let mut broken = Vec::new();
    for target in &targets {
        if arguments.minutes > 0 && !target.fuzz(arguments.minutes * 60)? {
            broken.push(target.name.as_str());
        }
        if arguments.write {
            target.reduce()?;
        }
    }
    let totals = targets.iter().map(|target| Ok((target.name.as_str(), target.total()?)));
    let table = table(&totals.collect::<Result<Vec<_>>>()?);
    println!("\n{table}");
    if arguments.write {
        marked::insert(&workspace::root()?.join(PAGE), BEGIN, &table)?;
    }
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("a promise was broken in: {}", broken.join(", "));
    Ok(ExitCode::FAILURE)
}

fn parse(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments { minutes: 10, write: false, targets: Vec::new() };
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("minutes") => arguments.minutes = value::number(&mut parser)?,
            lexopt::Arg::Long("write") => arguments.write = true,
            lexopt::Arg::Value(name) => arguments.targets.push(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    Ok(arguments)
}

/// The targets, by their programs.
fn names() -> Result<Vec<String>> {
    let programs = workspace::root()?.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&programs).with_context(|| format!("list {}", programs.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", programs.display()))?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

impl Target {
    fn new(name: &str) -> Result<Self> {
        let place = cache::directory()?.join("fuzz").join(name);
        let target = Self {
            name: name.to_owned(),
            corpus: place.join("corpus"),
            findings: place.join("findings"),
            total: place.join("total.json"),
            seeds: workspace::root()?.join("fuzz/seeds").join(name),
        };
        for directory in [&target.corpus, &target.findings] {
            fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        Ok(target)
    }

    /// All runs that the cache or the page knows of: a cache is cleared, or another machine's, and what was told stays.
    fn total(&self) -> Result<Total> {
        let page = workspace::root()?.join(PAGE);
        let page = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
        let told = told(&page, &self.name).unwrap_or_default();
        let counted: Total = match fs::read_to_string(&self.total) {
            Ok(text) => {
                serde_json::from_str(&text).with_context(|| format!("read {}", self.total.display()))?
            }
            Err(_) => Total::default(),
        };
        Ok(if counted.executions < told.executions { told } else { counted })
    }

    /// Runs the fuzzer, and adds to the total; true when it found nothing.
    fn fuzz(&self, seconds: u64) -> Result<bool> {
        println!("\n=== {}: {seconds} s", self.name);
        let mut command = self.fuzzer(&[&self.corpus, &self.seeds])?;
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", self.findings.display()));
        // Seconds of the clock, and a busy machine may let a fuzzer wait for some.
        command.args(["-print_final_stats=1", "-timeout=60", "-verbosity=0"]);
        let start = Instant::now();
        let output = command.stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
        let output = output.with_context(|| format!("start {}", invoke::line(&command)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let Some(executions) = executions(&said) else {
            bail!("the fuzzer of {} did not run:\n{}", self.name, said.trim());
        };
        let mut total = self.total()?;
        total.executions += executions;
        // A finding ends the fuzzer early; building its program is none of its time.
        total.seconds += start.elapsed().as_secs().min(seconds);
        total.findings += u64::from(!output.status.success());
        let text = serde_json::to_string(&total).context("write a total as JSON")?;
        fs::write(&self.total, text).with_context(|| format!("write {}", self.total.display()))?;
        if !output.status.success() {
            println!("{said}");
        }
        println!("{executions} executions, {} in all runs", total.executions);
        Ok(output.status.success())
    }

    /// Puts inputs that reach what no seed does into the checkout, as long as there is room for more of them.
    ///
    /// libFuzzer's own search for the smallest set takes half an hour over some thousand inputs; taking each that adds
    /// something takes seconds, and only a sample of those is kept anyway.
    fn reduce(&self) -> Result<()> {
        let place = self.corpus.with_file_name("reduced");
        cache::remove(&place)?;
        let (seeds, short) = (place.join("seeds"), place.join("short"));
        for (from, to) in [(&self.seeds, &seeds), (&self.corpus, &short)] {
            fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
            for (length, input) in inputs(from)? {
                // What is longer is not kept, so that nobody has to wait for it.
                if from == &self.seeds || length <= LONGEST_SEED {
                    copy(&input, to)?;
                }
            }
        }
        let present = inputs(&seeds)?;
        let mut command = self.fuzzer(&[&seeds, &short])?;
        // An input that takes longer is left out, and the rest goes on.
        invoke::quietly(command.args(["-merge=1", "-verbosity=0", "-timeout=10"]))?;
        let mut found = inputs(&seeds)?;
        found.retain(|input| !present.contains(input));
        let room = MOST_SEEDS.saturating_sub(present.len());
        for (_, input) in sample(&found, room) {
            copy(input, &self.seeds)?;
        }
        cache::remove(&place)
    }

    /// The target's program with libFuzzer in it, its directories given, its options still to come.
    fn fuzzer(&self, directories: &[&Path]) -> Result<Command> {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo", "fuzz", "run", &self.name]).args(directories).arg("--");
        command.current_dir(workspace::root()?).stdin(Stdio::null());
        // What cargo set for this program is about another toolchain.
        for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
            command.env_remove(variable);
        }
        Ok(command)
    }
}

/// The files of a directory by their length, the shortest first.
fn inputs(directory: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry.with_context(|| format!("list {}", directory.display()))?;
        found.push((entry.metadata().context("look at an input")?.len(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn copy(input: &Path, directory: &Path) -> Result<()> {
    let name = input.file_name().context("an input has a name")?;
    fs::copy(input, directory.join(name)).with_context(|| format!("keep {}", input.display()))?;
    Ok(())
}

/// At most so many of a list, with the same distance between them.
fn sample<T>(list: &[T], most: usize) -> impl Iterator<Item = &T> {
    let count = list.len().min(most);
    (0..count).filter_map(move |index| list.get(index * list.len() / count))
}

fn table(totals: &[(&str, Total)]) -> String {
    let mut text = "| target | executions | minutes | findings |\n|---|---:|---:|---:|\n".to_owned();
    for (name, Total { executions, seconds, findings }) in totals {
        text.push_str(&format!("| {name} | {executions} | {} | {findings} |\n", seconds / 60));
    }
    text
}

/// Finds the total of a target on the page, by its row.
fn told(page: &str, name: &str) -> Option<Total> {
    let (_, table) = page.split_once(BEGIN)?;
    let row =
        table.lines().find_map(|line| line.strip_prefix("| ")?.strip_prefix(name)?.strip_prefix(" | "))?;
    let mut numbers = row.trim_end_matches(" |").split(" | ").map(|number| number.parse::<u64>().ok());
    let mut number = || numbers.next().flatten();
    Some(Total { executions: number()?, seconds: number()? * 60, findings: number()? })
}

/// Finds what libFuzzer counted in its closing lines.
fn executions(said: &str) -> Option<u64> {
    let counted = said.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    counted?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |words: &[&str]| parse(Parser::from_args(words));
        let some = parse(&["--minutes", "3", "cli", "state"]).unwrap();
        assert_eq!((some.minutes, some.targets), (3, vec!["cli".to_owned(), "state".to_owned()]));
        assert!(parse(&["--write"]).unwrap().write);
        assert!(parse(&["--minutes", "many"]).is_err());
    }

    #[test]
    fn executions_are_counted_by_the_closing_lines() {
        let said = "INFO: Running\nstat::number_of_executed_units: 1234\nstat::peak_rss_mb: 30\n";
        assert_eq!(executions(said), Some(1234));
        assert_eq!(executions("error: no such target"), None);
    }

    #[test]
    fn what_was_told_is_found_again() {
        let total = Total { executions: 451_208, seconds: 660, findings: 1 };
        let page = format!(
            "| cli | a command line |\n{BEGIN}\n{}",
            table(&[("cli2", Total::default()), ("cli", total)])
        );
        assert_eq!(told(&page, "cli"), Some(total));
        assert_eq!(told(&page, "cli2"), Some(Total::default()));
        assert_eq!((told(&page, "state"), told("no table", "cli")), (None, None));
    }

    #[test]
    fn a_sample_is_taken_of_the_whole_list() {
        let numbers = Vec::from_iter(0..10);
        let sampled = |most| Vec::from_iter(sample(&numbers, most).copied());
        assert_eq!(sampled(3), [0, 3, 6]);
        assert_eq!((sampled(0), sampled(20)), (Vec::new(), numbers.clone()));
        assert_eq!(sample(&[0; 0], 3).count(), 0);
    }

    #[test]
    fn every_program_is_a_target() {
        assert!(names().unwrap().contains(&"cli".to_owned()));
    }
}
