//! `cargo xtask vm test`: the root tests in guests, many to a boot.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::boot::{Ending, Guest, Output, Run};
use super::job::{Init, Outcome, Test, Word, Work};
use super::kernel::Kernel;
use super::payload::Payload;
use super::programs;
use super::results::{Finished, Report};
use super::{Machine, image};
use crate::workspace;

/// The packages whose tests depend on the machine.
const PACKAGES: &[&str] = &["crates/cgroup", "crates/runtime", "crates/sys", "crates/testkit"];

/// What differs most on the machine that users have, by target or by target and beginning of a name.
const CORE: &[&str] = &["cgroup::real", "runtime::cgroups"];

/// Mostly pure code, which is the same everywhere and slow to emulate: only a filter reaches it.
const PURE: &[&str] = &["cgroup::bulkhead_cgroup", "cgroup::plans", "runtime::bulkhead_runtime"];

/// How long a test may take; the slowest takes a quarter of it where nothing else runs.
const TEST_LIMIT: Duration = Duration::from_secs(180);

/// Boots after which a machine is given up; each costs the tests that ran when it died.
const BOOTS: usize = 4;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(20);

/// Which tests, when no filter is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Selection {
    /// A few minutes.
    #[default]
    Core,
    /// Every test that may depend on the machine, on every machine unless it is named.
    All,
}

/// Runs the chosen tests on the chosen machines, and prints one report.
pub(super) fn run(
    kernels: &[Kernel],
    init: Option<Init>,
    selection: Selection,
    filters: &[String],
) -> Result<ExitCode> {
    let built = programs::tests()?;
    let mut tests = built.tests_of(PACKAGES)?;
    tests.retain(|test| is_chosen(test, selection, filters));
    ensure!(!tests.is_empty(), "no test has such a name");
    let mut report = Report::default();
    for machine in machines(kernels, init, selection) {
        let name = machine.describe()?;
        println!("{name}: {} tests", tests.len());
        report.add(name, on(machine, &tests, &built)?);
    }
    report.print();
    report.write(&workspace::target_directory()?.join("vm/report.json"))?;
    Ok(report.code())
}

fn is_chosen(test: &Test, selection: Selection, filters: &[String]) -> bool {
    let name = test.full_name();
    if !filters.is_empty() {
        return filters.iter().any(|filter| name.contains(filter));
    }
    match selection {
        Selection::Core => CORE.iter().any(|begin| name.starts_with(begin)),
        Selection::All => !PURE.contains(&test.target.as_str()),
    }
}

fn machines(kernels: &[Kernel], init: Option<Init>, selection: Selection) -> Vec<Machine> {
    let kernels = match (kernels, selection) {
        ([], Selection::Core) => vec![Kernel::Release],
        ([], Selection::All) => Kernel::ALL.to_vec(),
        (named, _) => named.to_vec(),
    };
    let inits = match (init, selection) {
        (None, Selection::Core) => vec![Init::Systemd],
        (None, Selection::All) => Init::ALL.to_vec(),
        (Some(named), _) => vec![named],
    };
    let pairs = kernels.iter().flat_map(|&kernel| inits.iter().map(move |&init| Machine { kernel, init }));
    pairs.collect()
}

impl Machine {
    fn describe(self) -> Result<String> {
        Ok(format!("{} with {}", self.kernel.ensure()?.version, self.init.name()))
    }
}

/// Runs tests on one machine. One that dies is booted again for those that have not run.
fn on(machine: Machine, tests: &[Test], built: &programs::Built) -> Result<Vec<Finished>> {
    image::ensure()?;
    let mut left = tests.to_vec();
    let mut finished = Vec::new();
    for boot in 1..=BOOTS {
        let mut attempt = Attempt::new(&left);
        let ending = attempt.run(machine, built)?;
        left = attempt.settle(ending, &mut finished);
        if left.is_empty() {
            return Ok(finished);
        }
        println!("the guest ended with {} tests to run (boot {boot} of {BOOTS})", left.len());
    }
    let reason = Outcome::Failed("not run: the guest died again and again".into());
    finished.extend(left.into_iter().map(|test| Finished::new(&test, reason.clone(), Duration::ZERO)));
    Ok(finished)
}

/// One boot.
struct Attempt<'a> {
    tests: &'a [Test],
    /// Of each test.
    states: Vec<State>,
    begin: Instant,
    told: Instant,
}

#[derive(Clone)]
enum State {
    Waiting,
    Running,
    Ended(Outcome, Duration),
}

impl<'a> Attempt<'a> {
    fn new(tests: &'a [Test]) -> Self {
        let now = Instant::now();
        Self { tests, states: vec![State::Waiting; tests.len()], begin: now, told: now }
    }

    fn run(&mut self, machine: Machine, built: &programs::Built) -> Result<Ending> {
        let mut run = Run::begin()?;
        let root = workspace::root()?;
        let mut files = built.plain.clone();
        files.extend(self.tests.iter().map(|test| test.program.clone()));
        files.sort();
        files.dedup();
        files.extend(workspace::tracked_files()?);
        let with = vec![root, workspace::target_directory()?];
        let work = Work::Tests { tests: self.tests.to_vec(), limit: TEST_LIMIT };
        Payload { files, with, init: machine.init, work }.write(&run)?;
        let ending = Guest::start(machine, &run, Output::Hidden)?
            .listen(TEST_LIMIT + Duration::from_secs(60), |word| self.hear(word))?;
        if ending != Ending::Done {
            println!("{}", run.last_words());
            run.keep();
        }
        Ok(ending)
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Ready => println!("booted in {:.1} s", self.begin.elapsed().as_secs_f64()),
            Word::Started(test) => self.set(test, State::Running),
            Word::Ended { test, outcome, took } => {
                if let (Outcome::Failed(_), Some(test)) = (&outcome, self.tests.get(test)) {
                    println!("failed: {}", test.full_name());
                }
                self.set(test, State::Ended(outcome, took));
            }
            Word::Exited(_) | Word::Failed(_) => {}
        }
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let ended = self.states.iter().filter(|state| matches!(state, State::Ended(..))).count();
            println!("{ended} of {} tests after {} s", self.tests.len(), self.begin.elapsed().as_secs());
        }
    }

    fn set(&mut self, test: usize, state: State) {
        if let Some(place) = self.states.get_mut(test) {
            *place = state;
        }
    }

    /// Takes over what has ended, and returns what has not begun. What ran when the guest ended has failed.
    fn settle(self, ending: Ending, finished: &mut Vec<Finished>) -> Vec<Test> {
        let mut left = Vec::new();
        for (test, state) in self.tests.iter().zip(self.states) {
            match state {
                State::Waiting => left.push(test.clone()),
                State::Running => {
                    let reason = format!("the guest ended while it ran: {ending:?}");
                    finished.push(Finished::new(test, Outcome::Failed(reason), self.begin.elapsed()));
                }
                State::Ended(outcome, took) => finished.push(Finished::new(test, outcome, took)),
            }
        }
        left
    }
}
