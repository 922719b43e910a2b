//! `cargo xtask vm test`: the root tests in guests, many to a boot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bulkhead_measure::interrupt;

use super::boot::{Ending, Guest, Output, Run};
use super::job::{Init, Outcome, SecurityModule, Test, Word, Work};
use super::kernel::Kernel;
use super::payload::Payload;
use super::programs;
use super::results::{self, Finished, Report};
use super::{Machine, image};
use crate::{cache, workspace};

/// The packages whose tests depend on the machine.
const PACKAGES: &[&str] =
    &["crates/cgroup", "crates/cli", "crates/net", "crates/runtime", "crates/sys", "crates/testkit"];

/// What differs most on the machine that users have, by target or by target and beginning of a name.
const CORE: &[&str] = &[
    "cgroup::real",
    "cli::engine::elsewhere::a_container_has_",
    "cli::measure::a_runtime_is_measured",
    "net::names",
    "net::proxy::scarce",
    "runtime::cgroups",
    "runtime::delegation",
    "runtime::exec::",
    "runtime::lifecycle",
    "runtime::net_devices",
    "runtime::resctrl",
    "runtime::rootfs",
    "runtime::rootless",
    "runtime::shared_mounts",
    "runtime::systemd",
];

/// Where systemd makes the cgroups: what of our own engine has to do with these, and of others' one test each which proves that its
/// scopes hold their limits.
const CORE_UNDER_SYSTEMD: &[&str] = &[
    "cli::engine::containers::a_frozen_",
    "cli::engine::containers::nothing_joins_a_paused_",
    "cli::engine::listings::processes_and_what_they_use_",
    "cli::engine::pods::a_pod_has_limits_",
    "cli::engine::pods::a_pod_whose_limits_cannot_be_",
    "cli::engine::pods::a_slice_",
    "cli::engine::pods::the_cgroup_of_a_pod_",
    "cli::engine::pods::the_verbs_",
    "cli::engine::policies::on_failure_",
    "cli::engine::survive::reboot::what_the_unit_",
    "cli::engine::update",
    "runtime::engines::containerd::systemd::newest::limits_",
    "runtime::engines::docker::systemd::newest::limits_",
    "runtime::engines::podman::systemd::newest::limits_",
];

/// What a security module makes different.
const LABELS: &[&str] = &["cli::engine::labels", "runtime::labels"];

/// What tests look for in the cache: the beginning of their names, a part of these, and a directory there. They skip
/// themselves where it is missing.
const CACHED: &[(&str, &str, &str)] = &[
    ("runtime::checkpoint::", "", "peers/criu"),
    ("runtime::labels::", "::a_container_comes_back_", "peers/criu"),
    ("cli::engine::carriers::", "", "networks/newest"),
    ("cli::engine::carriers::", "", "networks/release"),
    ("cli::engine::", "elsewhere::", "networks/newest/usr/lib/cni"),
    ("net::host::cni::", "", "networks/newest"),
    ("net::host::", "::newest::", "networks/newest"),
    ("net::host::", "::release::", "networks/release"),
    (ENGINES, "release::", "engines/release"),
    (ENGINES, "newest::", "engines/newest"),
];

/// Engines, which take a minute each when emulated; of those only the core's run without `cargo xtask engines`.
const ENGINES: &str = "runtime::engines::";

/// What is in the names of those that want systemd.
const UNDER_SYSTEMD: &str = "::systemd::";

/// Mostly pure code, which is the same everywhere and slow to emulate: only a filter reaches it.
const PURE: &[&str] =
    &["cgroup::bulkhead_cgroup", "cgroup::plans", "net::bulkhead_net", "runtime::bulkhead_runtime"];

/// How long a test may take; the slowest takes a quarter of it where nothing else runs.
const TEST_LIMIT: Duration = Duration::from_secs(180);

/// The same of a test with an engine, of which the slowest takes 80 s where nothing else runs.
const ENGINE_LIMIT: Duration = Duration::from_secs(600);

