//! `cargo xtask faults`: every system call of the runtime's verbs is made its last, then fails.
//!
//! What is promised, and how it is checked, is in `testkit::sweep`. This is the whole of it; the tests of `runtime` take
//! a sample.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_testkit::sweep::{Fault, Ground, Outcome, Place, Sweep, Verb};
use lexopt::Parser;

use crate::value::{named, number};

const USAGE: &str = "usage: cargo xtask faults [--verb create|start|run|exec|delete|delete-force]… \
[--ground root|rootless]… [--process N] [--from CALL] [--to CALL] [--errors KILL,ENOMEM,ENOSPC,EIO,EINTR] \
[--jobs N] [--runtime PROGRAM] [--verbose]";

/// How often progress is told where nobody watches.
const QUIET: Duration = Duration::from_secs(20);

/// What was typed.
#[derive(Debug, PartialEq)]
struct Arguments {
    verbs: Vec<Verb>,
    grounds: Vec<Ground>,
    /// Only calls of this process.
    process: Option<usize>,
    /// First and last call of each process.
    calls: (usize, usize),
    faults: Vec<Fault>,
    /// Sweeps at once.
    jobs: usize,
    /// Instead of the release binary.
    runtime: Option<PathBuf>,
    /// Tell each outcome.
    verbose: bool,
}

/// Sweeps all that was asked for; fails if a promise was broken.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let arguments = parse(parser)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "the sweep follows processes and makes cgroups, which needs root"
    );
    let runtime = match &arguments.runtime {
        Some(runtime) => std::path::absolute(runtime)?,
        None => crate::shipped::build(&crate::shipped::BULKRUN)?,
    };
    let tasks = tasks(&arguments, &runtime)?;
    let board = Board::new(tasks.len(), arguments.verbose);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| work(&runtime, &tasks, &next, &board));
        }
    });
    Ok(board.summarise())
}

/// One fault to try.
#[derive(Clone, Copy)]
struct Task {
    verb: Verb,
    ground: Ground,
    place: Place,
    fault: Fault,
}

impl Task {
    fn command(&self) -> String {
        let Task { verb, ground, place: Place { process, call, .. }, fault } = self;
        format!(
            "cargo xtask faults --verb {} --ground {} --process {process} --from {call} --to {call} --errors {fault}",
            verb.name(),
            ground.name()
        )
    }
}

/// Counts the calls of every verb, and lists what is to be tried.
fn tasks(arguments: &Arguments, runtime: &Path) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for &ground in &arguments.grounds {
        for &verb in &arguments.verbs {
            let name = format!("{} as {}", verb.name(), ground.name());
            let calls = Sweep::new(runtime, verb, ground).calls();
            let mut calls =
                calls.map_err(|reason| anyhow::anyhow!("{name}, with no fault at all: {reason}"))?;
            let per_process = calls.iter().fold(BTreeMap::new(), |mut counts, place| {
                *counts.entry(place.process).or_insert(0_usize) += 1;
                counts
            });
            println!("{name:24} calls of each process: {:?}", Vec::from_iter(per_process.values()));
            let (from, to) = arguments.calls;
            calls.retain(|place| (from..=to).contains(&place.call));
            calls.retain(|place| arguments.process.is_none_or(|process| process == place.process));
            let faults = &arguments.faults;
            tasks.extend(
                calls
                    .into_iter()
                    .flat_map(|place| faults.iter().map(move |&fault| Task { verb, ground, place, fault })),
            );
        }
    }
    Ok(tasks)
}

/// Takes tasks until there are none, and keeps a sweep as long as its verb stays the same.
fn work(runtime: &Path, tasks: &[Task], next: &AtomicUsize, board: &Board) {
    let mut sweep: Option<(Verb, Ground, Sweep)> = None;
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let kept = sweep.take().filter(|(verb, ground, _)| (*verb, *ground) == (task.verb, task.ground));
            let current =
                kept.map_or_else(|| Sweep::new(runtime, task.verb, task.ground), |(.., sweep)| sweep);
            let outcome = current.inject(task.place, task.fault);
            sweep = Some((task.verb, task.ground, current));
            outcome
        }));
        board.note(task, outcome.unwrap_or_else(|_| Outcome::Violated("the check itself panics".into())));
    }
}

/// What has been found so far.
struct Board {
    total: usize,
    begin: Instant,
    verbose: bool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    done: usize,
    told: Duration,
    not_reached: usize,
    /// Numbers by verb, ground and what happened.
    held: BTreeMap<(&'static str, &'static str), BTreeMap<String, usize>>,
    skipped: BTreeMap<&'static str, usize>,
    violations: Vec<String>,
}

impl Board {
    fn new(total: usize, verbose: bool) -> Board {
        Board { total, begin: Instant::now(), verbose, found: Mutex::default() }
    }

