//! What stands where in the report of one run.

use crate::plan::Axis;

use super::document::{Document, Section, Table};
use super::findings::{Findings, Footprints};
use super::{plot, tables, verdict, words};

pub(super) fn document(findings: &Findings) -> Document {
    let opening = verdict::verdict(findings);
    Document {
        title: "How strong is the wall, and what does it cost?".to_owned(),
        more: verdict::more(findings, &opening),
        opening,
        glance: Some(words::glance(findings)).filter(|table| !table.rows.is_empty()),
        sections: vec![
            isolation(findings),
            noninterference(findings),
            performance(findings),
            literature(findings),
            where_and_what(findings),
            raw(findings),
        ],
    }
}

fn isolation(findings: &Findings) -> Section {
    let says = "How much of the host's kernel runs for the sandbox. The footprint says how much distinct code that is, \
                the frequency how often it is entered; they are different things, and no number joins them.";
    let mut section = Section::new("isolation", "Isolation", says);
    section.says += &words::places(findings);
    section.words = words::isolation(findings);
    section.figures = parts(findings).iter().filter_map(|looks| plot::stacks(looks)).collect();
    // What the sandbox is for comes first, then what a caller waits for; the rest is for who looks for it.
    for (figure, part) in section.figures.iter_mut().zip(parts(findings)) {
        figure.is_aside = !FOREMOST.contains(&part[0].part.as_str());
    }
    section
}

/// The parts that stand open.
const FOREMOST: [&str; 2] = ["application", "set-up"];

/// The footprints of each part, the application in front, then in the order of a sandbox's life.
fn parts(findings: &Findings) -> Vec<Vec<&Footprints>> {
    const ORDER: [&str; 4] = ["application", "set-up", "tear-down", "monitor"];
    let mut parts: Vec<Vec<&Footprints>> = Vec::new();
    for footprints in &findings.footprints {
        match parts.iter_mut().find(|part| part[0].part == footprints.part) {
            Some(part) => part.push(footprints),
            None => parts.push(vec![footprints]),
        }
    }
    let place = |part: &str| ORDER.iter().position(|known| *known == part).unwrap_or(ORDER.len());
    parts.sort_by_key(|part| place(&part[0].part));
    parts
}

fn noninterference(findings: &Findings) -> Section {
    let says = "What one sandbox can do to another. In time: what a victim keeps of its rate and of its slowest answers \
                beside an antagonist. In space: what attempts from inside reach of the host, as a witness there sees it.";
    let mut section = Section::new("noninterference", "Noninterference", says);
    section.words = words::noninterference(findings);
    section.figures = findings.interference.iter().map(plot::heat).chain(plot::matrix(findings)).collect();
    section.tables = Vec::from_iter(tables::capacity(findings));
    section
}

fn performance(findings: &Findings) -> Section {
    let says = "What the wall costs, each block of runs compared with the bare process of the same block.";
    let mut section = Section::new("performance", "Performance", says);
    section.words = words::performance(findings);
    section.figures = plot::ecdf(findings).into_iter().chain(plot::ratios(findings)).collect();
    section.tables = Vec::from_iter(tables::heavy(findings));
    section
}

fn literature(findings: &Findings) -> Section {
    let says =
        "Published findings on other machines and other versions; where they differ, neither need be wrong.";
    let mut section = Section::new("literature", "Beside the literature", says);
    section.tables = vec![tables::literature(findings)];
    section
}

fn where_and_what(findings: &Findings) -> Section {
    let says = "Figures hold for these programs on this machine.";
    let mut section = Section::new("machine", "What was measured, and where", says);
    section.tables = vec![
        tables::platforms(findings),
        tables::environment(findings),
        tables::disturbances(findings),
        tables::drifts(findings),
        tables::tasks(findings),
    ];
    section
}

fn raw(findings: &Findings) -> Section {
    let says = "Every platform ran once in each block, in random order. Intervals are of 95 % and take no \
                distribution for granted: they are those of the sign test, from one block's value to another's, interpolated as \
                Hettmansperger and Sheather do (Statistics & Probability Letters 4, 1986). A platform is equal to bare when \
                the whole interval of its ratio lies within 5 %, better or worse when it lies beyond, else the matter is not \
                decided. A run that failed is never a number.";
    let mut section = Section::new("raw", "Raw tables", says);
    let axes = [Axis::Isolation, Axis::Noninterference, Axis::Performance];
    let pairs = findings.interference.iter().map(tables::meetings);
    let raw: Vec<Table> = axes.iter().map(|axis| tables::raw(findings, *axis)).collect();
    section.tables = pairs.chain([tables::probes(findings)]).chain(raw).collect();
    section
}
