//! `commit` and `import`: images that no build makes.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::process::ExitCode;

use bulkhead_engine::store::Name;
use bulkhead_engine::transfer::registry::Platform;
use bulkhead_engine::{Change, Commit, Import, Pause};
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};
use crate::home::Home;
use crate::output::escape;
use crate::registry::{Task, client};
use crate::verbs::Operation;

/// Make an image of a container
#[derive(Args, Debug)]
pub(crate) struct CommitOptions {
    /// Who makes it
    #[arg(short, long, value_name = "AUTHOR")]
    author: Option<String>,
    /// Change its configuration by an instruction of a Dockerfile, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Say this of it
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Freeze the container's processes meanwhile
    #[arg(short, long, default_value = "true")]
    pause: bool,
    /// The container
    container: String,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Operation for CommitOptions {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let CommitOptions { author, change, message, pause, container, name } = self;
        let commit = Commit {
            name: name.as_deref().map(parsed_name).transpose()?,
            author,
            message,
            changes: changes(&change)?,
            pause: if pause { Pause::Yes } else { Pause::No },
        };
        let made = home.engine()?.commit(&container, &commit)?;
        for (path, what) in &made.left_out {
            eprintln!("left out: {}: {what}", escape::word(&path.to_string_lossy()));
        }
        writeln!(io::stdout(), "{}", made.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Make an image of a root file system in an archive
#[derive(Args, Debug)]
pub(crate) struct ImportOptions {
    /// Set its configuration by an instruction of a Dockerfile, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Say this of it
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What it runs on, such as linux/arm64; by default this machine
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// A file, an http or https address, or - for the standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Operation for ImportOptions {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let ImportOptions { change, message, platform, source, name } = self;
        let import = Import {
            name: name.as_deref().map(parsed_name).transpose()?,
            message,
            changes: changes(&change)?,
            platform: platform.map_or_else(|| Ok(Platform::host()), |text| text.parse())?,
            source,
        };
        let engine = home.engine()?;
        let mut archive = open(&import.source)?;
        let id = engine.import(&import, &mut archive)?;
        writeln!(io::stdout(), "{id}")?;
        Ok(ExitCode::SUCCESS)
    }
}

fn open(source: &str) -> Result<Box<dyn Read>, Failure> {
    if source == "-" {
        if io::stdin().is_terminal() {
            let failure = Failure::new("the standard input is a terminal, and no archive");
            return Err(failure.hint("name a file, or type `bulkhead import - < FILE`"));
        }
        return Ok(Box::new(io::stdin()));
    }
    if ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme)) {
        let download = client()?.download(source);
        return Ok(download.map_err(|error| Task::Import.failed(error.into()))?);
    }
    let file = File::open(source).map_err(Failure::doing(format!("open {source}")))?;
    if file.metadata().map_err(Failure::doing(format!("look at {source}")))?.is_dir() {
        let failure = Failure::new(format!("{source} is a directory, and no archive"));
        return Err(failure.hint(format!(
            "`tar -C {source} -c . | bulkhead import -` makes an image of what is in it, `bulkhead run --rootfs {source}` needs none"
        )));
    }
    Ok(Box::new(file))
}

fn changes(texts: &[String]) -> Result<Vec<Change>, Failure> {
    let parsed = texts.iter().map(|text| text.parse::<Change>());
    parsed.map(|change| change.map_err(|error| Failure::new(error.to_string()))).collect()
}

/// Reads the name of an image that is made, which cannot have a digest.
fn parsed_name(text: &str) -> Result<Name, Failure> {
    let name = Name::parse(text).map_err(|error| Failure::new(error.to_string()).code(NOT_STARTED))?;
    match name.digest() {
        Some(_) => {
            Err(Failure::new(format!("{text}: an image's digest is known when it is made; leave it out")))
        }
        None => Ok(name),
    }
}
