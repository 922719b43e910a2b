//! `load` and `save`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_engine::Engine;
use bulkhead_engine::store::{Committed, Format};
use clap::Args;

use crate::failure::Failure;
use crate::home::Home;
use crate::image::not_had;
use crate::output::progress::Bars;
use crate::verbs::Operation;

/// Load images from an archive or a directory of docker or OCI
#[derive(Args, Debug)]
pub(crate) struct Load {
    /// Read this file or directory instead of the standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
}

impl Operation for Load {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Load { input, quiet } = self;
        let engine = home.engine()?;
        let mut bars = Bars::new(quiet);
        let loaded = match &input {
            Some(path) => load_path(&engine, path, &mut bars),
            None if io::stdin().is_terminal() => {
                let failure = Failure::new("the standard input is a terminal, and no archive");
                return Err(failure.hint("-i FILE reads a file, or type `bulkhead load < FILE`"));
            }
            None => Ok(engine.store().load(&mut io::stdin(), &mut |progress| bars.show(&progress))?),
        };
        bars.clear();
        let mut output = io::stdout().lock();
        for Committed { id, names, .. } in loaded? {
            for name in &names {
                writeln!(output, "Loaded image: {}", name.familiar())?;
            }
            if names.is_empty() {
                writeln!(output, "Loaded image ID: {id}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn load_path(engine: &Engine, path: &Path, bars: &mut Bars) -> Result<Vec<Committed>, Failure> {
    Ok(engine.store().load_path(path, &mut |progress| bars.show(&progress))?)
}

/// Save images into an archive
#[derive(Args, Debug)]
pub(crate) struct Save {
    /// Write this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write docker-archive, which is usual, oci-archive, or the directory oci-dir
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive", hide_default_value = true, hide_possible_values = true, value_parser = ["docker-archive", "oci-archive", "oci-dir"])]
    format: String,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Operation for Save {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Save { output, format, images } = self;
        let engine = home.engine()?;
        let wanted = Vec::from_iter(images.iter().map(String::as_str));
        let store = engine.store();
        let format = match format.as_str() {
            "oci-archive" => Format::OciArchive,
            "oci-dir" => {
                let directory = output.ok_or_else(|| Failure::new("oci-dir wants a directory: -o DIR"))?;
                store.save_directory(&wanted, &directory).map_err(|error| not_had(store, error))?;
                return Ok(ExitCode::SUCCESS);
            }
            _ => Format::DockerArchive,
        };
        match output {
            Some(path) => {
                whole(&path, |file| {
                    store.save(&wanted, format, file).map_err(|error| not_had(store, error))
                })?;
            }
            None => {
                let mut stdout = to_stdout()?;
                store.save(&wanted, format, &mut stdout).map_err(|error| not_had(store, error))?;
                stdout.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The standard output for an archive, which no terminal understands.
pub(crate) fn to_stdout() -> Result<io::BufWriter<io::StdoutLock<'static>>, Failure> {
    if io::stdout().is_terminal() {
        let failure = Failure::new("the standard output is a terminal, which understands no archive");
        return Err(failure.hint("-o FILE writes a file, or send it into a pipe"));
    }
    Ok(io::BufWriter::with_capacity(128 * 1024, io::stdout().lock()))
}

/// Follows the links that a path ends with, also to what is not there yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel does (path_resolution(7)).
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        // A pipe of `/proc/self/fd` leads to a name that is nowhere, and is there.
        match path.read_link().ok().filter(|_| !path.exists()) {
            Some(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            None => return Ok(path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Writes a file that has its name only when it is whole. It is its maker's alone, as docker has it: what containers and images
/// hold may be secret.
pub(crate) fn whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let told = path.display().to_string();
    // What a link leads to is written, and not the link.
    let path =
        &path.canonicalize().or_else(|_| followed(path)).map_err(Failure::doing(format!("follow {told}")))?;
    // What is no ordinary file, such as a pipe, is written as it is.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let mut file =
            File::options().write(true).open(path).map_err(Failure::doing(format!("open {told}")))?;
        return write(&mut file);
    }
    let mut name = path.file_name().ok_or_else(|| Failure::new(format!("{told} names no file")))?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let half = path.with_file_name(name);
    let file = File::options().write(true).create_new(true).mode(0o600).open(&half);
    let file = file.map_err(Failure::doing(format!("write {told}")))?;
    let mut writer = io::BufWriter::with_capacity(128 * 1024, file);
    let written = write(&mut writer).and_then(|()| {
        writer.flush().map_err(Failure::doing(format!("write {told}")))?;
        std::fs::rename(&half, path).map_err(Failure::doing(format!("name {told}")))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&half);
    }
    written
}
