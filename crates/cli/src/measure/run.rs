//! `bulkhead measure run`: from what was typed to a journal.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_measure::arena;
use bulkhead_measure::error::Error;
use bulkhead_measure::guest;
use bulkhead_measure::host::{self, Host};
use bulkhead_measure::interrupt;
use bulkhead_measure::machine;
use bulkhead_measure::plan::{Axis, BARE, Plan, Size};
use bulkhead_measure::platform::Platform;
use bulkhead_measure::platform::find::{self, Entry};
use bulkhead_measure::provenance;
use bulkhead_measure::record::{self, End, Journal, Line, Run};
use bulkhead_measure::report::findings::{Cell, Row};
use bulkhead_measure::report::{self, Findings};
use bulkhead_measure::results::Results;
use bulkhead_measure::session::{self, Time};
use bulkhead_measure::sources::Tree;
use bulkhead_measure::stats::FEWEST_PAIRS;

use super::RunOptions;
use super::progress::Shown;
use crate::output::table;

pub(super) fn run(options: &RunOptions) -> Result<ExitCode, Error> {
    let in_guest = options.in_guest.as_ref();
    let tree = sources(options)?;
    let axes = options.axes()?;
    let platforms = platforms(&options.platforms, in_guest.is_some() || arena::is_root())?;
    let workload = super::workload(options.workload.as_ref())?;
    // A guest makes its own; what is wrong with it is told before one boots.
    let mut plan = plan(options, &axes, &platforms)?;
    let out = &options.out;
    if in_guest.is_none() && !arena::is_root() {
        eprintln!("measured by {}", arena::ORDINARY);
    }
    if let Some(kernel) = in_guest {
        let (options, guard) = (options.of_guest(&axes), super::guard_program());
        let order = guest::Order {
            kernel: kernel.as_deref(),
            platforms: &platforms,
            workload: &workload,
            options: &options,
            guard: guard.as_deref(),
        };
        return run_in_guest(&order, out, tree.as_ref());
    }
    super::report::make(out)?;
    // Nobody else writes it from now on. What does not belong into it is told before anything is made.
    let mut journal = Journal::open(out)?;
    let earlier = Results::of(record::read(out)?);
    if let Some(earlier) = &earlier {
        plan.seed = earlier.plan().seed;
    }
    let mut run = host::run(plan, earlier.as_ref().map(Results::plan), &platforms, &workload);
    run.environment.insert(provenance::OPTIONS.to_owned(), options.told(&axes));
    if let Some(earlier) = &earlier {
        belongs(&run, earlier, out)?;
        eprintln!("going on with {} turns that are in {}", earlier.turns.len(), out.display());
    }
    let mut host = Host::make(platforms, &workload, super::guard_program().as_deref())?;
    if let Some(tree) = &options.heavy {
        host.bring(tree.as_deref())?;
    }
    let mut run = host.complete(run);
    let time = time(options, &run.plan);
    run.environment.extend(told_time(time).map(|told| (provenance::TIME.to_owned(), told)));
    if let Time::Meant(meant) = time {
        eprintln!("{}", short_of(meant));
    }
    let mut shown = Shown::new();
    let began = Instant::now();
    let results = session::run(run, earlier, &mut journal, &mut host, time, &mut |progress| {
        shown.show(progress);
    })?;
    let took = began.elapsed();
    shown.end();
    // What was made goes before anything is said about it.
    drop((host, journal));
    let placed = tree.map(|tree| super::report::place(&tree, out)).transpose()?;
    let placed = placed.and_then(|()| Results::of(record::read(out).ok()?));
    tell(&placed.unwrap_or(results), out, Some(took))?;
    Ok(ExitCode::SUCCESS)
}

/// The time that the run has. A short one has what it is meant to take, but with real programs and in a guest, where nobody knows.
fn time(options: &RunOptions, plan: &Plan) -> Time {
    match options.budget {
        Some(budget) => Time::Firm(budget),
        None if options.size() == Size::Quick && options.heavy.is_none() && !guest::is_inside() => {
            Time::Meant(plan.short_time())
        }
        None => Time::Unlimited,
    }
}

