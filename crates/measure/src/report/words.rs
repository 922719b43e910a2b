//! The verdict in words.

use crate::cgroups::USUAL;
use crate::plan::{AGAIN, Axis, BARE, HEAVY, Limits, SURFACE, WORK};
use crate::record::{Level, WEIGHT};
use crate::stats::{FEWEST_PAIRS, MARGIN};

use super::document::{Sentence, Table};
use super::findings::{
    Accord, Capacity, Cell, Entered, Findings, Footprints, Interference, Keeps, Mean, Neighbour, PLACES, Row,
    Score, Standing, TrialEnd, is_moot,
};
use super::left_out;
use super::number::{count, counted, figure, rough, rough_spread, spread, times};

/// The whole run in a few sentences: of each axis what was found, and what vouches for it.
pub(super) fn opening(findings: &Findings) -> Vec<Sentence> {
    let mut sentences = Vec::from_iter(trial(findings, Axis::Performance));
    sentences.extend(choice(findings));
    sentences.extend(starts(findings));
    sentences.extend(work(findings));
    sentences.extend(decided(findings));
    sentences.extend(kernel(findings));
    sentences.extend(trial(findings, Axis::Isolation));
    sentences.extend(findings.interference.iter().filter_map(neighbours));
    sentences.extend(hogs(findings));
    sentences.extend(trial(findings, Axis::Noninterference));
    sentences.extend(breaches(findings));
    sentences.extend(quality(findings));
    sentences.extend(literature(findings));
    if findings.turns == 0 {
        sentences.insert(0, nothing());
    }
    sentences
}

pub(super) fn nothing() -> Sentence {
    Sentence::bad("Nothing was measured, so nothing vouches for the machine.")
}

/// What bare against bare says of one axis; None where nothing of it was measured.
pub(super) fn trial(findings: &Findings, axis: Axis) -> Option<Sentence> {
    let trial = findings.trials.iter().find(|trial| trial.axis == axis)?;
    let furthest = trial.furthest.as_ref();
    let furthest = furthest.map(|(title, apart)| format!("by up to {} ({title})", times(*apart)));
    if axis == Axis::Isolation {
        // Counts, which no other program disturbs: the spread itself says it.
        return furthest.map(|furthest| {
            Sentence::plain(format!("Isolation is counted, not timed: bare differs from itself {furthest}."))
        });
    }
    let name = title_case(axis.name());
    let held = format!("{} of {} intervals contain 1", trial.contain_one, trial.quantities);
    let means = if axis == Axis::Noninterference { "in the mean of all pairs " } else { "" };
    let few = trial.compared - trial.quantities;
    let few = (few > 0 && trial.quantities > 0).then(|| {
        let furthest = furthest.as_deref().unwrap_or_default();
        format!(
            " {} had fewer than six blocks; in all, bare differs from itself {furthest}.",
            counted(few, "more figure")
        )
    });
    let silent = (!trial.one_sided.is_empty()).then(|| {
        format!(
            " One of the two bare processes failed where the other did not, in {}.",
            figures(trial.one_sided.len())
        )
    });
    let single = furthest.as_deref().filter(|_| !means.is_empty() && trial.end != TrialEnd::NotMade);
    let single = single.map(|furthest| {
        format!(" A single pair, of which bare differs from itself {furthest}, has no verdict.")
    });
    let has_gaps = few.is_some() || silent.is_some();
    let rest = few.into_iter().chain(single).chain(silent).collect::<String>();
    let disturbed = disturbed(findings);
    Some(match (trial.end, furthest) {
        (TrialEnd::Passed, _) if 2 * disturbed > findings.turns => Sentence::plain(format!(
            "{name}: {means}bare compared with itself shows no difference beyond chance ({held}), but most turns were \
             disturbed ({disturbed} of {}).{rest}",
            findings.turns
        )),
        (TrialEnd::Passed, _) if has_gaps => Sentence::plain(format!(
            "{name}: {means}bare compared with itself shows no difference beyond chance ({held}).{rest}"
        )),
        (TrialEnd::Passed, _) => Sentence::good(format!(
            "{name}: {means}bare compared with itself shows no difference beyond chance ({held}).{rest}"
        )),
        (TrialEnd::Failed, _) if trial.found.is_empty() => Sentence::bad(format!(
            "{name}: only {held} when bare is compared with itself: differences of a few per cent may be noise.{rest}"
        )),
        (TrialEnd::Failed, _) => Sentence::bad(format!(
            "{name}: bare differs from itself in {}: what is said of that below is in doubt.{rest}",
            trial.found.join(", ")
        )),
        (TrialEnd::NotMade, Some(furthest)) => Sentence::bad(format!(
            "{name}: too few blocks to compare bare with itself (six at least). In these it differs from itself {furthest}: \
             read figures as orders of magnitude.{rest}"
        )),
        (TrialEnd::NotMade, None) => Sentence::bad(format!(
            "{name}: bare was not compared with itself, so nothing vouches for the machine.{rest}"
        )),
    })
}

