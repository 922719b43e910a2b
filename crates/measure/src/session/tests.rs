//! Sessions on a machine whose clock and noise are known.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::plan::{AGAIN, Axis, BARE, LEFT, Limits, Pair, Quantity, RATE_KEPT};
use crate::record::{VERSION, read};
use crate::stats::{Amount, Failure, Prng, Verdict};

/// A machine on which `bare` takes 10 ms and the others as many times as long as is planted.
struct Machine {
    factors: BTreeMap<&'static str, f64>,
    /// Standard deviation of the logarithm.
    noise: f64,
    /// Added to the logarithm with each block.
    drift: f64,
    prng: Prng,
    clock: Duration,
    /// After how many turns someone interrupts.
    patience: usize,
    taken: Vec<(String, usize)>,
    disturbed: Option<usize>,
    /// How long a turn of a task takes, where that is not a second.
    seconds: BTreeMap<&'static str, u64>,
    /// When a turn that goes on then gives up.
    end: Option<Duration>,
}

impl Machine {
    fn new(factors: &[(&'static str, f64)], noise: f64) -> Self {
        Self {
            factors: factors.iter().copied().collect(),
            noise,
            drift: 0.0,
            prng: Prng::new(11),
            clock: Duration::ZERO,
            patience: usize::MAX,
            taken: Vec::new(),
            disturbed: None,
            seconds: BTreeMap::new(),
            end: None,
        }
    }

    /// A normal variate, as the sum of twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.prng.next_bits() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
    }
}

impl Executor for Machine {
    fn take(&mut self, task: &Task, platform: &str, block: usize) -> Vec<Finding> {
        self.taken.push((platform.to_owned(), block));
        let seconds = Duration::from_secs(self.seconds.get(task.name.as_str()).copied().unwrap_or(1));
        // Only what is long looks at the clock.
        if let Some(end) = self.end.filter(|end| seconds.as_secs() >= 100 && self.clock + seconds > *end) {
            self.clock = self.clock.max(end);
            let late = || Err(Failure(OUT_OF_TIME.to_owned()));
            return task.quantities.iter().map(|quantity| Finding::of(&quantity.name, late())).collect();
        }
        self.clock += seconds;
        let factor = self.factors[platform];
        let wild = if self.disturbed == Some(block) { 9.0 } else { 1.0 };
        let value = 10.0 * factor * wild * (self.noise * self.normal() + self.drift * block as f64).exp();
        let outcome =
            if factor.is_finite() { Amount::new(value) } else { Err(Failure("exit code 1".to_owned())) };
        task.quantities.iter().map(|quantity| Finding::of(&quantity.name, outcome.clone())).collect()
    }

    fn noise(&mut self) -> Option<Noise> {
        let block = self.taken.last()?.1;
        let stolen = if self.disturbed == Some(block) { 0.4 } else { 0.0 };
        Some(Noise { seconds: 1.0, stolen: Some(stolen), ..Noise::default() })
    }

    fn clock(&self) -> u64 {
        1_000_000 + self.clock.as_millis() as u64
    }

    fn elapsed(&self) -> Duration {
        self.clock
    }

    fn is_interrupted(&self) -> bool {
        self.taken.len() > self.patience
    }