/// The time that was given, for the journal.
fn told_time(time: Time) -> Option<String> {
    match time {
        Time::Unlimited => None,
        Time::Firm(whole) => Some(report::time(whole)),
        Time::Meant(whole) => Some(format!("{}, which a short run is meant to take", report::time(whole))),
    }
}

/// What a short run does with its time.
fn short_of(time: Duration) -> String {
    format!(
        "a short run is meant to take {}; on a slow machine it leaves out first repeats beside hogs that take all, then blocks of \
         start and work beyond six, then the kernel's repeats, then blocks beside antagonists; --budget gives another time",
        report::time(time)
    )
}

/// What was asked for.
fn plan(options: &RunOptions, axes: &[Axis], platforms: &[Platform]) -> Result<Plan, Error> {
    let mut plan = host::plan(platforms, axes, options.size(), host::seed());
    if options.heavy.is_some() {
        plan.tasks.extend(host::heavy_tasks());
    }
    only(plan, &options.tasks)
}

/// Whether turns of `run` may stand in the journal in `out` beside those of an `earlier` one.
fn belongs(run: &Run, earlier: &Results, out: &Path) -> Result<(), Error> {
    let out = out.display();
    let why = if let Some(other) = run.differs_from(&earlier.run) {
        format!(
            "{out} holds a run of {other}; --out names another directory, bulkhead measure report shows that one"
        )
    } else if let Some(missing) = earlier.left_out(&run.plan) {
        format!(
            "{out} has turns of {missing}, which this run leaves out; what was asked for then belongs to what is asked for now, \
             or --out names another directory"
        )
    } else if let Some(changed) = earlier.changed(&run.plan) {
        format!(
            "{out} has turns of {changed}, whose numbers are others in this run: it was of another size or version; --out names \
             another directory"
        )
    } else {
        return Ok(());
    };
    Err(Error::Unusable(why))
}

/// The sources of the kernel that is to be watched; those of another one are refused before anything is measured.
fn sources(options: &RunOptions) -> Result<Option<Tree>, Error> {
    let Some(directory) = &options.kernel_source else { return Ok(None) };
    let tree = Tree::open(directory)?;
    let release = match &options.in_guest {
        Some(kernel) => guest::release(kernel.as_deref())?,
        None => machine::release(),
    };
    tree.fits(&release)?;
    Ok(Some(tree))
}

/// The same in a guest; the report is made here.
fn run_in_guest(order: &guest::Order<'_>, out: &Path, tree: Option<&Tree>) -> Result<ExitCode, Error> {
    super::report::make(out)?;
    eprintln!("a guest boots, which takes some time, and so does everything in it");
    let measured = guest::run(order, out, &mut |line| {
        if let Line::Turn(turn) = line {
            eprintln!("{:7.1} s  block {}, {} on {}", turn.seconds, turn.block + 1, turn.task, turn.platform);
        }
    });
    let here = || -> Result<Option<Results>, Error> {
        Ok(Results::of(record::read(out)?).filter(|results| !results.turns.is_empty()))
    };
    // What was measured before it failed counts.
    if let (Some(tree), Some(_)) = (tree, here()?) {
        super::report::place(tree, out)?;
    }
    if let Some(results) = here()? {
        tell(&results, out, None)?;
    }
    measured.map(|()| ExitCode::SUCCESS)
}

/// Says what came of it, and how long that took if it is known, and writes the report.
fn tell(results: &Results, out: &Path, took: Option<Duration>) -> Result<(), Error> {
    let findings = Findings::of(results);
    print!("{}", summary(&findings));
    println!();
    report::opening(&findings).for_each(|sentence| println!("{sentence}"));
    println!();
    report::write(results, out)?.first().iter().for_each(|page| println!("report: {}", page.display()));
    println!("raw data: {}", out.display());
    match results.end {
        Some(End::Budget) => println!("The time is up{}; the same command goes on.", after(took)),
        Some(End::Interrupted) => {
            println!("Interrupted; the same command goes on.");
            interrupt::check()?;
        }
        Some(End::Complete) => println!("Everything was measured{}.", after(took)),
        None => {}
    }
    Ok(())
}

/// ` after 4 min 31 s`
fn after(took: Option<Duration>) -> String {
    took.map(|took| format!(" after {}", report::time(took))).unwrap_or_default()
}

