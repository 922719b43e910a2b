//! The report as Markdown, for terminals and pull requests.

use super::document::{Document, Mood, Sentence, Table};

pub(super) fn text(document: &Document) -> String {
    let mut text = format!("# {}\n", escaped(&document.title));
    text += "\n## Verdict\n";
    text += &sentences(&document.opening);
    document.glance.iter().for_each(|glance| text += &table(glance));
    if !document.more.is_empty() {
        text += &format!("\n### More in words\n{}", sentences(&document.more));
    }
    for section in document.sections.iter().filter(|section| !section.is_empty()) {
        text += &format!("\n## {}\n{}\n", section.title, escaped(&section.says));
        if !section.words.is_empty() {
            text.push('\n');
        }
        for (platform, words) in &section.words {
            text += &format!("- **{}**: {}\n", escaped(platform), escaped(words));
        }
        for figure in &section.figures {
            text += &format!("\n### {}\n{}\n", escaped(&figure.title), escaped(&figure.says));
            for panel in figure.all() {
                let title = if panel.caption.is_empty() { &figure.title } else { &panel.caption };
                text += &format!("\n![{}](plots/{}.svg)\n", escaped(title), figure.file(panel));
            }
            figure.tables.iter().filter(|table| !table.rows.is_empty()).for_each(|rows| text += &table(rows));
        }
        section.tables.iter().filter(|table| !table.rows.is_empty()).for_each(|rows| text += &table(rows));
    }
    text
}

fn sentences(all: &[Sentence]) -> String {
    let of = |sentence: &Sentence| {
        let mark = if sentence.mood == Mood::Bad { "**!** " } else { "" };
        format!("- {mark}{}\n", escaped(&sentence.text))
    };
    all.iter().map(of).collect()
}

fn table(table: &Table) -> String {
    let row = |cells: &[String]| {
        let cells = Vec::from_iter(cells.iter().map(|cell| escaped(cell)));
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = format!("\n### {}\n", escaped(&table.title));
    if !table.says.is_empty() {
        text += &format!("{}\n", escaped(&table.says));
    }
    text += &format!("\n{}|{}\n", row(&table.head), "---|".repeat(table.head.len()));
    table.rows.iter().for_each(|cells| text += &row(cells));
    text
}

/// Text that Markdown takes for text: no markup, no HTML, no end of a line or a cell.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => escaped.extend(['\\', character]),
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            character if character.is_whitespace() && character != '\u{202f}' => escaped.push(' '),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_in_its_cell() {
        assert_eq!(escaped("a|b\nc <b> [x](y) \u{1b}"), "a\\|b c &lt;b&gt; \\[x\\](y) \u{fffd}");
    }
}
