//! Questions before much is removed, and what is said afterwards.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use bulkhead_engine::Filters;
use clap::Args;

use crate::failure::Failure;
use crate::output::quantity::{decimal, now};
use crate::when::moment;

/// What the verbs take that remove all that is not used.
#[derive(Args, Debug)]
pub(crate) struct Pruning {
    /// Only those that fit, such as label=KEY or, but for volumes, until=24h
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Pruning {
    /// Tells whether there is a filter of this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.filter.iter().any(|filter| filter.split('=').next().map(str::trim) == Some(key))
    }

    /// Reads the filters, of which each key must be known, and then asks whether to go on; nothing when not.
    ///
    /// # Errors
    /// A filter that cannot be; where nobody can answer.
    pub(crate) fn agreed(&self, warning: &str, keys: &[&'static str]) -> Result<Option<Filters>, Failure> {
        Ok(self.agreed_until(warning, keys)?.map(|(filters, _)| filters))
    }

    /// As [`Pruning::agreed`], and reads before when that must have been made which goes, if [`UNTIL`] is known and given.
    pub(crate) fn agreed_until(
        &self,
        warning: &str,
        keys: &[&'static str],
    ) -> Result<Option<(Filters, Option<u64>)>, Failure> {
        let filters = Filters::parse(&self.filter, keys)?;
        let until = until(&filters)?;
        Ok(self.asking.agrees(warning)?.then_some((filters, until)))
    }
}

/// The key of a filter that names a moment, as docker's.
pub(crate) const UNTIL: &str = "until";

/// Reads the moment before which something must have been made, in nanoseconds since 1970.
///
/// # Errors
/// What is no moment.
pub(crate) fn until(filters: &Filters) -> Result<Option<u64>, Failure> {
    let moments = filters.values(UNTIL).map(|text| moment(text, now()));
    // Of several the earliest, which all fit.
    Ok(moments.collect::<Result<Vec<_>, _>>()?.into_iter().min())
}

/// Says what was removed, in docker's lines; nothing if nothing was.
///
/// # Errors
/// An output that takes nothing.
pub(crate) fn tell_removed(what: &str, names: &[String]) -> io::Result<()> {
    if names.is_empty() { Ok(()) } else { writeln!(io::stdout(), "Deleted {what}:\n{}\n", names.join("\n")) }
}

/// Says how many bytes were freed by what was removed.
///
/// # Errors
/// An output that takes nothing.
pub(crate) fn tell_freed(bytes: u64) -> io::Result<()> {
    writeln!(io::stdout(), "Total reclaimed space: {}", decimal(bytes))
}

/// Whether a person is asked.
#[derive(Args, Debug)]
pub(crate) struct Asking {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Asking {
    /// Asks whether to go on, unless it is to be done without a question.
    ///
    /// # Errors
    /// Where nobody can answer.
    pub(crate) fn agrees(&self, warning: &str) -> Result<bool, Failure> {
        Ok(self.force || ask(warning)? == Answer::Yes)
    }
}

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

/// Asks whether to go on.
///
/// # Errors
/// Where nobody can answer.
fn ask(warning: &str) -> Result<Answer, Failure> {
    let mut error = io::stderr();
    write!(error, "{warning}\nGo on? [y/N] ").and_then(|()| error.flush()).map_err(Failure::doing("ask"))?;
    let mut line = String::new();
    let length = io::stdin().lock().read_line(&mut line).map_err(Failure::doing("read the answer"))?;
    if length == 0 && !io::stdin().is_terminal() {
        return Err(Failure::new("nobody is there to be asked").hint("-f does it without a question"));
    }
    let is_yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if is_yes { Answer::Yes } else { Answer::No })
}
