//! The tables behind the words and the plots.

use crate::plan::{Axis, BARE, Better, HEAVY};
use crate::record::{ENDED, Level, NOTHING_LEFT, Reach};

use super::document::Table;
use super::findings::{
    Accord, Cell, Findings, Footprints, Interference, Keeps, Kept, Meeting, Reason, Row, Standing, is_moot,
};
use super::number::{count, figure, spread, times};
use super::words::{none, things};

/// Every figure of one axis.
pub(super) fn raw(findings: &Findings, axis: Axis) -> Table {
    let title = match axis {
        Axis::Isolation => "Isolation, every figure",
        Axis::Noninterference => "Noninterference, every figure",
        Axis::Performance => "Performance, every figure",
    };
    let head = [
        "task · quantity",
        "platform",
        "median [95 %]",
        "least",
        "ratio to bare [95 %]",
        "verdict",
        "runs",
        "remarks",
    ];
    let rows = findings.rows.iter().filter(|row| row.axis == axis);
    let rows = rows.flat_map(|row| row.cells.iter().map(|cell| figures(row, cell)));
    let says = "Medians over the blocks; ratios within blocks. Round brackets hold the range of fewer than six blocks, which is no \
                interval of 95 %. Without a verdict is what the run was not to decide.";
    Table::new(title, says, &head).with(rows.collect::<Vec<_>>()).grouped()
}

fn figures(row: &Row, cell: &Cell) -> Vec<String> {
    let better = match row.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    let unit = if row.unit.is_empty() { String::new() } else { format!("{}, ", row.unit) };
    vec![
        format!("{} · {} ({unit}{better})", row.task, row.quantity),
        cell.platform.clone(),
        cell.median.map_or_else(none, |median| spread(&median, cell.measured)),
        cell.least.map_or_else(none, figure),
        cell.against_bare.map_or_else(none, |against| spread(&against.ratio, against.pairs)),
        verdict(row, cell).map_or_else(none, |standing| standing.word().to_owned()),
        cell.measured.to_string(),
        remarks(row, cell),
    ]
}

/// Nobody set out to decide the rest, and counts need no verdict: to call these `not decided` would say that one was missed.
fn verdict(row: &Row, cell: &Cell) -> Option<Standing> {
    cell.against_bare.filter(|_| row.decides).map(|against| against.standing)
}

fn remarks(row: &Row, cell: &Cell) -> String {
    let mut remarks = Vec::new();
    if cell.disturbed > 0 {
        remarks.push(format!("{} in disturbed blocks", cell.disturbed));
    }
    if cell.against_bare.is_some_and(|against| against.pairs < cell.measured) {
        let pairs = cell.against_bare.map_or(0, |against| against.pairs);
        remarks.push(format!("compared in {pairs} blocks"));
    }
    if row.in_doubt {
        remarks.push("in doubt, since bare differs from itself".to_owned());
    }
    remarks.extend(cell.failures.iter().map(told));
    remarks.join("; ")
}

fn told(Reason { reason, count }: &Reason) -> String {
    format!("failed {count}×: {reason}")
}

/// Every pair of a victim and an antagonist.
pub(super) fn meetings(interference: &Interference) -> Table {
    let title = format!("Pairs, {}", interference.limits.words());
    let says = "T: rate beside the antagonist, divided by the rate alone. Q: p90 alone, divided by p90 beside it. Both \
                as they were measured; the score is sqrt(T·Q) of each block, each at most 1, and its median over \
                the blocks. A victim can be faster beside a hog than alone (T or Q above 1), since CPUs that never rest need \
                not wake up. Where a victim has no latencies on one platform, all are scored by T alone. The fair share is what a \
                scheduler owes the victim: half of the machine, or of what both want. Bare processes have no limits here either: they \
                are the control, between which CPUs are divided by tasks, and nobody says what one is owed beside tasks that come and \
                go. Round brackets hold the range of fewer than six blocks, which is less sure than 95 %.";
    let head = ["pair", "platform", "T [95 %]", "Q [95 %]", "score [95 %]", "fair share", "remarks"];
    let pairs = interference.victims.iter().flat_map(|victim| {
        interference.antagonists.iter().map(move |antagonist| (victim.as_str(), antagonist.as_str()))
    });
    let rows = pairs.flat_map(|(victim, antagonist)| {
        interference.platforms.iter().filter_map(move |neighbour| {
            let meeting = neighbour.meeting(victim, antagonist)?;
            Some(vec![
                format!("{victim} beside {antagonist}"),
                neighbour.platform.clone(),
                meeting.rate_kept.map_or_else(none, |kept| spread(&kept, meeting.blocks)),
                meeting.tail_kept.map_or_else(none, |kept| spread(&kept, meeting.blocks)),
                meeting.score.map_or_else(none, |score| spread(&score, meeting.blocks)),
                meeting.floor.map_or_else(none, figure),
                told_of(meeting),
            ])
        })
    });
    Table::new(&title, says, &head).with(rows.collect::<Vec<_>>()).grouped()
}

