//! The command line.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};

use crate::error::{Error, Result};
use crate::{heavy, held, hog, probe, take, work};

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Say what there is.
    Help,
    /// Say that the program runs, then wait for the end of standard input.
    Ready,
    /// End at once: what the task `exec` executes.
    Nothing,
    /// Say so, and end.
    Hello,
    /// Do a fixed mix of tasks when told to, with files in this directory.
    Mix(PathBuf),
    /// Stop, then become another program.
    Held(held::Order),
    /// Do a task.
    Work(work::Order),
    /// Take a given amount of something.
    Take(take::Order),
    /// Take what can be had.
    Hog(hog::Order),
    /// Try a wall.
    Probe(probe::Order),
    /// Have programs of others work.
    Heavy(heavy::Order),
}

/// How long anything may take, seconds.
const LONGEST: f64 = 3600.0;

/// How long a heavy load may take, seconds; its programs take whole ones.
const LONGEST_LOAD: u32 = 3600;

/// The most that a second is divided into.
const FASTEST: f64 = 1e6;

/// The most processes of a hog at a time.
const MOST_TASKS: usize = 4096;

/// The most memory or disk of a hog, MiB.
const MOST_MIB: usize = 1 << 20;

/// The most that is taken of something: MiB, processes, files.
const MOST_AMOUNT: usize = 1 << 16;

/// Options as they were typed.
#[derive(Debug, Default)]
struct Typed {
    seconds: Option<f64>,
    rate: Option<f64>,
    then: Option<f64>,
    is_held: bool,
    holds_on: bool,
    stays: bool,
    amount: Option<usize>,
    tasks: Option<usize>,
    mib: Option<usize>,
    directory: Option<PathBuf>,
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation> {
    let mut parser = Parser::from_args(arguments);
    match parser.next()? {
        None | Some(Arg::Long("help") | Arg::Short('h')) => Ok(Invocation::Help),
        Some(Arg::Value(verb)) => match verb.to_str() {
            Some("work") => work_order(&mut parser),
            Some("hog") => hog_order(&mut parser),
            Some("take") => take_order(&mut parser),
            Some("probe") => probe_order(&mut parser),
            Some("heavy") => heavy_order(&mut parser),
            Some("ready") => end(&mut parser, Invocation::Ready),
            Some("mix") => mix_order(&mut parser),
            Some("held") => held_order(&mut parser),
            Some("nothing") => end(&mut parser, Invocation::Nothing),
            Some("hello") => end(&mut parser, Invocation::Hello),
            _ => Err(Error::Usage(format!("there is no verb {}", verb.display()))),
        },
        Some(other) => Err(other.unexpected().into()),
    }
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut text = "\
bulkload work TASK [--seconds S] [--rate R | --then-rate R] [--directory D] [--one-processor]
  does a task for S seconds (1), without pause or R times a second, or first so and then so; in D it has its file (.)
  --one-processor: stays on the last one that it may run on, with its other processes
"
    .to_owned();
    for work::Kind { name, says, .. } in work::KINDS {
        // A string takes everything.
        let _ = writeln!(text, "    {name:18} {says}");
    }
    text.push_str(
        "\
bulkload hog KIND [--seconds S] [--tasks N] [--mib M] [--directory D] [--held] [--hold-on]
  takes what it can get for S seconds (1), in N processes, M MiB in all; ends with its parent
  --held: writes R when it has begun, F when it is refused more, and ends with its standard input
  --hold-on: where the kernel is short of memory, the hog memory does not offer itself
",
    );
    for hog::Kind { name, says, .. } in hog::KINDS {
        let _ = writeln!(text, "    {name:18} {says}");
    }
    text.push_str(
        "\
bulkload take KIND --amount N [--directory D]
  takes so much and tells how much of it there was
",
    );
    for take::Kind { name, says, .. } in take::KINDS {
        let _ = writeln!(text, "    {name:18} {says}");
    }
    text.push_str(
        "\
bulkload probe NAME ARGUMENT…
  attempts something on what is outside, once
",
    );
    for probe::Kind { name, takes, says, .. } in probe::KINDS {
        let _ = writeln!(text, "    {name} {takes}\n        {says}");
    }
    text.push_str(
        "\
bulkload heavy LOAD [--seconds S] [--prepare]
  has programs of others, which are in the root, work for S whole seconds (2); --prepare does what comes before the first time
",
    );
    for heavy::Kind { name, says, .. } in heavy::KINDS {
        let _ = writeln!(text, "    {name:18} {says}");
    }
    text.push_str(
        "\
bulkload ready
  writes R at once and ends with its standard input
bulkload hello
  writes H and ends
bulkload nothing
  ends at once
bulkload mix [--directory D]
  writes R, and after a byte of standard input does a fixed mix of tasks, writes D and ends with standard input
bulkload held PROGRAM [ARGUMENT…]
  stops by SIGSTOP, and after SIGCONT becomes the program
",
    );
    text
}

fn work_order(parser: &mut Parser) -> Result<Invocation> {
    let (name, typed) = named(parser)?;
    let Typed { seconds, rate, then, is_held, holds_on, stays, amount, tasks, mib, directory } = typed;
    if tasks.is_some() || mib.is_some() || is_held || holds_on {
        return Err(Error::Usage("--tasks, --mib, --held and --hold-on are for hogs".to_owned()));
    }
    no_amount(amount)?;
    let kind = work::KINDS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| Error::Usage(format!("there is no task {name}")))?;
    if then.is_some() && (rate.is_some() || kind.is_always_open()) {
        return Err(Error::Usage("--then-rate comes after a closed loop, and there is none".to_owned()));
    }
    Ok(Invocation::Work(work::Order {
        kind,
        limit: limit(seconds),
        rate,
        then,
        stays,
        directory: directory.unwrap_or_else(here),
    }))
}