fn title_case(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

fn figures(count: usize) -> String {
    counted(count, "figure")
}

fn disturbed(findings: &Findings) -> usize {
    findings.disturbances.iter().map(|reason| reason.count).sum()
}

/// Who starts first.
fn starts(findings: &Findings) -> Option<Sentence> {
    let medians = medians(findings);
    let told = medians.iter().map(|(median, name, unit)| format!("{name} {}", amount(*median, unit)));
    let told = Vec::from_iter(told).join(", ");
    (!told.is_empty()).then(|| Sentence::plain(format!("Time to the first byte: {told}.")))
}

/// Who starts how fast, the fastest first.
fn medians(findings: &Findings) -> Vec<(f64, &str, &str)> {
    let mut medians = Vec::from_iter(findings.names().filter_map(|name| {
        let row = findings.first_byte()?;
        Some((row.cell(name)?.median?.estimate, name, row.unit.as_str()))
    }));
    medians.sort_by(|one, other| one.0.total_cmp(&other.0));
    medians
}

/// `8.30 ms`, on one line.
fn amount(value: f64, unit: &str) -> String {
    format!("{}\u{a0}{unit}", figure(value))
}

/// What each wall costs in work; walls of which the same can be said share a sentence.
fn work(findings: &Findings) -> Vec<Sentence> {
    let told = of_walls(findings, |wall| work_of(findings, wall)).into_iter();
    told.map(|(text, walls)| Sentence::plain(format!("Work in {}: {text}.", listed(&walls)))).collect()
}

/// What `of` says of each wall, with the walls of which it says the same.
fn of_walls(findings: &Findings, of: impl Fn(&str) -> Option<String>) -> Vec<(String, Vec<&str>)> {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for wall in findings.walls() {
        let Some(text) = of(wall) else { continue };
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, walls)) => walls.push(wall),
            None => told.push((text, vec![wall])),
        }
    }
    told
}

/// `costs more than bare in fork 13.5×, cpu 1.30×; it is within 5 % of bare in …; it is not decided in …`; None when no work
/// was compared.
fn work_of(findings: &Findings, wall: &str) -> Option<String> {
    let rows = findings.rows.iter().filter(|row| row.decides && row.is_work());
    let compared = Vec::from_iter(rows.filter_map(|row| Some((row, row.cell(wall)?.against_bare?))));
    let that = |wanted: Standing| {
        let found = compared.iter().filter(|(_, against)| against.standing == wanted);
        Vec::from_iter(
            found.map(|(row, against)| (work_name(findings, row), row.cost(against.ratio).estimate)),
        )
    };
    let costs = |mut found: Vec<(String, f64)>| {
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        Vec::from_iter(found.iter().map(|(name, cost)| format!("{name} {}", times(*cost)))).join(", ")
    };
    let names =
        |found: Vec<(String, f64)>| Vec::from_iter(found.into_iter().map(|(name, _)| name)).join(", ");
    let parts = [
        ("costs more than bare in ".to_owned(), costs(that(Standing::Worse))),
        (format!("is within {:.0} % of bare in ", MARGIN * 100.0), names(that(Standing::Equal))),
        ("is faster than bare in ".to_owned(), names(that(Standing::Better))),
        ("is not decided in ".to_owned(), names(that(Standing::NotDecided))),
    ];
    let parts = parts.into_iter().filter(|(_, what)| !what.is_empty());
    let parts = Vec::from_iter(parts.map(|(begin, what)| format!("{begin}{what}")));
    (!parts.is_empty()).then(|| parts.join("; it "))
}