    fn ends(&mut self, at: Duration) {
        self.end = Some(at);
    }
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bh-session-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn sit(&self, machine: &mut Machine, plan: Plan, budget: Option<u64>) -> Results {
        let begin = Run { version: VERSION, plan, environment: BTreeMap::new(), platforms: Vec::new() };
        let earlier = Results::of(read(&self.0).unwrap());
        let mut journal = Journal::open(&self.0).unwrap();
        run(
            begin,
            earlier,
            &mut journal,
            machine,
            budget.map_or(Time::Unlimited, |seconds| Time::Firm(Duration::from_secs(seconds))),
            &mut |_| {},
        )
        .unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn plan(platforms: &[&str], least: usize, most: usize) -> Plan {
    let task = Task {
        name: "boot".to_owned(),
        axis: Axis::Performance,
        says: "The time from the call to the first byte.".to_owned(),
        pair: None,
        rate: None,
        quantities: vec![Quantity::less("first byte", "ms")],
        least,
        most,
    };
    Plan { platforms: platforms.iter().map(|name| (*name).to_owned()).collect(), tasks: vec![task], seed: 3 }
}

fn verdict(results: &Results, platform: usize) -> Option<Verdict> {
    let task = &results.plan().tasks[0];
    Some(results.experiment(task, &task.quantities[0]).compare(platform, 0)?.verdict)
}

#[test]
fn a_difference_ends_the_task_and_none_is_found_where_none_is() {
    let place = Place::new("planted");
    let mut machine = Machine::new(&[(BARE, 1.0), (AGAIN, 1.0), ("crun", 1.1)], 0.01);
    let results = place.sit(&mut machine, plan(&[BARE, AGAIN, "crun"], 6, 200), None);
    assert_eq!(results.end, Some(End::Complete));
    assert_eq!(verdict(&results, 1), Some(Verdict::Equal), "the A/A test found a difference");
    assert_eq!(verdict(&results, 2), Some(Verdict::Slower), "10 % were not seen");
    assert!(machine.taken.len() < 3 * 40, "{} turns for what was plain", machine.taken.len());
}

#[test]
fn a_task_ends_when_it_is_known_well_enough_and_not_when_it_is_decided() {
    let place = Place::new("narrow");
    let mut machine = Machine::new(&[(BARE, 1.0), ("crun", 1.3)], 0.05);
    let results = place.sit(&mut machine, plan(&[BARE, "crun"], 6, 200), None);
    let task = &results.plan().tasks[0];
    let blocks = machine.taken.len() / 2;
    let first = Results {
        turns: results.turns.iter().filter(|turn| turn.block < 6).cloned().collect(),
        ..results.clone()
    };
    assert_eq!(verdict(&first, 1), Some(Verdict::Slower), "six blocks tell 30 % from noise of 5 %");
    assert!((7..200).contains(&blocks), "it ended after {blocks} blocks");
    assert!(results.is_known(task) && !first.is_known(task));
}

#[test]
fn a_turn_tells_when_it_began() {
    let place = Place::new("began");
    let mut machine = Machine::new(&[(BARE, 1.0), ("crun", 1.1)], 0.01);
    let results = place.sit(&mut machine, plan(&[BARE, "crun"], 2, 2), None);
    let began = Vec::from_iter(results.turns.iter().map(|turn| turn.began.unwrap()));
    assert_eq!(began.len(), 4);
    assert!(began[0] >= 1_000_000 && began.is_sorted_by(|one, other| one < other), "{began:?}");
    // Earlier versions did not note it.
    let mut line = serde_json::to_value(&results.turns[0]).unwrap();
    line.as_object_mut().unwrap().remove("began").unwrap();
    assert_eq!(serde_json::from_value::<Turn>(line).unwrap().began, None);
}

#[test]
fn three_per_cent_are_within_the_margin() {
    let place = Place::new("small");
    let mut machine = Machine::new(&[(BARE, 1.0), ("crun", 1.03)], 0.02);
    let results = place.sit(&mut machine, plan(&[BARE, "crun"], 6, 400), None);
    let task = &results.plan().tasks[0];
    let comparison = results.experiment(task, &task.quantities[0]).compare(1, 0).unwrap();
    assert_eq!(comparison.verdict, Verdict::Equal);
    assert!((1.01..1.05).contains(&comparison.ratio.estimate), "{comparison:?}");
}

#[test]
fn drift_and_a_wild_block_meet_all_alike() {
    let place = Place::new("drift");
    let mut machine = Machine::new(&[(BARE, 1.0), ("crun", 2.0)], 0.02);
    machine.drift = 0.2;
    machine.disturbed = Some(3);
    let results = place.sit(&mut machine, plan(&[BARE, "crun"], 12, 12), None);
    let task = &results.plan().tasks[0];
    let experiment = results.experiment(task, &task.quantities[0]);
    let ratio = experiment.compare(1, 0).unwrap().ratio;
    assert!((1.95..2.05).contains(&ratio.estimate), "{ratio:?}");
    assert_eq!((experiment.summary(1).measured, experiment.summary(1).disturbed), (12, 1));
}

#[test]
fn what_always_fails_has_a_reason_and_holds_nobody_up() {
    let place = Place::new("failing");
    let mut machine = Machine::new(&[(BARE, 1.0), ("broken", f64::INFINITY)], 0.01);
    let results = place.sit(&mut machine, plan(&[BARE, "broken"], 6, 200), None);
    assert_eq!(verdict(&results, 1), None);
    let task = &results.plan().tasks[0];
    let summary = results.experiment(task, &task.quantities[0]).summary(1);
    assert_eq!((summary.measured, summary.failures.len()), (0, 6));
    assert_eq!(summary.failures[0].0, "exit code 1");
}

#[test]
fn the_budget_ends_a_session_and_the_next_goes_on() {
    let place = Place::new("budget");
    let names = [BARE, "crun"];
    let factors = [(BARE, 1.0), ("crun", 1.0)];
    let first = place.sit(&mut Machine::new(&factors, 0.5), plan(&names, 10, 10), Some(7));
    assert_eq!(
        (first.end, first.turns.len()),
        (Some(End::Budget), 6),
        "a block that does not fit is not begun"
    );
    let mut machine = Machine::new(&factors, 0.5);
    let second = place.sit(&mut machine, plan(&names, 10, 10), None);
    assert_eq!((second.end, second.turns.len()), (Some(End::Complete), 20));
    assert_eq!(machine.taken.len(), 14, "what was done is not done again");
    assert_eq!(Results::of(read(&place.0).unwrap()).unwrap().turns, second.turns);
    assert_eq!(second.left_out(&plan(&[BARE, "crun", "runc"], 1, 1)), None);
    assert_eq!(second.left_out(&plan(&[BARE], 1, 1)), Some("crun"));
    let mut other = plan(&names, 1, 1);
    other.tasks[0].name = "other".to_owned();
    assert_eq!(second.left_out(&other), Some("boot"));
    for (change, is_another) in [
        (Box::new(|_: &mut Task| {}) as Box<dyn Fn(&mut Task)>, false),
        (Box::new(|task| (task.least, task.most, task.rate) = (1, 99, Some(5.0))), false),
        (Box::new(|task| task.says += " Twice."), true),
        (Box::new(|task| task.quantities[0].unit = "s".to_owned()), true),
        (Box::new(|task| task.quantities.push(Quantity::less("CPU", "ms"))), true),
        (Box::new(|task| task.axis = Axis::Isolation), true),
    ] {
        let mut other = plan(&names, 10, 10);
        change(&mut other.tasks[0]);
        assert_eq!(second.changed(&other), is_another.then_some("boot"), "{:?}", other.tasks[0]);
    }
    let unmeasured = Results { turns: Vec::new(), ..second.clone() };
    let mut other = plan(&names, 10, 10);
    other.tasks[0].says.clear();
    assert_eq!((unmeasured.changed(&other), second.changed(&other)), (None, Some("boot")));
}

#[test]
fn a_long_turn_ends_with_a_firm_time_and_is_done_again() {
    let place = Place::new("long");
    let names = [BARE, "crun"];
    let factors = [(BARE, 1.0), ("crun", 1.0)];
    let mut machine = Machine::new(&factors, 0.1);
    machine.seconds = [("boot", 150)].into();
    let results = place.sit(&mut machine, plan(&names, 6, 6), Some(200));
    assert_eq!((results.end, results.turns.len()), (Some(End::Budget), 1));
    assert_eq!(machine.clock.as_secs(), 200, "it takes longer than it may");
    let results = place.sit(&mut Machine::new(&factors, 0.1), plan(&names, 6, 6), None);
    assert_eq!((results.end, results.turns.len()), (Some(End::Complete), 12));
    let numbers = results.turns.iter().all(|turn| matches!(turn.findings[..], [Finding::Amount { .. }]));
    assert!(numbers, "the end of a time is kept as a finding");
}

#[test]
fn an_interrupted_turn_is_not_a_measurement() {
    let place = Place::new("interrupted");
    let mut machine = Machine::new(&[(BARE, 1.0), ("crun", 1.0)], 0.1);
    machine.patience = 4;
    let results = place.sit(&mut machine, plan(&[BARE, "crun"], 10, 10), None);
    assert_eq!((results.end, results.turns.len(), machine.taken.len()), (Some(End::Interrupted), 4, 5));
}

#[test]
fn every_block_has_an_order_of_its_own_and_every_session_the_same() {
    let plan = plan(&["a", "b", "c", "d"], 1, 1);
    let of = |block| Vec::from_iter(order(&plan, &plan.tasks[0], block));
    assert_eq!(of(5), of(5));
    let first = Vec::from_iter((0..20).map(of));
    assert!(first.iter().any(|order| *order != first[0]), "{first:?}");
}

/// Tasks as a short run has them, by the seconds that a turn of each takes; bare, bare again and three walls.
const SHORT: [(&str, u64); 6] =
    [("boot", 1), ("work", 1), ("kernel", 1), ("left", 2), ("pair a", 3), ("pair b", 3)];

fn short_plan(platforms: &[&str]) -> Plan {
    let mut whole = plan(platforms, 6, 20);
    let boot = whole.tasks.remove(0);
    let beside = |name: &str| vec![Quantity::more(name, "").beside()];
    let pair =
        Pair { victim: "cpu".to_owned(), antagonist: "cpu".to_owned(), limits: Limits::With, floor: None };
    whole.tasks = Vec::from_iter(SHORT.map(|(name, _)| {
        let named = Task { name: name.to_owned(), ..boot.clone() };
        match name {
            "kernel" => {
                Task { axis: Axis::Isolation, quantities: beside("footprint"), least: 3, most: 3, ..named }
            }
            "left" => {
                Task { axis: Axis::Noninterference, quantities: beside(LEFT), least: 1, most: 3, ..named }
            }
            "pair a" | "pair b" => {
                Task { pair: Some(pair.clone()), quantities: beside(RATE_KEPT), most: 6, ..named }
            }
            _ => named,
        }
    }));
    whole
}

/// Whole blocks of each task of [`SHORT`] after a session on a machine that is so many times slower, and how long it took.
fn short(time: Time, slowness: u64) -> ([usize; 6], u64) {
    let names = [BARE, AGAIN, "bulkrun"];
    let place = Place::new(&format!("short-{slowness}-{}", matches!(time, Time::Meant(_))));
    let mut machine = Machine::new(&names.map(|name| (name, 1.0)), 0.3);
    machine.seconds = SHORT.map(|(name, seconds)| (name, slowness * seconds)).into();
    let begin = Run {
        version: VERSION,
        plan: short_plan(&names),
        environment: BTreeMap::new(),
        platforms: Vec::new(),
    };
    let mut journal = Journal::open(&place.0).unwrap();
    let results = run(begin, None, &mut journal, &mut machine, time, &mut |_| {}).unwrap();
    let blocks = SHORT.map(|(name, _)| results.whole_blocks(results.plan().task(name).unwrap()));
    (blocks, machine.clock.as_secs())
}

#[test]
fn a_slower_machine_leaves_out_more_and_takes_no_longer() {
    // A block of boot, work, kernel, left and of a pair takes 3, 3, 3, 6 and 9 s.
    let meant = Time::Meant(Duration::from_secs(300));
    for (slowness, expected, took, why) in [
        (1, [20, 20, 3, 3, 6, 6], 255, "everything has its place"),
        (
            2,
            [7, 7, 3, 1, 5, 5],
            294,
            "repeats beside hogs go first, then rows beyond six, then a block of all pairs",
        ),
        (4, [7, 6, 3, 1, 1, 1], 288, "all but one block of pairs; what is left does for one more row"),
        (6, [6, 6, 1, 1, 0, 0], 306, "a turn that was begun is ended"),
        (20, [6, 6, 0, 0, 0, 0], 720, "rows have their six blocks in any case"),
    ] {
        assert_eq!(short(meant, slowness), (expected, took), "{slowness} times slower: {why}");
    }
    let firm = short(Time::Firm(Duration::from_secs(300)), 20);
    assert_eq!(firm, ([3, 2, 0, 0, 0, 0], 300), "what is firm ends");
}

#[test]
fn antagonists_come_in_an_order_of_each_block_and_those_of_a_victim_together() {
    let names = [BARE];
    let mut whole = plan(&names, 6, 6);
    let boot = whole.tasks.remove(0);
    let pairs = ["cpu", "fork"].into_iter().flat_map(|victim| ["a", "b", "c"].map(|other| (victim, other)));
    whole.tasks = Vec::from_iter(pairs.map(|(victim, antagonist)| Task {
        name: format!("{victim} beside {antagonist}"),
        axis: Axis::Noninterference,
        pair: Some(Pair {
            victim: victim.to_owned(),
            antagonist: antagonist.to_owned(),
            limits: Limits::With,
            floor: None,
        }),
        quantities: vec![Quantity::more(RATE_KEPT, "").beside()],
        ..boot.clone()
    }));
    for (name, budget) in [("drawn", None), ("drawn-in-time", Some(100))] {
        let place = Place::new(name);
        let results = place.sit(&mut Machine::new(&[(BARE, 1.0)], 0.5), whole.clone(), budget);
        let tasks = Vec::from_iter(results.turns.iter().map(|turn| turn.task.as_str()));
        assert_eq!(tasks.len(), 36);
        let blocks = Vec::from_iter(tasks.chunks(3));
        assert!(blocks.iter().all(|met| met.iter().all(|task| task[..4] == met[0][..4])), "{tasks:?}");
        let mut orders = Vec::from_iter(blocks.iter().filter(|met| met[0].starts_with("cpu")));
        orders.sort_unstable();
        orders.dedup();
        assert!(orders.len() > 2, "antagonists come in the same order: {tasks:?}");
    }
}

#[test]
fn the_time_left_is_that_of_the_turns_that_are_due() {
    let place = Place::new("left");
    let names = [BARE, "crun"];
    let factors = [(BARE, 1.0), ("crun", 1.0)];
    place.sit(&mut Machine::new(&factors, 0.5), plan(&names, 5, 5), Some(4));
    let begin = Run {
        version: VERSION,
        plan: plan(&names, 5, 5),
        environment: BTreeMap::new(),
        platforms: Vec::new(),
    };
    let earlier = Results::of(read(&place.0).unwrap());
    let mut journal = Journal::open(&place.0).unwrap();
    let mut left = Vec::new();
    let mut note = |progress: &Progress<'_>| left.push(progress.left.map(|left| left.as_secs()));
    let mut machine = Machine::new(&factors, 0.5);
    run(begin, earlier, &mut journal, &mut machine, Time::Unlimited, &mut note).unwrap();
    // Each turn takes a second. Of ten turns two were done before: a second block did not fit into what is planned of 4 s.
    assert_eq!(left, [8, 7, 6, 5, 4, 3, 2, 1].map(Some));
}
