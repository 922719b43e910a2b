//! `history`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::store::{History as Step, Image};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::image::not_had;
use crate::output::listing::{Column, Format, Listing, Row};
use crate::output::quantity::{ago, decimal, now, parse_rfc3339};
use crate::verbs::Operation;

/// Show how an image was made
#[derive(Args, Debug)]
pub(crate) struct History {
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and times for people
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

const TITLES: &[Column] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

const FOR_PEOPLE: &[&str] = &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
const FOR_PROGRAMS: &[&str] = &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"];

impl Operation for History {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let History { format, human, no_trunc, quiet, image } = self;
        let engine = home.engine()?;
        let image = engine.store().image(&image).map_err(|error| not_had(engine.store(), error))?;
        let steps = steps(&image);
        if quiet {
            let mut output = io::stdout().lock();
            for (index, _) in steps.iter().enumerate() {
                writeln!(output, "{}", id(&image, index, no_trunc))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let now = now();
        let rows = steps.iter().enumerate().map(|(index, (step, size))| {
            let moment = step.created.as_deref().and_then(parse_rfc3339);
            let by = step.created_by.as_deref().unwrap_or_default().replace('\t', " ");
            let by = if no_trunc || by.chars().count() <= 45 {
                by
            } else {
                by.chars().take(44).chain(['…']).collect()
            };
            Row {
                fields: fields(json!({
                    "ID": id(&image, index, no_trunc),
                    "CreatedSince": moment.map_or("N/A".to_owned(), |moment| ago(moment, now)),
                    "CreatedAt": step.created.as_deref().unwrap_or_default(),
                    "CreatedBy": by,
                    "Size": if human { decimal(*size) } else { size.to_string() },
                    "Comment": step.comment.as_deref().unwrap_or_default(),
                })),
                ..Row::default()
            }
        });
        let format = Format::parse(format.as_deref().unwrap_or_default())?;
        let usual = if human { FOR_PEOPLE } else { FOR_PROGRAMS };
        Listing { titles: TITLES, usual }.print(&format, &Vec::from_iter(rows))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The steps with the sizes of their layers, the last first.
fn steps(image: &Image) -> Vec<(&Step, u64)> {
    let mut layers = image.layers.iter();
    let mut steps = Vec::new();
    for step in &image.configuration.history {
        let size = if step.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) };
        steps.push((step, size));
    }
    steps.reverse();
    steps
}

/// The last step is the image; the others have no ids any more.
fn id(image: &Image, index: usize, whole: bool) -> String {
    match (index, whole) {
        (0, true) => image.id.to_string(),
        (0, false) => image.id.short(),
        _ => "<missing>".to_owned(),
    }
}

fn fields(value: Value) -> Map<String, Value> {
    let Value::Object(fields) = value else { return Map::new() };
    fields
}