    fn note(&self, task: &Task, outcome: Outcome) {
        let Ok(mut found) = self.found.lock() else { return };
        if self.verbose {
            println!(
                "{} {} {}: {} {outcome:?}",
                task.verb.name(),
                task.ground.name(),
                task.place,
                task.fault
            );
        }
        found.done += 1;
        match outcome {
            Outcome::Held(how) => {
                let verb = found.held.entry((task.verb.name(), task.ground.name())).or_default();
                *verb.entry(how).or_insert(0) += 1;
            }
            Outcome::Skipped(reason) => *found.skipped.entry(reason).or_insert(0) += 1,
            Outcome::NotReached => found.not_reached += 1,
            Outcome::Violated(reason) => {
                let number = found.violations.len() + 1;
                println!(
                    "\nviolation {number}: {} at {}\n{reason}\n  again: {}",
                    task.fault,
                    task.place,
                    task.command()
                );
                found.violations.push(format!("{} at {}\n  {}", task.fault, task.place, task.command()));
            }
        }
        self.tell(&mut found);
    }

    /// Tells progress and the time that is left.
    fn tell(&self, found: &mut Found) {
        let elapsed = self.begin.elapsed();
        let watched = std::io::stdout().is_terminal();
        let pause = if watched { Duration::from_millis(200) } else { QUIET };
        if elapsed < found.told + pause {
            return;
        }
        found.told = elapsed;
        let done = u32::try_from(found.done).unwrap_or(u32::MAX).max(1);
        let left = elapsed / done * u32::try_from(self.total - found.done).unwrap_or(u32::MAX);
        let line = format!(
            "{} of {} faults, {} violations, {} min {:02} s left",
            found.done,
            self.total,
            found.violations.len(),
            left.as_secs() / 60,
            left.as_secs() % 60
        );
        if watched {
            print!("\r\x1b[K{line}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn summarise(self) -> ExitCode {
        let found = self.found.into_inner().unwrap_or_default();
        println!();
        for ((verb, ground), outcomes) in &found.held {
            let outcomes = outcomes.iter().map(|(how, number)| format!("{number} {how}"));
            println!("{:24} {}", format!("{verb} as {ground}"), Vec::from_iter(outcomes).join(", "));
        }
        for (reason, number) in &found.skipped {
            println!("skipped {number}: {reason}");
        }
        if found.not_reached > 0 {
            println!("not reached {}: the command made fewer calls than in its first run", found.not_reached);
        }
        for violation in &found.violations {
            println!("violated: {violation}");
        }
        let held: usize = found.held.values().flat_map(BTreeMap::values).sum();
        let seconds = self.begin.elapsed().as_secs();
        println!(
            "{} faults in {} min {:02} s: {held} held, {} violated",
            found.done,
            seconds / 60,
            seconds % 60,
            found.violations.len()
        );
        if found.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn parse(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments {
        verbs: Vec::new(),
        grounds: Vec::new(),
        process: None,
        calls: (1, usize::MAX),
        faults: Fault::ALL.iter().map(|(_, fault)| *fault).collect(),
        jobs: 2,
        runtime: None,
        verbose: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("verb") => arguments.verbs.push(named(&mut parser, &Verb::ALL, Verb::name)?),
            lexopt::Arg::Long("ground") => {
                arguments.grounds.push(named(&mut parser, &Ground::ALL, Ground::name)?);
            }
            lexopt::Arg::Long("process") => arguments.process = Some(number(&mut parser)?),
            lexopt::Arg::Long("from") => arguments.calls.0 = number(&mut parser)?,
            lexopt::Arg::Long("to") => arguments.calls.1 = number(&mut parser)?,
            lexopt::Arg::Long("errors") => arguments.faults = faults(&parser.value()?.to_string_lossy())?,
            lexopt::Arg::Long("jobs") => arguments.jobs = number::<usize>(&mut parser)?.max(1),
            lexopt::Arg::Long("runtime") => arguments.runtime = Some(parser.value()?.into()),
            lexopt::Arg::Long("verbose") => arguments.verbose = true,
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    if arguments.verbs.is_empty() {
        arguments.verbs = Verb::ALL.to_vec();
    }
    if arguments.grounds.is_empty() {
        arguments.grounds = Ground::ALL.to_vec();
    }
    Ok(arguments)
}

fn faults(list: &str) -> Result<Vec<Fault>> {
    let find = |name: &str| Fault::ALL.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
    let found = list.split(',').map(|name| find(name).with_context(|| format!("{name:?} is no fault")));
    let found = found.collect::<Result<Vec<_>>>()?;
    if found.is_empty() { bail!(USAGE) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |words: &[&str]| parse(Parser::from_args(words));
        let all = parse(&[]).unwrap();
        assert_eq!((all.verbs.len(), all.grounds.len(), all.faults.len()), (6, 2, 5));
        let one = parse(&["--verb", "exec", "--from", "3", "--to=4", "--errors", "KILL,EIO"]).unwrap();
        assert_eq!((one.verbs, one.calls, one.faults.len()), (vec![Verb::Exec], (3, 4), 2));
        assert!(parse(&["--verb", "list"]).is_err());
        assert!(parse(&["--errors", "EWHAT"]).is_err());
    }
}
