//! `bulkhead measure report` and `compare`: from journals to pages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_measure::error::Error;
use bulkhead_measure::record;
use bulkhead_measure::report;
use bulkhead_measure::results::Results;

/// Makes the pages of the run in `directory` again.
pub(super) fn run(directory: &Path) -> Result<ExitCode, Error> {
    say(&report::write(&of(directory)?, directory)?);
    Ok(ExitCode::SUCCESS)
}

/// Sets two runs against each other; the pages go to `out`, if there is one.
pub(super) fn compare(earlier: &Path, later: &Path, out: Option<&PathBuf>) -> Result<ExitCode, Error> {
    let contrast = report::compare(&of(earlier)?, &of(later)?);
    match out {
        Some(out) => {
            std::fs::create_dir_all(out)
                .map_err(|source| Error::System { what: format!("make {}", out.display()), source })?;
            say(&report::write_contrast(&contrast, out)?);
        }
        None => print!("{}", contrast.markdown()),
    }
    // Two runs that contradict each other are a failure that a script should notice.
    let contradicted = contrast.contradictions().next().is_some();
    Ok(if contradicted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn of(directory: &Path) -> Result<Results, Error> {
    Results::of(record::read(directory)?).ok_or_else(|| {
        Error::Unusable(format!(
            "{} holds no run; bulkhead measure run --out {0} makes one",
            directory.display()
        ))
    })
}

/// The page comes first; the rest is found beside it.
fn say(written: &[PathBuf]) {
    if let Some(page) = written.first() {
        println!("written: {} and {} files beside it", page.display(), written.len() - 1);
    }
}