/// `fork`, `fio-write`, and where a task has several numbers that decide, `redis SET`.
pub(super) fn work_name(findings: &Findings, row: &Row) -> String {
    let task = [WORK, HEAVY].into_iter().find_map(|begin| row.task.strip_prefix(begin)).unwrap_or(&row.task);
    let several = findings.rows.iter().filter(|other| other.decides && other.task == row.task).count() > 1;
    if several { format!("{task} {}", row.quantity) } else { task.to_owned() }
}

/// `a, b and c`
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Starts, which are dear everywhere, decide themselves; what is decided of work stands apart.
fn decided(findings: &Findings) -> Option<Sentence> {
    let standings = |is_it: &dyn Fn(&Row) -> bool| {
        let cells = findings.rows.iter().filter(|row| is_it(row)).flat_map(|row| &row.cells);
        let cells = cells.filter(|cell| cell.platform != AGAIN);
        Vec::from_iter(cells.filter_map(|cell| Some(cell.against_bare?.standing)))
    };
    let (wanted, work) = (standings(&|row| row.decides), standings(&|row| row.decides && row.is_work()));
    let mut text = format!(
        "Of the {} with bare that the run was to decide (start and work): {}",
        counted(wanted.len(), "comparison"),
        verdicts(&wanted)
    );
    if !work.is_empty() && work.len() < wanted.len() {
        text += &format!("; of the {} of work: {}", work.len(), verdicts(&work));
    }
    let others = standings(&|row| !row.decides).len();
    text += ".";
    if others > 0 {
        text += &format!(" Without a verdict: {}.", counted(others, "more ratio"));
    }
    (!wanted.is_empty()).then(|| Sentence::plain(text))
}

/// `18 decided (7 equal, 11 worse, 0 better)`
fn verdicts(standings: &[Standing]) -> String {
    let of = |verdict| standings.iter().filter(|standing| **standing == verdict).count();
    format!(
        "{} decided ({} equal, {} worse, {} better)",
        standings.len() - of(Standing::NotDecided),
        of(Standing::Equal),
        of(Standing::Worse),
        of(Standing::Better)
    )
}

/// How much of the kernel runs for the application, and how often.
fn kernel(findings: &Findings) -> Option<Sentence> {
    let (platforms, level) = application(findings)?;
    let bare = platforms.iter().find(|entered| entered.platform == BARE);
    let of = |name: &str| {
        let entered = platforms.iter().find(|entered| entered.platform == name)?;
        let names = count(entered.names as f64);
        Some(match (&entered.against_bare, bare) {
            (Some(overlap), Some(bare)) => format!(
                "{names} ({} of them new, {} of bare's avoided), {} as often",
                count(overlap.added.len() as f64),
                count(overlap.avoided.len() as f64),
                times(entered.calls / bare.calls)
            ),
            _ => names,
        })
    };
    let control = of(BARE).map(|text| format!("{BARE} {text}"));
    let walls = of_walls(findings, of).into_iter().map(|(text, walls)| format!("{} {text}", listed(&walls)));
    Some(Sentence::plain(format!(
        "Of the host's kernel the application enters, in {}: {}.",
        things(level),
        Vec::from_iter(control.into_iter().chain(walls)).join("; ")
    )))
}