fn hog_order(parser: &mut Parser) -> Result<Invocation> {
    let (name, typed) = named(parser)?;
    let Typed { seconds, rate, then, is_held, holds_on, stays, amount, tasks, mib, directory } = typed;
    no_amount(amount)?;
    no_place(stays)?;
    if rate.or(then).is_some() {
        return Err(Error::Usage("--rate is for tasks: a hog knows no measure".to_owned()));
    }
    let kind = hog::KINDS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| Error::Usage(format!("there is no hog {name}")))?;
    if holds_on && name != "memory" {
        return Err(Error::Usage(format!("--hold-on: the hog {name} takes no memory to hold on to")));
    }
    let tasks = tasks.unwrap_or_else(kind.tasks);
    let mib = match (kind.mib, mib) {
        (None, Some(_)) => return Err(Error::Usage(format!("--mib: the hog {name} takes nothing of that"))),
        (Some(_), Some(mib)) if mib < tasks => {
            return Err(Error::Usage(format!("--mib {mib}: each of {tasks} tasks takes 1 at least")));
        }
        (None, None) => 0,
        (Some(_), Some(mib)) => mib,
        (Some(default), None) => default(tasks),
    };
    Ok(Invocation::Hog(hog::Order {
        kind,
        limit: limit(seconds),
        tasks,
        mib,
        directory: directory.unwrap_or_else(here),
        is_held,
        holds_on,
    }))
}

fn take_order(parser: &mut Parser) -> Result<Invocation> {
    let (name, typed) = named(parser)?;
    let Typed { seconds, rate, then, is_held, holds_on, stays, amount, tasks, mib, directory } = typed;
    if seconds.or(rate).or(then).is_some() || tasks.or(mib).is_some() || is_held || holds_on {
        return Err(Error::Usage("take knows --amount and --directory only".to_owned()));
    }
    no_place(stays)?;
    let kind = take::KINDS.iter().find(|kind| kind.name == name);
    Ok(Invocation::Take(take::Order {
        kind: kind.ok_or_else(|| Error::Usage(format!("there is nothing called {name} to take")))?,
        amount: amount.ok_or_else(|| Error::Usage("--amount says how much".to_owned()))?,
        directory: directory.unwrap_or_else(here),
    }))
}

