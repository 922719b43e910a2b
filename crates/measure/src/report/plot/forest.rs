//! The forest plot: ratios with their intervals, on a scale where twice and half are equally far from equal.

use crate::plan::{AGAIN, Axis};
use crate::report::findings::{Findings, Standing};
use crate::report::number::{figure, spread, spread_of_ratio};
use crate::stats::{Estimate, FEWEST_PAIRS, MARGIN};

use super::{Drawing, Figure, Logarithmic, Panel, fitting, label, line, rect, share, text};
use crate::report::markup::Element;

/// One ratio.
pub(in crate::report) struct Strip {
    pub(in crate::report) label: String,
    /// Above 1 is worse.
    pub(in crate::report) cost: Estimate,
    /// The blocks that it rests on.
    pub(in crate::report) blocks: usize,
    pub(in crate::report) standing: Standing,
}

const ROW: f64 = 19.0;

const HEADING: f64 = 26.0;

/// Below the scale, for what the shapes mean.
const LEGEND: f64 = 26.0;

/// The most that groups in one panel take, pixels: a page of paper holds it with its words, and the scale stays in sight.
const TALLEST: f64 = 860.0;

/// Where the scale begins and ends; names stand before it, figures behind.
const FROM: f64 = 0.30;
const TO: f64 = 0.66;

/// The most letters of a name for which a phone has room before the scale.
const NAME: usize = 14;

/// What walls cost against bare, quantity by quantity: starting, and work. On one scale the dear starts would press all
/// work into a dot.
pub(in crate::report) fn ratios(findings: &Findings) -> impl Iterator<Item = Figure> {
    let work = [
        (true, "ratios-work", "What a wall costs in work, as a multiple of bare"),
        (false, "ratios-life", "What a wall costs in starting and living, as a multiple of bare"),
    ];
    work.into_iter().filter_map(move |(is_work, name, title)| ratios_of(findings, is_work, name, title))
}

/// None when nothing was compared.
fn ratios_of(findings: &Findings, is_work: bool, name: &str, title: &str) -> Option<Figure> {
    let rows = findings
        .rows
        .iter()
        .filter(|row| row.axis == Axis::Performance && row.decides && row.is_work() == is_work);
    let groups = rows.map(|row| {
        let strips = row.cells.iter().filter(|cell| cell.platform != AGAIN).filter_map(|cell| {
            let against = cell.against_bare?;
            let cost = row.cost(against.ratio);
            Some(Strip {
                label: cell.platform.clone(),
                cost,
                blocks: against.pairs,
                standing: against.standing,
            })
        });
        (format!("{} · {}", row.task, row.quantity), Vec::from_iter(strips))
    });
    let groups = Vec::from_iter(groups.filter(|(_, strips)| !strips.is_empty()));
    let strips = groups.iter().flat_map(|(_, strips)| strips);
    let outside = strips.clone().filter(|strip| strip.standing == Standing::Worse).count();
    let few = ", or the range of fewer than six blocks (in round brackets)";
    let says = format!(
        "Each mark is a platform's cost as a multiple of bare's, its line the 95 % interval{}: right of the band is \
         worse than bare, left of it better, within it (±{:.0} %) equal. Worse: {outside} of {}{}.",
        if strips.clone().any(|strip| strip.blocks < FEWEST_PAIRS) { few } else { "" },
        MARGIN * 100.0,
        strips.clone().count(),
        dearest(&groups).unwrap_or_default()
    );
    forest(name, title, says, &groups)
}

/// `; the dearest is fork · rate on runsc, 13.5×`
fn dearest(groups: &[(String, Vec<Strip>)]) -> Option<String> {
    let strips = groups.iter().flat_map(|(heading, strips)| strips.iter().map(move |strip| (heading, strip)));
    let worse = strips.filter(|(_, strip)| strip.standing == Standing::Worse);
    let (heading, strip) =
        worse.max_by(|one, other| one.1.cost.estimate.total_cmp(&other.1.cost.estimate))?;
    Some(format!("; the dearest is {heading} on {}, {}×", strip.label, figure(strip.cost.estimate)))
}

/// Draws groups of ratios, all on one scale; None when there are none.
pub(in crate::report) fn forest(
    name: &str,
    title: &str,
    says: String,
    groups: &[(String, Vec<Strip>)],
) -> Option<Figure> {
    let costs = Vec::from_iter(groups.iter().flat_map(|(_, strips)| strips).map(|strip| strip.cost));
    let least = costs.iter().map(|cost| cost.low).fold(0.8, f64::min);
    let most = costs.iter().map(|cost| cost.high).fold(1.25, f64::max);
    let scale = Logarithmic::new(least / 1.05, most * 1.05);
    let drawings = Vec::from_iter(pages(groups).into_iter().map(|groups| drawing(groups, scale)));
    let all = drawings.len();
    let panels = drawings.into_iter().enumerate().map(|(place, drawing)| {
        let caption = if all == 1 { String::new() } else { format!("{} of {all}", place + 1) };
        Panel { caption, drawing }
    });
    (!costs.is_empty()).then(|| Figure::of(name, title, says, panels.collect()))
}

fn height(groups: &[(String, Vec<Strip>)]) -> f64 {
    groups.iter().map(|(_, strips)| HEADING + ROW * strips.len() as f64).sum()
}

/// As few runs of whole groups as can be, none of them taller than a page unless one group is, and all about equally tall.
fn pages(groups: &[(String, Vec<Strip>)]) -> Vec<&[(String, Vec<Strip>)]> {
    let most = height(groups) / (height(groups) / TALLEST).ceil().max(1.0);
    let mut pages = Vec::new();
    let mut rest = groups;
    while !rest.is_empty() {
        let fits = (1..=rest.len()).take_while(|count| height(&rest[..count - 1]) < most).last().unwrap_or(1);
        let fits = if height(&rest[..fits]) > TALLEST { (fits - 1).max(1) } else { fits };
        let (page, behind) = rest.split_at(fits);
        pages.push(page);
        rest = behind;
    }
    pages
}

