//! `diff` and `export`: what became of a container's root.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::failure::Failure;
use crate::home::Home;
use crate::image::archive::{to_stdout, whole};
use crate::output::escape;
use crate::verbs::Operation;

/// List what a container changed in its files: A is added, C changed, D deleted
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The container
    container: String,
}

impl Operation for Diff {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let changes = home.engine()?.diff(&self.container)?;
        let is_terminal = io::stdout().is_terminal();
        let mut output = io::stdout().lock();
        for change in changes {
            write!(output, "{} ", change.kind)?;
            if is_terminal {
                output.write_all(escape::word(&change.path.to_string_lossy()).as_bytes())?;
            } else {
                output.write_all(change.path.as_os_str().as_bytes())?;
            }
            output.write_all(b"\n")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Write a container's files as an archive
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Write this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

impl Operation for Export {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Export { output, container } = self;
        let engine = home.engine()?;
        match output {
            Some(path) => whole(&path, |file| Ok(engine.export(&container, file)?))?,
            None => {
                let mut stdout = to_stdout()?;
                engine.export(&container, &mut stdout)?;
                stdout.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
