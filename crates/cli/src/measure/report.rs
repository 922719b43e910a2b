//! `bulkhead measure report` and `compare`: from journals to pages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_measure::error::Error;
use bulkhead_measure::record;
use bulkhead_measure::report::{self, Joined};
use bulkhead_measure::results::Results;
use bulkhead_measure::sources::Tree;

use super::Format;

/// The exit code of a comparison in which verdicts contradict each other, so that a script can tell it from an error.
const CONTRADICTED: u8 = 3;

/// Makes the pages of the run in `directory` again: there, or in `out`. Published claims that it leaves open are answered by the
/// `others`.
pub(super) fn run(
    directory: &Path,
    others: &[PathBuf],
    out: Option<&PathBuf>,
    sources: Option<&Path>,
) -> Result<ExitCode, Error> {
    if let Some(sources) = sources {
        place(&Tree::open(sources)?, directory)?;
    }
    let results = of(directory)?;
    let others = others.iter().map(|other| joined(&results, other)).collect::<Result<Vec<_>, _>>()?;
    if let Some(out) = out {
        make(out)?;
    }
    say(&report::write_joined(&results, &others, out.map_or(directory, PathBuf::as_path))?);
    Ok(ExitCode::SUCCESS)
}

/// The run in `directory`, which must be of the same machine.
fn joined(results: &Results, directory: &Path) -> Result<Joined, Error> {
    let other = of(directory)?;
    if !results.run.shares_machine_with(&other.run) {
        return Err(Error::Unusable(format!(
            "{} holds a run of another machine or kernel, which answers nothing about this one; bulkhead measure compare sets \
             two machines against each other",
            directory.display()
        )));
    }
    Ok(Joined { place: directory.display().to_string(), results: other })
}

/// Notes in the journal of `directory` where the functions that it names are defined.
pub(super) fn place(tree: &Tree, directory: &Path) -> Result<(), Error> {
    match tree.place(&of(directory)?, directory)? {
        Some((found, named)) => eprintln!("{found} of {named} functions are found in the sources"),
        None => eprintln!("no functions were seen that could be looked for in the sources"),
    }
    Ok(())
}

/// Sets two runs against each other; the pages go to `out`, if there is one.
pub(super) fn compare(
    earlier: &Path,
    later: &Path,
    out: Option<&PathBuf>,
    format: Format,
) -> Result<ExitCode, Error> {
    let contrast = report::compare(&of(earlier)?, &of(later)?);
    match out {
        Some(out) => {
            make(out)?;
            say(&report::write_contrast(&contrast, out)?);
        }
        None if format == Format::Json => super::print_json(&contrast)?,
        None => print!("{}", contrast.markdown()),
    }
    let contradicted = contrast.contradictions().next().is_some();
    Ok(if contradicted { ExitCode::from(CONTRADICTED) } else { ExitCode::SUCCESS })
}

/// Makes a directory for what is written.
pub(super) fn make(directory: &Path) -> Result<(), Error> {
    if directory.is_file() {
        return Err(Error::Unusable(format!("{} is a file; --out names a directory", directory.display())));
    }
    std::fs::create_dir_all(directory)
        .map_err(|source| Error::System { what: format!("make {}", directory.display()), source })
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
