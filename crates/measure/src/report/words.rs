//! The verdict in words.

use crate::plan::{AGAIN, Axis, BOOT, Limits, SURFACE};
use crate::record::{End, Level};

use super::document::{Sentence, Table};
use super::findings::{Cell, Entered, Findings, Interference, Neighbour, Row, Score, Standing, TrialEnd};
use super::number::{count, counted, figure, interval, times};

/// The whole run in a few sentences.
pub(super) fn opening(findings: &Findings) -> Vec<Sentence> {
    let mut sentences = vec![trial(findings)];
    sentences.extend(starts(findings));
    sentences.push(decided(findings));
    sentences.extend(breaches(findings));
    sentences.extend(quality(findings));
    sentences.extend(literature(findings));
    sentences
}

fn trial(findings: &Findings) -> Sentence {
    let trial = &findings.trial;
    let held = format!("{} of {} intervals contain 1", trial.contain_one, trial.quantities);
    match trial.end {
        TrialEnd::Passed => {
            Sentence::good(format!("Bare compared with itself shows no difference, as it must be ({held})."))
        }
        TrialEnd::Failed if trial.found.is_empty() => Sentence::bad(format!(
            "Only {held} when bare is compared with itself: differences of a few per cent here may be noise."
        )),
        TrialEnd::Failed => Sentence::bad(format!(
            "Bare differs from itself in {}: what is said of that below is in doubt.",
            trial.found.join(", ")
        )),
        TrialEnd::NotMade => Sentence::bad(
            "Bare was not compared with itself often enough (six blocks at least), so nothing vouches for the machine.",
        ),
    }
}

/// Who starts first, and what is dearest in each platform's work.
fn starts(findings: &Findings) -> Vec<Sentence> {
    let mut medians = Vec::from_iter(findings.names().filter_map(|name| {
        let row = findings.first_byte()?;
        Some((row.cell(name)?.median?.estimate, name, &row.unit))
    }));
    medians.sort_by(|one, other| one.0.total_cmp(&other.0));
    let told = medians.iter().map(|(median, name, unit)| format!("{name} {}", amount(*median, unit)));
    let told = Vec::from_iter(told).join(", ");
    let dearest = findings.walls().filter_map(|name| Some(format!("{} on {name}", worst(findings, name)?)));
    let dearest = Vec::from_iter(dearest).join(", ");
    let mut sentences = Vec::new();
    if !told.is_empty() {
        sentences.push(Sentence::plain(format!("Time to the first byte: {told}.")));
    }
    if !dearest.is_empty() {
        sentences.push(Sentence::plain(format!("Dearest besides the start: {dearest}.")));
    }
    sentences
}

/// `8.30 ms`, on one line.
fn amount(value: f64, unit: &str) -> String {
    format!("{}\u{a0}{unit}", figure(value))
}

fn decided(findings: &Findings) -> Sentence {
    let rows = findings.rows.iter().filter(|row| row.decides);
    let cells = rows.flat_map(|row| &row.cells).filter(|cell| cell.platform != AGAIN);
    let standings = Vec::from_iter(cells.filter_map(|cell| Some(cell.against_bare?.standing)));
    let of = |wanted| standings.iter().filter(|standing| **standing == wanted).count();
    let open = of(Standing::NotDecided);
    Sentence::plain(format!(
        "Of {} with bare {} are decided: {} equal, {} worse, {} better.",
        counted(standings.len(), "comparison"),
        standings.len() - open,
        of(Standing::Equal),
        of(Standing::Worse),
        of(Standing::Better)
    ))
}

