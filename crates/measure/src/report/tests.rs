//! Reports of a journal in which everything is known in advance.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::findings::{Accord, Standing, TrialEnd};
use super::*;
use crate::plan::{
    AGAIN, Axis, BARE, BOOT, FIRST_BYTE, Limits, Pair, Plan, Quantity, RATE_KEPT, TAIL_KEPT, Task,
};
use crate::record::{
    DIED, End, Finding, Footprint, Level, Line, Measured, Reach, Run, Symbol, Turn, VERSION, read,
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
        if task.name == "tcp-rate" && place == 5 {
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
        "cpu" => [1.0, 1.0, 1.0, 1.0, 1.2, 1.0],
        "fork" => [1.0, 1.0, 1.01, 0.8, 16.0, 1.02],
        "tcp-rate" => [1.0, 1.0, 1.0, 1.0, 4.0, 1.0],
        _ => [1.0; 6],
    }
}

fn plan() -> Plan {
    let task = |name: &str, axis: Axis, pair: Option<Pair>, quantities: Vec<Quantity>| Task {
        name: name.to_owned(),
        axis,
        says: format!("What {name} takes."),
        pair,
        quantities,
        least: 6,
        most: 12,
    };
    let start = vec![Quantity::less(FIRST_BYTE, "ms"), Quantity::less("processor", "ms").beside()];
    let mut tasks = vec![task(BOOT, Axis::Performance, None, start)];
    for name in ["cpu", "fork", "tcp-rate"] {
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
        ("cpu", "rate", "crun", Some(Standing::Equal)),
        ("cpu", "rate", "runsc", Some(Standing::Worse)),
        ("fork", "rate", "crun", Some(Standing::Better)),
        ("fork", "rate", "runsc", Some(Standing::Worse)),
        ("tcp-rate", "rate", VILLAIN, None),
    ] {
        assert_eq!(standing(&findings, task, quantity, platform), expected, "{task}, {platform}");
    }
    let row = findings.row("fork", "rate").unwrap();
    let ratio = row.cell("runsc").unwrap().against_bare.unwrap().ratio;
    assert!((0.9 / 16.0..1.1 / 16.0).contains(&ratio.estimate), "{ratio:?}");
    let cost = row.cost(ratio);
    assert!((14.5..17.6).contains(&cost.estimate) && cost.low <= cost.estimate && cost.estimate <= cost.high);
}

#[test]
fn failures_and_disturbances_are_counted_with_their_reasons() {
    let findings = findings();
    let row = findings.row("tcp-rate", "rate").unwrap();
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
    assert_eq!(passed.trial.end, TrialEnd::Passed, "{:?}", passed.trial);
    let failed = Findings::of(&results(&mut Machine { bias: 1.2, ..Machine::new(3) }));
    assert_eq!(failed.trial.end, TrialEnd::Failed);
    assert!(failed.trial.found.contains(&"boot · first byte".to_owned()));
    assert!(failed.first_byte().unwrap().in_doubt && !passed.first_byte().unwrap().in_doubt);
    assert!(words::opening(&failed)[0].text.contains("boot · first byte"));
    let few = Findings::of(&Results::of(Machine::new(3).journal(4)).unwrap());
    assert_eq!(few.trial.end, TrialEnd::NotMade);
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
    // Walls: T = 1 everywhere; Q = 1.44, which counts as 1, or 0.64: scores of 1, 0.8, 1.
    let (pair, least) = of("crun").least.clone().unwrap();
    assert_eq!(pair, "cpu beside memory-bandwidth");
    assert!(near(least, 0.8) && near(of("crun").kept.unwrap().estimate, 0.8f64.powf(1.0 / 3.0)));
    // Bare: T = 0.25, so that scores are 0.5, 0.4, 0.5; in one of the nine pairs the victim dies.
    assert_eq!((of(BARE).ended, of(BARE).died, of(BARE).silent), (8, 1, 0));
    assert!(near(of(BARE).kept.unwrap().estimate, (0.5f64.powi(5) * 0.4f64.powi(3)).powf(1.0 / 8.0)));
    assert_eq!(of(BARE).meeting("fork", "fork").unwrap().deaths, 12);
    assert!(limited.platforms.iter().all(|neighbour| neighbour.platform != AGAIN));
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

#[test]
fn the_literature_is_agreed_with_and_contradicted() {
    let findings = findings();
    let accord = |begin: &str, platform: &str| {
        let mut claims = findings.literature.iter();
        claims
            .find(|claim| claim.claim.starts_with(begin) && claim.platform == platform)
            .map(|claim| claim.accord)
    };
    assert_eq!(accord("containers cost", "crun"), Some(Accord::Agrees));
    assert_eq!(accord("Docker takes", "crun"), Some(Accord::Agrees));
    assert_eq!(accord("Docker takes", "bulkrun"), Some(Accord::Differs));
    assert_eq!(accord("a kernel in user space", "runsc"), Some(Accord::Agrees));
    assert_eq!(accord("gVisor executes", "runsc"), Some(Accord::Differs));
    assert_eq!(accord("gVisor and containers", "runsc"), Some(Accord::Differs));
    let same = findings.literature.iter().find(|claim| claim.claim.starts_with("gVisor and")).unwrap();
    // runsc and crun: 110 and 230 functions, all 110 of them in both.
    assert!(same.here.starts_with("48 %"), "{}", same.here);
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
    let markdown = std::fs::read_to_string(&written[1]).unwrap();
    assert!(!markdown.contains("<script") && markdown.contains("![") && !markdown.contains('\u{1b}'));
    for plot in markdown.lines().filter_map(|line| line.strip_suffix(')')?.rsplit_once("](plots/")) {
        assert!(place.0.join("plots").join(plot.1).exists(), "{} is not there", plot.1);
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&written[2]).unwrap()).unwrap();
    assert_eq!(json["trial"]["end"], "passed");
    assert_eq!(write(&results, &place.0).unwrap(), written, "a report can be made again");
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
                Finding::Amount { value, .. } if turn.task == "cpu" && turn.platform == "crun" => {
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
    journal.retain(|line| !matches!(line, Line::Turn(turn) if turn.task == "tcp-rate"));
    let mut later = Results::of(journal).unwrap();
    later.run.environment.insert("kernel".to_owned(), "Linux 7".to_owned());
    let contrast = compare(&earlier, &later);
    let contradicted = Vec::from_iter(
        contrast.contradictions().map(|figure| (figure.task.as_str(), figure.platform.as_str())),
    );
    assert_eq!(contradicted, [("cpu", "crun")]);
    assert_eq!(contrast.probes, [("kernel log".to_owned(), "crun".to_owned(), Reach::Denied, Reach::Leak)]);
    assert!(contrast.only_earlier.contains(&"tcp-rate · rate, bare".to_owned()));
    assert_eq!(contrast.machines["kernel"], (Some("Linux 6.18.44".to_owned()), Some("Linux 7".to_owned())));
    assert!(contrast.markdown().contains("cpu · rate, crun (equal then, better now)"));
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