/// Boots after which a machine is given up; each costs the tests that ran when it died.
const BOOTS: usize = 3;

/// Tests that are not run again. The same are in `.config/nextest.toml`.
const WALLS: &[&str] = &["runtime::rootless::", "runtime::shared_mounts::", "runtime::walls::"];

/// No second chance when more than one in so many fails: that is no stutter.
const MOST_FAILURES: usize = 10;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(20);

/// Which tests, and on how many machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// A few minutes, on two machines, and labels on two more.
    Core,
    /// Every test that may depend on the machine, on the two that have least in common, and the core on others; on one
    /// that is named every test.
    All,
    /// What filters name, on one machine.
    Named,
}

/// What was typed about machines.
pub(super) struct Wanted<'a> {
    pub(super) kernels: &'a [Kernel],
    pub(super) init: Option<Init>,
    pub(super) module: Option<SecurityModule>,
}

/// Which tests a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All but pure code.
    Everything,
    Core,
    Labels,
    /// Engines that meet the machine's init, whatever a filter says about others.
    Engines,
}

/// Runs engines over the runtime in a guest with this init.
pub(super) fn engines(kernel: Kernel, init: Init, filters: &[String]) -> Result<ExitCode> {
    execute(vec![(Machine::new(kernel, init, None)?, Part::Engines)], filters)
}

/// Runs the chosen tests on the chosen machines, and prints one report.
pub(super) fn run(wanted: &Wanted<'_>, selection: Option<Selection>, filters: &[String]) -> Result<ExitCode> {
    let default = if filters.is_empty() { Selection::Core } else { Selection::Named };
    execute(rounds(wanted, selection.unwrap_or(default))?, filters)
}

fn execute(rounds: Vec<(Machine, Part)>, filters: &[String]) -> Result<ExitCode> {
    let built = programs::tests()?;
    // From here on something is made that must go on the way out.
    interrupt::watch()?;
    let all = built.tests_of(PACKAGES)?;
    let mut report = Report::default();
    for (machine, part) in rounds {
        let mut tests = all.clone();
        tests.retain(|test| is_chosen(test, machine.init, part, filters));
        ensure!(!tests.is_empty(), "no test has such a name");
        let name = machine.describe()?;
        println!("{name}: {} tests", tests.len());
        let begin = Instant::now();
        let finished = on(machine, &tests, &built)?;
        let finished = second_chance(machine, &tests, &built, finished)?;
        let is_empty = finished.iter().all(|test| matches!(test.outcome, Outcome::Skipped(_)));
        ensure!(!is_empty || !filters.is_empty(), "{name}: every test was skipped");
        report.add(name, begin.elapsed(), finished);
    }
    report.print();
    report.write(&results::file()?)?;
    Ok(report.code())
}

fn is_chosen(test: &Test, init: Init, part: Part, filters: &[String]) -> bool {
    let name = test.full_name();
    let is_named = filters.iter().any(|filter| name.contains(filter));
    if part == Part::Engines {
        let is_his = name.contains(UNDER_SYSTEMD) == (init == Init::Systemd);
        return name.starts_with(ENGINES) && is_his && (is_named || filters.is_empty());
    }
    if !filters.is_empty() {
        return is_named;
    }
    let is_among = |list: &[&str]| list.iter().any(|begin| name.starts_with(begin));
    match part {
        Part::Core => is_among(CORE) || init == Init::Systemd && is_among(CORE_UNDER_SYSTEMD),
        Part::Labels => is_among(LABELS),
        Part::Everything => !PURE.contains(&test.target.as_str()) && !name.starts_with(ENGINES),
        Part::Engines => false,
    }
}