fn told_of(meeting: &Meeting) -> String {
    let by_rate = (!meeting.without_tail.is_empty())
        .then(|| format!("by T alone: not enough of Q in {}", meeting.without_tail.join(", ")));
    Vec::from_iter(by_rate.into_iter().chain(meeting.failures.iter().map(told))).join("; ")
}

/// What victims could still have beside who had taken all that there was; None when that was not measured.
pub(super) fn capacity(findings: &Findings) -> Option<Table> {
    let names = Vec::from_iter(findings.walls());
    let rows = findings.capacities.iter().map(|capacity| {
        let wall = |name: &&str| capacity.walls.iter().find(|wall| wall.platform == **name);
        let walls = names.iter().map(|name| wall(name).map_or_else(none, left));
        [capacity.name(), left(&capacity.control)].into_iter().chain(walls).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let says = "What a victim still gets beside a hog that has taken all it could get, as a share of what it gets alone: \
                memory to touch, processes to make, space to write; in brackets, in how many runs. Bare \
                processes are the control, both of them together: what the hog does not take away from them is moot, and \
                says nothing of a wall.";
    let head = Vec::from_iter(["what is left", BARE].into_iter().chain(names));
    (!rows.is_empty()).then(|| Table::new("Capacity", says, &head).with(rows).in_words())
}

fn left(kept: &Kept) -> String {
    let percent = kept.share.map(|share| format!("{:.0} %", share * 100.0));
    let what = match (kept.verdict, percent) {
        (Keeps::All, _) => "all".to_owned(),
        (Keeps::Nothing, _) => "nothing".to_owned(),
        (Keeps::Part, share) => share.unwrap_or_default(),
        (Keeps::Ended, _) => "the hog's sandbox ended".to_owned(),
        (Keeps::Moot, Some(share)) => return format!("moot ({share})"),
        (Keeps::Moot, None) => return "moot".to_owned(),
        (Keeps::Unmade, _) => "not known".to_owned(),
    };
    let runs = format!("{what} ({} of {})", kept.agree, kept.runs);
    // A prefix that only says what the verdict says already is left out.
    let reason = kept.reason.as_deref().filter(|_| kept.verdict != Keeps::All).map(|reason| {
        let known = [ENDED, NOTHING_LEFT]
            .into_iter()
            .find_map(|known| reason.strip_prefix(known)?.strip_prefix(": "));
        format!(": {}", known.unwrap_or(reason))
    });
    runs + &reason.unwrap_or_default()
}

/// What programs that others wrote do on each platform; None when that was not measured.
pub(super) fn heavy(findings: &Findings) -> Option<Table> {
    let names = Vec::from_iter(findings.names());
    let rows = findings.rows.iter().filter_map(|row| Some((row, row.task.strip_prefix(HEAVY)?)));
    let rows = Vec::from_iter(rows.map(|(row, task)| {
        let title = format!("{task} · {} {}", row.quantity, row.unit);
        let cells = names.iter().map(|name| row.cell(name).map_or_else(none, |cell| beside_bare(row, cell)));
        std::iter::once(title.trim_end().to_owned()).chain(cells).collect::<Vec<_>>()
    }));
    let says = "Programs as servers run them, with the clients by which they are commonly measured, both in one sandbox. \
                In brackets the ratio to bare within blocks, with what may be said of it where the run was to decide that. A word that is no number is the reason why there \
                is none.";
    let head = Vec::from_iter(std::iter::once("program").chain(names));
    (!rows.is_empty()).then(|| Table::new("Real programs", says, &head).with(rows))
}

fn beside_bare(row: &Row, cell: &Cell) -> String {
    match (cell.median, cell.against_bare) {
        (Some(median), Some(against)) => {
            let ratio = times(against.ratio.estimate);
            let standing = verdict(row, cell).map(|standing| format!(", {}", standing.word()));
            format!("{} ({ratio}{})", figure(median.estimate), standing.unwrap_or_default())
        }
        (Some(median), None) => figure(median.estimate),
        (None, _) => cell.failures.first().map_or_else(none, |failure| failure.reason.clone()),
    }
}

/// Every probe with what its witness saw.
pub(super) fn probes(findings: &Findings) -> Table {
    let head = ["probe", "platform", "verdict", "what the witness saw", "runs"];
    let attempts = findings.probes.attempts.iter();
    let rows = attempts.flat_map(|(probe, platforms)| {
        findings.names().filter_map(|name| {
            let attempt = platforms.get(name)?;
            let runs = match attempt.less {
                0 => attempt.runs.to_string(),
                less => format!("{}, in {less} it reached less", attempt.runs),
            };
            let unmade = attempt.reach == Reach::Moot && !is_moot(platforms);
            let verdict = if unmade { "not made" } else { reach(attempt.reach) }.to_owned();
            Some(vec![probe.clone(), name.to_owned(), verdict, attempt.evidence.clone(), runs])
        })
    });
    Table::new("Probes", "The furthest that each attempt reached.", &head)
        .with(rows.collect::<Vec<_>>())
        .grouped()
}

/// What a verdict is called.
pub(super) fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Denied => "denied",
        Reach::Virtual => "virtual",
        Reach::Leak => "leak",
        Reach::Breach => "breach",
        Reach::Moot => "moot",
    }
}

