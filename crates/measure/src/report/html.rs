//! The page: one file that needs no network, no script and no other file.

use super::document::{Document, Form, Mood, Section, Sentence, Table};
use super::markup::Element;
use super::plot::{Figure, Panel, STYLE};

const PAGE: &str = include_str!("page.css");

/// The section that the page's style leaves out in print, and what stands there instead.
const LEFT_OUT: (&str, &str) =
    ("raw", "They are left out in print: the Markdown and the JSON beside the page have all of them.");

pub(super) fn page(document: &Document) -> String {
    let shown = Vec::from_iter(document.sections.iter().filter(|section| !section.is_empty()));
    let head = Element::new("head")
        .add(Element::new("meta").with("charset", "utf-8"))
        .add(viewport())
        .add(Element::new("meta").with("name", "color-scheme").with("content", "light dark"))
        .add(Element::of("title", document.title.as_str()))
        .add(Element::of("style", PAGE))
        .add(Element::of("style", STYLE));
    let links =
        shown.iter().map(|section| Element::of("a", section.title).with("href", format!("#{}", section.id)));
    let header = Element::new("header")
        .add(Element::of("h1", document.title.as_str()))
        .add(Element::new("nav").all(links));
    let more = (!document.more.is_empty()).then(|| {
        let summary = Element::of("summary", "More in words: what vouches for this, and what was left out");
        Element::new("details").add(summary).add(sentences(&document.more))
    });
    let verdict = Element::new("section")
        .with("id", "verdict")
        .add(Element::of("h2", "Verdict"))
        .add(sentences(&document.opening))
        .all(document.glance.iter().map(|glance| cards(glance, "cards")))
        .all(more);
    let main = Element::new("main").add(verdict).all(shown.into_iter().map(section));
    let body = Element::new("body").add(header).add(main);
    let html = Element::new("html").with("lang", "en").add(head).add(body);
    format!("<!DOCTYPE html>\n{html}\n")
}

fn viewport() -> Element {
    Element::new("meta").with("name", "viewport").with("content", "width=device-width, initial-scale=1")
}

fn sentences(all: &[Sentence]) -> Element {
    Element::new("ul").with("class", "verdict").all(all.iter().map(sentence))
}

fn sentence(sentence: &Sentence) -> Element {
    let mood = match sentence.mood {
        Mood::Good => "good",
        Mood::Plain => "plain",
        Mood::Bad => "bad",
    };
    Element::of("li", sentence.text.as_str()).with("class", mood)
}

fn section(section: &Section) -> Element {
    let words = section.words.iter().map(|(platform, text)| {
        Element::new("p")
            .with("class", "word")
            .add(Element::of("b", platform.as_str()))
            .text(format!(": {text}"))
    });
    let (id, instead) = LEFT_OUT;
    let instead = (section.id == id).then(|| Element::of("p", instead).with("class", "paper-only"));
    Element::new("section")
        .with("id", section.id)
        .add(Element::of("h2", section.title))
        .add(Element::of("p", section.says.as_str()).with("class", "says"))
        .all(instead)
        .all(words)
        .all(section.figures.iter().map(figure))
        .all(section.tables.iter().filter(|table| !table.rows.is_empty()).map(table))
}

fn figure(figure: &Figure) -> Element {
    let whole = open_figure(figure);
    if !figure.is_aside {
        return whole;
    }
    let summary = Element::of("summary", figure.title.as_str());
    Element::new("details").with("class", "aside").add(summary).add(whole)
}

fn open_figure(figure: &Figure) -> Element {
    let more = figure.folded.len() + figure.tables.len() > 0;
    let more = more.then(|| {
        Element::new("details")
            .add(Element::of("summary", "More of this, and its figures"))
            .add(panels(figure, &figure.folded))
            .all(figure.tables.iter().filter(|table| !table.rows.is_empty()).map(table))
    });
    Element::new("figure")
        .add(Element::of("h3", figure.title.as_str()))
        .add(Element::of("figcaption", figure.says.as_str()))
        .add(panels(figure, &figure.panels))
        .all(more)
}

fn panels(figure: &Figure, panels: &[Panel]) -> Element {
    let class = if panels.len() > 1 { "panels" } else { "single" };
    let panels = panels.iter().map(|panel| {
        let title = if panel.caption.is_empty() { &figure.title } else { &panel.caption };
        let caption = (!panel.caption.is_empty()).then(|| Element::of("h4", panel.caption.as_str()));
        Element::new("div").with("class", "panel").all(caption).add(panel.drawing.inline(title))
    });
    Element::new("div").with("class", class).all(panels)
}