fn rounds(wanted: &Wanted<'_>, selection: Selection) -> Result<Vec<(Machine, Part)>> {
    use Kernel::{Newest, Oldest, Release};

    const APPARMOR: Option<SecurityModule> = Some(SecurityModule::AppArmor);
    const SELINUX: Option<SecurityModule> = Some(SecurityModule::SeLinux);
    let Wanted { kernels, init, module } = *wanted;
    let is_free = kernels.is_empty() && init.is_none() && module.is_none();
    let planned = match selection {
        // The two that have least in common.
        Selection::Core if is_free => vec![
            (Release, Init::Systemd, None, Part::Core),
            (Newest, Init::Bare, None, Part::Core),
            (Newest, Init::Bare, APPARMOR, Part::Labels),
            (Release, Init::Systemd, SELINUX, Part::Labels),
        ],
        Selection::All if is_free => vec![
            (Release, Init::Systemd, None, Part::Everything),
            (Newest, Init::Bare, None, Part::Everything),
            (Release, Init::Bare, None, Part::Core),
            (Newest, Init::Systemd, None, Part::Core),
            (Oldest, Init::Systemd, None, Part::Core),
            (Release, Init::Systemd, APPARMOR, Part::Labels),
            (Newest, Init::Bare, APPARMOR, Part::Labels),
            (Release, Init::Systemd, SELINUX, Part::Labels),
            (Newest, Init::Systemd, SELINUX, Part::Labels),
        ],
        _ => {
            let kernels = if kernels.is_empty() { &[Release] } else { kernels };
            let part = match (selection, module) {
                (Selection::All, _) => Part::Everything,
                (_, Some(_)) => Part::Labels,
                (_, None) => Part::Core,
            };
            let init = init.unwrap_or(Init::Systemd);
            kernels.iter().map(|&kernel| (kernel, init, module, part)).collect()
        }
    };
    let machine = |(kernel, init, module, part)| Ok((Machine::new(kernel, init, module)?, part));
    planned.into_iter().map(machine).collect()
}

fn limit(test: &Test) -> Duration {
    if test.full_name().starts_with(ENGINES) { ENGINE_LIMIT } else { TEST_LIMIT }
}

/// What the chosen tests look for in the cache and what is there.
fn cached(tests: &[Test]) -> Result<Vec<PathBuf>> {
    let cache = cache::directory()?;
    let names = Vec::from_iter(tests.iter().map(Test::full_name));
    let is_wanted =
        |begin: &str, part: &str| names.iter().any(|name| name.starts_with(begin) && name.contains(part));
    let wanted = CACHED.iter().filter(|(begin, part, _)| is_wanted(begin, part));
    let mut places = Vec::from_iter(wanted.map(|(.., name)| Path::new(name)));
    places.sort();
    // What is a part of another one comes with that.
    places.dedup_by(|place, before| place.starts_with(*before));
    Ok(places.into_iter().map(|name| cache.join(name)).filter(|place| place.exists()).collect())
}

impl Machine {
    fn describe(self) -> Result<String> {
        let Self { kernel, init, module } = self;
        let module = module.map(|module| format!(" and {}", module.name())).unwrap_or_default();
        Ok(format!("{} with {}{module}", kernel.ensure()?.version, init.name()))
    }
}

/// Runs tests on one machine. One that dies is booted again for those that have not ended: an emulator may hang, so
/// what ran then gets a second chance, and has failed if the machine dies under it again.
fn on(machine: Machine, tests: &[Test], built: &programs::Built) -> Result<Vec<Finished>> {
    image::ensure(machine.module)?;
    let mut left = tests.to_vec();
    let mut suspects = Vec::new();
    let mut finished = Vec::new();
    for boot in 1..=BOOTS {
        let mut attempt = Attempt::new(&left);
        let ending = attempt.run(machine, built)?;
        let Unfinished { mut waiting, running } = attempt.settle(&mut finished);
        for test in running {
            println!("the guest {} under {}", ending.verb(), test.full_name());
            if suspects.contains(&test) {
                let reason = format!("the guest {} under it, twice", ending.verb());
                finished.push(Finished::new(&test, Outcome::Failed(reason), Duration::ZERO));
            } else {
                suspects.push(test.clone());
                waiting.push(test);
            }
        }
        if waiting.is_empty() {
            return Ok(finished);
        }
        println!("{} tests are left after boot {boot} of {BOOTS}", waiting.len());
        left = waiting;
    }
    let reason = Outcome::Failed("not run: the guest died again and again".into());
    finished.extend(left.into_iter().map(|test| Finished::new(&test, reason.clone(), Duration::ZERO)));
    Ok(finished)
}

