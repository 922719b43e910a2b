//! Stacked bars: how much of each part of the kernel ran, and beside it how often. The two never share a bar.

use std::collections::BTreeMap;

use crate::record::Level;
use crate::report::findings::{Entered, Footprints, Share};
use crate::report::markup::Element;
use crate::report::number::count;
use crate::report::tables;
use crate::report::words::things;

use super::{COLOURS, Drawing, Figure, Panel, label, rect, text};

const ROW: f64 = 36.0;

/// The most letters of a name in the legend: two stand beside each other on a phone.
const LEGEND: usize = 26;

/// The rest of the parts share the last colour.
const REST: &str = "the rest";

/// What was seen of one part of a sandbox's life, the closest look in front and what else there is folded; None when
/// nothing was watched. `looks` are of the same part, the best first.
pub(in crate::report) fn stacks(looks: &[&Footprints]) -> Option<Figure> {
    let (best, rest) = looks.split_first()?;
    let part = &best.part;
    let mut panels = both(best);
    let mut folded = Vec::new();
    for look in rest {
        match look.level {
            // What little is known of functions is worth more than where calls belong.
            Level::Samples => panels.extend(both(look).into_iter().take(1)),
            _ => folded.extend(both(look)),
        }
    }
    let name = format!("kernel {part}").replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    let tables = looks.iter().map(|look| tables::footprints(look)).collect();
    Some(Figure {
        name,
        title: format!("Kernel code that runs: {part}"),
        says: says(best)?,
        panels,
        folded,
        tables,
        is_aside: false,
    })
}

/// How much, and how often.
fn both(footprints: &Footprints) -> Vec<Panel> {
    let things = things(footprints.level);
    let parts = largest(footprints);
    let panel =
        |caption: String, size: fn(&Share) -> f64| Panel { caption, drawing: draw(footprints, &parts, size) };
    vec![
        panel(format!("Footprint, in {things}"), |share| share.names as f64),
        panel(format!("Frequency, in {things}"), |share| share.calls),
    ]
}

fn says(footprints: &Footprints) -> Option<String> {
    let things = things(footprints.level);
    let by = |size: fn(&Entered) -> f64| {
        footprints.platforms.iter().max_by(|one, other| size(one).total_cmp(&size(other)))
    };
    let (widest, busiest) = (by(|entered| entered.names as f64)?, by(|entered| entered.calls)?);
    let most = (count(widest.names as f64), count(busiest.calls));
    if footprints.part != "application" {
        return Some(format!(
            "{} enters the most {things} ({}); {} enters them most often ({}).",
            widest.platform, most.0, busiest.platform, most.1
        ));
    }
    Some(format!(
        "Each bar is a platform, each colour a part of the kernel. {} enters the most {things} ({}); {} enters them most \
         often ({}). A short first bar with a long second one is a narrow wall that is knocked at often.",
        widest.platform, most.0, busiest.platform, most.1
    ))
}

/// The parts that have a colour of their own, the same in both panels.
fn largest(footprints: &Footprints) -> Vec<&str> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for share in footprints.platforms.iter().flat_map(|entered| &entered.shares) {
        *sizes.entry(&share.subsystem).or_default() += share.names;
    }
    let mut parts = Vec::from_iter(sizes);
    parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let most = if parts.len() > COLOURS { COLOURS - 1 } else { COLOURS };
    parts.into_iter().take(most).map(|(part, _)| part).collect()
}

fn draw(footprints: &Footprints, parts: &[&str], size: fn(&Share) -> f64) -> Drawing {
    let total = |entered: &Entered| entered.shares.iter().map(size).sum::<f64>();
    let most = footprints.platforms.iter().map(total).fold(0.0, f64::max).max(1.0);
    let mut drawn = Vec::new();
    for (place, entered) in footprints.platforms.iter().enumerate() {
        let y = place as f64 * ROW;
        drawn.push(label("label", 0.0, y + 13.0, &entered.platform, 30));
        drawn.push(text("figure end", 1.0, y + 13.0, count(total(entered))));
        let mut left = 0.0;
        for (part, size) in sizes(entered, parts, size) {
            let width = size / most;
            let colour = parts.iter().position(|known| *known == part).unwrap_or(COLOURS - 1);
            let whole = format!("{}, {part}: {}", entered.platform, count(size));
            drawn.push(
                rect(&format!("f{colour}"), left, y + 18.0, width, 12.0).add(Element::of("title", whole)),
            );
            left += width;
        }
    }
    let mut y = footprints.platforms.len() as f64 * ROW + 18.0;
    let rest = (parts.len() == COLOURS - 1).then_some(REST);
    for (place, part) in parts.iter().copied().chain(rest).enumerate() {
        let left = (place % 2) as f64 / 2.0;
        drawn.push(rect(&format!("f{place}"), left, y - 9.0, 0.025, 10.0));
        drawn.push(label("small", left + 0.035, y, part, LEGEND));
        if place % 2 == 1 {
            y += 18.0;
        }
    }
    Drawing { height: y + 10.0, parts: drawn }
}

/// In the order of the legend.
fn sizes<'a>(entered: &Entered, parts: &[&'a str], size: fn(&Share) -> f64) -> Vec<(&'a str, f64)> {
    let of =
        |part: &str| entered.shares.iter().filter(|share| share.subsystem == part).map(size).sum::<f64>();
    let rest = entered.shares.iter().filter(|share| !parts.contains(&share.subsystem.as_str()));
    let rest = (REST, rest.map(size).sum::<f64>());
    let known = parts.iter().map(|part| (*part, of(part)));
    known.chain([rest]).filter(|(_, size)| *size > 0.0).collect()
}
