//! The heat map: what each victim keeps beside each antagonist.

use crate::plan::{AGAIN, Limits};
use crate::report::findings::{Interference, Meeting, Neighbour};
use crate::report::markup::Element;
use crate::report::number::figure;

use super::{Drawing, Figure, Panel, headroom, label, rect, rising, text};

const ROW: f64 = 27.0;

/// Where cells begin.
const LEFT: f64 = 0.27;

/// Up to so many headings stand upright, and the height that they take.
const UPRIGHT: usize = 3;
const HEADINGS: f64 = 32.0;

/// One map for each platform.
pub(in crate::report) fn heat(interference: &Interference) -> Figure {
    let limits = interference.limits.words();
    let panels = interference.platforms.iter().map(|neighbour| Panel {
        caption: neighbour.platform.clone(),
        drawing: draw(interference, neighbour),
    });
    Figure {
        name: format!("neighbours-{}", limits.replace(' ', "-")),
        title: format!("Victims beside antagonists, {limits}"),
        says: says(interference),
        panels: panels.collect(),
        folded: Vec::new(),
        tables: Vec::new(),
        is_aside: false,
    }
}

fn says(interference: &Interference) -> String {
    let how = "A row is a victim, a column the antagonist beside it: 1 is untouched, the redder the more was taken, a \
               dagger means that the victim died, a dash that there is no number. What differs between the two maps of bare is \
               noise. T and Q count at most as 1, also where a victim is faster beside an antagonist than alone, as one that \
               waits for the network can be: CPUs that never rest need not wake up.";
    let control = match interference.limits {
        Limits::With => " Bare processes have no limits.",
        Limits::Without => "",
    };
    let worst = interference.platforms.iter().filter(|neighbour| neighbour.platform != AGAIN);
    let worst = worst.filter_map(|neighbour| Some((neighbour, neighbour.least.as_ref()?)));
    let worst = worst.min_by(|one, other| one.1.1.total_cmp(&other.1.1));
    worst.map_or_else(
        || format!("{how}{control}"),
        |(neighbour, (pair, least))| {
            format!(
                "{how}{control} The worst is {pair} on {}, which keeps {}.",
                neighbour.platform,
                figure(*least)
            )
        },
    )
}

fn draw(interference: &Interference, neighbour: &Neighbour) -> Drawing {
    let (width, top, mut parts) = headings(&interference.antagonists);
    for (row, victim) in interference.victims.iter().enumerate() {
        let y = top + row as f64 * ROW;
        parts.push(label("label end", LEFT - 0.02, y + 18.0, victim, 14));
        for (column, antagonist) in interference.antagonists.iter().enumerate() {
            let meeting = neighbour.meeting(victim, antagonist);
            parts.extend(cell(meeting, LEFT + column as f64 * width, y, width));
        }
    }
    Drawing { height: top + ROW * interference.victims.len() as f64 + 6.0, parts }
}

/// The width of a column, the height of all headings, and these. A few have room for their words on two lines; more slant.
fn headings(antagonists: &[String]) -> (f64, f64, Vec<Element>) {
    let middle = |column: usize, width: f64| LEFT + (column as f64 + 0.5) * width;
    let columns = antagonists.iter().enumerate();
    if antagonists.len() > UPRIGHT {
        // Room on the right for the slanted heading of the last column.
        let width = (0.88 - LEFT) / antagonists.len() as f64;
        let top = headroom(antagonists.iter().map(String::as_str));
        let slanted = columns.map(|(column, name)| rising(middle(column, width), top - 6.0, name));
        return (width, top, slanted.collect());
    }
    let width = (1.0 - LEFT) / antagonists.len().max(1) as f64;
    let upright = columns.flat_map(|(column, name)| {
        let (first, second) = match name.split_once('-') {
            Some((first, second)) => (format!("{first}-"), second),
            None => (String::new(), name.as_str()),
        };
        let line = |y: f64, words: &str| text("small middle", middle(column, width), y, words);
        let above = (!first.is_empty()).then(|| line(12.0, &first));
        above.into_iter().chain([line(25.0, second)])
    });
    (width, HEADINGS, upright.collect())
}

fn cell(meeting: Option<&Meeting>, x: f64, y: f64, width: f64) -> Vec<Element> {
    let Some(meeting) = meeting else { return Vec::new() };
    let score = meeting.score.map(|score| score.estimate);
    let (class, letters) = match score {
        Some(score) if meeting.deaths > 0 => ("loss", format!("{}†", short(score))),
        Some(score) => ("loss", short(score)),
        None if meeting.deaths > 0 => ("dead", "†".to_owned()),
        None => ("unknown", "–".to_owned()),
    };
    let lost = score.map_or(1.0, |score| (1.0 - score).clamp(0.0, 1.0));
    let mut whole = format!("{} beside {}: ", meeting.victim, meeting.antagonist);
    whole += &score.map_or_else(|| "no number".to_owned(), figure);
    for failure in &meeting.failures {
        whole += &format!("; failed {}×: {}", failure.count, failure.reason);
    }
    let gap = 0.004;
    let ground = rect("cell", x + gap, y + 1.5, width - 2.0 * gap, ROW - 3.0);
    let colour = rect(class, x + gap, y + 1.5, width - 2.0 * gap, ROW - 3.0)
        .with("fill-opacity", if class == "loss" { format!("{:.2}", lost * 0.85) } else { "1".to_owned() })
        .add(Element::of("title", whole));
    let class = if class == "dead" { "small middle ondark" } else { "small middle" };
    vec![ground, colour, text(class, x + width / 2.0, y + 18.0, letters)]
}

/// Two digits are enough for a cell.
fn short(score: f64) -> String {
    format!("{score:.2}")
}