/// What victims keep, without a rank where nothing but noise would make it.
fn neighbours(interference: &Interference) -> Option<Sentence> {
    let known = interference.platforms.iter().filter(|neighbour| neighbour.platform != AGAIN);
    let known = Vec::from_iter(known);
    let name = |neighbour: &Neighbour| {
        let control = has_no_limits(&neighbour.platform, interference.limits).then_some(" (without limits)");
        format!("{}{}", neighbour.platform, control.unwrap_or_default())
    };
    let told =
        known.iter().filter_map(|neighbour| Some(format!("{} {}", name(neighbour), mean(&neighbour.kept?))));
    let told = Vec::from_iter(told);
    if told.is_empty() {
        return None;
    }
    let mut text = format!(
        "Beside antagonists, {}, a victim keeps of 1, in the mean of {}: {}.",
        interference.limits.words(),
        of_pairs(interference),
        told.join(", ")
    );
    let own = known.iter().filter_map(|neighbour| Some((neighbour, neighbour.own?)));
    let own = own.filter(|(_, own)| own.pairs > interference.common.len());
    let own = own.map(|(neighbour, own)| {
        format!("{} {} of {}", name(neighbour), mean(&own), counted(own.pairs, "pair"))
    });
    let own = Vec::from_iter(own).join(", ");
    if !own.is_empty() {
        text += &format!(" Over all that ended on each: {own}.");
    }
    if let Some(blocks) = coarse(interference) {
        text += &format!(" That is coarse, from {}, and no ranking.", counted(blocks, "block"));
    }
    let silent = known.iter().filter(|neighbour| neighbour.silent + neighbour.died > 0).map(|neighbour| {
        let died =
            (neighbour.died > 0).then(|| format!("victims died in {}", counted(neighbour.died, "pair")));
        let silent =
            (neighbour.silent > 0).then(|| format!("{} gave no number", counted(neighbour.silent, "pair")));
        format!("{}: {}", neighbour.platform, Vec::from_iter(died.into_iter().chain(silent)).join(", "))
    });
    let silent = Vec::from_iter(silent).join("; ");
    if !silent.is_empty() {
        text += &format!(" Not all ended: {silent}.");
    }
    Some(Sentence::plain(text))
}

fn mean(mean: &Mean) -> String {
    rough_spread(&mean.score, mean.blocks)
}

/// The fewest blocks of a mean, if they are too few to rank anybody.
fn coarse(interference: &Interference) -> Option<usize> {
    let means = interference.platforms.iter().filter_map(|neighbour| Some(neighbour.kept?.blocks));
    means.min().filter(|blocks| *blocks < FEWEST_PAIRS)
}

/// Bare processes are the control, and nobody limits them.
fn has_no_limits(platform: &str, limits: Limits) -> bool {
    limits == Limits::With && [BARE, AGAIN].contains(&platform)
}

/// What victims keep beside hogs that leave bare processes less; walls of which the same can be said share a sentence.
fn hogs(findings: &Findings) -> Vec<Sentence> {
    if !findings.capacities.is_empty() && !findings.capacities.iter().any(Capacity::is_told) {
        let is_known = findings.capacities.iter().any(|capacity| capacity.control.share.is_some());
        let why = if is_known {
            "No hog took anything away from bare processes"
        } else {
            "What hogs take away from bare processes is not known"
        };
        return vec![Sentence::bad(format!("{why}, so that nothing is known of what walls leave."))];
    }
    let runs = findings.capacities.iter().flat_map(|capacity| &capacity.walls).map(|wall| wall.runs).min();
    let sure = if runs == Some(1) { ", as one run tells, which may be an accident" } else { "" };
    of_walls(findings, |wall| beside_hogs(findings, wall))
        .into_iter()
        .map(|(text, walls)| {
            Sentence::plain(format!(
                "Beside a hog that takes it from bare processes, in {} {text}{sure}.",
                listed(&walls)
            ))
        })
        .collect()
}

