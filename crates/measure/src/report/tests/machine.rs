//! A journal in which everything is known in advance.

use std::collections::BTreeMap;

use crate::plan::{
    AGAIN, Axis, BARE, BOOT, FIRST_BYTE, LEFT, Limits, Pair, Plan, Quantity, RATE_KEPT, TAIL_KEPT, Task,
};
use crate::record::{
    DIED, ENDED, End, Finding, Footprint, Level, Line, Measured, NOTHING_LEFT, Reach, Run, Symbol, Turn,
    VERSION,
};
use crate::report::findings::{Findings, Standing, Trial};
use crate::results::Results;
use crate::stats::Prng;

/// A name that would break out of every format.
pub(super) const VILLAIN: &str = "<script>alert(1)</script> \"|`*\u{1b}[31m & Söhne";

pub(super) const PLATFORMS: [&str; 6] = [BARE, AGAIN, "bulkrun", "crun", "runsc", VILLAIN];

pub(super) const VICTIMS: [&str; 3] = ["cpu", "fork", "unix-echo"];

pub(super) const ANTAGONISTS: [&str; 3] = ["cpu", "memory-bandwidth", "fork"];

/// How many functions bare enters.
pub(super) const FUNCTIONS: usize = 200;

pub(super) const PROBES: [(&str, [Reach; 6]); 5] = {
    use Reach::{Breach, Denied, Leak, Virtual};
    [
        ("read another's memory", [Leak, Leak, Denied, Denied, Virtual, Denied]),
        ("keyring of the same user", [Leak, Leak, Leak, Leak, Virtual, Leak]),
        ("write to a host file", [Breach, Breach, Denied, Denied, Denied, Breach]),
        ("kernel log", [Leak, Leak, Denied, Denied, Virtual, Denied]),
        // Not even bare can: nothing follows.
        ("load a module", [Denied, Denied, Denied, Denied, Denied, Denied]),
    ]
};

/// Makes a journal.
pub(super) struct Machine {
    pub(super) prng: Prng,
    /// By how much everything takes longer than it should.
    pub(super) pace: f64,
    /// By how much the second bare process differs from the first.
    pub(super) bias: f64,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self { prng: Prng::new(seed), pace: 1.0, bias: 1.0 }
    }

    fn noise(&mut self, strength: f64) -> f64 {
        let normal = (0..12).map(|_| self.prng.next_bits() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
        (normal * strength).exp()
    }

    /// Everything that was ever planned, done `blocks` times.
    pub(super) fn journal(&mut self, blocks: usize) -> Vec<Line> {
        let plan = plan();
        let mut lines = vec![Line::Run(run(plan.clone()))];
        for block in 0..blocks {
            for task in &plan.tasks {
                for (place, platform) in PLATFORMS.iter().enumerate() {
                    let mut findings = self.findings(task, place, block);
                    if task.name == "kernel" && block == 0 && place == 0 {
                        findings.push(Finding::Symbols { symbols: symbols() });
                    }
                    lines.push(Line::Turn(Turn {
                        task: task.name.clone(),
                        platform: (*platform).to_owned(),
                        block,
                        began: Some(60_000 * block as u64),
                        seconds: 0.5,
                        disturbance: (block == 3 && place == 1)
                            .then(|| "12 % of the time was stolen".to_owned()),
                        noise: None,
                        findings,
                    }));
                }
            }
        }
        lines.push(Line::End(End::Complete));
        lines
    }

    fn findings(&mut self, task: &Task, place: usize, block: usize) -> Vec<Finding> {
        match (&task.pair, task.name.as_str()) {
            (Some(pair), _) => self.meeting(pair, place),
            (None, "kernel") => footprints(place),
            (None, "probes") => probes(place),
            (None, "memory left, with limits") => vec![left(1.0)],
            (None, "processes left, with limits") => vec![processes_left(place, block)],
            _ => task.quantities.iter().map(|quantity| self.figure(task, quantity, place)).collect(),
        }
    }

    fn figure(&mut self, task: &Task, quantity: &Quantity, place: usize) -> Finding {
        if task.name == "work tcp-rate" && place == 5 {
            let reason = format!("exit code 1: {VILLAIN}");
            return Finding::Failure { quantity: quantity.name.clone(), reason };
        }
        let factor = factors(&task.name)[place] * if place == 1 { self.bias } else { 1.0 };
        let value = match quantity.better {
            crate::plan::Better::Less => 2.4 * factor * self.pace,
            crate::plan::Better::More => 50_000.0 / factor / self.pace,
        };
        Finding::Amount { quantity: quantity.name.clone(), value: value * self.noise(0.02) }
    }

    fn meeting(&mut self, pair: &Pair, place: usize) -> Vec<Finding> {
        if pair.victim == "fork" && pair.antagonist == "fork" && place == 0 {
            let failure = |name: &str| Finding::Failure {
                quantity: name.to_owned(),
                reason: format!("{DIED}: killed by signal 9"),
            };
            return vec![failure(RATE_KEPT), failure(TAIL_KEPT)];
        }
        let kept = if place < 2 { 0.25 } else { 1.0 };
        let value = |name: &str, value: f64| Finding::Amount { quantity: name.to_owned(), value };
        let tail = if pair.antagonist == "memory-bandwidth" { 0.64 } else { 1.44 };
        vec![value(RATE_KEPT, kept * self.noise(0.0)), value(TAIL_KEPT, tail)]
    }
}

