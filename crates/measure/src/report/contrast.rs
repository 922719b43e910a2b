//! Two runs, or two machines, side by side.
//!
//! Two questions are asked of each figure. *Absolute*: the later amount divided by the earlier one. *Against bare*: the
//! later ratio to bare divided by the earlier one, in which a faster machine cancels out. Neither is a comparison within
//! blocks, so whatever changed between the two occasions is part of both.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{AGAIN, Axis, BARE, Better, Limits, Quantity, SURFACE, Task};
use crate::record::{Reach, WEIGHT};
use crate::results::Results;
use crate::stats::{Comparison, Estimate, Experiment, contrast};

use super::document::{Document, Section, Sentence, Table};
use super::findings::{Findings, Interference, Mean, Standing, Trial};
use super::number::{counted, rough_spread, spread, times};
use super::plot::{self, Strip};
use super::tables::reach;
use super::words::none;

mod kernel;

pub use kernel::Entries;

/// The fact that begins with the level at which the kernel was watched.
const WATCHED: &str = "kernel watched";

/// What changed from one run to another.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// Facts about the machines that are not the same, by name: earlier, later. None where there is no such fact.
    pub machines: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Figures of both, in the later plan's order.
    pub figures: Vec<Changed>,
    /// Bare against bare on both occasions, axis by axis: earlier, later.
    pub trials: Vec<(Axis, Option<Trial>, Option<Trial>)>,
    /// What victims kept in the mean over the same pairs.
    pub neighbours: Vec<Kept>,
    /// Footprints that were watched in the same way.
    pub footprints: Vec<Entries>,
    /// The levels at which the kernel was watched, where they are not the same: what they count is not the same, either.
    pub levels: Option<(String, String)>,
    /// Probes that reached something else: probe, platform, earlier, later.
    pub probes: Vec<(String, String, Reach, Reach)>,
    /// Tasks whose open loops had other rates, so that latencies are others: earlier, later, turns a second.
    pub rates: Vec<(String, f64, f64)>,
    /// What only one of the two measured: `task · quantity, platform`.
    pub only_earlier: Vec<String>,
    /// The same of the other.
    pub only_later: Vec<String>,
}

/// What victims kept on one platform, on both occasions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// With limits, or without.
    pub limits: Limits,
    /// The platform.
    pub platform: String,
    /// The geometric mean of the scores then; None where no block has all pairs.
    pub earlier: Option<Mean>,
    /// And now.
    pub later: Option<Mean>,
    /// Over how many pairs.
    pub pairs: usize,
}

/// One quantity on one platform, on both occasions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// The task's name.
    pub task: String,
    /// The quantity's name.
    pub quantity: String,
    /// Printed behind the number.
    pub unit: String,
    /// Whether both runs wanted this decided.
    pub decides: bool,
    /// The platform.
    pub platform: String,
    /// The median then.
    pub earlier: Estimate,
    /// The median now.
    pub later: Estimate,
    /// In how many blocks it was measured then, and now.
    pub blocks: (usize, usize),
    /// In how many of these bare was, too; those of bare itself for bare.
    pub pairs: (usize, usize),
    /// Later divided by earlier.
    pub absolute: Estimate,
    /// Whether that is good.
    pub standing: Standing,
    /// The later ratio to bare divided by the earlier one; None for bare itself, and where one was not compared.
    pub against_bare: Option<(Estimate, Standing)>,
    /// The verdicts against bare, then and now.
    pub verdicts: Option<(Standing, Standing)>,
    /// Above 1 is worse: `absolute`, turned if more is better.
    pub cost: Estimate,
}

