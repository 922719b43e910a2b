//! `bulkhead measure platforms`.

use std::process::ExitCode;

use bulkhead_measure::error::Error;
use bulkhead_measure::platform::find::{self, Entry};
use bulkhead_measure::programs::{self, Supply};
use bulkhead_measure::stats::Failure;
use serde_json::json;

use super::Format;
use crate::output::table;

/// Characters of a hash: enough to tell two programs apart.
const DIGITS: usize = 12;

pub(super) fn run(format: Format) -> Result<ExitCode, Error> {
    let entries = find::all()?;
    if format == Format::Json {
        super::print_json(&json(&entries, &programs::supply()))?;
        return Ok(ExitCode::SUCCESS);
    }
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

/// The same for programs, with whole hashes; of what is not here it says how to get it.
fn json(entries: &[Entry], Supply { tree, programs }: &Supply) -> serde_json::Value {
    let platform = |Entry { kind, found }: &Entry| {
        let found = found.iter().map(|platform| {
            json!({ "version": platform.version, "sha256": platform.sha256, "program": platform.program })
        });
        json!({ "name": kind.name, "found": Vec::from_iter(found), "get": kind.get })
    };
    let program = |(name, found): &(&str, Result<Option<String>, Failure>)| match found {
        Ok(version) => json!({ "name": name, "version": version, "tree": tree }),
        Err(Failure(how)) => json!({ "name": name, "get": how }),
    };
    let platforms = Vec::from_iter(entries.iter().map(platform));
    json!({ "platforms": platforms, "programs": Vec::from_iter(programs.iter().map(program)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_whole_hashes_and_what_is_missing() {
        let entries = find::all().unwrap();
        let told = json(&entries, &programs::supply());
        let platforms = told["platforms"].as_array().unwrap();
        assert_eq!(platforms.len(), entries.len());
        for (told, entry) in platforms.iter().zip(&entries) {
            assert_eq!(
                (told["name"].as_str(), told["get"].as_str()),
                (Some(entry.kind.name), Some(entry.kind.get))
            );
            let hashes =
                told["found"].as_array().unwrap().iter().map(|found| found["sha256"].as_str().unwrap());
            let expected = entry.found.iter().map(|platform| platform.sha256.as_str());
            assert!(hashes.eq(expected), "{told}");
        }
        assert!(told["programs"].as_array().is_some_and(|programs| !programs.is_empty()), "{told}");
    }
}