/// What got through a wall stands on top.
fn breaches(findings: &Findings) -> Vec<Sentence> {
    let through = |score: &Score| {
        let names = Vec::from_iter(score.breaches.iter().chain(&score.leaks).map(String::as_str));
        (!names.is_empty()).then(|| (score.platform.clone(), names.join(", ")))
    };
    let walls =
        findings.probes.scores.iter().filter(|score| findings.walls().any(|name| name == score.platform));
    let walls = Vec::from_iter(walls);
    let holes = Vec::from_iter(walls.iter().filter_map(|score| through(score)));
    if walls.is_empty() {
        return Vec::new();
    }
    if holes.is_empty() {
        return vec![Sentence::good("No probe reached the host through any of the walls.")];
    }
    let told = |(platform, names)| Sentence::bad(format!("The wall of {platform} let through: {names}."));
    holes.into_iter().map(told).collect()
}

fn quality(findings: &Findings) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let disturbed: usize = findings.disturbances.iter().map(|reason| reason.count).sum();
    if disturbed > 0 {
        sentences.push(Sentence::plain(format!(
            "{disturbed} of {} were disturbed by something else on the machine; they are kept and counted.",
            counted(findings.turns, "turn")
        )));
    }
    let failed: usize =
        findings.rows.iter().flat_map(|row| &row.cells).flat_map(|cell| &cell.failures).count();
    if failed > 0 {
        sentences.push(Sentence::plain(format!(
            "{} gave no number at least once; the reasons are in the raw tables.",
            counted(
                findings
                    .rows
                    .iter()
                    .flat_map(|row| &row.cells)
                    .filter(|cell| !cell.failures.is_empty())
                    .count(),
                "figure"
            )
        )));
    }
    sentences.extend(match findings.end {
        Some(End::Complete) => None,
        Some(End::Budget) => Some(Sentence::plain("The time ran out before everything was decided.")),
        Some(End::Interrupted) => Some(Sentence::bad("The run was interrupted; resume it for the rest.")),
        None => Some(Sentence::bad("The run did not end; resume it for the rest.")),
    });
    sentences
}

fn literature(findings: &Findings) -> Option<Sentence> {
    use super::findings::Accord;
    let of = |wanted| findings.literature.iter().filter(|claim| claim.accord == wanted).count();
    let (agrees, differs) = (of(Accord::Agrees), of(Accord::Differs));
    (agrees + differs > 0).then(|| {
        Sentence::plain(format!("Beside the literature: {agrees} of {} claims hold here.", agrees + differs))
    })
}

/// One line for each platform.
pub(super) fn glance(findings: &Findings) -> Table {
    let mut head = vec!["platform", "first byte", "costs against bare"];
    let limited = findings.interference.first();
    let application = application(findings);
    if limited.is_some() {
        head.push("keeps beside antagonists");
    }
    if !findings.probes.scores.is_empty() {
        head.push("probes held");
    }
    if application.is_some() {
        head.push("kernel entered");
    }
    let rows = findings.names().map(|name| {
        let mut row =
            vec![name.to_owned(), start(findings, name), tally(findings, name).unwrap_or_else(none)];
        row.extend(limited.map(|interference| kept(interference, name)));
        if !findings.probes.scores.is_empty() {
            let score = findings.probes.scores.iter().find(|score| score.platform == name);
            row.push(score.map_or_else(none, |score| format!("{} of {}", score.held(), score.counted())));
        }
        row.extend(application.map(|(platforms, level)| {
            let entered = platforms.iter().find(|entered| entered.platform == name);
            entered.map_or_else(none, |entered| entered_briefly(entered, level))
        }));
        row
    });
    Table::new("At a glance", "", &head).with(rows.collect::<Vec<_>>())
}

pub(super) fn none() -> String {
    "–".to_owned()
}

fn start(findings: &Findings, platform: &str) -> String {
    let cell = findings.first_byte().and_then(|row| Some((row, row.cell(platform)?)));
    let Some((row, Some(median))) = cell.map(|(row, cell)| (row, cell.median)) else { return none() };
    let ratio = row.cell(platform).and_then(|cell| cell.against_bare).map(|against| against.ratio.estimate);
    let unit = &row.unit;
    let ratio = ratio.map(|ratio| format!(", {} bare", times(ratio))).unwrap_or_default();
    format!("{}{ratio}", amount(median.estimate, unit))
}

