//! The machine as the one who does a plan's tasks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::arena::{self, Arena};
use crate::cgroups::Weight;
use crate::error::Error;
use crate::interference;
use crate::isolation::{self, Watcher};
use crate::machine::{self, Watchman};
use crate::performance;
use crate::plan::{AGAIN, Axis, BARE, Plan, Size, Task};
use crate::platform::{Platform, find};
use crate::record::{Finding, GUEST, Noise, Run, VERSION, WEIGHT};
use crate::session::Executor;
use crate::stats::Failure;
use crate::{cgroups, guest, interrupt, provenance};

/// The platforms of a run, and the arena in which they are measured.
#[derive(Debug)]
pub struct Host {
    arena: Arena,
    platforms: Vec<Platform>,
    began: Instant,
    watchman: Watchman,
    alone: interference::Alone,
    /// Made when it is first asked for: most runs need none.
    watcher: Option<Watcher>,
}

impl Host {
    /// Makes the arena for these platforms, of which the bare process is the first.
    ///
    /// From now on signals are only noted ([`interrupt`]), and as root this process has mounts of its own. `guard` is a
    /// program that calls [`guard::keep`](crate::guard::keep) when it is told `measure guard DIRECTORY`.
    ///
    /// # Errors
    /// When the arena cannot be made.
    pub fn make(platforms: Vec<Platform>, workload: &Path, guard: Option<&Path>) -> Result<Self, Error> {
        let missing = |platform: &&Platform| platform.needs_root() && !arena::is_root();
        if let Some(platform) = platforms.iter().find(missing) {
            return Err(Error::Unusable(format!(
                "{} is measured by root only; an ordinary user can measure bare, bubblewrap and charliecloud",
                platform.name
            )));
        }
        let names = [BARE, AGAIN].into_iter().chain(platforms.iter().map(|platform| platform.name.as_str()));
        let mut names = Vec::from_iter(names);
        names.sort_unstable();
        names.dedup();
        if let Some((one, other)) = arena::alike(&names) {
            return Err(Error::Unusable(format!(
                "platforms {one} and {other} cannot be told apart by letters and digits, of which names of sandboxes are made; \
                 --platforms NAME=PATH gives one another name"
            )));
        }
        interrupt::watch()?;
        if arena::is_root() {
            cgroups::settle()?;
        }
        let mut arena = Arena::make(workload, guard, weight(&platforms))?;
        arena.beside(&platforms);
        let watchman = Watchman::new(arena.ours());
        let alone = interference::Alone::default();
        Ok(Self { arena, platforms, began: Instant::now(), watchman, alone, watcher: None })
    }

    /// Has the programs of the heavy profile in every sandbox, from the directory `tree` or where there are most of them.
    ///
    /// # Errors
    /// For everyone but root, and when they cannot be copied. One that is missing is no error: its tasks tell.
    pub fn bring(&mut self, tree: Option<&Path>) -> Result<(), Error> {
        self.arena.bring(tree).map(drop)
    }

    /// Adds what is known of `run` only now: the rates of open loops that it lacks, the programs of the heavy profile, and how
    /// closely the kernel is watched.
    pub fn complete(&mut self, mut run: Run) -> Run {
        run.plan.tasks.iter_mut().for_each(|task| self.pace(task));
        run.environment.extend(self.arena.brought());
        run.environment.extend(self.arena.daemons().facts());
        if run.plan.tasks.iter().any(|task| task.axis == Axis::Isolation) {
            let watcher = self.watcher.get_or_insert_with(Watcher::new);
            run.environment.insert("kernel watched".to_owned(), watcher.says());
        }
        run
    }

    /// Finds out the rate of the task's open loop, if it wants one and has none.
    pub fn pace(&self, task: &mut Task) {
        performance::pace(task, &self.arena, &find::bare());
    }
}

/// What is measured has as much of the CPUs as can be had, unless a daemon works for it elsewhere.
fn weight(platforms: &[Platform]) -> Weight {
    if platforms.iter().any(Platform::has_daemon) { Weight::Usual } else { Weight::Greatest }
}