/// How many times as long as bare everything takes.
pub(super) fn factors(task: &str) -> [f64; 6] {
    match task {
        BOOT => [1.0, 1.0, 3.5, 13.0, 74.0, 20.0],
        "work cpu" => [1.0, 1.0, 1.0, 1.0, 1.2, 1.0],
        "work fork" => [1.0, 1.0, 1.01, 0.8, 16.0, 1.02],
        "work tcp-rate" => [1.0, 1.0, 1.0, 1.0, 4.0, 1.0],
        _ => [1.0; 6],
    }
}

pub(super) fn plan() -> Plan {
    let task = |name: &str, axis: Axis, pair: Option<Pair>, quantities: Vec<Quantity>| Task {
        name: name.to_owned(),
        axis,
        says: format!("What {name} takes."),
        pair,
        rate: None,
        quantities,
        least: 6,
        most: 12,
    };
    let start = vec![Quantity::less(FIRST_BYTE, "ms"), Quantity::less("processor", "ms").beside()];
    let mut tasks = vec![task(BOOT, Axis::Performance, None, start)];
    for name in ["work cpu", "work fork", "work tcp-rate", "heavy redis"] {
        tasks.push(task(name, Axis::Performance, None, vec![Quantity::more("rate", "1/s")]));
    }
    for (victim, antagonist) in
        VICTIMS.iter().flat_map(|one| ANTAGONISTS.iter().map(move |other| (one, other)))
    {
        for limits in [Limits::With, Limits::Without] {
            let pair = Pair {
                victim: (*victim).to_owned(),
                antagonist: (*antagonist).to_owned(),
                limits,
                floor: Some(0.5),
            };
            let kept = vec![Quantity::more(RATE_KEPT, "").beside(), Quantity::more(TAIL_KEPT, "").beside()];
            let name = format!("{victim} beside {antagonist}, {limits:?}");
            tasks.push(task(&name, Axis::Noninterference, Some(pair), kept));
        }
    }
    tasks.push(task("kernel", Axis::Isolation, None, Vec::new()));
    tasks.push(task("probes", Axis::Noninterference, None, Vec::new()));
    for name in ["memory left, with limits", "processes left, with limits"] {
        let left = vec![Quantity::more(LEFT, "").beside()];
        tasks.push(task(name, Axis::Noninterference, None, left));
    }
    Plan { platforms: PLATFORMS.map(str::to_owned).to_vec(), tasks, seed: 5 }
}