/// `a victim keeps all of processes with limits; nothing of …`; None when no hog is told of, or nothing of this wall.
fn beside_hogs(findings: &Findings, wall: &str) -> Option<String> {
    let told = Vec::from_iter(findings.capacities.iter().filter(|capacity| capacity.is_told()).filter_map(
        |capacity| Some((capacity.name(), capacity.walls.iter().find(|known| known.platform == wall)?)),
    ));
    let that = |wanted: Keeps| {
        let found = told.iter().filter(|(_, kept)| kept.verdict == wanted);
        Vec::from_iter(found.map(|(name, kept)| match kept.share {
            Some(share) if wanted == Keeps::Part => format!("{:.0} % of {name}", share * 100.0),
            _ => name.clone(),
        }))
        .join(", ")
    };
    let parts = [
        ("a victim keeps all of ", that(Keeps::All)),
        ("a victim keeps ", that(Keeps::Part)),
        ("nothing is left of ", that(Keeps::Nothing)),
        ("the hog's sandbox ends as a whole where it takes ", that(Keeps::Ended)),
        ("nothing is known of ", that(Keeps::Unmade)),
    ];
    let parts = parts.into_iter().filter(|(_, what)| !what.is_empty());
    let parts = Vec::from_iter(parts.map(|(begin, what)| format!("{begin}{what}")));
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `6 of 9 pairs, which ended everywhere`
fn of_pairs(interference: &Interference) -> String {
    let all = interference.victims.len() * interference.antagonists.len();
    match interference.common.len() {
        common if common == all => format!("all {}", counted(all, "pair")),
        common => format!("the {common} of {} that ended everywhere", counted(all, "pair")),
    }
}

/// What got through a wall stands on top; so does what was never tried.
fn breaches(findings: &Findings) -> Vec<Sentence> {
    let walls = |score: &&Score| findings.walls().any(|name| name == score.platform);
    let walls = Vec::from_iter(findings.probes.scores.iter().filter(walls));
    let through = |score: &Score| {
        let names = Vec::from_iter(score.breaches.iter().chain(&score.leaks).map(String::as_str));
        (!names.is_empty()).then(|| (score.platform.clone(), names.join("; ")))
    };
    let holes = Vec::from_iter(walls.iter().filter_map(|score| through(score)));
    let mut sentences = Vec::new();
    if holes.is_empty() && walls.iter().any(|score| score.counted() > 0) {
        let all = findings.probes.attempts.len();
        let counts = findings.probes.attempts.values().filter(|platforms| !is_moot(platforms)).count();
        let text = format!(
            "No probe reached the host through any of the walls. Of {} {counts} count, since they succeed without a wall",
            counted(all, "attempt")
        );
        let whole = walls.iter().all(|score| score.unmade.is_empty());
        let end = if whole { ", and all of these were made on each." } else { "." };
        let sentence = if whole { Sentence::good } else { Sentence::plain };
        sentences.push(sentence(text + end));
    }
    let told = |(platform, names)| Sentence::bad(format!("The wall of {platform} let through: {names}."));
    sentences.extend(holes.into_iter().map(told));
    let unmade = walls.iter().filter(|score| !score.unmade.is_empty()).map(|score| {
        let of = score.unmade.len() + score.counted();
        Sentence::bad(format!(
            "{} of {} could not be made on {}, so that nothing is known of them there.",
            score.unmade.len(),
            counted(of, "probe"),
            score.platform
        ))
    });
    sentences.extend(unmade);
    sentences
}

/// Which wall for what, as far as figures alone say it.
pub(super) fn choice(findings: &Findings) -> Option<Sentence> {
    let mut told = Vec::from_iter(soonest(findings));
    let passed = |name: &str| findings.row(SURFACE, SURFACE)?.cell(name)?.least;
    let mut open = Vec::from_iter(findings.walls().filter_map(|name| Some((passed(name)?, name))));
    open.sort_by(|one, other| one.0.total_cmp(&other.0));
    if let ([(least, name), (next, _), ..], Some(all)) = (&open[..], passed(BARE))
        && least < next
    {
        let often = application(findings).and_then(|(platforms, _)| as_often(platforms, name));
        let often = often.map(|often| format!("; it is entered {} as often as bare", times(often)));
        let price = dearest(findings, name).map(|(task, cost)| format!(", and {task} costs {cost} there"));
        let price = [often, price].into_iter().flatten().collect::<String>();
        told.push(format!(
            "{name} leaves the least of the kernel open ({} of {} system calls{})",
            count(*least),
            count(all),
            price
        ));
    }
    (!told.is_empty()).then(|| Sentence::plain(format!("Of the walls {}.", told.join("; "))))
}

/// Who starts soonest, without a rank where nothing but noise would make it.
fn soonest(findings: &Findings) -> Option<String> {
    let medians = medians(findings);
    let walls = medians.iter().filter(|(_, name, _)| *name != BARE).count();
    let time = |wanted: &str| {
        let (median, _, unit) = medians.iter().find(|(_, name, _)| *name == wanted)?;
        Some(amount(*median, unit))
    };
    match &findings.soonest[..] {
        [] => None,
        all if all.len() == walls => Some("none is found to start sooner than another".to_owned()),
        [name] => Some(format!("{name} starts soonest ({})", time(name)?)),
        names => {
            let times = Vec::from_iter(names.iter().filter_map(|name| time(name))).join(", ");
            let names = listed(&Vec::from_iter(names.iter().map(String::as_str)));
            Some(format!("{names} start soonest and are not told apart ({times})"))
        }
    }
}

fn quality(findings: &Findings) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let disturbed = disturbed(findings);
    if disturbed > 0 {
        sentences.push(Sentence::plain(format!(
            "Something else on the machine disturbed {disturbed} of {}; what is disturbed is kept and counted.",
            counted(findings.turns, "turn")
        )));
    }
    // Versions before had another ending.
    if findings.environment.get(WEIGHT).is_some_and(|weight| weight.starts_with(USUAL)) {
        sentences.push(Sentence::plain(
            "A daemon works for a platform, so that no platform had precedence over the machine's other work, which takes more from all \
             of them than it does in a run without: their times are not those of such a run.",
        ));
    }
    let cells = findings.rows.iter().flat_map(|row| &row.cells);
    let failed = cells.filter(|cell| !cell.failures.is_empty()).count();
    if failed > 0 {
        sentences.push(Sentence::plain(format!(
            "{} gave no number at least once; the reasons are in the raw tables.",
            figures(failed)
        )));
    }
    sentences.extend(left_out::sentence(findings));
    sentences
}

