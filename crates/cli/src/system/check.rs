//! `system check`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::store::{Depth, Finding, Mend, Outcome};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::output::escape;
use crate::output::listing::{Column, Format, Listing, Row};
use crate::verbs::Operation;

/// Find what is not as it should be, and mend it
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Read every byte of images and layers, too
    #[arg(long)]
    contents: bool,
    /// Tell what is found, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print as json, table, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const TITLES: &[Column] =
    &[("Subject", "SUBJECT"), ("Problem", "PROBLEM"), ("Mended", "MENDED"), ("Outcome", "OUTCOME")];

const USUAL: &[&str] = &["Subject", "Problem", "Outcome"];

impl Operation for Check {
    /// Ends with 1 when something is not as it should be and was not mended.
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Check { contents, dry_run, format } = self;
        let format = format.as_deref().map(Format::parse).transpose()?;
        let depth = if contents { Depth::Contents } else { Depth::Metadata };
        let mend = if dry_run { Mend::No } else { Mend::Yes };
        let findings = home.engine()?.check(depth, mend)?;
        match format {
            Some(format) => {
                let rows = findings.iter().map(|finding| Row { fields: fields(finding), labels: Map::new() });
                Listing { titles: TITLES, usual: USUAL }.print(&format, &Vec::from_iter(rows))?;
            }
            None => tell(&findings)?,
        }
        let is_left = findings.iter().any(|finding| matches!(finding.outcome, Outcome::Left(_)));
        Ok(if is_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// A line for each.
fn tell(findings: &[Finding]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if findings.is_empty() {
        return writeln!(output, "all is as it should be");
    }
    for Finding { subject, problem, outcome } in findings {
        let outcome = match outcome {
            Outcome::Mended(how) => format!("mended: {how}"),
            Outcome::Left(way) => format!("not mended: {way}"),
        };
        // Names of volumes and problems of the database may be anybody's words.
        writeln!(output, "{}", escape::word(&format!("{subject}: {problem} ({outcome})")))?;
    }
    Ok(())
}

fn fields(finding: &Finding) -> Map<String, Value> {
    let Finding { subject, problem, outcome } = finding;
    let (is_mended, outcome) = match outcome {
        Outcome::Mended(how) => (true, how),
        Outcome::Left(way) => (false, way),
    };
    let fields = json!({ "Subject": subject, "Problem": problem, "Mended": is_mended, "Outcome": outcome });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}