/// Runs what has failed once more, in a guest that does nothing else. An emulated machine is slow and stutters, and a
/// deadline that is missed there says nothing; what is really broken fails again. Walls have no second chance.
fn second_chance(
    machine: Machine,
    tests: &[Test],
    built: &programs::Built,
    mut finished: Vec<Finished>,
) -> Result<Vec<Finished>> {
    let has_failed = |test: &&Test| {
        let name = test.full_name();
        !is_wall(&name)
            && finished.iter().any(|found| found.test == name && matches!(found.outcome, Outcome::Failed(_)))
    };
    let failed: Vec<Test> = tests.iter().filter(has_failed).cloned().collect();
    if failed.is_empty() || failed.len() > tests.len() / MOST_FAILURES + 1 {
        return Ok(finished);
    }
    println!("{} failed, and run once more alone", failed.len());
    for again in on(machine, &failed, built)? {
        if let Outcome::Failed(_) = again.outcome {
            continue;
        }
        if let Some(first) = finished.iter_mut().find(|first| first.test == again.test)
            && let Outcome::Failed(output) = std::mem::replace(&mut first.outcome, again.outcome)
        {
            first.seconds = again.seconds;
            first.first_failure = Some(output);
        }
    }
    Ok(finished)
}

/// Tells whether a test that fails once has failed: what did not hold once does not hold.
fn is_wall(name: &str) -> bool {
    WALLS.iter().any(|begin| name.starts_with(begin))
}

/// What a guest left when it ended.
struct Unfinished {
    waiting: Vec<Test>,
    running: Vec<Test>,
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
        let mut with = vec![root, workspace::target_directory()?];
        with.extend(cached(self.tests)?);
        let longest = self.tests.iter().map(limit).max().unwrap_or_default();
        let work = Work::Tests(self.tests.iter().map(|test| (test.clone(), limit(test))).collect());
        let Machine { init, module, .. } = machine;
        Payload { files, with, init, module, work }.write(&run)?;
        let ending = Guest::start(machine, &run, Output::Hidden)?
            .listen(longest + Duration::from_secs(60), |word| self.hear(word))?;
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