/// A run that does `plan` here, as far as it is known before anything is made for it. Rates of open loops are those of
/// `earlier`, the plan of a run that this one goes on with.
pub fn run(mut plan: Plan, earlier: Option<&Plan>, platforms: &[Platform], workload: &Path) -> Run {
    for task in &mut plan.tasks {
        let rate = earlier.and_then(|earlier| earlier.task(&task.name)?.rate);
        rate.iter().for_each(|rate| performance::set_rate(task, *rate));
    }
    let measured = |name: &String| called(platforms, name).map(|platform| platform.measured());
    let measured = plan.platforms.iter().filter_map(measured).collect();
    let mut environment = environment(workload);
    // An ordinary user makes no cgroup that could have one.
    if arena::is_root() {
        environment.insert(WEIGHT.to_owned(), weight(platforms).says().to_owned());
    }
    Run { version: VERSION, plan, environment, platforms: measured }
}

/// The platform of this name, also under the second name of the bare process.
fn called(platforms: &[Platform], name: &str) -> Option<Platform> {
    let found = |name: &str| platforms.iter().find(|platform| platform.name == name);
    if name == AGAIN { found(BARE).map(Platform::again) } else { found(name).cloned() }
}

/// Seeds the orders and the intervals of a new run: each has its own, so that two runs do not agree about what an order does.
pub fn seed() -> u64 {
    // Some 600 years of nanoseconds.
    since_1970().as_nanos() as u64
}

/// The machine's clock, milliseconds since 1970.
pub fn clock() -> u64 {
    since_1970().as_millis() as u64
}

/// Nothing on a machine whose clock was not set.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The plan of these axes for these platforms; the bare process is compared with itself, too. A run that goes on has the
/// `seed` that it had.
pub fn plan(platforms: &[Platform], axes: &[Axis], size: Size, seed: u64) -> Plan {
    let mut names = vec![BARE.to_owned(), AGAIN.to_owned()];
    let others = platforms.iter().filter(|platform| platform.name != BARE);
    names.extend(others.map(|platform| platform.name.clone()));
    let chosen = Axis::ALL.into_iter().filter(|axis| axes.contains(axis));
    Plan { platforms: names, tasks: chosen.flat_map(|axis| tasks(axis, size)).collect(), seed }
}

/// The tasks of one axis in a run of this size.
pub fn tasks(axis: Axis, size: Size) -> Vec<Task> {
    match axis {
        Axis::Performance => performance::tasks(size),
        Axis::Isolation => isolation::tasks(size),
        Axis::Noninterference => interference::tasks(size),
    }
}

/// The tasks of the heavy profile; [`Host::bring`] comes first.
pub fn heavy_tasks() -> Vec<Task> {
    performance::heavy_tasks()
}

fn environment(workload: &Path) -> BTreeMap<String, String> {
    let mut facts = machine::facts();
    facts.extend(provenance::facts(workload));
    // The arena will be there.
    facts.insert("files".to_owned(), machine::file_system(&std::env::temp_dir()));
    let user = if arena::is_root() { "root" } else { arena::ORDINARY };
    facts.insert("user".to_owned(), user.to_owned());
    if guest::is_inside() {
        facts.insert(GUEST.to_owned(), guest::MACHINE.to_owned());
    }
    facts
}

impl Executor for Host {
    fn take(&mut self, task: &Task, platform: &str, block: usize) -> Vec<Finding> {
        let taken = called(&self.platforms, platform).and_then(|platform| match task.axis {
            Axis::Performance => performance::take(task, &self.arena, &platform),
            Axis::Noninterference => interference::take(task, &self.arena, &platform, block, &mut self.alone),
            Axis::Isolation => {
                let watcher = self.watcher.get_or_insert_with(Watcher::new);
                watcher.take(task, &self.arena, &platform)
            }
        });
        // A journal of a later version may have tasks that this one does not know.
        let unknown = || Err::<Vec<(String, _)>, _>(Failure("this program does not know how".to_owned()));
        taken.unwrap_or_else(|| Finding::of_task(task, unknown()))
    }

    fn noise(&mut self) -> Option<Noise> {
        self.watchman.noise(self.arena.ours())
    }

    fn clock(&self) -> u64 {
        clock()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn is_interrupted(&self) -> bool {
        interrupt::check().is_err()
    }

    fn ends(&mut self, at: Duration) {
        self.arena.ends(self.began + at);
    }
}