/// Compares two runs by the names of their tasks, quantities and platforms.
pub fn compare(earlier: &Results, later: &Results) -> Contrast {
    let (before, after) = (Findings::of(earlier), Findings::of(later));
    let levels = levels(&before, &after);
    let mut figures = Vec::new();
    for task in &later.plan().tasks {
        // Functions and system calls are not set against each other.
        let is_other = levels.is_some() && task.axis == Axis::Isolation && task.name != SURFACE;
        let Some(old) = earlier.plan().task(&task.name).filter(|_| !is_other) else { continue };
        for quantity in &task.quantities {
            let Some(old_quantity) = old.quantities.iter().find(|old| old.name == quantity.name) else {
                continue;
            };
            // A number in another unit is another number.
            if old_quantity.unit == quantity.unit && old_quantity.better == quantity.better {
                figures.extend(changed(earlier, later, (old, old_quantity), (task, quantity)));
            }
        }
    }
    let measured = |findings: &Findings| {
        let cells = findings.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
        let measured = cells.filter(|(_, cell)| cell.measured > 0 && cell.platform != AGAIN);
        Vec::from_iter(measured.map(|(row, cell)| named(&row.task, &row.quantity, &cell.platform)))
    };
    let common =
        Vec::from_iter(figures.iter().map(|figure| named(&figure.task, &figure.quantity, &figure.platform)));
    let alone = |findings: &Findings| {
        let mut names = measured(findings);
        names.retain(|name| !common.contains(name));
        names
    };
    Contrast {
        machines: machines(&before, &after),
        probes: probes(&before, &after),
        rates: rates(earlier, later),
        trials: trials(&before, &after),
        neighbours: neighbours(&before, &after),
        footprints: kernel::of(earlier, later),
        levels,
        only_earlier: alone(&before),
        only_later: alone(&after),
        figures,
    }
}

/// The levels of both, as `level 1`, if they are known and differ.
fn levels(before: &Findings, after: &Findings) -> Option<(String, String)> {
    let level = |findings: &Findings| {
        let watched = findings.environment.get(WATCHED)?;
        watched.split(',').next().map(str::to_owned)
    };
    level(before).zip(level(after)).filter(|(before, after)| before != after)
}

fn rates(earlier: &Results, later: &Results) -> Vec<(String, f64, f64)> {
    let tasks = later.plan().tasks.iter().filter_map(|task| {
        let (then, now) = (earlier.plan().task(&task.name)?.rate?, task.rate?);
        (then.to_bits() != now.to_bits()).then(|| (task.name.clone(), then, now))
    });
    tasks.collect()
}

fn trials(before: &Findings, after: &Findings) -> Vec<(Axis, Option<Trial>, Option<Trial>)> {
    let of = |findings: &Findings, axis| findings.trials.iter().find(|trial| trial.axis == axis).cloned();
    let all = Axis::ALL.into_iter().map(|axis| (axis, of(before, axis), of(after, axis)));
    all.filter(|(_, before, after)| before.is_some() || after.is_some()).collect()
}

/// Means over other pairs are other means, and are left out.
fn neighbours(before: &Findings, after: &Findings) -> Vec<Kept> {
    let mut found = Vec::new();
    for now in &after.interference {
        let same = |then: &&Interference| then.limits == now.limits && then.common == now.common;
        let Some(then) = before.interference.iter().find(same) else { continue };
        for neighbour in now.platforms.iter().filter(|neighbour| neighbour.platform != AGAIN) {
            let earlier = then.platforms.iter().find(|earlier| earlier.platform == neighbour.platform);
            if let Some(earlier) = earlier {
                found.push(Kept {
                    limits: now.limits,
                    platform: neighbour.platform.clone(),
                    earlier: earlier.kept,
                    later: neighbour.kept,
                    pairs: now.common.len(),
                });
            }
        }
    }
    found
}

fn named(task: &str, quantity: &str, platform: &str) -> String {
    format!("{task} · {quantity}, {platform}")
}

