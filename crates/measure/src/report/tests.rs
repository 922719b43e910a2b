//! Reports of a journal in which everything is known in advance.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::findings::{Accord, Standing, TrialEnd};
use super::*;
use crate::plan::{
    AGAIN, Axis, BARE, BOOT, FIRST_BYTE, Limits, Pair, Plan, Quantity, RATE_KEPT, TAIL_KEPT, Task,
};
use crate::record::{
    DIED, End, Finding, Footprint, Level, Line, Measured, Places, Reach, Run, Symbol, Turn, VERSION, read,
};
use crate::stats::Prng;

/// A name that would break out of every format.
const VILLAIN: &str = "<script>alert(1)</script> \"|`*\u{1b}[31m & Söhne";

const PLATFORMS: [&str; 6] = [BARE, AGAIN, "bulkrun", "crun", "runsc", VILLAIN];

const VICTIMS: [&str; 3] = ["cpu", "fork", "unix-echo"];

const ANTAGONISTS: [&str; 3] = ["cpu", "memory-bandwidth", "fork"];

/// How many functions bare enters.
const FUNCTIONS: usize = 200;

const PROBES: [(&str, [Reach; 6]); 5] = {
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
struct Machine {
    prng: Prng,
    /// By how much everything takes longer than it should.
    pace: f64,
    /// By how much the second bare process differs from the first.
    bias: f64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self { prng: Prng::new(seed), pace: 1.0, bias: 1.0 }
    }

    fn noise(&mut self, strength: f64) -> f64 {
        let normal = (0..12).map(|_| self.prng.next_bits() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
        (normal * strength).exp()
    }

    /// Everything that was ever planned, done `blocks` times.
    fn journal(&mut self, blocks: usize) -> Vec<Line> {
        let plan = plan();
        let mut lines = vec![Line::Run(run(plan.clone()))];
        for block in 0..blocks {
            for task in &plan.tasks {
                for (place, platform) in PLATFORMS.iter().enumerate() {
                    let mut findings = self.findings(task, place);
                    if task.name == "kernel" && block == 0 && place == 0 {
                        findings.push(Finding::Symbols { symbols: symbols() });
                    }
                    lines.push(Line::Turn(Turn {
                        task: task.name.clone(),
                        platform: (*platform).to_owned(),
                        block,
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

    fn findings(&mut self, task: &Task, place: usize) -> Vec<Finding> {
        match (&task.pair, task.name.as_str()) {
            (Some(pair), _) => self.meeting(pair, place),
            (None, "kernel") => footprints(place),
            (None, "probes") => probes(place),
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
fn factors(task: &str) -> [f64; 6] {
    match task {
        BOOT => [1.0, 1.0, 3.5, 13.0, 74.0, 20.0],
        "work cpu" => [1.0, 1.0, 1.0, 1.0, 1.2, 1.0],
        "work fork" => [1.0, 1.0, 1.01, 0.8, 16.0, 1.02],
        "work tcp-rate" => [1.0, 1.0, 1.0, 1.0, 4.0, 1.0],
        _ => [1.0; 6],
    }
}

fn plan() -> Plan {
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
    Plan { platforms: PLATFORMS.map(str::to_owned).to_vec(), tasks, seed: 5 }
}

fn run(plan: Plan) -> Run {
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

fn function(number: usize) -> String {
    format!("function_{number:03}")
}

fn symbols() -> BTreeMap<String, Symbol> {
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
fn footprints(place: usize) -> Vec<Finding> {
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

fn probes(place: usize) -> Vec<Finding> {
    let found = PROBES.map(|(probe, verdicts)| Finding::Verdict {
        probe: probe.to_owned(),
        verdict: verdicts[place],
        evidence: format!("the witness of {} saw <it>", PLATFORMS[place]),
    });
    found.into()
}

fn results(machine: &mut Machine) -> Results {
    Results::of(machine.journal(12)).unwrap()
}

fn findings() -> Findings {
    Findings::of(&results(&mut Machine::new(3)))
}

fn standing(findings: &Findings, task: &str, quantity: &str, platform: &str) -> Option<Standing> {
    Some(findings.row(task, quantity)?.cell(platform)?.against_bare?.standing)
}

#[test]
fn planted_costs_are_found_in_the_good_direction() {
    let findings = findings();
    for (task, quantity, platform, expected) in [
        (BOOT, FIRST_BYTE, "bulkrun", Some(Standing::Worse)),
        (BOOT, FIRST_BYTE, BARE, None),
        ("work cpu", "rate", "crun", Some(Standing::Equal)),
        ("work cpu", "rate", "runsc", Some(Standing::Worse)),
        ("work fork", "rate", "crun", Some(Standing::Better)),
        ("work fork", "rate", "runsc", Some(Standing::Worse)),
        ("work tcp-rate", "rate", VILLAIN, None),
    ] {
        assert_eq!(standing(&findings, task, quantity, platform), expected, "{task}, {platform}");
    }
    let row = findings.row("work fork", "rate").unwrap();
    let ratio = row.cell("runsc").unwrap().against_bare.unwrap().ratio;
    assert!((0.9 / 16.0..1.1 / 16.0).contains(&ratio.estimate), "{ratio:?}");
    let cost = row.cost(ratio);
    assert!((14.5..17.6).contains(&cost.estimate) && cost.low <= cost.estimate && cost.estimate <= cost.high);
}

#[test]
fn failures_and_disturbances_are_counted_with_their_reasons() {
    let findings = findings();
    let row = findings.row("work tcp-rate", "rate").unwrap();
    let cell = row.cell(VILLAIN).unwrap();
    assert_eq!((cell.measured, cell.failures[0].count, cell.median), (0, 12, None));
    assert!(cell.failures[0].reason.starts_with("exit code 1"));
    assert_eq!(row.cell(BARE).unwrap().disturbed, 1);
    assert_eq!(findings.disturbances[0].reason, "12 % of the time was stolen");
    assert_eq!(findings.disturbances[0].count, plan().tasks.len());
}

#[test]
fn bare_against_bare_passes_unless_it_differs() {
    let passed = findings();
    assert_eq!(trial(&passed, Axis::Performance).end, TrialEnd::Passed, "{:?}", passed.trials);
    let failed = Findings::of(&results(&mut Machine { bias: 1.2, ..Machine::new(3) }));
    assert_eq!(trial(&failed, Axis::Performance).end, TrialEnd::Failed);
    assert!(trial(&failed, Axis::Performance).found.contains(&"boot · first byte".to_owned()));
    assert!(failed.first_byte().unwrap().in_doubt && !passed.first_byte().unwrap().in_doubt);
    assert!(words::opening(&failed)[0].text.contains("boot · first byte"));
    let few = Findings::of(&Results::of(Machine::new(3).journal(4)).unwrap());
    assert_eq!(trial(&few, Axis::Performance).end, TrialEnd::NotMade);
    assert!(trial(&few, Axis::Performance).furthest.as_ref().unwrap().1 > 1.0);
}

fn trial(findings: &Findings, axis: Axis) -> &findings::Trial {
    findings.trials.iter().find(|trial| trial.axis == axis).unwrap()
}

#[test]
fn what_vouches_for_one_axis_vouches_for_no_other() {
    let findings = findings();
    // Only the first bare process loses victims: T and Q of one pair, with limits and without.
    let neighbours = trial(&findings, Axis::Noninterference);
    assert_eq!(neighbours.one_sided.len(), 4, "{neighbours:?}");
    assert_eq!((neighbours.compared, neighbours.quantities), (32, 32));
    let said = words::opening(&findings);
    let performance = said.iter().find(|sentence| sentence.text.starts_with("Performance:")).unwrap();
    assert_eq!(performance.mood, document::Mood::Good, "{said:?}");
    let neighbours = said.iter().find(|sentence| sentence.text.starts_with("Noninterference:")).unwrap();
    assert!(
        neighbours.mood == document::Mood::Plain && neighbours.text.contains("In 4 figures one of the two")
    );
    let few = Findings::of(&Results::of(Machine::new(3).journal(2)).unwrap());
    let said = words::opening(&few);
    let coarse = said.iter().find(|sentence| sentence.text.starts_with("Noninterference:")).unwrap();
    assert!(coarse.mood == document::Mood::Bad && coarse.text.contains("orders of magnitude"), "{coarse:?}");
    assert!(said.iter().any(|sentence| sentence.text.contains("coarse, from 2 blocks, and no ranking")));
}

#[test]
fn green_is_only_what_was_quiet() {
    let mut journal = Machine::new(3).journal(12);
    for line in &mut journal {
        if let Line::Turn(turn) = line {
            turn.disturbance = Some("other programs had 40 % of the CPUs".to_owned());
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let said = &words::opening(&findings)[0];
    assert!(said.mood == document::Mood::Plain && said.text.contains("most turns"), "{said:?}");
}

#[test]
fn the_opening_has_a_sentence_for_each_axis_and_none_without_figures() {
    let whole = words::opening(&findings());
    for begin in [
        "Time to the first byte: bare 2.4",
        "Work in bulkrun: costs nothing measurable in cpu, fork, tcp-rate, heavy redis.",
        "Work in runsc: costs more than bare in fork 1",
        "Of the 19 comparisons with bare that the run was to decide (start and work), 19 are decided",
        "Of the host's kernel the application enters, in functions: bare 200; bulkrun 220 (20 of them new, 0 of bare's",
        "Beside antagonists, with limits, a victim keeps of 1, in the mean of the 8 of 9 pairs",
        "Beside the literature, 11 claims: 1 found here, too, 2 found otherwise, 8 open. Not found here: that gVisor ",
    ] {
        assert!(whole.iter().any(|sentence| sentence.text.starts_with(begin)), "no `{begin}` in {whole:#?}");
    }
    let mut journal = Machine::new(3).journal(3);
    journal.retain(|line| !matches!(line, Line::Turn(turn) if turn.task != "kernel"));
    let findings = Findings::of(&Results::of(journal).unwrap());
    let alone = words::opening(&findings);
    let text = |sentence: &document::Sentence| sentence.text.clone();
    assert!(
        alone
            .iter()
            .map(text)
            .any(|text| text.contains("runsc 110 (10 of them new, 100 of bare's avoided), 3.30×"))
    );
    assert!(
        !alone.iter().map(text).any(|text| text.contains("comparison") || text.contains("vouches")),
        "{alone:#?}"
    );
    assert_eq!(words::glance(&findings).head, ["platform", "kernel entered"]);
}

#[test]
fn a_probe_that_was_not_made_is_no_wall_that_held() {
    let mut journal = Machine::new(3).journal(6);
    for line in &mut journal {
        let Line::Turn(turn) = line else { continue };
        for finding in &mut turn.findings {
            if let Finding::Verdict { verdict, .. } = finding
                && turn.platform == "bulkrun"
            {
                *verdict = Reach::Moot;
            }
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let score = findings.probes.scores.iter().find(|score| score.platform == "bulkrun").unwrap();
    assert_eq!((score.counted(), score.unmade.len()), (0, 4), "{score:?}");
    let said = words::opening(&findings);
    let unmade =
        said.iter().find(|sentence| sentence.text.contains("4 of 4 probes could not be made on bulkrun"));
    assert_eq!(unmade.map(|sentence| sentence.mood), Some(document::Mood::Bad), "{said:#?}");
    let table = tables::probes(&findings);
    assert!(table.rows.iter().any(|row| row[1] == "bulkrun" && row[2] == "not made"), "{:?}", table.rows);
}

#[test]
fn what_neighbours_keep_is_a_capped_mean_beside_its_least_and_its_dead() {
    let findings = findings();
    let limited = &findings.interference[0];
    assert_eq!((limited.limits, findings.interference.len()), (Limits::With, 2));
    assert_eq!(
        (limited.victims.as_slice(), limited.antagonists.as_slice()),
        (&VICTIMS.map(str::to_owned)[..], &ANTAGONISTS.map(str::to_owned)[..])
    );
    let of =
        |platform: &str| limited.platforms.iter().find(|neighbour| neighbour.platform == platform).unwrap();
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
    // Walls: T = 1 everywhere; Q = 1.44, which counts as 1, or 0.64: scores of 1, 0.8, 1. The pair that did not end on
    // bare is in nobody's mean.
    let (pair, least) = of("crun").least.clone().unwrap();
    assert_eq!((pair.as_str(), limited.blocks), ("cpu beside memory-bandwidth", 12));
    assert!(limited.common.len() == 8 && !limited.common.contains(&"fork beside fork".to_owned()));
    assert!(near(least, 0.8) && near(of("crun").kept.unwrap().estimate, 0.8f64.powf(3.0 / 8.0)));
    // Bare: T = 0.25, so that scores are 0.5, 0.4, 0.5; in one of the nine pairs the victim dies.
    assert_eq!((of(BARE).ended, of(BARE).died, of(BARE).silent), (8, 1, 0));
    assert!(near(of(BARE).kept.unwrap().estimate, (0.5f64.powi(5) * 0.4f64.powi(3)).powf(1.0 / 8.0)));
    assert_eq!(of(BARE).meeting("fork", "fork").unwrap().deaths, 12);
    assert_eq!(limited.platforms.last().unwrap().platform, AGAIN, "bare again has no map of its own");
}

#[test]
fn a_probe_counts_only_if_bare_succeeds() {
    let findings = findings();
    let score = |name: &str| findings.probes.scores.iter().find(|score| score.platform == name).unwrap();
    assert_eq!((score("crun").counted(), score("crun").held()), (4, 3));
    assert_eq!(score("crun").leaks, ["keyring of the same user"]);
    assert_eq!((score("runsc").answered.len(), score("runsc").denied.len()), (3, 1));
    assert_eq!(score(VILLAIN).breaches, ["write to a host file"]);
    let moot = &findings.probes.attempts["load a module"];
    assert!(moot.values().all(|attempt| attempt.reach == Reach::Moot));
}

#[test]
fn the_furthest_that_a_probe_ever_reached_counts() {
    let mut journal = Machine::new(3).journal(6);
    for line in &mut journal {
        if let Line::Turn(turn) = line
            && (turn.platform.as_str(), turn.block, turn.task.as_str()) == ("crun", 4, "probes")
        {
            let evidence = "the marker is gone".to_owned();
            let probe = "kernel log".to_owned();
            turn.findings.push(Finding::Verdict { probe, verdict: Reach::Breach, evidence });
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let attempt = &findings.probes.attempts["kernel log"]["crun"];
    assert_eq!((attempt.reach, attempt.runs, attempt.less), (Reach::Breach, 7, 6));
    assert_eq!(attempt.evidence, "the marker is gone");
}

#[test]
fn sources_alone_say_where_functions_are_when_they_were_looked_at() {
    let mut results = results(&mut Machine::new(3));
    let application = |findings: &Findings| findings.footprints[0].platforms[0].shares.clone();
    let before = application(&Findings::of(&results));
    assert!(before.iter().any(|share| share.subsystem == "mm"), "{before:?}");
    let places = [(function(0), "virt/kvm".to_owned()), (function(1), "virt/kvm".to_owned())].into();
    results.places = Some(Places { source: "sources of Linux 6.1.192".to_owned(), places });
    let findings = Findings::of(&results);
    let shares = application(&findings);
    let told = Vec::from_iter(shares.iter().map(|share| (share.subsystem.as_str(), share.names)));
    assert_eq!(told, [("not attributed", FUNCTIONS - 2), ("virt/kvm", 2)]);
    assert!(markdown(&findings).contains("the directory of the sources of Linux 6.1.192 that defines them"));
}

#[test]
fn footprints_are_shared_added_and_avoided() {
    let findings = findings();
    assert_eq!(
        Vec::from_iter(findings.footprints.iter().map(|footprints| footprints.part.as_str())),
        ["application", "set-up"]
    );
    let application = &findings.footprints[0];
    let of = |name: &str| application.platforms.iter().find(|entered| entered.platform == name).unwrap();
    for (platform, names, shared, added, avoided) in
        [("bulkrun", 220, 200, 20, 0), ("crun", 230, 200, 30, 0), ("runsc", 110, 100, 10, 100)]
    {
        let overlap = of(platform).against_bare.as_ref().unwrap();
        let found = (of(platform).names, overlap.shared, overlap.added.len(), overlap.avoided.len());
        assert_eq!(found, (names, shared, added, avoided), "{platform}");
    }
    assert_eq!(of(BARE).against_bare, None);
    assert_eq!((of(BARE).calls, of(BARE).kib, of(BARE).agreement()), (2_000.0, Some(100.0), 1.0));
    let unknown = of(VILLAIN).shares.iter().find(|share| share.subsystem == "not attributed").unwrap();
    assert_eq!(unknown.names, 30, "functions that nobody described");
    let set_up = &findings.footprints[1].platforms[0];
    assert_eq!((set_up.platform.as_str(), set_up.lost, &set_up.against_bare), ("bulkrun", 84, &None));
    assert!(set_up.shares.iter().any(|share| share.subsystem == "walls and rights" && share.names == 2));
}

/// The findings of a journal in which some words stand for others.
fn findings_with(words: &[(&str, &str)]) -> Findings {
    let lines = Machine::new(3).journal(12).into_iter().map(|line| {
        let mut text = serde_json::to_string(&line).unwrap();
        words.iter().for_each(|(one, other)| text = text.replace(one, other));
        serde_json::from_str(&text).unwrap()
    });
    Findings::of(&Results::of(Vec::<Line>::from_iter(lines)).unwrap())
}

/// The claim that begins so: its accord, and what its tests say.
fn claim(findings: &Findings, begin: &str) -> (Accord, Vec<(String, Accord)>, String) {
    let claim = findings.literature.iter().find(|claim| claim.claim.starts_with(begin)).unwrap();
    let tests = claim.tests.iter().map(|test| (test.platform.clone(), test.accord));
    let here = claim.tests.iter().map(|test| test.here.as_str());
    (claim.accord, tests.collect(), Vec::from_iter(here).join("; "))
}

#[test]
fn a_claim_is_tested_by_what_its_source_measured() {
    let plain = findings();
    let (accord, tests, _) = claim(&plain, "containers cost");
    let agree = |name: &str| (name.to_owned(), Accord::Agrees);
    assert_eq!((accord, tests), (Accord::Agrees, vec![agree("bulkrun"), agree("crun")]));
    // No runtime by itself is Docker.
    let (accord, _, here) = claim(&plain, "Docker takes");
    assert!(accord == Accord::Open && here.contains("crun 1"), "{here}");
    let docker = findings_with(&[("crun", "docker")]);
    assert_eq!(claim(&docker, "Docker takes").0, Accord::Differs, "13 times is not two orders of magnitude");
    let (accord, _, here) = claim(&plain, "in gVisor large downloads");
    assert!(accord == Accord::Open && here.contains("loopback costs"), "{here}");
}

#[test]
fn gvisor_is_compared_with_what_it_was_compared_with() {
    let (accord, _, here) = claim(&findings(), "in gVisor allocating");
    assert!(accord == Accord::Open && here.contains("not measured"), "{here}");
    let alone = findings_with(&[("work fork", "work mmap")]);
    let (accord, _, here) = claim(&alone, "in gVisor allocating");
    assert!(accord == Accord::Open && here.starts_with("runc, which"), "{here}");
    // 16 times bare's cost, and 0.8 times: 20.
    let both = findings_with(&[("work fork", "work mmap"), ("crun", "runc")]);
    let (accord, tests, here) = claim(&both, "in gVisor allocating");
    assert_eq!((accord, tests[0].0.as_str()), (Accord::Agrees, "runsc"));
    assert!(here.contains(": 20.") || here.contains(": 19."), "{here}");
    let files = findings_with(&[("work fork", "work open-close"), ("crun", "runc")]);
    assert_eq!(claim(&files, "in gVisor opening").0, Accord::Differs, "20 times is not 216 times");
}

#[test]
fn code_is_not_told_by_system_calls() {
    let functions = findings();
    assert_eq!(claim(&functions, "gVisor executes").0, Accord::Differs);
    let (accord, _, here) = claim(&functions, "gVisor and containers");
    // runsc and crun: 110 and 230 functions, all 110 of them in both.
    assert!(accord == Accord::Differs && here.starts_with("48 %"), "{here}");
    assert_eq!(claim(&functions, "gVisor makes several").0, Accord::Open);
    let calls = findings_with(&[("\"functions\"", "\"tracepoints\"")]);
    let (accord, _, here) = claim(&calls, "gVisor executes");
    assert!(accord == Accord::Open && here.contains("--in-guest"), "{here}");
    assert_eq!(claim(&calls, "gVisor and containers").0, Accord::Open);
    // 110 names, 60 times each, beside 200 names, ten times each.
    let (accord, _, here) = claim(&calls, "gVisor makes several");
    assert!(accord == Accord::Agrees && here.contains("3.30×"), "{here}");
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bh-report-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Parses a file as XML and returns its text.
fn sound(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let xml = text.strip_prefix("<!DOCTYPE html>\n").unwrap_or(&text);
    let document =
        roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for node in document.descendants() {
        let name = node.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "object"].contains(&name),
            "{name} in {}",
            path.display()
        );
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!value.contains("NaN") && !value.contains("inf"), "{value} in {}", path.display());
            assert!(!attribute.name().starts_with("on"), "{} is a script", attribute.name());
            let leads_out = ["href", "src"].contains(&attribute.name()) && !value.starts_with('#');
            assert!(!leads_out, "{value} leads out of {}", path.display());
        }
    }
    text
}

#[test]
fn the_page_is_sound_and_needs_nothing_else() {
    let place = Place::new("page");
    let results = results(&mut Machine::new(3));
    let written = write(&results, &place.0).unwrap();
    let mut pages = Vec::from_iter(
        written.iter().filter(|path| path.extension().is_some_and(|end| end != "json" && end != "md")),
    );
    assert!(pages.len() > 10, "{written:?}");
    let page = sound(pages.remove(0));
    pages.iter().for_each(|path| drop(sound(path)));
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"), "a name became markup");
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains('\u{1b}'));
    for heading in ["Verdict", "Isolation", "Noninterference", "Performance", "Raw tables"] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "no {heading}");
    }
    assert!(page.contains("<td>redis · rate 1/s</td>"), "no table of real programs");
    let markdown = std::fs::read_to_string(&written[1]).unwrap();
    assert!(!markdown.contains("<script") && markdown.contains("![") && !markdown.contains('\u{1b}'));
    for plot in markdown.lines().filter_map(|line| line.strip_suffix(')')?.rsplit_once("](plots/")) {
        assert!(place.0.join("plots").join(plot.1).exists(), "{} is not there", plot.1);
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&written[2]).unwrap()).unwrap();
    assert_eq!(json["trials"][0]["end"], "passed");
    assert_eq!(write(&results, &place.0).unwrap(), written, "a report can be made again");
}

#[test]
fn rows_stand_under_what_they_share_only_where_that_is_meant() {
    let reason = |reason: &str, count| findings::Reason { reason: reason.to_owned(), count };
    let mut findings = findings();
    findings.disturbances = vec![
        reason("other programs had 84 % of the CPUs", 1),
        reason("other programs had 9 % of the CPUs; 12 % of the CPU time was stolen", 3),
        reason("something else", 2),
    ];
    let rows = tables::disturbances(&findings).rows;
    let row = |kind: &str, turns: &str, most: &str| [kind, turns, most].map(str::to_owned).to_vec();
    let expected = [
        row("other programs had … of the CPUs", "4", "84 %"),
        row("… of the CPU time was stolen", "3", "12 %"),
        row("something else", "2", "–"),
    ];
    assert_eq!(rows, expected);
    let machine = tables::environment(&findings);
    assert!(machine.form == document::Form::Words && machine.rows.len() == 3, "{machine:?}");
    let page = html::page(&sections::document(&findings));
    assert!(page.contains("<th data-label=\"fact\">kernel</th><td data-label=\"value\">Linux 6.18.44</td>"));
    // A version is a word, however much it looks like a number.
    assert!(page.contains("<td data-label=\"version\">1.2.3 of crun</td>"), "no version");
    let pairs = tables::meetings(&findings.interference[0]);
    let shared = pairs.rows.iter().filter(|row| row[0] == "cpu beside fork").map(|row| row[1].as_str());
    assert_eq!(Vec::from_iter(shared), [BARE, "bulkrun", "crun", "runsc", VILLAIN, AGAIN]);
}

#[test]
fn too_few_blocks_have_a_range_and_no_interval() {
    let cells = |blocks| {
        let findings = Findings::of(&Results::of(Machine::new(3).journal(blocks)).unwrap());
        let rows = tables::raw(&findings, Axis::Performance).rows;
        let row = rows.into_iter().find(|row| row[0].starts_with("boot") && row[1] == "crun").unwrap();
        [row[2].clone(), row[4].clone()]
    };
    for cell in cells(12) {
        assert!(cell.contains('[') && !cell.contains('('), "{cell}");
    }
    for cell in cells(3) {
        assert!(cell.contains('(') && !cell.contains('['), "{cell}");
    }
    assert!(cells(1).iter().all(|cell| !cell.contains(['(', '['])), "one number has no spread");
}

#[test]
fn starts_and_work_have_a_scale_each() {
    let findings = findings();
    let figures = Vec::from_iter(plot::ratios(&findings));
    let names = Vec::from_iter(figures.iter().map(|figure| figure.name.as_str()));
    assert_eq!(names, ["ratios-work", "ratios-life"]);
    let drawn = |figure: &plot::Figure| figure.panels[0].drawing.inline("").to_string();
    // 74 times as dear is a start; of work 16 is the most, so that the scale of work ends there.
    assert!(drawn(&figures[1]).contains(">100×<") || drawn(&figures[1]).contains(">10×<"));
    assert!(!drawn(&figures[0]).contains(">30×<"), "work has the scale of starts");
    for (figure, dearest) in
        figures.iter().zip(["work fork · rate on runsc, 1", "boot · first byte on runsc, 7"])
    {
        assert!(figure.says.contains(dearest), "{}", figure.says);
        for key in ["better", "equal", "worse", "not decided"] {
            assert!(drawn(figure).contains(&format!(">{key}</text>")), "{key} is not explained");
        }
    }
}

#[test]
fn levels_of_watching_are_not_set_against_each_other() {
    let quantity = Quantity::less("footprint", "").beside();
    let with = |level: &str, names: &[&str]| {
        let mut results = results(&mut Machine::new(3));
        results.run.environment.insert("kernel watched".to_owned(), format!("{level}, by something"));
        let tasks = &mut results.run.plan.tasks;
        tasks.iter_mut().find(|task| task.name == "kernel").unwrap().quantities = vec![quantity.clone()];
        for turn in results.turns.iter_mut().filter(|turn| turn.task == "kernel") {
            turn.findings.push(Finding::Amount { quantity: "footprint".to_owned(), value: 200.0 });
            let counts = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
            let footprint = Footprint {
                part: "tear-down".to_owned(),
                level: Level::Tracepoints,
                counts,
                lost: 0,
                samples: None,
            };
            turn.findings.push(Finding::Footprint(footprint));
        }
        results
    };
    let figures =
        |contrast: &Contrast| contrast.figures.iter().filter(|figure| figure.task == "kernel").count();
    let same = compare(&with("level 1", &["a", "b"]), &with("level 1", &["b", "c"]));
    assert_eq!((figures(&same), &same.levels), (5, &None));
    let entries = same
        .footprints
        .iter()
        .find(|entries| (entries.part.as_str(), entries.platform.as_str()) == ("tear-down", "crun"));
    let entries = entries.unwrap();
    assert_eq!((entries.earlier, entries.later), (2, 2));
    assert_eq!(
        (entries.added.as_slice(), entries.gone.as_slice()),
        (&["c".to_owned()][..], &["a".to_owned()][..])
    );
    let other = compare(&with("level 1", &["a"]), &with("level 2", &["a"]));
    assert_eq!(figures(&other), 0, "system calls are set against functions");
    assert!(other.markdown().contains("watched at level 1 then and at level 2 now"));
    // Beside the figures stand what vouches for them and what neighbours keep.
    let text = same.markdown();
    assert!(
        text.contains("| performance | 5 of 6 intervals contain 1")
            && text.contains("| with limits | crun | 0.92 \\[0.92, 0.92\\]"),
        "{text}"
    );
    assert!(
        text.contains("146 more stand without a verdict") || text.contains(" more stand without a verdict")
    );
}

#[test]
fn styles_are_the_same_as_text_and_as_markup() {
    for style in [plot::STYLE, include_str!("page.css")] {
        assert!(!style.contains(['<', '>', '&', '\'']), "a style is escaped in XML and not in HTML");
        assert!(!style.contains('"') || style.contains("\"Segoe UI\""));
    }
}

#[test]
fn a_journal_without_any_turn_is_a_report_too() {
    let place = Place::new("empty");
    let written = write(&Results::begun(run(plan())), &place.0).unwrap();
    let page = sound(&written[0]);
    assert!(page.contains("The run did not end") && page.contains("nothing vouches for the machine"));
    let bare = Plan { platforms: Vec::new(), tasks: Vec::new(), seed: 1 };
    let nothing = Run { plan: bare, platforms: Vec::new(), ..run(plan()) };
    sound(&write(&Results::begun(nothing), &place.0).unwrap()[0]);
}

#[test]
fn two_runs_agree_and_a_slower_machine_cancels_out() {
    let place = Place::new("contrast");
    let earlier = results(&mut Machine::new(3));
    let later = results(&mut Machine { pace: 1.5, ..Machine::new(4) });
    let contrast = compare(&earlier, &later);
    let of = |platform: &str| {
        let mut figures = contrast.figures.iter();
        figures.find(|figure| figure.task == BOOT && figure.platform == platform).unwrap()
    };
    assert_eq!(of("crun").standing, Standing::Worse);
    assert!((1.45..1.55).contains(&of("crun").absolute.estimate), "{:?}", of("crun").absolute);
    assert_eq!(of("crun").against_bare.unwrap().1, Standing::Equal);
    assert_eq!((of(BARE).against_bare, of(BARE).verdicts), (None, None));
    assert_eq!(contrast.contradictions().count(), 0);
    let (then, now, both) = contrast.decided();
    assert!(both > 0 && both <= then.min(now), "{then}, {now}, {both}");
    assert!(contrast.markdown().contains(&format!("the later {now}; both decide {both}.")));
    assert_eq!((contrast.only_earlier.len(), contrast.only_later.len(), contrast.probes.len()), (0, 0, 0));
    let written = write_contrast(&contrast, &place.0).unwrap();
    written
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "html" || end == "svg"))
        .for_each(|path| drop(sound(path)));
    assert!(contrast.markdown().contains("No verdict against bare of one run contradicts"));
}

#[test]
fn contradictions_and_what_is_new_are_named() {
    let earlier = results(&mut Machine::new(3));
    let mut journal = Machine::new(4).journal(12);
    for line in &mut journal {
        let Line::Turn(turn) = line else { continue };
        for finding in &mut turn.findings {
            match finding {
                Finding::Amount { value, .. } if turn.task == "work cpu" && turn.platform == "crun" => {
                    *value *= 2.0;
                }
                Finding::Verdict { probe, verdict, .. }
                    if turn.platform == "crun" && probe == "kernel log" =>
                {
                    *verdict = Reach::Leak;
                }
                _ => {}
            }
        }
    }
    journal.retain(|line| !matches!(line, Line::Turn(turn) if turn.task == "work tcp-rate"));
    let mut later = Results::of(journal).unwrap();
    later.run.environment.insert("kernel".to_owned(), "Linux 7".to_owned());
    let contrast = compare(&earlier, &later);
    let contradicted = Vec::from_iter(
        contrast.contradictions().map(|figure| (figure.task.as_str(), figure.platform.as_str())),
    );
    assert_eq!(contradicted, [("work cpu", "crun")]);
    assert_eq!(contrast.probes, [("kernel log".to_owned(), "crun".to_owned(), Reach::Denied, Reach::Leak)]);
    assert!(contrast.only_earlier.contains(&"work tcp-rate · rate, bare".to_owned()));
    assert_eq!(contrast.machines["kernel"], (Some("Linux 6.18.44".to_owned()), Some("Linux 7".to_owned())));
    assert!(contrast.markdown().contains("work cpu · rate, crun (equal then, better now)"));
}

/// The journal of these tests as a file, for whoever wants to look at the page: `BULKHEAD_REPORT` names a directory.
#[test]
fn the_page_can_be_looked_at() {
    let place = Place::new("look");
    let mut journal = crate::record::Journal::open(&place.0).unwrap();
    Machine::new(3).journal(12).iter().for_each(|line| journal.add(line).unwrap());
    let results = Results::of(read(&place.0).unwrap()).unwrap();
    let directory = std::env::var_os("BULKHEAD_REPORT").map_or_else(|| place.0.clone(), PathBuf::from);
    let written = write(&results, &directory).unwrap();
    let contrast =
        compare(&results, &Results::of(Machine { pace: 1.1, ..Machine::new(9) }.journal(12)).unwrap());
    write_contrast(&contrast, &directory).unwrap();
    assert_eq!(
        sound(&written[0]),
        html::page(&sections::document(&Findings::of(&results))),
        "the journal lost something"
    );
}
