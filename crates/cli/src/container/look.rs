//! Verbs that look at containers.

use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use bulkhead_engine::{Entry, Follow, Logs, Stream};
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};
use crate::home::Home;
use crate::output::quantity::{now, rfc3339};
use crate::output::{escape, table};
use crate::verbs::Operation;
use crate::when::moment;

/// Which part of a log is printed, and how.
#[derive(Args, Debug)]
pub(crate) struct LogRange {
    /// Wait for more
    #[arg(short, long)]
    follow: bool,
    /// Nothing before this time, such as 2026-01-31T12:00:00Z or 42m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing after this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_negative_numbers = true)]
    tail: String,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
}

impl LogRange {
    /// What is to be read, and whether times are printed.
    ///
    /// # Errors
    /// Times and numbers that are none.
    pub(crate) fn logs(&self) -> Result<(Logs, bool), Failure> {
        let LogRange { follow, since, until, tail, timestamps } = self;
        let now = now();
        let logs = Logs {
            since: since.as_deref().map(|text| moment(text, now)).transpose()?,
            until: until.as_deref().map(|text| moment(text, now)).transpose()?,
            tail: lines(tail)?,
            follow: if *follow { Follow::UntilEnd } else { Follow::No },
        };
        Ok((logs, *timestamps))
    }
}

/// Print what a container said
#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    /// Begin each line with what it says of its container
    #[arg(long)]
    details: bool,
    #[command(flatten)]
    range: LogRange,
    /// The container
    container: String,
}

impl Operation for LogOptions {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let LogOptions { details, range, container } = self;
        let (logs, time) = range.logs()?;
        let before = Before { time, details };
        let mut failed = None;
        home.engine()?.logs(&container, &logs, &mut |entry| match print(entry, before) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
    }
}

/// How many lines; none is all.
fn lines(text: &str) -> Result<Option<u64>, Failure> {
    // As docker, for which a negative number is all.
    if text == "all" || text.starts_with('-') && text[1..].parse::<u64>().is_ok() {
        return Ok(None);
    }
    let number = text.parse().map(Some);
    number.map_err(|_| Failure::new(format!("--tail {text:?} is neither a number nor all")).code(NOT_STARTED))
}

/// What stands before a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    pub(crate) time: bool,
    pub(crate) details: bool,
}

/// Prints a line on the stream on which it was said.
pub(crate) fn print(entry: &Entry<'_>, before: Before) -> io::Result<()> {
    match entry.stream {
        Stream::Stdout => write_entry(&mut io::stdout(), io::stdout().is_terminal(), entry, before),
        Stream::Stderr => write_entry(&mut io::stderr(), io::stderr().is_terminal(), entry, before),
    }
}

fn write_entry(to: &mut dyn Write, is_terminal: bool, entry: &Entry<'_>, before: Before) -> io::Result<()> {
    let mut line = Vec::new();
    if before.time {
        line.extend(format!("{} ", rfc3339(entry.time)).into_bytes());
    }
    if before.details {
        let pair =
            |(name, value): (&String, &String)| format!("{}={}", escape::query(name), escape::query(value));
        line.extend(Vec::from_iter(entry.attributes.iter().map(pair)).join(",").into_bytes());
        line.push(b' ');
    }
    if is_terminal {
        line.extend(escape::log(entry.text.as_bytes()));
    } else {
        line.extend(entry.text.as_bytes());
    }
    to.write_all(&line)?;
    to.flush()
}

/// List the processes of a container
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead top CONTAINER [OPTIONS OF PS]")]
pub(crate) struct Top {
    /// The container, and options of ps(1)
    #[arg(required = true, trailing_var_arg = true, value_name = "CONTAINER [OPTIONS OF PS]")]
    words: Vec<String>,
}

impl Operation for Top {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let (container, options) =
            self.words.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest));
        let found = home.engine()?.top(container, options)?;
        let rows = std::iter::once(&found.titles).chain(&found.rows);
        let rows = rows.map(|row| Vec::from_iter(row.iter().map(|cell| escape::word(cell))));
        io::stdout().write_all(table::wide(&Vec::from_iter(rows)).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