fn changed(
    earlier: &Results,
    later: &Results,
    (old_task, old_quantity): (&Task, &Quantity),
    (task, quantity): (&Task, &Quantity),
) -> Vec<Changed> {
    let before = earlier.experiment(old_task, old_quantity);
    let after = later.experiment(task, quantity);
    let place =
        |experiment: &Experiment, name: &str| experiment.names().iter().position(|known| known == name);
    let (bare_before, bare_after) = (place(&before, BARE), place(&after, BARE));
    let changed =
        after.names().iter().enumerate().filter(|(_, name)| *name != AGAIN).filter_map(|(now, name)| {
            let then = place(&before, name)?;
            let absolute = contrast(&after.amounts(now), &before.amounts(then))?;
            let both = bare_before.zip(bare_after).filter(|_| name != BARE);
            let against = both.and_then(|(bare_then, bare_now)| {
                contrast(&after.ratios(now, bare_now), &before.ratios(then, bare_then))
            });
            let verdicts = both.and_then(|(bare_then, bare_now)| {
                let of = |comparison: Comparison| Standing::of(comparison.verdict, quantity.better);
                Some((of(before.compare(then, bare_then)?), of(after.compare(now, bare_now)?)))
            });
            let pairs = both.map_or(
                (before.amounts(then).len(), after.amounts(now).len()),
                |(bare_then, bare_now)| {
                    (before.ratios(then, bare_then).len(), after.ratios(now, bare_now).len())
                },
            );
            Some(Changed {
                task: task.name.clone(),
                quantity: quantity.name.clone(),
                unit: quantity.unit.clone(),
                decides: task.decides(quantity) && old_task.decides(old_quantity),
                platform: name.clone(),
                earlier: before.summary(then).median?,
                later: after.summary(now).median?,
                blocks: (before.amounts(then).len(), after.amounts(now).len()),
                pairs,
                absolute: absolute.ratio,
                standing: Standing::of(absolute.verdict, quantity.better),
                against_bare: against
                    .map(|against| (against.ratio, Standing::of(against.verdict, quantity.better))),
                verdicts,
                cost: turned(absolute.ratio, quantity.better),
            })
        });
    changed.collect()
}

fn turned(ratio: Estimate, better: Better) -> Estimate {
    match better {
        Better::Less => ratio,
        Better::More => {
            Estimate { estimate: 1.0 / ratio.estimate, low: 1.0 / ratio.high, high: 1.0 / ratio.low }
        }
    }
}

fn machines(before: &Findings, after: &Findings) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let facts = |findings: &Findings| {
        let mut facts = findings.environment.clone();
        for platform in &findings.platforms {
            facts.insert(format!("version of {}", platform.name), platform.version.clone());
            facts.insert(format!("SHA-256 of {}", platform.name), platform.sha256.clone());
        }
        facts
    };
    let (before, after) = (facts(before), facts(after));
    let names = before.keys().chain(after.keys());
    let changed = names.map(|name| (name.clone(), (before.get(name).cloned(), after.get(name).cloned())));
    changed.filter(|(_, (before, after))| before != after).collect()
}

fn probes(before: &Findings, after: &Findings) -> Vec<(String, String, Reach, Reach)> {
    let mut changed = Vec::new();
    for (probe, platforms) in &after.probes.attempts {
        for (platform, attempt) in platforms {
            let earlier = before.probes.attempts.get(probe).and_then(|platforms| platforms.get(platform));
            if let Some(earlier) = earlier.filter(|earlier| earlier.reach != attempt.reach) {
                changed.push((probe.clone(), platform.clone(), earlier.reach, attempt.reach));
            }
        }
    }
    changed
}

impl Changed {
    /// The fewer blocks of the two occasions.
    fn fewest(&self) -> usize {
        self.blocks.0.min(self.blocks.1)
    }
}

impl Contrast {
    /// Figures whose verdict against bare is decided on both occasions, and not the same. What the runs were not to decide has no
    /// verdict, and of a hundred such ratios a few differ by chance.
    pub fn contradictions(&self) -> impl Iterator<Item = &Changed> {
        let decided = |standing| standing != Standing::NotDecided;
        self.figures.iter().filter(|figure| figure.decides).filter(move |figure| {
            figure.verdicts.is_some_and(|(then, now)| decided(then) && decided(now) && then != now)
        })
    }

