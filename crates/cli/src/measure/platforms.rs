//! `bulkhead measure platforms`.

use std::process::ExitCode;

use bulkhead_measure::error::Error;
use bulkhead_measure::platform::find::{self, Entry};
use bulkhead_measure::programs::{self, Supply};
use bulkhead_measure::stats::Failure;

use crate::output::table;

/// Characters of a hash: enough to tell two programs apart.
const DIGITS: usize = 12;

pub(super) fn run() -> Result<ExitCode, Error> {
    let entries = find::all()?;
    let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["platform", "version", "sha256", "program"])];
    for Entry { kind, found } in &entries {
        for platform in found {
            let program = platform.program.display().to_string();
            let hash: String = platform.sha256.chars().take(DIGITS).collect();
            rows.push(row([kind.name, &platform.version, &hash, &program]));
        }
    }
    print!("{}", table::aligned(&rows));
    let missing = Vec::from_iter(entries.iter().filter(|entry| entry.found.is_empty()));
    if !missing.is_empty() {
        println!("\nNot here:");
        let rows =
            missing.iter().map(|entry| vec![format!("  {}", entry.kind.name), entry.kind.get.to_owned()]);
        print!("{}", table::aligned(&Vec::from_iter(rows)));
    }
    let Supply { tree, programs } = programs::supply();
    println!("\nReal programs, for --heavy:");
    let told = |(name, found): &(&str, Result<Option<String>, Failure>)| {
        let (version, told) = match found {
            Ok(version) => (version.clone().unwrap_or_default(), format!("in {}", tree.display())),
            Err(Failure(how)) => (String::new(), format!("not here: {how}")),
        };
        vec![format!("  {name}"), version, told]
    };
    print!("{}", table::aligned(&Vec::from_iter(programs.iter().map(told))));
    println!(
        "\nOf several platforms, --platforms NAME takes the first; NAME=PATH takes any, also an OCI runtime not listed here."
    );
    Ok(ExitCode::SUCCESS)
}