fn literature(findings: &Findings) -> Option<Sentence> {
    let claims = &findings.literature;
    let of = |wanted| Vec::from_iter(claims.iter().filter(move |claim| claim.accord == wanted));
    let (agrees, differs, open) = (of(Accord::Agrees), of(Accord::Differs), of(Accord::Open));
    let named = differs.iter().map(|claim| format!("that {}", claim.claim));
    let named = Vec::from_iter(named).join("; ");
    let named = if named.is_empty() { String::new() } else { format!(" Not found here: {named}.") };
    (!claims.is_empty()).then(|| {
        Sentence::plain(format!(
            "Beside the literature, {}: {} found here, too, {} found otherwise, {} open.{named}",
            counted(claims.len(), "claim"),
            agrees.len(),
            differs.len(),
            open.len()
        ))
    })
}

/// One line for each platform, with the columns of which anything is known.
pub(super) fn glance(findings: &Findings) -> Table {
    let names = Vec::from_iter(findings.names());
    let column = |head: &str, of: &dyn Fn(&str) -> Option<String>| {
        let cells = Vec::from_iter(names.iter().map(|name| of(name)));
        (head.to_owned(), cells)
    };
    let mut columns = vec![
        column("first byte", &|name| start(findings, name)),
        column("costs against bare", &|name| tally(findings, name)),
    ];
    if let Some(interference) = findings.interference.first() {
        let coarse = if coarse(interference).is_some() { ", coarse" } else { "" };
        let head = format!("keeps beside antagonists{coarse}");
        columns.push(column(&head, &|name| kept(interference, name)));
    }
    columns.push(column("probes held", &|name| held(findings, name)));
    if let Some((platforms, level)) = application(findings) {
        columns.push(column("kernel entered", &|name| {
            let entered = platforms.iter().find(|entered| entered.platform == name);
            entered.map(|entered| entered_briefly(entered, level))
        }));
    }
    columns.retain(|(_, cells)| cells.iter().any(Option::is_some));
    let head = std::iter::once("platform").chain(columns.iter().map(|(head, _)| head.as_str()));
    let head = Vec::from_iter(head);
    let rows = names.iter().enumerate().map(|(place, name)| {
        let cells = columns.iter().map(|(_, cells)| cells[place].clone().unwrap_or_else(none));
        std::iter::once((*name).to_owned()).chain(cells).collect()
    });
    let says = "Ratios to bare are taken within each block of runs, and the median of these is told, which is another number than the \
                ratio of two medians.";
    let says = if head.contains(&"first byte") { says } else { "" };
    Table::new("At a glance", says, &head).with(rows.collect::<Vec<_>>())
}

