//! `bulkhead measure`: what is typed, and which part does it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_measure::error::Error;
use bulkhead_measure::guard;
use bulkhead_measure::plan::{Axis, Size};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, FromArgMatches as _, Subcommand, ValueEnum};
use serde::Serialize;

use crate::verbs;

mod doctor;
mod one;
mod platforms;
mod progress;
mod report;
mod run;

/// `bulkhead measure`.
pub(crate) const VERB: verbs::Verb = verbs::Verb::of_several(
    &["measure"],
    |command| {
        let about = "Measure what walls hold and what they cost, beside runc and gVisor";
        let command = Verb::augment_subcommands(command).about(about);
        command.subcommand_required(true).arg_required_else_help(true)
    },
    |matches, _| Ok(run(Verb::from_arg_matches(matches)?)?),
);

/// What can be measured and looked at.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure platforms, block by block, into a directory
    Run(RunOptions),
    /// Measure one task on one platform, and print it
    One(OneOptions),
    /// Make the report of a run again, from its raw data
    Report {
        /// The directory of the run, whose journal may be compressed (journal.jsonl.gz)
        dir: PathBuf,
        /// Other runs of the same machine, whose journals answer the published claims that this one leaves open
        #[arg(value_name = "DIR")]
        others: Vec<PathBuf>,
        /// Write the pages into this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Put the kernel's functions into the directories of these sources of it
        #[arg(long, value_name = "DIR")]
        kernel_source: Option<PathBuf>,
    },
    /// Set two runs, or two machines, against each other
    Compare {
        /// The directory of the earlier run
        earlier: PathBuf,
        /// The directory of the later run
        later: PathBuf,
        /// Write pages into this directory instead of printing
        #[arg(long, value_name = "DIR", conflicts_with = "format")]
        out: Option<PathBuf>,
        /// How it is printed
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,
    },
    /// List the platforms: which are here, and how to get the others
    Platforms {
        /// How it is printed
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,
    },
    /// Tell what can be measured on this machine, and why not more
    Doctor {
        /// How it is printed
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,
    },
    /// Take away what a run that is killed leaves in this directory; every run starts its own
    #[command(hide = true)]
    Guard {
        /// The directory
        dir: PathBuf,
    },
}

/// How something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// Options of `run`.
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead measure run [OPTIONS]")]
pub(crate) struct RunOptions {
    /// NAME or NAME=PATH, comma-separated; bare always takes part [default: all that are here]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = NonEmptyStringValueParser::new())]
    platforms: Vec<String>,
    /// Of performance, isolation and noninterference [default: all; in a guest isolation]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = axis)]
    axes: Option<Vec<Axis>>,
    /// Only tasks of these names, or with one of these in it, such as boot or "beside fork"
    #[arg(long, value_name = "LIST", value_parser = NonEmptyStringValueParser::new())]
    tasks: Vec<String>,
    /// A few rows, in minutes (the default)
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All rows, until they are known well
    #[arg(long)]
    full: bool,
    /// Also real programs, such as databases, of the root DIR [default: this machine's or the cache]
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with = "in_guest")]
    heavy: Option<Option<PathBuf>>,
    /// End after this time, such as 90s, 5m or 2h; what is measured by then counts
    #[arg(long, value_name = "TIME", value_parser = time)]
    budget: Option<Duration>,
    /// Where the journal is kept; one that is there goes on
    #[arg(long, value_name = "DIR", default_value = "measure")]
    out: PathBuf,
    /// The static program bulkload [default: beside this program, or in PATH]
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Isolation in an emulated machine, with the kernel vmlinuz in DIR [default: of the cache]
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    in_guest: Option<Option<PathBuf>>,
    /// Put the kernel's functions into the directories of these sources of it
    #[arg(long, value_name = "DIR")]
    kernel_source: Option<PathBuf>,
}

/// Options of `one`.
#[derive(Args, Debug)]
pub(crate) struct OneOptions {
    /// The task, such as boot, exec or cpu; a wrong one lists them all
    task: String,
    /// NAME or NAME=PATH
    #[arg(long, value_name = "PLATFORM")]
    platform: String,
    /// How often
    #[arg(long, value_name = "N", default_value = "10")]
    blocks: NonZeroUsize,
    /// How the numbers are printed: json is one object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// The static program bulkload [default: beside this program, or in PATH]
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
}

/// Does what was typed.
fn run(verb: Verb) -> Result<ExitCode, Error> {
    match verb {
        Verb::Run(options) => run::run(&options),
        Verb::One(options) => one::run(&options),
        Verb::Report { dir, others, out, kernel_source } => {
            report::run(&dir, &others, out.as_ref(), kernel_source.as_deref())
        }
        Verb::Compare { earlier, later, out, format } => {
            report::compare(&earlier, &later, out.as_ref(), format)
        }
        Verb::Platforms { format } => platforms::run(format),
        Verb::Doctor { format } => doctor::run(format),
        Verb::Guard { dir } => guard::keep(&dir).map(|()| ExitCode::SUCCESS),
    }
}

