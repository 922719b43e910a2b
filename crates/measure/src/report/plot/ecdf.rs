//! How start-up times are distributed: the share of starts that took no longer than a time.

use crate::report::findings::{Findings, Starts};
use crate::report::markup::Element;
use crate::report::number::figure;
use crate::stats::median;

use super::{COLOURS, Drawing, Figure, Logarithmic, fitting, line, share, text};

/// The plot's field.
const LEFT: f64 = 0.11;
const TOP: f64 = 10.0;
const HEIGHT: f64 = 230.0;

/// The most letters of a name in the legend where two stand beside each other on a phone.
const NAME: usize = 15;

/// None where nothing started.
pub(in crate::report) fn ecdf(findings: &Findings) -> Option<Figure> {
    let starts = &findings.starts;
    let unit = &findings.first_byte()?.unit;
    let times = starts.iter().flat_map(|starts| &starts.times).copied();
    let least = times.clone().min_by(f64::total_cmp)?;
    let most = times.max_by(f64::total_cmp)?;
    let scale = Logarithmic::new(least / 1.1, most * 1.1);
    let mut parts = ground(scale, unit);
    for (place, starts) in starts.iter().enumerate() {
        parts.push(curve(starts, scale, place));
    }
    let longest = starts.iter().map(|starts| starts.platform.chars().count()).max().unwrap_or_default();
    let columns = if longest > NAME { 1 } else { 2 };
    for (place, starts) in starts.iter().enumerate() {
        parts.extend(key(starts, unit, place, columns));
    }
    let height = TOP + HEIGHT + 44.0 + 20.0 * starts.len().div_ceil(columns) as f64;
    let says = says(starts, unit);
    Some(Figure::of_one("starts", "Time to the first byte", says, Drawing { height, parts }))
}

fn says(starts: &[Starts], unit: &str) -> String {
    let medians = starts.iter().filter_map(|starts| Some((median(&starts.times)?, &starts.platform)));
    let walls = medians.filter(|(_, platform)| *platform != crate::plan::BARE);
    let mut sorted = Vec::from_iter(walls);
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let how = "Each curve climbs through the share of starts that took no longer than the time below it: further left \
               is faster, steeper is steadier. Before each start nothing runs for 50 ms; of starts back to back some wait less.";
    match sorted.as_slice() {
        [(fast, first), .., (slow, last)] => format!(
            "{how} Of the walls, half of the starts took no longer than {} {unit} in {first}, {} {unit} in {last}.",
            figure(*fast),
            figure(*slow)
        ),
        _ => how.to_owned(),
    }
}

fn x(scale: Logarithmic, time: f64) -> f64 {
    LEFT + scale.place(time) * (1.0 - LEFT)
}

fn ground(scale: Logarithmic, unit: &str) -> Vec<Element> {
    let mut parts = Vec::new();
    for quarter in 0..=4 {
        let y = TOP + HEIGHT * (1.0 - f64::from(quarter) / 4.0);
        parts.push(line("grid", (LEFT, y), (1.0, y)));
        parts.push(text("small end", LEFT - 0.015, y + 4.0, format!("{} %", quarter * 25)));
    }
    for tick in scale.ticks() {
        let place = x(scale, tick);
        parts.push(line("grid", (place, TOP), (place, TOP + HEIGHT)));
        // The last letters would hang over the edge.
        if place < 0.97 {
            parts.push(text(
                "small middle",
                place,
                TOP + HEIGHT + 16.0,
                figure(tick).trim_end_matches(".00").trim_end_matches(".0"),
            ));
        }
    }
    parts.push(text("small end", 1.0, TOP + HEIGHT + 32.0, format!("{unit}, logarithmic")));
    parts
}

/// A staircase: its x are thousandths of the field's width, stretched to it; lines keep their strength.
fn curve(starts: &Starts, scale: Logarithmic, colour: usize) -> Element {
    let count = starts.times.len() as f64;
    let mut path = String::from("M");
    let mut last = HEIGHT;
    for (place, time) in starts.times.iter().enumerate() {
        let x = scale.place(*time) * 1000.0;
        let y = HEIGHT * (1.0 - (place + 1) as f64 / count);
        path += &format!("{x:.1},{last:.1} {x:.1},{y:.1} ");
        last = y;
    }
    path += &format!("1000,{last:.1}");
    let curve = Element::new("path").with("class", format!("curve s{}", colour % COLOURS)).with("d", path);
    Element::new("svg")
        .with("x", share(LEFT))
        .with("y", TOP)
        .with("width", share(1.0 - LEFT))
        .with("height", HEIGHT)
        .with("viewBox", format!("0 0 1000 {HEIGHT}"))
        .with("preserveAspectRatio", "none")
        .with("overflow", "visible")
        .add(curve)
}

/// So many to a line.
fn key(starts: &Starts, unit: &str, place: usize, columns: usize) -> [Element; 3] {
    let width = 1.0 / columns as f64;
    let left = (place % columns) as f64 * width;
    let y = TOP + HEIGHT + 58.0 + 20.0 * (place / columns) as f64;
    let median = median(&starts.times).map(|median| format!("{} {unit}", figure(median)));
    [
        line(&format!("curve s{}", place % COLOURS), (left, y - 4.0), (left + 0.06, y - 4.0)),
        fitting("label", (left + 0.08, left + width - 0.2), y, &starts.platform, NAME),
        text("figure end", left + width - 0.03, y, median.unwrap_or_default()),
    ]
}