fn mix_order(parser: &mut Parser) -> Result<Invocation> {
    let mut directory = here();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("directory") => directory = parser.value()?.into(),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Invocation::Mix(directory))
}

fn heavy_order(parser: &mut Parser) -> Result<Invocation> {
    let (mut name, mut seconds, mut is_preparing) = (None, 2, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) if name.is_none() => name = Some(value.string()?),
            Arg::Long("seconds") => seconds = number(parser, "--seconds", 1, LONGEST_LOAD)?,
            Arg::Long("prepare") => is_preparing = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let name = name.ok_or_else(|| Error::Usage("a name comes behind the verb".to_owned()))?;
    let kind = heavy::KINDS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| Error::Usage(format!("there is no heavy load {name}")))?;
    Ok(Invocation::Heavy(heavy::Order { kind, seconds, is_preparing }))
}

fn held_order(parser: &mut Parser) -> Result<Invocation> {
    let mut words = parser.raw_args()?;
    let program = words.next().ok_or_else(|| Error::Usage("a program comes behind the verb".to_owned()))?;
    Ok(Invocation::Held(held::Order { program, arguments: words.collect() }))
}

fn no_amount(amount: Option<usize>) -> Result<()> {
    amount.map_or(Ok(()), |_| Err(Error::Usage("--amount is for take".to_owned())))
}

fn no_place(stays: bool) -> Result<()> {
    if stays { Err(Error::Usage("--one-processor is for tasks".to_owned())) } else { Ok(()) }
}

fn probe_order(parser: &mut Parser) -> Result<Invocation> {
    let mut words = Vec::from_iter(parser.raw_args()?);
    if words.is_empty() {
        return Err(Error::Usage("a name comes behind the verb".to_owned()));
    }
    let name = words.remove(0);
    let kind = probe::KINDS.iter().find(|kind| name == kind.name);
    let kind = kind.ok_or_else(|| Error::Usage(format!("there is no probe {}", name.display())))?;
    Ok(Invocation::Probe(probe::Order { kind, words }))
}

/// The name and the options behind it.
fn named(parser: &mut Parser) -> Result<(String, Typed)> {
    let mut name = None;
    let mut typed = Typed::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) if name.is_none() => name = Some(value.string()?),
            Arg::Long("seconds") => typed.seconds = Some(number(parser, "--seconds", 0.001, LONGEST)?),
            Arg::Long("rate") => typed.rate = Some(number(parser, "--rate", 0.001, FASTEST)?),
            Arg::Long("then-rate") => typed.then = Some(number(parser, "--then-rate", 0.001, FASTEST)?),
            Arg::Long("held") => typed.is_held = true,
            Arg::Long("hold-on") => typed.holds_on = true,
            Arg::Long("one-processor") => typed.stays = true,
            Arg::Long("amount") => typed.amount = Some(number(parser, "--amount", 1, MOST_AMOUNT)?),
            Arg::Long("tasks") => typed.tasks = Some(number(parser, "--tasks", 1, MOST_TASKS)?),
            Arg::Long("mib") => typed.mib = Some(number(parser, "--mib", 1, MOST_MIB)?),
            Arg::Long("directory") => typed.directory = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((name.ok_or_else(|| Error::Usage("a name comes behind the verb".to_owned()))?, typed))
}

fn number<T>(parser: &mut Parser, flag: &str, least: T, most: T) -> Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>
        + PartialOrd
        + Copy
        + std::fmt::Display,
{
    let value: T = parser.value()?.parse()?;
    if value >= least && value <= most {
        Ok(value)
    } else {
        Err(Error::Usage(format!("{flag} {value}: it must lie between {least} and {most}")))
    }
}