/// One part's footprints.
pub(super) fn footprints(footprints: &Footprints) -> Table {
    if footprints.level == Level::Samples {
        return samples(footprints);
    }
    let how = match footprints.level {
        Level::Functions => "functions, by the function tracer",
        Level::Tracepoints => "system calls, by tracepoints",
        Level::Calls => "system calls, by ptrace",
        Level::Samples => "functions, in sampled stacks",
    };
    let title = format!("{}: {how}", footprints.part);
    let says = "Footprint: what was entered in any run. Frequency: how often all of it together, mean of the runs. \
                Shared, added and avoided: against bare.";
    let things = things(footprints.level);
    let has_size = footprints.level == Level::Functions;
    let head = ["platform", things].into_iter().chain(has_size.then_some("KiB"));
    let head = head.chain(["frequency", "shared", "added", "avoided", "in every run", "runs", "events lost"]);
    let rows = footprints.platforms.iter().map(|entered| {
        let overlap = entered.against_bare.as_ref();
        let mut row = vec![entered.platform.clone(), count(entered.names as f64)];
        row.extend(has_size.then(|| entered.kib.map_or_else(none, figure)));
        row.extend([
            count(entered.calls),
            overlap.map_or_else(none, |overlap| count(overlap.shared as f64)),
            overlap.map_or_else(none, |overlap| count(overlap.added.len() as f64)),
            overlap.map_or_else(none, |overlap| count(overlap.avoided.len() as f64)),
            format!("{:.1} %", entered.agreement() * 100.0),
            entered.runs.to_string(),
            count(entered.lost as f64),
        ]);
        row
    });
    Table::new(&title, says, &Vec::from_iter(head)).with(rows.collect::<Vec<_>>())
}

/// One part's footprints of which only samples are known.
fn samples(footprints: &Footprints) -> Table {
    let title = format!("{}: functions in sampled stacks, a lower bound", footprints.part);
    let says = "Functions of the kernel that stood in a stack which was sampled in any run; more ran than were hit. Expected: how \
                many there are at least, by how many stood in one stack and in two (Chao's estimator), if samples hit at random.";
    let head = [
        "platform",
        "functions, at least",
        "expected, at least",
        "KiB, at least",
        "samples",
        "runs",
        "samples lost",
    ];
    let rows = footprints.platforms.iter().filter_map(|entered| {
        let sampled = entered.sampled?;
        Some(vec![
            entered.platform.clone(),
            count(entered.names as f64),
            count(sampled.expected.round()),
            entered.kib.map_or_else(none, figure),
            count(sampled.samples as f64),
            entered.runs.to_string(),
            count(entered.lost as f64),
        ])
    });
    Table::new(&title, says, &head).with(rows.collect::<Vec<_>>())
}