/// Those that were asked for, or all that are here and that this user can measure; bare in front.
fn platforms(words: &[String], as_root: bool) -> Result<Vec<Platform>, Error> {
    let mut platforms = if words.is_empty() {
        let first = |Entry { found, .. }: Entry| found.into_iter().next();
        let here = find::all()?.into_iter().filter_map(first);
        let here = here.filter(|platform| as_root || !platform.needs_root());
        // Asked once, and not by every turn: who was not named is not waited for.
        here.filter(|platform| answers(&platform.name, platform.obstacle().as_deref())).collect()
    } else {
        find::chosen(words)?
    };
    match platforms.iter().position(|platform| platform.name == BARE) {
        Some(place) => platforms.swap(0, place),
        None => platforms.insert(0, find::chosen(&[BARE.to_owned()])?.remove(0)),
    }
    Ok(platforms)
}

/// Whether nothing stands in the way of what was not asked for by name; says so otherwise.
fn answers(name: &str, obstacle: Option<&str>) -> bool {
    obstacle.iter().for_each(|why| eprintln!("{name} is left out: {why}; --platforms names it in any case"));
    obstacle.is_none()
}

/// The plan with those tasks only that are in one of the lists; with all, if there are no lists.
fn only(mut plan: Plan, lists: &[String]) -> Result<Plan, Error> {
    let names = Vec::from_iter(plan.tasks.iter().map(|task| task.name.clone()));
    let chosen: Vec<_> = lists.iter().map(|list| chosen(&names, list)).collect::<Result<_, _>>()?;
    let chosen = chosen.concat();
    plan.tasks.retain(|task| lists.is_empty() || chosen.contains(&task.name.as_str()));
    Ok(plan)
}

/// The names that a list of tasks chooses. Names have commas, too: what is between two of its commas, of which there may be more,
/// is the longest text that is the name of a task or is in one.
fn chosen<'a>(names: &'a [String], list: &str) -> Result<Vec<&'a str>, Error> {
    let mut found = Vec::new();
    let mut rest = Some(list);
    while let Some(text) = rest {
        let ends = text.match_indices(',').map(|(end, _)| end).chain([text.len()]);
        let entry = ends.rev().find_map(|end| Some((end, named(names, text[..end].trim())?)));
        let (end, names) = entry.ok_or_else(|| {
            Error::Unusable(format!(
                "no task has {:?} in its name; of these axes and this size there are: {}",
                text.split(',').next().unwrap_or_default().trim(),
                names.join("; ")
            ))
        })?;
        found.extend(names);
        rest = text.get(end + 1..);
    }
    Ok(found)
}

/// The task of this name, or else those with this in their names, if there are any.
fn named<'a>(names: &'a [String], word: &str) -> Option<Vec<&'a str>> {
    let names = names.iter().map(String::as_str);
    if let Some(name) = names.clone().find(|name| *name == word) {
        return Some(vec![name]);
    }
    let parts = Vec::from_iter(names.filter(|name| !word.is_empty() && name.contains(word)));
    (!parts.is_empty()).then_some(parts)
}

/// The first number of each task that was measured, each platform in a column: its median with the interval, and what may be
/// claimed of it against bare.
fn summary(findings: &Findings) -> String {
    let names = Vec::from_iter(findings.names());
    let head = std::iter::once("median [95 %]").chain(names.iter().copied());
    let mut rows = vec![Vec::from_iter(head.map(str::to_owned))];
    let mut last = "";
    let mut unmeasured = 0;
    for row in &findings.rows {
        let is_first = std::mem::replace(&mut last, &row.task) != row.task;
        if !is_first {
            continue;
        }
        if row.cells.iter().all(|cell| cell.measured == 0 && cell.failures.is_empty()) {
            unmeasured += 1;
            continue;
        }
        let title = format!("{}, {} {}", row.task, row.quantity, row.unit).trim_end().to_owned();
        let cells =
            names.iter().map(|name| row.cell(name).map_or("–".to_owned(), |found| cell(row, found)));
        rows.push(std::iter::once(title).chain(cells).collect());
    }
    let mut text = table::aligned(&rows);
    let is_few = |cell: &Cell| (2..FEWEST_PAIRS).contains(&cell.measured);
    if findings.rows.iter().any(|row| row.cells.iter().any(is_few)) {
        text += "Round brackets hold the range of fewer than six blocks, which is no interval of 95 %.\n";
    }
    if unmeasured > 0 {
        text += &format!("Nothing was measured yet of {unmeasured} more.\n");
    }
    text
}