fn limit(seconds: Option<f64>) -> Duration {
    Duration::from_secs_f64(seconds.unwrap_or(1.0))
}

fn here() -> PathBuf {
    PathBuf::from(".")
}

fn end(parser: &mut Parser, invocation: Invocation) -> Result<Invocation> {
    match parser.next()? {
        None => Ok(invocation),
        Some(argument) => Err(argument.unexpected().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_task_has_its_options_in_any_order() {
        for line in ["work fork --seconds 2 --rate 50", "work --rate 50 --seconds=2 fork"] {
            let Ok(Invocation::Work(order)) = parsed(line) else { panic!("{line} is no task") };
            assert_eq!(
                (order.kind.name, order.limit, order.rate),
                ("fork", Duration::from_secs(2), Some(50.0))
            );
        }
    }

    #[test]
    fn a_hog_has_defaults() {
        let Ok(Invocation::Hog(order)) = parsed("hog memory") else { panic!("it is no hog") };
        assert_eq!((order.limit, order.tasks, order.mib), (Duration::from_secs(1), 1, 256));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (line, expected) in [
            ("play", "there is no verb play"),
            ("work", "a name comes behind the verb"),
            ("work juggle", "there is no task juggle"),
            ("hog fork --rate 5", "--rate is for tasks: a hog knows no measure"),
            ("work fork --tasks 5", "--tasks, --mib, --held and --hold-on are for hogs"),
            ("work fork --held", "--tasks, --mib, --held and --hold-on are for hogs"),
            ("work timer --then-rate 5", "--then-rate comes after a closed loop, and there is none"),
            ("work fork --rate 2 --then-rate 5", "--then-rate comes after a closed loop, and there is none"),
            ("hog fork --amount 5", "--amount is for take"),
            ("hog fork --one-processor", "--one-processor is for tasks"),
            ("take files --amount 5 --one-processor", "--one-processor is for tasks"),
            ("take memory", "--amount says how much"),
            ("take memory --amount 5 --seconds 2", "take knows --amount and --directory only"),
            ("take a --amount 5", "there is nothing called a to take"),
            ("work fork --seconds 0", "--seconds 0: it must lie between 0.001 and 3600"),
            ("work fork --rate NaN", "--rate NaN: it must lie between 0.001 and 1000000"),
            ("hog fork --tasks 5000", "--tasks 5000: it must lie between 1 and 4096"),
            ("probe", "a name comes behind the verb"),
            ("probe deeper", "there is no probe deeper"),
            ("hog fork --hold-on", "--hold-on: the hog fork takes no memory to hold on to"),
            ("hog cpu --mib 5", "--mib: the hog cpu takes nothing of that"),
            ("hog disk --mib 1", "--mib 1: each of 2 tasks takes 1 at least"),
            ("held", "a program comes behind the verb"),
            ("heavy metal", "there is no heavy load metal"),
            ("heavy", "a name comes behind the verb"),
            ("heavy redis --seconds 0", "--seconds 0: it must lie between 1 and 3600"),
            ("mix drinks", "unexpected argument \"drinks\""),
            ("ready steady", "unexpected argument \"steady\""),
        ] {
            let error = parsed(line).expect_err(line).to_string();
            assert_eq!(error.lines().next(), Some(expected), "`{line}` was refused otherwise");
        }
    }

    #[test]
    fn help_names_everything() {
        let help = help();
        for kind in work::KINDS {
            assert!(help.contains(kind.name), "{} is missing", kind.name);
        }
        for kind in take::KINDS {
            assert!(help.contains(kind.says), "{} is missing", kind.name);
        }
        for kind in hog::KINDS {
            assert!(help.contains(kind.name), "{} is missing", kind.name);
        }
        for kind in heavy::KINDS {
            assert!(help.contains(kind.says), "{} is missing", kind.name);
        }
    }
}
