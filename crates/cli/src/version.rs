//! `bulkhead version`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::Programs;
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
                Template::parse(template)?.render(Subject { value: &fields(), labels: Labels::None })?
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
    if !commit().is_empty() {
        text.push_str(&format!(" commit:   {}\n", commit()));
    }
    for (program, version) in programs() {
        text.push_str(&format!(" {:<9} {version}\n", format!("{program}:")));
    }
    text + &format!(" OS/Arch:  linux/{}\n", architecture())
}

/// Docker's fields. There is no server: what would be one is this program, with the others of its installation.
fn document() -> Value {
    let engine = json!({
        "Name": "Engine",
        "Version": env!("CARGO_PKG_VERSION"),
        "Details": { "GitCommit": commit(), "Os": "linux", "Arch": architecture(), "KernelVersion": kernel() },
    });
    let others = programs();
    let others =
        others.iter().map(|(name, version)| json!({ "Name": name, "Version": version, "Details": {} }));
    let components: Value = std::iter::once(engine).chain(others).collect();
    let own = json!({
        "Platform": { "Name": "bulkhead" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API,
        "GitCommit": commit(),
        "Os": "linux",
        "Arch": architecture(),
    });
    let mut server = own.clone();
    server["KernelVersion"] = json!(kernel());
    server["Components"] = components;
    json!({ "Client": own, "Server": server })
}

/// What a template sees, which has another name for one of them.
fn fields() -> Value {
    let mut document = document();
    for side in ["Client", "Server"] {
        document[side]["APIVersion"] = json!(API);
    }
    document
}

/// The version of docker's API whose fields `inspect` and the lists have. No such API is served.
const API: &str = "1.51";

/// The other programs with their versions, as far as they are installed.
fn programs() -> Vec<(String, String)> {
    Programs::of_installation().map(|programs| programs.versions()).unwrap_or_default()
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The commit that was built, where that is known.
pub(crate) fn commit() -> &'static str {
    option_env!("BULKHEAD_COMMIT").unwrap_or_default()
}

/// The machine's architecture by the name that images give it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
