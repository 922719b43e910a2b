//! A report as its parts, which HTML and Markdown show alike.

use super::plot::Figure;

/// A whole page.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) title: String,
    /// The verdict: sentences, the most important first.
    pub(super) opening: Vec<Sentence>,
    /// The rest of what words say, folded.
    pub(super) more: Vec<Sentence>,
    /// What matters most of each platform.
    pub(super) glance: Option<Table>,
    pub(super) sections: Vec<Section>,
}

/// A sentence, and whether it is good news.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    pub(super) mood: Mood,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Plain,
    Bad,
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    /// Where links lead.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// How to read it.
    pub(super) says: String,
    /// Of each platform, what was found.
    pub(super) words: Vec<(String, String)>,
    pub(super) figures: Vec<Figure>,
    pub(super) tables: Vec<Table>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) says: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) form: Form,
}

/// How a table is set where there is more than one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows and columns, numbers to the right.
    #[default]
    Plain,
    /// The same, and rows that begin alike stand under what they share.
    Grouped,
    /// Words, also those that look like numbers: on a phone each row is a card.
    Words,
}

impl Sentence {
    pub(super) fn good(text: impl Into<String>) -> Self {
        Self { mood: Mood::Good, text: text.into() }
    }

    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { mood: Mood::Plain, text: text.into() }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { mood: Mood::Bad, text: text.into() }
    }
}

impl Section {
    pub(super) fn new(id: &'static str, title: &'static str, says: &str) -> Self {
        Self { id, title, says: says.to_owned(), words: Vec::new(), figures: Vec::new(), tables: Vec::new() }
    }

    /// Whether there is nothing to be shown in it.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
            && self.figures.is_empty()
            && self.tables.iter().all(|table| table.rows.is_empty())
    }
}

impl Table {
    pub(super) fn new(title: &str, says: &str, head: &[&str]) -> Self {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Self { title: title.to_owned(), says: says.to_owned(), head, rows: Vec::new(), form: Form::Plain }
    }

    pub(super) fn grouped(self) -> Self {
        Self { form: Form::Grouped, ..self }
    }

    pub(super) fn in_words(self) -> Self {
        Self { form: Form::Words, ..self }
    }

    pub(super) fn with(mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        self.rows.extend(rows);
        self
    }
}