/// Published claims.
pub(super) fn literature(findings: &Findings) -> Table {
    let accord = |accord: Accord| match accord {
        Accord::Agrees => "agrees",
        Accord::Differs => "differs",
        Accord::Open => "open",
    };
    let tests =
        findings.literature.iter().flat_map(|claim| claim.tests.iter().map(move |test| (claim, test)));
    let rows = tests.map(|(claim, test)| {
        let platform = if test.platform.is_empty() { none() } else { test.platform.clone() };
        vec![
            format!("{} ({})", claim.claim, claim.source),
            platform,
            test.from.as_ref().map_or(test.here.clone(), |from| format!("{} (journal of {from})", test.here)),
            accord(test.accord).to_owned(),
        ]
    });
    let head = ["claim", "here", "found", "accord"];
    Table::new("Claims", "", &head).with(rows.collect::<Vec<_>>()).grouped()
}

/// What was measured.
pub(super) fn platforms(findings: &Findings) -> Table {
    let rows = findings.platforms.iter().map(|platform| {
        let differences = platform.differences.join("; ");
        vec![platform.name.clone(), platform.version.clone(), platform.sha256.clone(), differences]
    });
    Table::new("Platforms", "", &["platform", "version", "SHA-256", "not like the others in"])
        .with(rows.collect::<Vec<_>>())
        .in_words()
}

/// Where it was measured.
pub(super) fn environment(findings: &Findings) -> Table {
    let rows = findings.environment.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
    Table::new("Machine", "", &["fact", "value"]).with(rows.collect::<Vec<_>>()).in_words()
}

/// What disturbed turns: each kind once, in how many turns, and how much at most.
pub(super) fn disturbances(findings: &Findings) -> Table {
    let mut kinds: Vec<(String, usize, Option<f64>)> = Vec::new();
    for Reason { reason, count } in &findings.disturbances {
        for (kind, percent) in reason.split("; ").map(without_share) {
            match kinds.iter_mut().find(|(known, ..)| *known == kind) {
                Some((_, turns, most)) => {
                    *turns += count;
                    *most = most.iter().copied().chain(percent).reduce(f64::max);
                }
                None => kinds.push((kind, *count, percent)),
            }
        }
    }
    kinds.sort_by_key(|(_, turns, _)| std::cmp::Reverse(*turns));
    let most = |percent: Option<f64>| percent.map_or_else(none, |percent| format!("{percent:.0} %"));
    let rows = kinds.into_iter().map(|(kind, turns, percent)| vec![kind, turns.to_string(), most(percent)]);
    let says = format!("Of {} turns. Disturbed ones are kept.", findings.turns);
    Table::new("Disturbances", &says, &["what", "turns", "up to"]).with(rows.collect::<Vec<_>>())
}

/// How the machine changed while it was measured.
pub(super) fn drifts(findings: &Findings) -> Table {
    let rows = findings.drifts.iter().map(|drift| {
        let amount = |value: f64| format!("{} {}", figure(value), drift.unit).trim_end().to_owned();
        vec![
            format!("{} · {}", drift.task, drift.quantity),
            amount(drift.first),
            amount(drift.last),
            times(drift.change()),
            drift.minutes.map_or_else(none, figure),
        ]
    });
    let says = "What both bare processes did in the first third of the blocks and in the last. Such a change is of the whole \
                machine: it widens the intervals of medians, and ratios within a block are free of it.";
    Table::new("Drift", says, &["bare: task · quantity", "first", "last", "change", "minutes"])
        .with(rows.collect::<Vec<_>>())
}

/// `other programs had … of the CPUs` and 84.0, from `other programs had 84 % of the CPUs`.
fn without_share(text: &str) -> (String, Option<f64>) {
    let Some((before, after)) = text.split_once(" %") else { return (text.to_owned(), None) };
    let (before, number) = before.rsplit_once(' ').unwrap_or(("", before));
    match number.parse() {
        Ok(percent) => (format!("{before} …{after}").trim().to_owned(), Some(percent)),
        Err(_) => (text.to_owned(), None),
    }
}

/// What each task does.
pub(super) fn tasks(findings: &Findings) -> Table {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in &findings.rows {
        if rows.last().is_none_or(|last| last[0] != row.task) {
            rows.push(vec![row.task.clone(), row.says.clone(), row.blocks.to_string()]);
        }
    }
    Table::new("Tasks", "", &["task", "what is done", "blocks"]).with(rows).in_words()
}
