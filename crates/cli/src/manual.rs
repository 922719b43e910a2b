//! Completions and manual pages, from the same definitions as the parser.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::home::Home;
use crate::verbs::{self, Operation};

/// Write completions for a shell to the standard output
#[derive(Args, Debug)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

impl Operation for Completion {
    fn run(self, _: &Home) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut verbs::tree(), "bulkhead", &mut script);
        io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the manual into a directory, a page for each command
#[derive(Args, Debug)]
pub(crate) struct Manual {
    /// The directory, such as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Operation for Manual {
    fn run(self, _: &Home) -> Result<ExitCode, Failure> {
        let Manual { directory } = self;
        let told = directory.display();
        std::fs::create_dir_all(&directory).map_err(Failure::doing(format!("make {told}")))?;
        let mut tree = verbs::tree();
        // Names of the whole way down belong into the pages' titles.
        tree.build();
        pages(&tree, "bulkhead", &directory)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the page of a command, and of each below it.
fn pages(command: &Command, name: &str, directory: &Path) -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name).render(&mut page)?;
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page).map_err(Failure::doing(format!("write {}", path.display())))?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        pages(below, &format!("{name}-{}", below.get_name()), directory)?;
    }
    Ok(())
}