fn kept(interference: &Interference, platform: &str) -> String {
    let neighbour = interference.platforms.iter().find(|neighbour| neighbour.platform == platform);
    let Some((kept, neighbour)) = neighbour.and_then(|neighbour| Some((neighbour.kept?, neighbour))) else {
        return none();
    };
    let least = neighbour.least.as_ref().map(|(_, least)| format!(", least {}", figure(*least)));
    format!("{}{}", figure(kept.estimate), least.unwrap_or_default())
}

fn entered_briefly(entered: &Entered, level: Level) -> String {
    format!("{} {}, {} times", count(entered.names as f64), things(level), count(entered.calls))
}

/// What a footprint of this level counts.
pub(super) fn things(level: Level) -> &'static str {
    match level {
        Level::Functions => "functions",
        Level::Samples => "functions in samples",
        Level::Tracepoints | Level::Calls => "system calls",
    }
}

fn application(findings: &Findings) -> Option<(&[Entered], Level)> {
    let footprints = findings.footprints.iter().find(|footprints| footprints.part == "application")?;
    Some((&footprints.platforms, footprints.level))
}

/// Of each wall, what isolation costs and gives.
pub(super) fn isolation(findings: &Findings) -> Vec<(String, String)> {
    let Some((platforms, level)) = application(findings) else { return Vec::new() };
    let bare = platforms.iter().find(|entered| entered.against_bare.is_none()).map(|entered| entered.calls);
    let told = platforms.iter().map(|entered| {
        let mut text = format!("the application enters {} {}", count(entered.names as f64), things(level));
        if let Some(kib) = entered.kib {
            text += &format!(" ({} KiB of code)", figure(kib));
        }
        text += &format!(", {} times in all", count(entered.calls));
        if let Some(overlap) = &entered.against_bare {
            text += &format!(
                "; against bare {} are added and {} avoided",
                overlap.added.len(),
                overlap.avoided.len()
            );
            if let Some(bare) = bare {
                text += &format!("; {} as often", times(entered.calls / bare));
            }
        }
        if entered.lost > 0 {
            text += &format!("; a lower bound, since {} events were lost", count(entered.lost as f64));
        }
        if let Some(sampled) = sampled(findings, &entered.platform) {
            text += &format!("; {sampled}");
        }
        let passed = findings.row(SURFACE, SURFACE).and_then(|row| row.cell(&entered.platform)?.least);
        if let Some(passed) = passed {
            text += &format!("; it could make {} system calls", count(passed));
        }
        (entered.platform.clone(), text + ".")
    });
    told.collect()
}

/// What samples say of the functions of the application, where those are not watched.
fn sampled(findings: &Findings, platform: &str) -> Option<String> {
    let footprints = findings
        .footprints
        .iter()
        .find(|footprints| footprints.part == "application" && footprints.level == Level::Samples)?;
    let entered = footprints.platforms.iter().find(|entered| entered.platform == platform)?;
    let sampled = entered.sampled?;
    Some(format!(
        "{} stacks that were sampled hold {} functions, a lower bound",
        count(sampled.samples as f64),
        count(entered.names as f64)
    ))
}

/// Of each platform, how it stands beside antagonists and what probes reached.
pub(super) fn noninterference(findings: &Findings) -> Vec<(String, String)> {
    let told = findings.names().filter_map(|name| {
        let beside = findings.interference.iter().filter_map(|interference| {
            let neighbour = interference.platforms.iter().find(|neighbour| neighbour.platform == name)?;
            Some(beside(neighbour, interference.limits))
        });
        let probes = findings.probes.scores.iter().find(|score| score.platform == name).map(reached);
        let text = Vec::from_iter(beside.chain(probes)).join("; ");
        (!text.is_empty()).then(|| (name.to_owned(), text + "."))
    });
    told.collect()
}