pub(super) fn none() -> String {
    "–".to_owned()
}

pub(super) fn start(findings: &Findings, platform: &str) -> Option<String> {
    let row = findings.first_byte()?;
    let cell = row.cell(platform)?;
    let ratio = cell
        .against_bare
        .map(|against| format!(", {} bare in the median block", times(against.ratio.estimate)));
    Some(format!("{}{}", amount(cell.median?.estimate, &row.unit), ratio.unwrap_or_default()))
}

fn kept(interference: &Interference, platform: &str) -> Option<String> {
    let neighbour = interference.platforms.iter().find(|neighbour| neighbour.platform == platform)?;
    let all = interference.victims.len() * interference.antagonists.len();
    let common = interference.common.len();
    let of = if common < all { format!(" ({common} of {all} pairs)") } else { String::new() };
    let least = neighbour.least.as_ref().map(|(_, least)| format!(", least {}", rough(*least)));
    let control = has_no_limits(platform, interference.limits).then_some(", without limits");
    let kept = mean(&neighbour.kept?);
    Some(format!("{kept}{of}{}{}", least.unwrap_or_default(), control.unwrap_or_default()))
}

fn held(findings: &Findings, platform: &str) -> Option<String> {
    let score = findings.probes.scores.iter().find(|score| score.platform == platform)?;
    if platform == BARE {
        return Some("the control".to_owned());
    }
    let unmade = match score.unmade.len() {
        0 => String::new(),
        unmade => format!(", {unmade} not made"),
    };
    Some(format!("{} of {}{unmade}", score.held(), score.counted()))
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

pub(super) fn application(findings: &Findings) -> Option<(&[Entered], Level)> {
    let footprints = findings.footprints.iter().find(|footprints| footprints.part == "application")?;
    Some((&footprints.platforms, footprints.level))
}

/// How often a wall's application enters the kernel, divided by how often bare does.
pub(super) fn as_often(platforms: &[Entered], wall: &str) -> Option<f64> {
    let calls = |name: &str| Some(platforms.iter().find(|entered| entered.platform == name)?.calls);
    Some(calls(wall)? / calls(BARE)?)
}

/// What a part of the kernel is in the plots, where functions were seen.
pub(super) fn places(findings: &Findings) -> String {
    let functions = |footprints: &Footprints| matches!(footprints.level, Level::Functions | Level::Samples);
    match findings.environment.get(PLACES) {
        Some(source) => format!(" Functions belong to the directory of the {source} that defines them."),
        None if findings.footprints.iter().any(functions) => {
            " Functions belong to a directory of the kernel's sources by the order in which those are linked."
                .to_owned()
        }
        None => String::new(),
    }
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
            Some(beside(neighbour, interference))
        });
        let hogs = beside_hogs(findings, name).map(|text| format!("beside hogs {text}"));
        let probes = findings.probes.scores.iter().find(|score| score.platform == name).map(reached);
        let text = Vec::from_iter(beside.chain(hogs).chain(probes)).join("; ");
        (!text.is_empty()).then(|| (name.to_owned(), text + "."))
    });
    told.collect()
}

