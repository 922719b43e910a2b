//! Plots as SVG. Places along a line are shares of the width, so that a plot fits a phone and a desk alike, with the
//! same letters; heights are pixels. Colours come from the page's style, so that light and dark are one plot.

use super::document::Table;
use super::markup::Element;

mod ecdf;
mod forest;
mod heat;
mod matrix;
mod stack;

pub(super) use ecdf::ecdf;
pub(super) use forest::{Strip, forest, ratios};
pub(super) use heat::heat;
pub(super) use matrix::matrix;
pub(super) use stack::stacks;

/// The style of plots, by itself enough for a plot in a file of its own.
pub(super) const STYLE: &str = include_str!("plot.css");

/// The colours that [`STYLE`] has.
const COLOURS: usize = 9;

/// A plot or several of a kind, with what there is to be seen.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// The name of its file.
    pub(super) name: String,
    pub(super) title: String,
    /// What to see, in a sentence.
    pub(super) says: String,
    pub(super) panels: Vec<Panel>,
    /// What only who asks for it wants to see.
    pub(super) folded: Vec<Panel>,
    /// The figures behind the panels, folded, too.
    pub(super) tables: Vec<Table>,
    /// Whether all of it is only for who asks for it.
    pub(super) is_aside: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// What sets it apart from its neighbours; empty when it has none.
    pub(super) caption: String,
    pub(super) drawing: Drawing,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    /// Pixels.
    height: f64,
    parts: Vec<Element>,
}

impl Figure {
    fn of_one(name: &str, title: &str, says: String, drawing: Drawing) -> Self {
        Self::of(name, title, says, vec![Panel { caption: String::new(), drawing }])
    }

    fn of(name: &str, title: &str, says: String, panels: Vec<Panel>) -> Self {
        let (folded, tables) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), title: title.to_owned(), says, panels, folded, tables, is_aside: false }
    }

    /// All panels, the folded ones last.
    pub(super) fn all(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().chain(&self.folded)
    }

    /// The name of a panel's file, without its ending.
    pub(super) fn file(&self, panel: &Panel) -> String {
        let caption = panel.caption.split(':').next().unwrap_or_default().to_lowercase();
        let words = caption.split(|character: char| !character.is_ascii_alphanumeric());
        words.filter(|word| !word.is_empty()).fold(self.name.clone(), |name, word| name + "-" + word)
    }
}

impl Drawing {
    /// Within a page, as wide as there is room.
    pub(super) fn inline(&self, title: &str) -> Element {
        self.element(title).with("width", "100%").all(self.parts.iter().cloned())
    }

    /// As a file of its own, `width` pixels wide.
    pub(super) fn alone(&self, title: &str, width: u32) -> Element {
        let style = Element::of("style", STYLE);
        let paper = Element::new("rect").with("class", "paper").with("width", "100%").with("height", "100%");
        let inside = Element::new("svg")
            .with("x", 16)
            .with("y", 12)
            .with("width", width - 32)
            .with("height", self.height)
            .with("overflow", "visible")
            .all(self.parts.iter().cloned());
        let outer = Self { height: self.height + 24.0, parts: Vec::new() };
        outer.element(title).with("width", width).add(style).add(paper).add(inside)
    }

    fn element(&self, title: &str) -> Element {
        Element::new("svg")
            .with("xmlns", "http://www.w3.org/2000/svg")
            .with("class", "plot")
            .with("role", "img")
            .with("height", self.height)
            .add(Element::of("title", title))
    }
}

/// A share of the width, 0 to 1.
fn share(value: f64) -> String {
    format!("{:.2}%", value * 100.0)
}

/// Letters at a share of the width, and pixels from the top to their foot.
fn text(class: &str, x: f64, y: f64, text: impl Into<String>) -> Element {
    Element::of("text", text).with("class", class).with("x", share(x)).with("y", y)
}

fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Element {
    Element::new("line")
        .with("class", class)
        .with("x1", share(from.0))
        .with("y1", from.1)
        .with("x2", share(to.0))
        .with("y2", to.1)
}

fn rect(class: &str, x: f64, y: f64, width: f64, height: f64) -> Element {
    Element::new("rect")
        .with("class", class)
        .with("x", share(x))
        .with("y", y)
        .with("width", share(width))
        .with("height", height)
}