fn drawing(groups: &[(String, Vec<Strip>)], scale: Logarithmic) -> Drawing {
    let height = 2.0 * 20.0 + height(groups);
    let mut parts = ground(scale, height);
    parts.extend(legend(height + 18.0));
    let mut y = 20.0;
    for (heading, strips) in groups {
        parts.push(label("heading", 0.0, y + 18.0, heading, 48));
        y += HEADING;
        for strip in strips {
            parts.extend(draw(strip, scale, y));
            y += ROW;
        }
    }
    Drawing { height: height + LEGEND, parts }
}

fn x(scale: Logarithmic, value: f64) -> f64 {
    FROM + scale.place(value) * (TO - FROM)
}

/// The band, the line at 1, and the scale above and below.
fn ground(scale: Logarithmic, height: f64) -> Vec<Element> {
    let (low, high) = (x(scale, 1.0 / (1.0 + MARGIN)), x(scale, 1.0 + MARGIN));
    let mut parts = vec![rect("band", low, 20.0, high - low, height - 40.0)];
    for tick in scale.ticks() {
        let place = x(scale, tick);
        let class = if tick == 1.0 { "one" } else { "grid" };
        parts.push(line(class, (place, 20.0), (place, height - 20.0)));
        for y in [14.0, height - 6.0] {
            parts.push(text("small middle", place, y, format!("{}×", plain(tick))));
        }
    }
    parts
}

/// `0.5`, `10`: a tick is a round number.
fn plain(tick: f64) -> String {
    let rounded = format!("{tick:.3}");
    rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What the shapes mean.
fn legend(y: f64) -> Vec<Element> {
    let all = [Standing::Better, Standing::Equal, Standing::Worse, Standing::NotDecided];
    let keys = all.into_iter().enumerate().flat_map(|(place, standing)| {
        let left = 0.02 + 0.245 * place as f64;
        [mark(standing, left, y - 4.0), text("small", left + 0.025, y, standing.word())]
    });
    keys.collect()
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Better => "better",
        Standing::Equal => "equal",
        Standing::Worse => "worse",
        Standing::NotDecided => "open",
    }
}

/// The shape tells the verdict, too, for those who see no colours.
fn mark(standing: Standing, place: f64, middle: f64) -> Element {
    let class = class(standing);
    let mark = match standing {
        Standing::Equal | Standing::NotDecided => {
            Element::new("circle").with("cx", share(place)).with("cy", middle).with("r", 4.2)
        }
        Standing::Better | Standing::Worse => {
            let points = if standing == Standing::Worse { "-4,-5 5,0 -4,5" } else { "4,-5 -5,0 4,5" };
            let triangle =
                Element::new("polygon").with("points", points).with("class", format!("mark {class}"));
            Element::new("svg")
                .with("x", share(place))
                .with("y", middle)
                .with("overflow", "visible")
                .add(triangle)
        }
    };
    mark.with("class", format!("mark {class}"))
}

fn draw(strip: &Strip, scale: Logarithmic, top: f64) -> Vec<Element> {
    let middle = top + ROW / 2.0;
    let class = class(strip.standing);
    let place = x(scale, strip.cost.estimate);
    let whole = format!("{}: {}, {}", strip.label, spread(&strip.cost, strip.blocks), strip.standing.word());
    let interval_line = line(class, (x(scale, strip.cost.low), middle), (x(scale, strip.cost.high), middle));
    let mark = mark(strip.standing, place, middle).add(Element::of("title", whole));
    vec![
        fitting("label", (0.02, FROM - 0.01), middle + 4.0, &strip.label, NAME),
        interval_line,
        mark,
        text("figure end", 1.0, middle + 4.0, spread_of_ratio(&strip.cost, strip.blocks)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taller_than_a_page_is_drawn_in_several_of_one_scale() {
        let strips = |count: usize| {
            let cost = Estimate { estimate: 1.0, low: 0.9, high: 1.1 };
            let strip = |_| Strip { label: "bulkrun".to_owned(), cost, blocks: 6, standing: Standing::Equal };
            Vec::from_iter((0..count).map(strip))
        };
        for (groups, strips_of_each, expected) in [
            (1, 6, vec![1]),
            (6, 6, vec![6]),
            (7, 6, vec![4, 3]),
            (20, 6, vec![5, 5, 5, 5]),
            (2, 60, vec![1, 1]),
        ] {
            let groups =
                Vec::from_iter((0..groups).map(|place| (format!("{place}"), strips(strips_of_each))));
            let sizes = Vec::from_iter(pages(&groups).iter().map(|page| page.len()));
            assert_eq!(sizes, expected, "{} groups of {strips_of_each}", groups.len());
        }
        let dear = Strip {
            label: "runsc".to_owned(),
            cost: Estimate { estimate: 40.0, low: 30.0, high: 50.0 },
            blocks: 6,
            standing: Standing::Worse,
        };
        let groups = vec![("one".to_owned(), strips(50)), ("two".to_owned(), vec![dear])];
        let figure = forest("f", "Title", String::new(), &groups).unwrap();
        let captions = Vec::from_iter(figure.panels.iter().map(|panel| panel.caption.as_str()));
        assert_eq!(captions, ["1 of 2", "2 of 2"]);
        assert_eq!(figure.file(&figure.panels[1]), "f-2-of-2");
        assert!(figure.panels.iter().all(|panel| panel.drawing.inline("").to_string().contains(">10×<")));
    }
}
