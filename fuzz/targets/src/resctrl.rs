//! No class of service leads out of the resctrl file system, and whether a schema is in force has one answer.
//!
//! The input is `linux.intelRdt` as JSON, a NUL, and what a file `schemata` says.

use bulkhead_runtime::plan::rdt::{self, Class};
use bulkhead_runtime::resctrl::is_in_force;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (json, present) = text.split_once('\0').unwrap_or((text, "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n"));
    check_file(present);
    let Ok(configured) = serde_json::from_str(json) else { return };
    let planned = match rdt::plan(&configured) {
        Ok(planned) => planned,
        Err(error) => return super::check_sentence(&error.to_string()),
    };
    if let Class::Shared(name) = &planned.class {
        assert!(name.is_empty() || super::is_component(name), "{name:?}");
    }
    for (line, pointer) in &planned.schemata {
        assert!(!line.contains(['\n', '\0']), "{pointer} is {line:?}");
        let padded = padded(line);
        assert_eq!(is_in_force(line, present), is_in_force(&padded, present), "{line:?} of {present:?}");
    }
}

/// Zeros and spaces in front of numbers mean nothing.
fn padded(line: &str) -> String {
    let Some((resource, domains)) = line.split_once(':') else { return line.to_owned() };
    let pad = |domain: &str| match domain.split_once('=') {
        Some((id, value)) => format!(" 0{}= 0{}", id.trim(), value.trim()),
        None => domain.to_owned(),
    };
    let domains = Vec::from_iter(domains.split(';').map(pad));
    format!(" {resource}:{}", domains.join(";"))
}

/// What a file says of a resource is in force, if it says it once and in the form of the kernel.
fn check_file(present: &str) {
    let resource = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
    for line in present.lines() {
        let lines = present.lines().filter(|other| resource(other) == resource(line)).count();
        let well_formed = line
            .split_once(':')
            .is_some_and(|(_, domains)| domains.split(';').all(|domain| domain.contains('=')));
        assert!(lines > 1 || well_formed == is_in_force(line, present), "{line:?} of {present:?}");
    }
}
