//! From a journal to something that people read: a page, Markdown, JSON, and plots as files.
//!
//! [`Findings`] is what follows from the journal, without a word; `words`, `tables` and `plot` say it; `html` and
//! `markdown` set it. Every report can be made again from its journal at any time.

use std::io;
use std::path::{Path, PathBuf};

use crate::record::{Level, Reach};
use crate::results::Results;

mod contrast;
mod document;
pub mod findings;
mod html;
mod left_out;
mod markdown;
mod markup;
mod number;
mod plot;
mod sections;
mod tables;
mod verdict;
mod words;

pub use contrast::{Changed, Contrast, Entries, Kept, compare};
pub use findings::{Findings, Joined};
pub use left_out::time;

use document::Document;

/// The width of a plot in a file of its own, pixels.
const WIDTH: u32 = 760;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or directory could not be made.
    #[error("write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes the report of `results` into `directory`, which must be there: `report.html`, `report.md`, `report.json`, and
/// its plots below `plots/`. What an earlier report left is replaced. Returns what was written, the page first.
///
/// # Errors
/// [`ReportError::File`]
pub fn write(results: &Results, directory: &Path) -> Result<Vec<PathBuf>, ReportError> {
    write_joined(results, &[], directory)
}

/// The same, with published claims that `results` leave open answered by `others`.
///
/// # Errors
/// [`ReportError::File`]
pub fn write_joined(
    results: &Results,
    others: &[Joined],
    directory: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let findings = Findings::joined(results, others);
    publish(&sections::document(&findings), serde_json::to_string_pretty(&findings), directory, "report")
}

/// Writes what changed between two runs into `directory`, which must be there: `contrast.html`, `contrast.md`,
/// `contrast.json`, and its plots below `plots/`. Returns what was written, the page first.
///
/// # Errors
/// [`ReportError::File`]
pub fn write_contrast(contrast: &Contrast, directory: &Path) -> Result<Vec<PathBuf>, ReportError> {
    publish(&contrast::document(contrast), serde_json::to_string_pretty(contrast), directory, "contrast")
}

/// What a verdict is called.
pub fn verdict(reach: Reach) -> &'static str {
    tables::reach(reach)
}

/// What a footprint of this level counts: `functions`, `system calls`.
pub fn things(level: Level) -> &'static str {
    words::things(level)
}

/// The verdict in words, as it stands on top of the report.
pub fn opening(findings: &Findings) -> impl Iterator<Item = String> {
    verdict::verdict(findings).into_iter().map(|sentence| sentence.text)
}

/// What `write` would write as Markdown.
pub fn markdown(findings: &Findings) -> String {
    markdown::text(&sections::document(findings))
}

fn publish(
    document: &Document,
    json: serde_json::Result<String>,
    directory: &Path,
    name: &str,
) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    let mut file = |path: PathBuf, content: &str| {
        replace(&path, content).map_err(|source| ReportError::File { path: path.clone(), source })?;
        written.push(path);
        Ok(())
    };
    file(directory.join(format!("{name}.html")), &html::page(document))?;
    file(directory.join(format!("{name}.md")), &markdown::text(document))?;
    let path = directory.join(format!("{name}.json"));
    let json = json.map_err(|source| ReportError::File { path: path.clone(), source: source.into() })?;
    file(path, &format!("{json}\n"))?;
    let plots = directory.join("plots");
    std::fs::create_dir_all(&plots).map_err(|source| ReportError::File { path: plots.clone(), source })?;
    for figure in document.sections.iter().flat_map(|section| &section.figures) {
        for panel in figure.all() {
            let title = if panel.caption.is_empty() { &figure.title } else { &panel.caption };
            let drawing = panel.drawing.alone(title, WIDTH);
            file(plots.join(format!("{}.svg", figure.file(panel))), &format!("{drawing}\n"))?;
        }
    }
    Ok(written)
}

/// A reader sees the old file or the new one, never half of one.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, content)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests;