/// A table that becomes a card for each row where there is no room for columns.
fn cards(table: &Table, class: &str) -> Element {
    let rows = table.rows.iter().map(|row| {
        let cells = row.iter().zip(&table.head).enumerate().map(|(place, (cell, head))| {
            let element =
                Element::of(if place == 0 { "th" } else { "td" }, cell.as_str()).with("data-label", head);
            let letters = cell.chars().count();
            match mood(cell) {
                Some(class) => element.with("class", class),
                // A card has no room for a hash, which may break anywhere.
                None if letters > 40 && !cell.contains(' ') => element.with("class", "hash"),
                None if letters > 60 => element.with("class", "text"),
                // What is short stays on one line, however much room the others want.
                None if letters < 16 && place > 0 => element.with("class", "short"),
                None => element,
            }
        });
        Element::new("tr").all(cells)
    });
    Element::new("table")
        .with("class", class)
        .add(head(&table.head, |_| false))
        .add(Element::new("tbody").all(rows))
}

fn head(names: &[String], has_numbers: impl Fn(usize) -> bool) -> Element {
    let cells = names.iter().enumerate().map(|(column, name)| {
        let cell = Element::of("th", name.as_str()).with("scope", "col");
        if has_numbers(column) { cell.with("class", "number") } else { cell }
    });
    Element::new("thead").add(Element::new("tr").all(cells))
}

fn table(table: &Table) -> Element {
    let drawn = match table.form {
        // Facts and their values have room beside each other everywhere.
        Form::Words if table.head.len() == 2 => cards(table, "words facts"),
        Form::Words => cards(table, "cards words"),
        Form::Plain | Form::Grouped => rows(table),
    };
    let says = (!table.says.is_empty()).then(|| Element::of("p", table.says.as_str()).with("class", "says"));
    Element::new("div")
        .with("class", "table")
        .add(Element::of("h3", table.title.as_str()))
        .all(says)
        .add(Element::new("div").with("class", "scroll").with("tabindex", 0).add(drawn))
}

fn rows(table: &Table) -> Element {
    let grouped = table.form == Form::Grouped;
    let skipped = usize::from(grouped);
    // A heading, and a dash, stand where the column's numbers do; a dash alone is none.
    let has_numbers = |column: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.get(skipped + column));
        cells.clone().any(|cell| is_number(cell)) && cells.all(|cell| cell == NONE || is_number(cell))
    };
    let mut rows = Vec::new();
    let mut last = None;
    for row in &table.rows {
        if grouped && last != row.first() {
            let shared = row.first().map(String::as_str).unwrap_or_default();
            let across =
                Element::of("th", shared).with("colspan", table.head.len() - 1).with("scope", "rowgroup");
            rows.push(Element::new("tr").with("class", "group").add(across));
            last = row.first();
        }
        let cells = row.iter().skip(skipped).enumerate();
        rows.push(Element::new("tr").all(cells.map(|(column, content)| match content.as_str() {
            NONE if has_numbers(column) => Element::of("td", NONE).with("class", "number"),
            content => cell(content),
        })));
    }
    let body = Element::new("tbody").all(rows);
    Element::new("table").add(head(&table.head[skipped..], has_numbers)).add(body)
}

/// What a cell has that says nothing.
const NONE: &str = "–";

fn cell(content: &str) -> Element {
    let class = match content {
        _ if is_number(content) => "number",
        _ if content.chars().count() > 24 => "long",
        // A number and its unit, which stay on one line.
        _ if content.starts_with(|first: char| first.is_ascii_digit()) => "short",
        _ => match mood(content) {
            Some(class) => class,
            None => return Element::of("td", content),
        },
    };
    Element::of("td", content).with("class", class)
}

/// Words that are good news or bad.
fn mood(content: &str) -> Option<&'static str> {
    match content {
        "better" | "agrees" | "denied" => Some("good"),
        "worse" | "differs" | "leak" | "breach" | "not made" => Some("bad"),
        _ => None,
    }
}

/// A number, with its interval, percent sign or power; not the versions, hashes and sentences that begin with a digit.
fn is_number(content: &str) -> bool {
    let belongs = |character: char| character.is_ascii_digit() || ".,[]()– %×MG\u{202f}".contains(character);
    let is_version = content.matches('.').count() > 1 && !content.contains(['[', '(']);
    content.starts_with(|first: char| first.is_ascii_digit()) && content.chars().all(belongs) && !is_version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_stand_to_the_right() {
        for (content, expected) in [
            ("12", true),
            ("2\u{202f}420", true),
            ("4.92 M", true),
            ("31.2 [29.8, 33.0]", true),
            ("98.5 %", true),
            ("31.2 (29.8–33.0)", true),
            ("1.2.3", false),
            ("9f86d0", false),
            ("12 % of the time was stolen", false),
            ("", false),
        ] {
            assert_eq!(is_number(content), expected, "`{content}` was judged wrongly");
        }
    }
}