    /// Of the verdicts that are wanted: how many each run decides, the earlier and the later, and how many both do.
    pub fn decided(&self) -> (usize, usize, usize) {
        let wanted = self.figures.iter().filter(|figure| figure.decides);
        let decided = wanted.filter_map(|figure| {
            let (then, now) = figure.verdicts?;
            Some((then != Standing::NotDecided, now != Standing::NotDecided))
        });
        decided.fold((0, 0, 0), |(earlier, later, both), (then, now)| {
            (earlier + usize::from(then), later + usize::from(now), both + usize::from(then && now))
        })
    }

    /// What `write_contrast` would write as Markdown.
    pub fn markdown(&self) -> String {
        super::markdown::text(&document(self))
    }
}

pub(super) fn document(contrast: &Contrast) -> Document {
    let says = "Left of the band is better than before, right of it worse, within it (±5 %) the same. Absolute figures: \
                another machine moves them all.";
    let how = "Later divided by earlier. The interval joins those of both medians as Zou and Donner do (Statistics in Medicine \
               27, 2008).";
    let mut figures = Section::new("figures", "Figures", how);
    figures.figures.extend(plot::forest(
        "changes",
        "Cost, as a multiple of the earlier run",
        says.to_owned(),
        &strips(contrast),
    ));
    figures.tables.push(table(contrast));
    let mut vouched = Section::new("trials", "Bare against bare", "What vouches for each run, axis by axis.");
    vouched.tables.push(trial_table(contrast));
    let mut kernel =
        Section::new("kernel", "Kernel entered", "By name, what only one of the two runs entered.");
    kernel.tables.push(kernel::table(&contrast.footprints));
    let says = "What a victim keeps beside antagonists, in the mean over the pairs that ended everywhere in both runs.";
    let mut neighbours = Section::new("neighbours", "Neighbours", says);
    neighbours.tables.push(neighbour_table(contrast));
    let mut machines = Section::new("machines", "Machines and programs", "What is not the same in both.");
    let facts = contrast.machines.iter().map(|(name, (before, after))| {
        let told = |fact: &Option<String>| fact.clone().unwrap_or_else(none);
        vec![name.clone(), told(before), told(after)]
    });
    machines.tables.push(
        Table::new("Facts", "", &["fact", "earlier", "later"]).with(facts.collect::<Vec<_>>()).in_words(),
    );
    let alone = [("earlier", &contrast.only_earlier), ("later", &contrast.only_later)];
    let alone = alone
        .into_iter()
        .flat_map(|(run, names)| names.iter().map(move |name| vec![name.clone(), run.to_owned()]));
    let alone =
        Table::new("Measured once only", "", &["figure", "in the run"]).with(alone.collect::<Vec<_>>());
    machines.tables.push(alone);
    let mut probes = Section::new("probes", "Probes", "Attempts that reached something else than before.");
    let rows = contrast.probes.iter().map(|(probe, platform, before, after)| {
        vec![probe.clone(), platform.clone(), reach(*before).to_owned(), reach(*after).to_owned()]
    });
    let head = ["probe", "platform", "earlier", "later"];
    probes.tables.push(Table::new("Probes", "", &head).with(rows.collect::<Vec<_>>()));
    Document {
        title: "Two runs compared".to_owned(),
        opening: opening(contrast),
        more: Vec::new(),
        glance: None,
        sections: vec![figures, vouched, neighbours, kernel, probes, machines],
    }
}