impl RunOptions {
    /// The axes to be measured. What an emulated machine takes for something says nothing of a real one.
    fn axes(&self) -> Result<Vec<Axis>, Error> {
        let alone = [Axis::Isolation];
        match (&self.axes, &self.in_guest) {
            (None, None) => Ok(Axis::ALL.to_vec()),
            (None, Some(_)) => Ok(alone.to_vec()),
            (Some(axes), Some(_)) if axes.iter().any(|axis| !alone.contains(axis)) => Err(Error::Unusable(
                "--in-guest measures isolation only: times and rates of an emulated machine say nothing of a real one".to_owned(),
            )),
            (Some(axes), _) => Ok(axes.clone()),
        }
    }

    /// What a guest is told of them: its platforms, files and machine are its own.
    fn of_guest(&self, axes: &[Axis]) -> Vec<String> {
        let axes = Vec::from_iter(axes.iter().map(|axis| axis.name())).join(",");
        let mut words = vec!["--axes".to_owned(), axes];
        words.extend(self.full.then(|| "--full".to_owned()));
        words.extend(self.tasks.iter().flat_map(|list| ["--tasks".to_owned(), list.clone()]));
        if let Some(budget) = self.budget {
            words.extend(["--budget".to_owned(), format!("{}s", budget.as_secs())]);
        }
        words
    }

    /// For whoever wants to do the same, as a shell takes it: what was measured how much. Paths belong to the machine and are left
    /// out.
    fn told(&self, axes: &[Axis]) -> String {
        let mut words = self.of_guest(axes);
        words.extend((!self.full).then(|| "--quick".to_owned()));
        words.extend(self.heavy.as_ref().map(|_| "--heavy".to_owned()));
        Vec::from_iter(words.iter().map(|word| quoted(word))).join(" ")
    }

    fn size(&self) -> Size {
        if self.full { Size::Full } else { Size::Quick }
    }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.,:/=+".contains(letter);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// JSON for programs, on a line for each of its fields.
fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| Error::System { what: "make JSON".to_owned(), source: source.into() })?;
    println!("{text}");
    Ok(())
}

/// The program that takes away what is left when this process is killed: this one.
fn guard_program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// The program that is run in every sandbox.
fn workload(given: Option<&PathBuf>) -> Result<PathBuf, Error> {
    given.cloned().or_else(bulkhead_measure::platform::find::workload).ok_or_else(|| {
        Error::Unusable(
            "the program bulkload, which is run in every sandbox, is neither beside this program nor in PATH; \
             cargo xtask build bulkload makes it, --workload FILE names it"
                .to_owned(),
        )
    })
}

/// One of the axioms by its name.
fn axis(text: &str) -> Result<Axis, String> {
    Axis::ALL
        .into_iter()
        .find(|axis| axis.name() == text)
        .ok_or_else(|| format!("the axes are {}", Vec::from_iter(Axis::ALL.map(Axis::name)).join(", ")))
}

/// A number and a unit: `90s`, `5m`, `2h`.
fn time(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|unit| {
        Some((unit, [('s', 1), ('m', 60), ('h', 3600)].into_iter().find(|(letter, _)| *letter == unit)?.1))
    });
    let (unit, seconds) = unit.ok_or("a number and s, m or h, such as 90s or 5m")?;
    let number: u64 =
        text.trim_end_matches(unit).parse().map_err(|_| format!("{text} does not begin with a number"))?;
    number
        .checked_mul(seconds)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or("no time".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Options of `run` alone.
    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        options: RunOptions,
    }

    pub(super) fn typed(words: &[&str]) -> RunOptions {
        Typed::try_parse_from(std::iter::once("run").chain(words.iter().copied())).unwrap().options
    }

    #[test]
    fn a_guest_is_for_isolation() {
        let axes = |words: &[&str]| typed(words).axes();
        assert_eq!(axes(&[]).unwrap(), Axis::ALL);
        assert_eq!(axes(&["--in-guest"]).unwrap(), [Axis::Isolation]);
        assert_eq!(axes(&["--in-guest", "--axes", "isolation"]).unwrap(), [Axis::Isolation]);
        let chosen = axes(&["--axes", "performance,isolation"]).unwrap();
        assert_eq!(chosen, [Axis::Performance, Axis::Isolation]);
        let error = axes(&["--in-guest", "--axes", "isolation,performance"]).unwrap_err().to_string();
        assert!(error.starts_with("--in-guest measures isolation only"), "{error}");
    }

    #[test]
    fn options_are_told_as_a_shell_takes_them() {
        let words = ["--tasks", "density, to 100", "--tasks", "boot,it's", "--full", "--budget", "2m"];
        let told = typed(&words).told(&[Axis::Performance]);
        let expected =
            r"--axes performance --full --tasks 'density, to 100' --tasks 'boot,it'\''s' --budget 120s";
        assert_eq!(told, expected);
        assert_eq!(typed(&[]).told(&[Axis::Isolation]), "--axes isolation --quick");
    }

    #[test]
    fn times_are_read() {
        for (text, expected) in
            [("90s", Some(90)), ("5m", Some(300)), ("2h", Some(7200)), ("0s", None), ("5", None), ("m", None)]
        {
            assert_eq!(time(text).ok(), expected.map(Duration::from_secs), "wrong time for {text}");
        }
    }
}
