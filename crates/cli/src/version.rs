//! `bulkhead version`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::template::{Labels, Subject, Template};
use crate::verbs::Operation;

/// Show the version
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Print as `json`, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Operation for Options {
    fn run(self, _: &Home) -> Result<ExitCode, Failure> {
        let text = match self.format.as_deref() {
            None | Some("") => plain(),
            Some("json") => document().to_string(),
            Some(template) => {
                Template::parse(template)?.render(Subject { value: &document(), labels: Labels::None })?
            }
        };
        writeln!(io::stdout(), "{}", text.trim_end_matches('\n'))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The one line of `bulkhead --version`.
pub(crate) fn line() -> Result<ExitCode, Failure> {
    writeln!(io::stdout(), "bulkhead {}", env!("CARGO_PKG_VERSION"))?;
    Ok(ExitCode::SUCCESS)
}

fn plain() -> String {
    let mut text = format!("bulkhead {}\n", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = option_env!("BULKHEAD_COMMIT") {
        text.push_str(&format!(" commit:   {commit}\n"));
    }
    text + &format!(" OS/Arch:  linux/{}\n", architecture())
}

/// Docker's fields. There is no server: what would be one is this program.
fn document() -> Value {
    let own = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "GitCommit": option_env!("BULKHEAD_COMMIT").unwrap_or_default(),
        "Os": "linux",
        "Arch": architecture(),
    });
    json!({ "Client": own, "Server": own })
}

/// The machine's architecture by the name that images give it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