fn trial_table(contrast: &Contrast) -> Table {
    let told = |trial: &Option<Trial>| {
        trial.as_ref().map_or_else(none, |trial| {
            let furthest = trial.furthest.as_ref();
            let furthest =
                furthest.map(|(title, apart)| format!("; furthest apart by {} ({title})", times(*apart)));
            let held = format!("{} of {} intervals contain 1", trial.contain_one, trial.quantities);
            held + &furthest.unwrap_or_default()
        })
    };
    let rows = contrast
        .trials
        .iter()
        .map(|(axis, before, after)| vec![axis.name().to_owned(), told(before), told(after)]);
    Table::new("Bare compared with itself", "", &["axis", "earlier", "later"])
        .with(rows.collect::<Vec<_>>())
        .in_words()
}

fn neighbour_table(contrast: &Contrast) -> Table {
    let told = |kept: &Option<Mean>| kept.map_or_else(none, |mean| rough_spread(&mean.score, mean.blocks));
    let rows = contrast.neighbours.iter().map(|kept| {
        vec![
            kept.limits.words().to_owned(),
            kept.platform.clone(),
            told(&kept.earlier),
            told(&kept.later),
            kept.pairs.to_string(),
        ]
    });
    let head = ["limits", "platform", "earlier", "later", "pairs"];
    Table::new("Kept beside antagonists", "", &head).with(rows.collect::<Vec<_>>())
}

fn opening(contrast: &Contrast) -> Vec<Sentence> {
    let wanted = Vec::from_iter(contrast.figures.iter().filter(|figure| figure.decides));
    let others = contrast.figures.len() - wanted.len();
    let of = |verdict| wanted.iter().filter(|figure| figure.standing == verdict).count();
    let against = Vec::from_iter(wanted.iter().filter_map(|figure| Some(figure.against_bare?.1)));
    let relative = |verdict| against.iter().filter(|standing| **standing == verdict).count();
    let mut sentences = Vec::new();
    if wanted.is_empty() {
        sentences.push(Sentence::plain("Nothing that the runs were to decide was measured by both."));
    } else {
        let (earlier, later, both) = contrast.decided();
        sentences.push(Sentence::plain(format!(
            "Of {} that the runs were to decide, and both measured: {} equal, {} better, {} worse, {} not decided; {} more \
             without a verdict.",
            counted(wanted.len(), "figure"),
            of(Standing::Equal),
            of(Standing::Better),
            of(Standing::Worse),
            of(Standing::NotDecided),
            others
        )));
        sentences.push(Sentence::plain(format!(
            "Against bare, in which the machine cancels out: {} equal, {} better, {} worse, {} not decided.",
            relative(Standing::Equal),
            relative(Standing::Better),
            relative(Standing::Worse),
            relative(Standing::NotDecided)
        )));
        sentences.push(Sentence::plain(format!(
            "Of the wanted verdicts against bare the earlier run decides {earlier}, the later {later}; both decide {both}."
        )));
    }
    if let Some((before, after)) = &contrast.levels {
        sentences.push(Sentence::plain(format!(
            "The kernel was watched at {before} then and at {after} now, which count different things: what was entered is not \
             compared."
        )));
    }
    if !contrast.rates.is_empty() {
        let told = contrast.rates.iter().map(|(task, then, now)| format!("{task} ({then} then, {now} now)"));
        sentences.push(Sentence::plain(format!(
            "Latencies are of other rates, turns a second, and are not to be set against each other: {}.",
            Vec::from_iter(told).join("; ")
        )));
    }
    let contradictions = contrast.contradictions().filter_map(|figure| {
        let (then, now) = figure.verdicts?;
        let name = named(&figure.task, &figure.quantity, &figure.platform);
        Some(format!("{name} ({} then, {} now)", then.word(), now.word()))
    });
    let contradictions = Vec::from_iter(contradictions);
    if contrast.machines.get(WEIGHT).is_some_and(|(then, now)| then.is_some() && now.is_some()) {
        sentences.push(Sentence::plain(
            "In one of both a daemon works for a platform, and no platform had precedence over the machine's other work: what differs may \
             be that alone.",
        ));
    }
    sentences.push(if contradictions.is_empty() {
        Sentence::good("No verdict against bare of one run contradicts one of the other.")
    } else {
        Sentence::bad(format!("Verdicts against bare contradict each other: {}.", contradictions.join("; ")))
    });
    sentences.extend(reached(contrast));
    sentences
}