    /// Takes over what has ended, and returns the rest.
    fn settle(self, finished: &mut Vec<Finished>) -> Unfinished {
        let mut unfinished = Unfinished { waiting: Vec::new(), running: Vec::new() };
        for (test, state) in self.tests.iter().zip(self.states) {
            match state {
                State::Waiting => unfinished.waiting.push(test.clone()),
                State::Running => unfinished.running.push(test.clone()),
                State::Ended(outcome, took) => finished.push(Finished::new(test, outcome, took)),
            }
        }
        unfinished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(target: &str, name: &str) -> Test {
        let (program, directory) = ("/t/debug/deps/x".into(), "/w/crates/x".into());
        Test { program, directory, target: target.into(), name: name.into() }
    }

    #[test]
    fn filters_reach_what_selections_leave_out() {
        let chosen = |name: &str, (init, part), filters: &[&str]| {
            let (target, name) = name.rsplit_once(' ').unwrap();
            let filters = Vec::from_iter(filters.iter().map(|filter| (*filter).to_owned()));
            is_chosen(&test(target, name), init, part, &filters)
        };
        let core = (Init::Systemd, Part::Core);
        let everything = (Init::Systemd, Part::Everything);
        assert!(chosen("cgroup::real v2::freezing", core, &[]));
        assert!(chosen("runtime::labels selinux::x", (Init::Bare, Part::Labels), &[]));
        assert!(!chosen("cgroup::real v2::freezing", (Init::Bare, Part::Labels), &[]));
        assert!(!chosen("cgroup::plans every_row", everything, &[]), "pure code is the same everywhere");
        assert!(chosen("cgroup::plans every_row", core, &["plans::every"]));
        assert!(!chosen("cgroup::real v2::freezing", everything, &["thaw"]));
        let engines = (Init::Systemd, Part::Engines);
        assert!(chosen("runtime::engines podman::systemd::newest::x", engines, &[]));
        assert!(!chosen("runtime::engines podman::newest::x", engines, &["podman"]));
        assert!(!chosen("runtime::engines podman::newest::x", everything, &[]), "they take too long");
        assert!(chosen("runtime::engines podman::newest::x", (Init::Bare, Part::Engines), &["podman"]));
        let limits = "runtime::engines podman::systemd::newest::limits_are_in_force_and_can_change";
        assert!(chosen(limits, core, &[]));
        assert!(!chosen(limits, (Init::Bare, Part::Core), &[]));
    }

    #[test]
    fn walls_have_no_second_chance_here_and_on_the_host() {
        assert!(is_wall(&test("runtime::walls", "image::x").full_name()));
        assert!(!is_wall(&test("runtime::mounts", "walls::x").full_name()));
        let path = workspace::root().unwrap().join(".config/nextest.toml");
        let profile = std::fs::read_to_string(path).unwrap();
        let names = WALLS.iter().map(|begin| begin.trim_start_matches("runtime::").trim_end_matches("::"));
        let filter = Vec::from_iter(names.map(|name| format!("binary(={name})"))).join(" | ");
        assert!(profile.contains(&format!("filter = '{filter}'\nretries = 0\n")), "{profile}");
    }

    #[test]
    fn machines_share_the_tests_unless_one_is_named() {
        let names = |selection, kernels: &[Kernel], init, module| {
            let rounds = rounds(&Wanted { kernels, init, module }, selection).unwrap();
            let name = |(Machine { kernel, init, module }, part): &(Machine, Part)| {
                let module = module.map(|module| format!("/{}", module.name())).unwrap_or_default();
                format!("{}/{}{module} {part:?}", kernel.name(), init.name())
            };
            rounds.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            names(Selection::Core, &[], None, None),
            "release/systemd Core, newest/bare Core, newest/bare/apparmor Labels, release/systemd/selinux Labels"
        );
        let all = names(Selection::All, &[], None, None);
        assert!(
            all.starts_with("release/systemd Everything, newest/bare Everything, release/bare Core"),
            "{all}"
        );
        assert_eq!(
            names(Selection::All, &[Kernel::Newest], Some(Init::Bare), None),
            "newest/bare Everything"
        );
        let selinux = Some(SecurityModule::SeLinux);
        assert_eq!(names(Selection::Core, &[], None, selinux), "release/systemd/selinux Labels");
        assert_eq!(names(Selection::All, &[], None, selinux), "release/systemd/selinux Everything");
        assert_eq!(names(Selection::Core, &[], Some(Init::Bare), None), "release/bare Core");
        assert_eq!(names(Selection::Named, &[], None, None), "release/systemd Core");
    }

    #[test]
    fn what_ran_when_a_guest_died_is_told_from_what_waited() {
        let tests = ["a", "b", "c"].map(|name| test("x::y", name));
        let mut attempt = Attempt::new(&tests);
        attempt.hear(Word::Started(0));
        attempt.hear(Word::Started(1));
        attempt.hear(Word::Ended { test: 0, outcome: Outcome::Passed, took: Duration::from_secs(1) });
        let mut finished = Vec::new();
        let Unfinished { waiting, running } = attempt.settle(&mut finished);
        assert_eq!((finished.len(), finished[0].test.as_str()), (1, "x::y::a"));
        assert_eq!((waiting, running), (vec![tests[2].clone()], vec![tests[1].clone()]));
    }
}
