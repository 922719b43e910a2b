//! `images` and `history`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::Filters;
use bulkhead_engine::store::{Image, Store};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::confirm::{UNTIL, until};
use crate::failure::Failure;
use crate::home::Home;
use crate::output::listing::{Column, Format, Listing, Row};
use crate::output::quantity::{ago, decimal, local, now, parse_rfc3339};
use crate::verbs::Operation;

/// List images
#[derive(Args, Debug)]
pub(crate) struct List {
    /// The same: all images are shown
    #[arg(short, long)]
    all: bool,
    /// Print digests
    #[arg(long)]
    digests: bool,
    /// Only those that fit, such as dangling=true or reference=alpine
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Only those of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const TITLES: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("Containers", "CONTAINERS"),
];

const USUAL: &[&str] = &["Repository", "Tag", "ID", "CreatedSince", "Size"];
const WITH_DIGESTS: &[&str] = &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];

/// The keys by which images are filtered.
const FILTERS: &[&str] = &["dangling", "label", "label!", "reference", "before", "since", UNTIL];

impl Operation for List {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let List { all: _, digests, filter, format, no_trunc, quiet, name } = self;
        let engine = home.engine()?;
        let filters = Filters::parse(&filter, FILTERS)?;
        let images = fitting(engine.store(), &filters)?;
        let mut entries = Vec::new();
        for image in &images {
            entries.extend(names(image, name.as_deref(), digests));
        }
        if quiet {
            let mut output = io::stdout().lock();
            let mut told = std::collections::BTreeSet::new();
            for entry in entries.iter().filter(|entry| told.insert(entry.image.id)) {
                writeln!(output, "{}", id(entry.image, no_trunc))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let now = now();
        let row =
            |entry: &Entry<'_>| Row { fields: fields(entry, no_trunc, now), labels: labels(entry.image) };
        let rows = Vec::from_iter(entries.iter().map(row));
        let format = Format::parse(format.as_deref().unwrap_or_default())?;
        Listing { titles: TITLES, usual: if digests { WITH_DIGESTS } else { USUAL } }
            .print(&format, &rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Images that fit, those created last first.
fn fitting(store: &Store, filters: &Filters) -> Result<Vec<Image>, Failure> {
    let moment_of = |key: &str| -> Result<Option<u64>, Failure> {
        let named = filters.values(key).last().map(|name| store.image(name)).transpose()?;
        Ok(named.as_ref().map(created))
    };
    let (before, since) = (moment_of("before")?, moment_of("since")?);
    let until = until(filters)?;
    let mut dangling = None;
    for value in filters.values("dangling") {
        dangling = Some(
            value
                .parse::<bool>()
                .map_err(|_| Failure::new(format!("filter \"dangling={value}\": true or false is meant")))?,
        );
    }
    let mut images = store.images()?;
    images.retain(|image| {
        dangling.is_none_or(|dangling| image.tags().is_empty() == dangling)
            && before.is_none_or(|before| created(image) < before)
            && since.is_none_or(|since| created(image) > since)
            && until.is_none_or(|until| created(image) < until)
            && filters.fits_labels(&image.configuration.config.labels)
            && fits_reference(image, filters)
    });
    images.sort_by_key(|image| std::cmp::Reverse(created(image)));
    Ok(images)
}

/// Whether a name is one of those that `reference` asks for, with `*` for anything but a slash.
fn fits_reference(image: &Image, filters: &Filters) -> bool {
    let mut patterns = filters.values("reference").peekable();
    let names = || image.names.iter().flat_map(|name| [name.familiar(), name.familiar_repository()]);
    patterns.peek().is_none() || patterns.any(|pattern| names().any(|name| fits(pattern, &name)))
}

/// Whether a text is what a pattern describes: `*` stands for any letters but slashes, `?` for one.
fn fits(pattern: &str, text: &str) -> bool {
    let mut rest = text.chars();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match (letter, rest.clone().next()) {
            ('*', _) => {
                let after = letters.as_str();
                return std::iter::once(0)
                    .chain(
                        rest.as_str()
                            .char_indices()
                            .take_while(|(_, letter)| *letter != '/')
                            .map(|(at, letter)| at + letter.len_utf8()),
                    )
                    .any(|at| fits(after, &rest.as_str()[at..]));
            }
            ('?', Some(found)) if found != '/' => drop(rest.next()),
            (wanted, Some(found)) if wanted == found => drop(rest.next()),
            _ => return false,
        }
    }
    rest.as_str().is_empty()
}

/// An image under one of its names.
struct Entry<'a> {
    image: &'a Image,
    repository: String,
    tag: String,
    digest: String,
}

const NOTHING: &str = "<none>";

/// The rows of an image: one for each tag, else one for each digest, else one.
fn names<'a>(image: &'a Image, wanted: Option<&str>, with_digests: bool) -> Vec<Entry<'a>> {
    let nothing = || NOTHING.to_owned();
    let digest_of = |repository: &str| {
        let digest = image
            .names
            .iter()
            .filter(|name| name.familiar_repository() == repository)
            .find_map(|name| name.digest());
        digest.map_or_else(nothing, |digest| digest.to_string())
    };
    let mut entries = Vec::new();
    for name in image.names.iter().filter(|name| name.digest().is_none()) {
        let repository = name.familiar_repository();
        let tag = name.tag().unwrap_or(NOTHING).to_owned();
        entries.push(Entry { image, digest: digest_of(&repository), repository, tag });
    }
    if entries.is_empty() && (with_digests || wanted.is_some()) {
        for name in &image.names {
            let repository = name.familiar_repository();
            entries.push(Entry { image, digest: digest_of(&repository), repository, tag: nothing() });
        }
    }
    if entries.is_empty() {
        entries.push(Entry { image, repository: nothing(), tag: nothing(), digest: nothing() });
    }
    if let Some(wanted) = wanted {
        entries.retain(|entry| {
            fits(wanted, &entry.repository) || fits(wanted, &format!("{}:{}", entry.repository, entry.tag))
        });
    }
    entries
}

/// An image as rows of a table, one for each of its names.
pub(crate) fn rows(image: &Image, now: u64) -> Vec<Row> {
    let row = |entry: &Entry<'_>| Row { fields: fields(entry, false, now), labels: labels(image) };
    names(image, None, false).iter().map(row).collect()
}

/// When an image was made, in nanoseconds since 1970.
pub(crate) fn created(image: &Image) -> u64 {
    image.configuration.created.as_deref().and_then(parse_rfc3339).unwrap_or(0)
}

fn id(image: &Image, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.short() }
}

fn labels(image: &Image) -> Map<String, Value> {
    image.configuration.config.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

fn fields(entry: &Entry<'_>, whole: bool, now: u64) -> Map<String, Value> {
    let Entry { image, repository, tag, digest } = entry;
    let (since, at) = match created(image) {
        0 => ("N/A".to_owned(), "N/A".to_owned()),
        created => (ago(created, now), local(created)),
    };
    let size = decimal(image.size);
    let fields = json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "ID": id(image, whole),
        "CreatedSince": since,
        "CreatedAt": at,
        "Size": size,
        "VirtualSize": size,
        "UniqueSize": "N/A",
        "SharedSize": "N/A",
        "Containers": "N/A",
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, expected) in [
            ("alpine", "alpine", true),
            ("alp*", "alpine", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a?c*", "abcd:1", true),
            ("alpine", "alpine:3", false),
            ("*:3*", "ü/alpine:3.22", false),
            ("*/*:3*", "ü/alpine:3.22", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