/// A name that fits; the whole of it is told when it is pointed at.
fn label(class: &str, x: f64, y: f64, name: &str, most: usize) -> Element {
    if name.chars().count() <= most {
        return text(class, x, y, name);
    }
    let short: String = name.chars().take(most - 1).chain(['…']).collect();
    text(class, x, y, short).add(Element::of("title", name))
}

/// A name in the room from one share of the width to another, which holds `most` letters on a phone. A longer one ends where the
/// room does; the whole of it is told when it is pointed at.
fn fitting(class: &str, (from, to): (f64, f64), y: f64, name: &str, most: usize) -> Element {
    if name.chars().count() <= most {
        return text(class, from, y, name);
    }
    // An inner drawing shows nothing beyond its edges.
    Element::new("svg")
        .with("x", share(from))
        .with("y", y - 12.0)
        .with("width", share(to - from))
        .with("height", 16)
        .add(Element::of("title", name))
        .add(text(class, 0.0, 12.0, name))
}

/// A name in two lines of at most so many letters each, where it does not fit one, from the foot of the first to 13 pixels below.
fn lines(name: &str, most: usize) -> (String, Option<String>) {
    if name.chars().count() <= most {
        return (name.to_owned(), None);
    }
    let mut fits = name.match_indices(' ').filter(|(place, _)| name[..*place].chars().count() <= most);
    let fits = fits.next_back();
    let (first, rest) = fits.map_or(("", name), |(place, _)| name.split_at(place));
    (first.to_owned(), Some(rest.trim_start().to_owned()))
}

/// The most letters of a heading that rises.
const RISING: usize = 17;

/// A heading that rises to the right from the middle of its column, steep enough to leave a phone its margin.
fn rising(x: f64, y: f64, name: &str) -> Element {
    let heading = label("small", 0.0, 0.0, name, RISING).with("transform", "rotate(-55)");
    Element::new("svg").with("x", share(x)).with("y", y).with("overflow", "visible").add(heading)
}

/// The room above a row of such headings, pixels.
fn headroom<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| name.chars().count().min(RISING)).max().unwrap_or_default();
    16.0 + 5.4 * longest as f64
}

/// A scale whose equal steps are equal factors.
#[derive(Clone, Copy, Debug)]
struct Logarithmic {
    low: f64,
    high: f64,
}

impl Logarithmic {
    /// From `low` to `high`, which must be above zero.
    fn new(low: f64, high: f64) -> Self {
        Self { low: low.ln(), high: high.max(low * 1.01).ln() }
    }

    /// Where a value lies, 0 to 1; what is outside lies on the edge.
    fn place(self, value: f64) -> f64 {
        ((value.ln() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Round numbers on the scale, few enough for a phone.
    fn ticks(self) -> Vec<f64> {
        let decades = (self.high - self.low) / std::f64::consts::LN_10;
        let steps: &[f64] = match decades {
            decades if decades > 2.2 => &[1.0],
            decades if decades > 1.1 => &[1.0, 3.0],
            decades if decades > 0.4 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0],
        };
        let all = (-9..12).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|tick| (self.low - 1e-9..=self.high + 1e-9).contains(&tick.ln())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_scale_has_its_ends_and_round_ticks() {
        let scale = Logarithmic::new(0.5, 50.0);
        assert_eq!((scale.place(0.5), scale.place(50.0), scale.place(5.0)), (0.0, 1.0, 0.5));
        assert_eq!((scale.place(0.1), scale.place(1e9)), (0.0, 1.0));
        assert_eq!(scale.ticks(), [1.0, 3.0, 10.0, 30.0]);
        assert_eq!(Logarithmic::new(1.0, 1000.0).ticks(), [1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        let label = label("small", 0.0, 0.0, "größer als alles", 6).to_string();
        assert!(label.contains(">größe…<title>größer als alles</title>"), "{label}");
    }

    #[test]
    fn a_long_name_takes_two_lines() {
        for (name, first, second) in [
            ("kernel log", "kernel log", None),
            (
                "file of the host, by another's /proc/PID/root",
                "file of the host, by",
                Some("another's /proc/PID/root"),
            ),
            ("größer und größer", "größer und größer", None),
            ("one-word-that-does-not-fit-a-line", "", Some("one-word-that-does-not-fit-a-line")),
        ] {
            assert_eq!(lines(name, 24), (first.to_owned(), second.map(str::to_owned)), "{name}");
        }
    }
}
