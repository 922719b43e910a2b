//! `cargo xtask conformance`: the suites by which others judge a runtime, run against ours, runc and crun.
//!
//! ```text
//!   suite    what others wrote, fetched and built into the cache     suite, and a module for each
//!   subject  bulkrun, runc, crun                                      subject
//!   place    this machine, or a guest with cgroup v2                  place
//!   ground   cgroups, mounts and processes of its own for each run    ground
//!   record   what became of each test, in target/conformance and docs  case, record
//!   page     all records in one table, docs/conformance.md            page
//! ```
//!
//! A suite is a row of [`suite::SUITES`]; nothing else knows their names.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::interrupt;
use lexopt::{Arg, Parser, ValueExt as _};

use self::place::Place;
use self::record::Record;
use self::subject::Kind;
use self::suite::{Prepared, Run, Suite};
use crate::packages::{self, Consent};
use crate::{cache, value};

mod case;
mod crun;
mod ground;
mod page;
mod place;
mod record;
mod runc;
mod runtime_tools;
mod subject;
mod suite;
mod told;
mod wrapper;

const USAGE: &str = "\
usage: cargo xtask conformance [SUITE]… [--runtime bulkrun|runc|crun]… [--on host|guest|systemd] [--filter TEXT] \
[--write] [--refresh] [--yes]";

/// What was typed.
#[derive(Debug, PartialEq)]
struct Arguments {
    suites: Vec<String>,
    kinds: Vec<Kind>,
    place: Place,
    /// Only tests whose names contain it.
    filter: Option<String>,
    /// Put all records into docs/conformance.md.
    write: bool,
    /// Fetch and build the suites anew.
    refresh: bool,
    consent: Consent,
    /// On its ground already, with this file as its task.
    inside: Option<PathBuf>,
    /// To clean up after the command that started it.
    sweep: bool,
}

/// Runs suites and tells what became of their tests; fails when ours fails where it should not.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let arguments = parse(parser)?;
    ensure!(rustix::process::geteuid().is_root(), "the suites make containers with limits, which needs root");
    if let Some(task) = &arguments.inside {
        return ground::inside(task);
    }
    if arguments.sweep {
        return ground::sweep().map(|()| ExitCode::SUCCESS);
    }
    let suites = chosen(&arguments.suites)?;
    packages::ensure_for_conformance(arguments.consent)?;
    interrupt::watch()?;
    let (mut wrong, mut stale) = (Vec::new(), Vec::new());
    for suite in suites {
        let verdict = judge(suite, &arguments)?;
        wrong.extend(verdict.unexcused);
        stale.extend(verdict.stale);
    }
    if arguments.write {
        page::write()?;
    }
    for (what, tests) in [
        ("failed without an excuse, though runc or crun passes, or was never asked", &wrong),
        ("excused, and did not fail: take the excuse away", &stale),
    ] {
        if !tests.is_empty() {
            println!("\n{what}:");
            tests.iter().for_each(|test| println!("  {test}"));
        }
    }
    Ok(if wrong.is_empty() && stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is not as the table of excuses has it.
struct Judged {
    /// Tests that only ours fails.
    unexcused: Vec<String>,
    /// Tests that ours does not fail any more.
    stale: Vec<String>,
}

/// Runs one suite against every subject.
fn judge(suite: &'static Suite, arguments: &Arguments) -> Result<Judged> {
    let (prepared, _use) = prepare(suite, arguments.refresh)?;
    let (mut records, mut stale) = (Vec::new(), Vec::new());
    for subject in subject::all(&arguments.kinds)? {
        println!("{} {}: {}", suite.title, prepared.version, subject.name);
        let run = Run::new(suite, &prepared, &subject, arguments.place, arguments.filter.clone());
        let record = Record::new(&run, &subject, ground::on(&run)?, subject::revision(subject.kind)?);
        record.print();
        match arguments.filter {
            None => {
                record.save()?;
                if record.kind == Kind::Bulkrun {
                    stale.extend(suite.stale(&record).iter().map(|test| format!("{}: {test}", suite.name)));
                }
            }
            // What a filter leaves out would be missing in the table.
            Some(_) => record.amend(suite)?,
        }
        records.push(record);
    }
    Ok(Judged { unexcused: record::unexcused(suite, records)?, stale })
}

/// Makes the suite ready, and keeps it so while the lock is held: grounds have nothing in common, so several runs may
/// use a suite at once.
fn prepare(suite: &'static Suite, anew: bool) -> Result<(Prepared, File)> {
    const IN_USE: &str = "conformance-in-use";
    let _lock = cache::lock("conformance")?;
    if anew {
        let _alone = cache::lock(IN_USE)?;
        cache::remove(&cache::directory()?.join(suite.place()))?;
    }
    let in_use = cache::share(IN_USE)?;
    let prepared = (suite.prepare)().with_context(|| format!("prepare {}", suite.name))?;
    Ok((prepared, in_use))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Suite>> {
    let known = || Vec::from_iter(suite::SUITES.iter().map(|suite| suite.name)).join(", ");
    if names.is_empty() {
        return Ok(suite::SUITES.iter().collect());
    }
    let find = |name: &String| {
        let found = suite::SUITES.iter().find(|suite| suite.name == name);
        found.with_context(|| format!("no suite {name}; there are: {}", known()))
    };
    names.iter().map(find).collect()
}

fn parse(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments {
        suites: Vec::new(),
        kinds: Vec::new(),
        place: Place::Host,
        filter: None,
        write: false,
        refresh: false,
        consent: Consent::Ask,
        inside: None,
        sweep: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("runtime") => arguments.kinds.push(value::named(&mut parser, &Kind::ALL, Kind::name)?),
            Arg::Long("on") => arguments.place = value::named(&mut parser, &Place::ALL, Place::name)?,
            Arg::Long("filter") => arguments.filter = Some(parser.value()?.string()?),
            Arg::Long("write") => arguments.write = true,
            Arg::Long("refresh") => arguments.refresh = true,
            Arg::Long("yes") | Arg::Short('y') => arguments.consent = Consent::Given,
            Arg::Long("sweep") => arguments.sweep = true,
            Arg::Long("inside") => arguments.inside = Some(parser.value()?.into()),
            Arg::Value(suite) => arguments.suites.push(suite.string()?),
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |words: &[&str]| parse(Parser::from_args(words));
        let typed = parse(&["runc", "--runtime", "crun", "--runtime=bulkrun", "--filter", "exec"]).unwrap();
        assert_eq!((typed.suites, typed.kinds), (vec!["runc".to_owned()], vec![Kind::Crun, Kind::Bulkrun]));
        assert_eq!((typed.filter.as_deref(), typed.place), (Some("exec"), Place::Host));
        assert_eq!(parse(&["--on", "systemd"]).unwrap().place, Place::Systemd);
        for words in [&["--runtime", "docker"][..], &["--on", "moon"], &["--filter"], &["--fast"]] {
            assert!(parse(words).is_err(), "{words:?} should be refused");
        }
    }

    #[test]
    fn a_suite_is_found_by_its_name() {
        assert_eq!(chosen(&[]).unwrap().len(), suite::SUITES.len());
        assert_eq!(chosen(&["runc".to_owned()]).unwrap()[0].name, "runc");
        let error = chosen(&["posix".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("no suite posix; there are: runc"), "{error}");
    }
}