pub(super) fn run(plan: Plan) -> Run {
    let platforms = PLATFORMS.map(|name| Measured {
        name: name.to_owned(),
        version: if name == BARE { String::new() } else { format!("1.2.3 of {name}") },
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        differences: vec!["Has no seccomp filter.".to_owned()],
    });
    let environment =
        [("kernel", "Linux 6.18.44"), ("processors", "2"), ("mitigations", "spectre_v2: IBRS & \"more\"")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Run { version: VERSION, plan, environment: environment.into(), platforms: platforms.to_vec() }
}

pub(super) fn function(number: usize) -> String {
    format!("function_{number:03}")
}

pub(super) fn symbols() -> BTreeMap<String, Symbol> {
    let parts = [
        "mm",
        "fs",
        "kernel/sched",
        "net/ipv4",
        "net/core",
        "fs/ext4",
        "security",
        "block",
        "lib",
        "ipc",
        "io_uring",
    ];
    let symbol = |number: usize| Symbol { subsystem: parts[number % parts.len()].to_owned(), bytes: 512 };
    // Of the last ones nothing is known.
    (0..FUNCTIONS + 20).map(|number| (function(number), symbol(number))).collect()
}

/// Containers enter what bare does and 20 to 40 more, gVisor half of it, six times as often.
pub(super) fn footprints(place: usize) -> Vec<Finding> {
    let (functions, often) = match place {
        0 | 1 => (0..FUNCTIONS, 10),
        4 => (FUNCTIONS / 2..FUNCTIONS + 10, 60),
        place => (0..FUNCTIONS + 10 * place, 11),
    };
    let counts = functions.map(|number| (function(number), often)).collect();
    let application =
        Footprint { part: "application".to_owned(), level: Level::Functions, counts, lost: 0, samples: None };
    let calls =
        ["clone3", "mount", "pivot_root", "openat", "nonesuch"].map(|call| (call.to_owned(), 3)).into();
    let set_up = Footprint {
        part: "set-up".to_owned(),
        level: Level::Tracepoints,
        counts: calls,
        lost: 7,
        samples: None,
    };
    let set_up = (place > 1).then_some(set_up);
    [application].into_iter().chain(set_up).map(Finding::Footprint).collect()
}

/// Without a wall nothing; behind one all, but for an accident, or the hog's end.
fn processes_left(place: usize, block: usize) -> Finding {
    let failed = |reason: String| Finding::Failure { quantity: LEFT.to_owned(), reason };
    match PLATFORMS[place] {
        BARE | AGAIN => failed(format!("{NOTHING_LEFT}: fork()")),
        "runsc" => failed(format!("{ENDED}: exit status: 2: panic: no thread")),
        VILLAIN => left(0.25),
        _ => left(if block == 4 { 0.5 } else { 1.0 }),
    }
}

fn left(value: f64) -> Finding {
    Finding::Amount { quantity: LEFT.to_owned(), value }
}

pub(super) fn probes(place: usize) -> Vec<Finding> {
    let found = PROBES.map(|(probe, verdicts)| Finding::Verdict {
        probe: probe.to_owned(),
        verdict: verdicts[place],
        evidence: format!("the witness of {} saw <it>", PLATFORMS[place]),
    });
    found.into()
}

pub(super) fn results(machine: &mut Machine) -> Results {
    Results::of(machine.journal(12)).unwrap()
}

pub(super) fn findings() -> Findings {
    Findings::of(&results(&mut Machine::new(3)))
}

pub(super) fn standing(findings: &Findings, task: &str, quantity: &str, platform: &str) -> Option<Standing> {
    Some(findings.row(task, quantity)?.cell(platform)?.against_bare?.standing)
}

/// What vouches for this axis.
pub(super) fn trial(findings: &Findings, axis: Axis) -> &Trial {
    findings.trials.iter().find(|trial| trial.axis == axis).unwrap()
}
