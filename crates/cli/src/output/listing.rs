//! Lists of containers, images and volumes: a table, JSON, or what `--format` says.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{escape, table};
use crate::failure::Failure;
use crate::template::{self, Labels, Subject, Template};

/// One of a list, with docker's names of its fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) fields: Map<String, Value>,
    pub(crate) labels: Map<String, Value>,
}

/// A field and the title of its column.
pub(crate) type Column = (&'static str, &'static str);

/// How a list is shown.
#[derive(Debug)]
pub(crate) enum Format {
    /// The usual columns.
    Table,
    /// `table TEMPLATE`: columns are apart where the template has tabs.
    Columns(Template),
    /// An object in a line for each row.
    Json,
    /// Each row as the template says.
    Template(Template),
}

/// What can be listed of a kind of things.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// Titles of all fields.
    pub(crate) titles: &'a [Column],
    /// The fields of the usual table.
    pub(crate) usual: &'a [&'a str],
}

impl Format {
    /// Reads `--format`.
    ///
    /// # Errors
    /// What is wrong with a template.
    pub(crate) fn parse(text: &str) -> Result<Format, template::Error> {
        match text {
            "" | "table" => return Ok(Format::Table),
            "json" => return Ok(Format::Json),
            _ => {}
        }
        // A shell hands `\t` over as two characters.
        let template = |text: &str| Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n"));
        match text.strip_prefix("table ") {
            Some(columns) => template(columns.trim_start()).map(Format::Columns),
            None => template(text).map(Format::Template),
        }
    }
}

impl Listing<'_> {
    /// Prints rows as `--format` says, which ends a verb.
    ///
    /// # Errors
    /// As [`Format::parse`] and [`Listing::print`].
    pub(crate) fn show(
        &self,
        format: Option<&str>,
        rows: impl Iterator<Item = Row>,
    ) -> Result<ExitCode, Failure> {
        self.print(&Format::parse(format.unwrap_or_default())?, &Vec::from_iter(rows))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints rows.
    ///
    /// # Errors
    /// Templates with fields that are not there, and an output that takes nothing.
    pub(crate) fn print(&self, format: &Format, rows: &[Row]) -> Result<(), PrintError> {
        let text = self.text(format, rows)?;
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        Ok(output.flush()?)
    }

    fn text(&self, format: &Format, rows: &[Row]) -> Result<String, template::Error> {
        let mut text = String::new();
        match format {
            Format::Table => {
                let title = |field: &&str| self.title(field).to_owned();
                let mut lines = vec![Vec::from_iter(self.usual.iter().map(title))];
                lines.extend(rows.iter().map(|row| {
                    Vec::from_iter(self.usual.iter().map(|field| escape::word(&row.shown(field))))
                }));
                return Ok(table::wide(&lines));
            }
            Format::Columns(template) => {
                let titles: Map<String, Value> =
                    self.titles.iter().map(|(field, title)| ((*field).to_owned(), json!(title))).collect();
                let titles = Value::Object(titles);
                let mut lines = template.render(Subject { value: &titles, labels: Labels::Titles })? + "\n";
                for row in rows {
                    lines.push_str(&row.rendered(template)?);
                    lines.push('\n');
                }
                let cells = |line: &str| Vec::from_iter(line.split('\t').map(escape::word));
                return Ok(table::wide(&Vec::from_iter(lines.lines().map(cells))));
            }
            Format::Json => {
                for row in rows {
                    text.push_str(&escape::json(&Value::Object(row.fields.clone()).to_string()));
                    text.push('\n');
                }
                return Ok(text);
            }
            Format::Template(template) => {
                for row in rows {
                    text.push_str(&row.rendered(template)?);
                    text.push('\n');
                }
            }
        }
        Ok(if io::stdout().is_terminal() { escape::lines(&text) } else { text })
    }

    fn title(&self, field: &str) -> &str {
        self.titles.iter().find(|(known, _)| *known == field).map_or("", |(_, title)| title)
    }
}

/// Prints ids or names alone, one in a line, which ends a verb.
///
/// # Errors
/// An output that takes nothing.
pub(crate) fn listed<T: fmt::Display>(names: impl Iterator<Item = T>) -> Result<ExitCode, Failure> {
    let mut output = io::stdout().lock();
    for name in names {
        writeln!(output, "{name}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes labels in one field, as docker does.
pub(crate) fn joined(labels: &BTreeMap<String, String>) -> String {
    Vec::from_iter(labels.iter().map(|(key, value)| format!("{key}={value}"))).join(",")
}

impl Row {
    pub(crate) fn new(fields: Map<String, Value>, labels: &BTreeMap<String, String>) -> Self {
        Self { fields, labels: labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect() }
    }

    fn shown(&self, field: &str) -> String {
        match self.fields.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn rendered(&self, template: &Template) -> Result<String, template::Error> {
        let value = Value::Object(self.fields.clone());
        template.render(Subject { value: &value, labels: Labels::Of(&self.labels) })
    }
}

/// Why a list could not be printed.
#[derive(Debug)]
pub(crate) enum PrintError {
    Template(template::Error),
    Output(io::Error),
}

impl From<template::Error> for PrintError {
    fn from(error: template::Error) -> PrintError {
        PrintError::Template(error)
    }
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> PrintError {
        PrintError::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing<'_> = Listing {
        titles: &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Size", "SIZE")],
        usual: &["ID", "Names"],
    };

    fn printed(format: &str) -> String {
        let row = |id: &str, name: &str| {
            let fields = json!({ "ID": id, "Names": name, "Size": "0B" }).as_object().unwrap().clone();
            Row { fields, labels: json!({ "com.x.a-b": id }).as_object().unwrap().clone() }
        };
        let format = Format::parse(format).unwrap();
        LISTING.text(&format, &[row("1", "web"), row("2", "a\u{1b}b")]).unwrap()
    }

    #[test]
    fn lists_are_shown_as_is_asked_for() {
        for (format, expected) in [
            ("table", "CONTAINER ID   NAMES\n1              web\n2              a\\eb\n"),
            (r"table {{.Names}}\t{{upper .Size}}", "NAMES     SIZE\nweb       0B\na\\eb      0B\n"),
            (
                r#"table {{.ID}}\t{{.Label "com.x.a-b"}}"#,
                "CONTAINER ID   a b\n1              1\n2              2\n",
            ),
            (r"{{.ID}}\t{{.Names}}", "1\tweb\n2\ta\u{1b}b\n"),
            (
                "json",
                "{\"ID\":\"1\",\"Names\":\"web\",\"Size\":\"0B\"}\n{\"ID\":\"2\",\"Names\":\"a\\u001bb\",\"Size\":\"0B\"}\n",
            ),
        ] {
            assert_eq!(printed(format), expected, "for {format}");
        }
    }
}
