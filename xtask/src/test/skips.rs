//! Why tests skipped themselves: a line `skipped: REASON` on their standard error.
//!
//! cargo test lets that line through. nextest keeps what a passing test prints to itself, but writes it into a
//! report (.config/nextest.toml).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::workspace;

const MARK: &str = "skipped: ";

/// The reason in a line, if it is one of a skipped test.
pub(super) fn in_line(line: &str) -> Option<String> {
    line.strip_prefix(MARK).map(str::to_owned)
}

/// Removes the report of an earlier run.
pub(super) fn forget_report() -> Result<()> {
    let report = report()?;
    match fs::remove_file(&report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", report.display()))
        }
        _ => Ok(()),
    }
}

/// The reasons in nextest's report; none when it wrote none.
pub(super) fn reported() -> Result<Vec<String>> {
    let text = fs::read_to_string(report()?).unwrap_or_default();
    Ok(in_report(&text))
}

/// How often each reason was given.
pub(super) fn grouped<'a>(reasons: &[&'a String]) -> BTreeMap<&'a str, usize> {
    let mut groups = BTreeMap::new();
    for reason in reasons {
        *groups.entry(reason.as_str()).or_insert(0) += 1;
    }
    groups
}

fn report() -> Result<PathBuf> {
    Ok(workspace::target_directory()?.join("nextest/default/junit.xml"))
}

/// Looks only at what passing tests wrote: a failed one's output is in an element of its own.
fn in_report(xml: &str) -> Vec<String> {
    let outputs = xml.split("<system-err>").skip(1).filter_map(|rest| rest.split("</system-err>").next());
    outputs.filter_map(|output| output.lines().find_map(in_line)).map(|reason| unescape(&reason)).collect()
}

fn unescape(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_from_the_report() {
        let xml = "\
<testcase name=\"a\"><system-out>running 1 test\nskipped: no, this is output</system-out>
<system-err>warning\nskipped: needs &lt;root&gt; &amp;amp; more\n</system-err></testcase>
<testcase name=\"b\"><system-out>x</system-out><system-err></system-err></testcase>
<testcase name=\"c\"><system-err>skipped: needs gcc</system-err></testcase>
";
        assert_eq!(in_report(xml), ["needs <root> &amp; more", "needs gcc"]);
    }

    #[test]
    fn equal_reasons_are_counted() {
        let reasons = ["needs root", "needs gcc", "needs root"].map(str::to_owned);
        let groups = grouped(&Vec::from_iter(&reasons));
        assert_eq!(Vec::from_iter(groups), [("needs gcc", 1), ("needs root", 2)]);
    }
}