/// Walls that let more through, walls that let less, and what says neither.
fn reached(contrast: &Contrast) -> Vec<Sentence> {
    let gets_through = |reach: Reach| matches!(reach, Reach::Leak | Reach::Breach);
    let walls =
        || contrast.probes.iter().filter(|(_, platform, ..)| ![BARE, AGAIN].contains(&platform.as_str()));
    let told = |that: &dyn Fn(Reach, Reach) -> bool| {
        let told = walls().filter(|(.., then, now)| that(*then, *now)).map(|(probe, platform, then, now)| {
            format!("{probe}, {platform} ({} then, {} now)", reach(*then), reach(*now))
        });
        Vec::from_iter(told)
    };
    let is_known = |then: Reach, now: Reach| then != Reach::Moot && now != Reach::Moot;
    let worse = told(&|then, now| is_known(then, now) && gets_through(now) && now > then);
    let better = told(&|then, now| is_known(then, now) && gets_through(then) && now < then);
    let others = contrast.probes.len() - worse.len() - better.len();
    let mut sentences = Vec::new();
    if !worse.is_empty() {
        sentences.push(Sentence::bad(format!("Walls let more through than before: {}.", worse.join("; "))));
    }
    if !better.is_empty() {
        sentences.push(Sentence::good(format!("Walls let less through than before: {}.", better.join("; "))));
    }
    if others > 0 {
        let others = counted(others, "attempt");
        sentences.push(Sentence::plain(format!(
            "{others} came out otherwise and tell nothing of a wall that got better or worse: they are below."
        )));
    }
    sentences
}

fn strips(contrast: &Contrast) -> Vec<(String, Vec<Strip>)> {
    let mut groups: Vec<(String, Vec<Strip>)> = Vec::new();
    for figure in contrast.figures.iter().filter(|figure| figure.decides) {
        let heading = format!("{} · {}", figure.task, figure.quantity);
        let (cost, blocks) = (figure.cost, figure.fewest());
        let strip = Strip { label: figure.platform.clone(), cost, blocks, standing: figure.standing };
        match groups.last_mut() {
            Some((last, strips)) if *last == heading => strips.push(strip),
            _ => groups.push((heading, vec![strip])),
        }
    }
    groups
}

/// Nobody set out to decide the rest.
fn verdict(figure: &Changed, standing: Standing) -> String {
    if figure.decides { standing.word().to_owned() } else { none() }
}

fn table(contrast: &Contrast) -> Table {
    let head = [
        "task · quantity",
        "platform",
        "earlier [95 %]",
        "later [95 %]",
        "later / earlier",
        "verdict",
        "against bare",
        "verdict against bare",
        "verdicts of both runs",
    ];
    let rows = contrast.figures.iter().map(|figure| {
        let unit = if figure.unit.is_empty() { String::new() } else { format!(" ({})", figure.unit) };
        vec![
            format!("{} · {}{unit}", figure.task, figure.quantity),
            figure.platform.clone(),
            spread(&figure.earlier, figure.blocks.0),
            spread(&figure.later, figure.blocks.1),
            spread(&figure.absolute, figure.fewest()),
            verdict(figure, figure.standing),
            figure
                .against_bare
                .map_or_else(none, |(ratio, _)| spread(&ratio, figure.pairs.0.min(figure.pairs.1))),
            figure.against_bare.map_or_else(none, |(_, standing)| verdict(figure, standing)),
            figure
                .verdicts
                .filter(|_| figure.decides)
                .map_or_else(none, |(then, now)| format!("{}, {}", then.word(), now.word())),
        ]
    });
    Table::new("All figures of both", "", &head).with(rows.collect::<Vec<_>>()).grouped()
}