fn beside(neighbour: &Neighbour, interference: &Interference) -> String {
    let limits = interference.limits.words();
    let control =
        has_no_limits(&neighbour.platform, interference.limits).then_some(", of which it has none,");
    let limits = format!("{limits}{}", control.unwrap_or_default());
    let mut text = match &neighbour.kept {
        Some(kept) => format!("{limits} a victim keeps {} in {}", mean(kept), of_pairs(interference)),
        None => format!("{limits} no block has all pairs that ended everywhere"),
    };
    if let Some(own) = neighbour.own.filter(|own| own.pairs > interference.common.len()) {
        text += &format!(", {} in the {} that ended here", mean(&own), own.pairs);
    }
    if let Some((pair, least)) = &neighbour.least {
        text += &format!(", in the worst pair {} ({pair})", rough(*least));
    }
    if neighbour.died > 0 {
        text += &format!(", and victims died in {}", counted(neighbour.died, "pair"));
    }
    if neighbour.silent > 0 {
        text += &format!(", and {} gave no number", counted(neighbour.silent, "pair"));
    }
    text
}

fn reached(score: &Score) -> String {
    if score.platform == BARE {
        // Which ones is what the matrix of probes begins with.
        let reached = counted(score.counted(), "attempt");
        return format!("it is the control: the {reached} that reach the host from it are those that count");
    }
    let mut text = format!("{} of {} held", score.held(), counted(score.counted(), "probe"));
    if !score.unmade.is_empty() {
        text += &format!(", and {} could not be made", score.unmade.len());
    }
    if !score.answered.is_empty() {
        text += &format!(
            ", {} of them answered within the sandbox, by a kernel or a namespace of its own",
            score.answered.len()
        );
    }
    if !score.leaks.is_empty() {
        text += &format!("; read: {}", score.leaks.join("; "));
    }
    if !score.breaches.is_empty() {
        text += &format!("; changed: {}", score.breaches.join("; "));
    }
    text
}

/// Of each wall, what it costs.
pub(super) fn performance(findings: &Findings) -> Vec<(String, String)> {
    let told = findings.walls().filter_map(|name| {
        let first = findings.first_byte().and_then(|row| Some(first_byte(row, row.cell(name)?)));
        let work = tally(findings, name).map(|tally| format!("of start and work {tally}"));
        let dearest = dearest(findings, name);
        let dearest = dearest.map(|(task, cost)| format!("dearest work: {task} ({cost} the cost of bare)"));
        let text = Vec::from_iter(first.into_iter().flatten().chain(work).chain(dearest)).join("; ");
        (!text.is_empty()).then(|| (name.to_owned(), text + "."))
    });
    told.collect()
}

fn first_byte(row: &Row, cell: &Cell) -> Option<String> {
    let median = cell.median?;
    let against = cell
        .against_bare
        .map(|against| format!(", in the median block {} the time of bare", times(against.ratio.estimate)));
    Some(format!(
        "first byte after {}\u{a0}{}{}",
        spread(&median, cell.measured),
        row.unit,
        against.unwrap_or_default()
    ))
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

/// The work that is furthest from bare on the bad side, and its cost.
fn dearest(findings: &Findings, platform: &str) -> Option<(String, String)> {
    let costs = findings.rows.iter().filter(|row| row.decides && row.is_work());
    let worse = costs.filter_map(|row| {
        let against = row.cell(platform)?.against_bare?;
        (against.standing == Standing::Worse).then(|| (row, row.cost(against.ratio).estimate))
    });
    let (row, cost) = worse.max_by(|one, other| one.1.total_cmp(&other.1))?;
    Some((work_name(findings, row), times(cost)))
}