fn cell(row: &Row, cell: &Cell) -> String {
    let Some(median) = cell.median else {
        return if cell.failures.is_empty() { "–" } else { "failed" }.to_owned();
    };
    let [middle, low, high] = [median.estimate, median.low, median.high].map(rounded);
    let number = match cell.measured {
        0 | 1 => middle,
        few if few < FEWEST_PAIRS => format!("{middle} ({low}–{high})"),
        _ => format!("{middle} [{low}, {high}]"),
    };
    // What the run was not to decide has no verdict, and a share is no multiple of bare's.
    match cell.against_bare.filter(|_| row.decides) {
        Some(against) => {
            format!("{number} {}×, {}", rounded(against.ratio.estimate), against.standing.word())
        }
        None => number,
    }
}

/// Three digits that say something.
pub(super) fn rounded(number: f64) -> String {
    match number {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::typed;
    use super::*;

    #[test]
    fn tasks_are_chosen_by_their_names_or_by_words_in_them() {
        let chosen = |words: &[&str]| {
            let axes = ["--full", "--axes", "performance,noninterference"];
            let options = typed(&[&axes[..], words].concat());
            let plan = plan(&options, &options.axes().unwrap(), &[]);
            plan.map(|plan| Vec::from_iter(plan.tasks.into_iter().map(|task| task.name)))
        };
        assert!(chosen(&[]).unwrap().len() > 100);
        for (words, expected) in [
            (&["--tasks", "boot,set-up"][..], &["boot", "set-up peak"][..]),
            (&["--tasks", "boot , set-up"], &["boot", "set-up peak"]),
            (&["--tasks", "boot", "--tasks", "set-up peak"], &["boot", "set-up peak"]),
            // Names have commas, and one may be the beginning of another.
            (&["--tasks", "density, to 100"], &["density, to 100"]),
            (&["--tasks", "density"], &["density, to 100", "density, to 1000"]),
            (&["--tasks", "run,density, to 100,boot"], &["boot", "run", "density, to 100"]),
            (&["--tasks", "exec"], &["exec"]),
            (&["--tasks", "memory left"], &["memory left, with limits", "memory left, without limits"]),
        ] {
            assert_eq!(chosen(words).unwrap(), expected, "{words:?}");
        }
        let pairs = chosen(&["--tasks", "beside disk, with limits"]).unwrap();
        assert!(pairs.len() == 7 && pairs.iter().all(|name| name.ends_with("beside disk, with limits")));
        for (list, missing) in [("boot,sleep", "\"sleep\""), ("sleep", "\"sleep\""), ("boot,", "\"\"")] {
            let error = chosen(&["--tasks", list]).unwrap_err().to_string();
            assert!(error.contains(missing) && error.contains("set-up peak"), "{list}: {error}");
        }
    }

    #[test]
    fn an_engine_without_its_daemon_is_left_out() {
        let scratch = bulkhead_testkit::Scratch::new();
        let obstacle = |script: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let program = scratch.path().join("docker");
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            find::chosen(&[format!("docker={}", program.display())]).unwrap().remove(0).obstacle()
        };
        assert_eq!(obstacle("echo 28.0"), None);
        let silent = obstacle("echo Cannot connect >&2; exit 1");
        assert!(
            silent.as_ref().unwrap().contains("does not answer") && !answers("docker", silent.as_deref())
        );
        assert!(answers(
            "crun",
            find::chosen(&["crun=/bin/sh".to_owned()]).unwrap()[0].obstacle().as_deref()
        ));
    }

    #[test]
    fn bare_comes_first() {
        let names = platforms(&["mine=/bin/sh".to_owned(), "bare".to_owned()], true).unwrap();
        assert_eq!(Vec::from_iter(names.iter().map(|platform| platform.name.as_str())), ["bare", "mine"]);
        assert_eq!(platforms(&["mine=/bin/sh".to_owned()], true).unwrap()[0].name, "bare");
    }
}