fn beside(neighbour: &Neighbour, limits: Limits) -> String {
    let limits = limits_in_words(limits);
    let Some(kept) = &neighbour.kept else { return format!("{limits} no pair ended") };
    let mut text = format!("{limits} a victim keeps {}", interval(kept));
    if let Some((pair, least)) = &neighbour.least {
        text += &format!(", in the worst pair {} ({pair})", figure(*least));
    }
    if neighbour.died > 0 {
        text += &format!(", and victims died in {}", counted(neighbour.died, "pair"));
    }
    if neighbour.silent > 0 {
        text += &format!(", and {} gave no number", counted(neighbour.silent, "pair"));
    }
    text
}

pub(super) fn limits_in_words(limits: Limits) -> &'static str {
    match limits {
        Limits::With => "with limits",
        Limits::Without => "without limits",
    }
}

fn reached(score: &Score) -> String {
    let mut text = format!("{} of {} held", score.held(), counted(score.counted(), "probe"));
    if !score.answered.is_empty() {
        text += &format!(", {} of them answered by the sandbox's own kernel", score.answered.len());
    }
    if !score.leaks.is_empty() {
        text += &format!("; read: {}", score.leaks.join(", "));
    }
    if !score.breaches.is_empty() {
        text += &format!("; changed: {}", score.breaches.join(", "));
    }
    text
}

/// Of each wall, what it costs.
pub(super) fn performance(findings: &Findings) -> Vec<(String, String)> {
    let told = findings.walls().filter_map(|name| {
        let first = findings.first_byte().and_then(|row| Some(first_byte(row, row.cell(name)?)));
        let work = tally(findings, name).map(|tally| {
            let worst = worst(findings, name).map(|worst| format!("; dearest besides the start: {worst}"));
            format!("costs against bare: {tally}{}", worst.unwrap_or_default())
        });
        let text = Vec::from_iter(first.into_iter().flatten().chain(work)).join("; ");
        (!text.is_empty()).then(|| (name.to_owned(), text + "."))
    });
    told.collect()
}

fn first_byte(row: &Row, cell: &Cell) -> Option<String> {
    let median = cell.median?;
    let against =
        cell.against_bare.map(|against| format!(", {} the time of bare", times(against.ratio.estimate)));
    Some(format!("first byte after {}\u{a0}{}{}", interval(&median), row.unit, against.unwrap_or_default()))
}

/// `9 equal, 2 worse`
fn tally(findings: &Findings, platform: &str) -> Option<String> {
    let costs = findings.rows.iter().filter(|row| row.decides && row.axis == Axis::Performance);
    let standings = Vec::from_iter(costs.filter_map(|row| Some(row.cell(platform)?.against_bare?.standing)));
    let counted = [Standing::Equal, Standing::Worse, Standing::Better, Standing::NotDecided].map(|wanted| {
        let count = standings.iter().filter(|standing| **standing == wanted).count();
        (count > 0).then(|| format!("{count} {}", wanted.word()))
    });
    (!standings.is_empty()).then(|| Vec::from_iter(counted.into_iter().flatten()).join(", "))
}

/// The quantity that is furthest from bare on the bad side, but for the start, which has its own sentence.
fn worst(findings: &Findings, platform: &str) -> Option<String> {
    let costs =
        findings.rows.iter().filter(|row| row.decides && row.axis == Axis::Performance && row.task != BOOT);
    let worse = costs.filter_map(|row| {
        let against = row.cell(platform)?.against_bare?;
        (against.standing == Standing::Worse).then(|| (row, row.cost(against.ratio).estimate))
    });
    let (row, cost) = worse.max_by(|one, other| one.1.total_cmp(&other.1))?;
    Some(format!("{} · {} ({} the cost of bare)", row.task, row.quantity, times(cost)))
}
