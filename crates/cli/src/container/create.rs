//! `create` and `run`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_engine::request::{Attached, Request, Root};
use bulkhead_engine::transfer::Step;
use bulkhead_engine::{Attach, Created, Engine};
use clap::Args;

use super::attach::{Following, follow};
use super::options::{Options, Wanted};
use crate::failure::{Failure, NOT_STARTED, warn};
use crate::home::Home;
use crate::registry::pull;
use crate::terminal::{self, Keys, Signals};
use crate::verbs::Operation;

/// Create a container from an image, to be started later
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead create [OPTIONS] IMAGE [COMMAND] [ARG…]")]
pub(crate) struct Create {
    #[command(flatten)]
    options: Options,
}

/// Create a container from an image and run it
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead run [OPTIONS] IMAGE [COMMAND] [ARG…]")]
pub(crate) struct Run {
    /// Leave it in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Leave it by these keys
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,
    /// Send signals on to the container
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    options: Options,
}

impl Operation for Create {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let wanted = self.options.wanted()?;
        let engine = home.engine().map_err(not_started)?;
        let mut file = wanted.cidfile.as_deref().map(IdFile::claim).transpose()?;
        let created = provided(&engine, &wanted, Failure::from, || engine.create(&wanted.request))?;
        if let Some(file) = &mut file {
            file.write(&created.id).map_err(Failure::doing(format!("write {}", file.path.display())))?;
        }
        created.warnings.iter().for_each(|text| warn(text));
        writeln!(io::stdout(), "{}", created.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Operation for Run {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Run { detach, detach_keys, sig_proxy, options } = self;
        let mut wanted = options.wanted()?;
        if detach {
            if wanted.has_chosen {
                let failure = Failure::new("--attach and --detach contradict each other").code(NOT_STARTED);
                return Err(failure.hint("leave one of them out"));
            }
            wanted.request.attached = Attached::default();
        }
        let attach = if detach { None } else { Some(streams(&wanted)?) };
        let has_terminal = wanted.request.process.terminal && !detach;
        let keys = if has_terminal { Keys::or_configured(detach_keys)? } else { Keys::default() };
        let engine = home.engine().map_err(not_started)?;
        let mut file = wanted.cidfile.as_deref().map(IdFile::claim).transpose()?;
        // The file with the id is there before anything runs that may read it, and whoever is told no more of a container that does
        // not start can remove it by that.
        let mut made = |created: &Created| {
            if detach {
                writeln!(io::stdout(), "{}", created.id)?;
            }
            file.as_mut().map_or(Ok(()), |file| file.write(&created.id))
        };
        let running =
            provided(&engine, &wanted, of_run, || engine.run_told(&wanted.request, attach, &mut made));
        let running = running.map_err(at_least_not_started)?;
        running.created.warnings.iter().for_each(|text| warn(text));
        let Some(session) = running.session else { return Ok(ExitCode::SUCCESS) };
        let signals = if sig_proxy { Signals::Proxied } else { Signals::Own };
        let stdin = attach.is_some_and(|attach| attach.stdin);
        follow(session, &Following { stdin, keys, signals })
    }
}

/// Makes a container of an image, which is pulled before where that is wanted.
fn provided<T>(
    engine: &Engine,
    wanted: &Wanted,
    told: fn(bulkhead_engine::Error) -> Failure,
    mut make: impl FnMut() -> bulkhead_engine::Result<T>,
) -> Result<T, Failure> {
    let Wanted { request, source, progress, .. } = wanted;
    let Root::Image(image) = &request.root else { return make().map_err(told) };
    let fetch = |step| pull::for_container(engine.store(), image, source, step, *progress);
    match source.first(engine.store(), image)? {
        Step::Make => {}
        step => fetch(step)?,
    }
    match make() {
        Err(error) if source.after(image, &error) => {
            fetch(Step::PullMissing)?;
            make().map_err(told)
        }
        made => made.map_err(told),
    }
}

/// A file that nobody has made before, for the id. Without one in it, it goes with this value.
#[derive(Debug)]
struct IdFile {
    path: PathBuf,
    file: File,
    is_written: bool,
}

impl IdFile {
    fn claim(path: &Path) -> Result<IdFile, Failure> {
        let told = path.display();
        let file = File::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let failure =
                    Failure::new(format!("the file {told} for the id is there already")).code(NOT_STARTED);
                failure.hint("it names a container that may run: remove the file, or choose another")
            }
            _ => Failure::new(format!("make {told}: {error}")).code(NOT_STARTED),
        })?;
        Ok(IdFile { path: path.to_owned(), file, is_written: false })
    }

    fn write(&mut self, id: &str) -> io::Result<()> {
        self.is_written = true;
        self.file.write_all(id.as_bytes())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Which streams are attached: those that were named, else output and, if it is to be open, input.
fn streams(wanted: &Wanted) -> Result<Attach, Failure> {
    let Request { attached, process, .. } = &wanted.request;
    let stdin = attached.stdin && process.stdin;
    if process.terminal && stdin {
        terminal::require().map_err(not_started)?;
    }
    Ok(Attach { stdin, stdout: attached.stdout, stderr: attached.stderr, ..Attach::default() })
}

/// What kept a container from running, with docker's code.
fn of_run(error: bulkhead_engine::Error) -> Failure {
    let code = error.exit_code();
    Failure::from(error).code(code)
}

/// Docker's code for what was not started, where there is no other that says more.
fn at_least_not_started(failure: Failure) -> Failure {
    if failure.is_plain() { not_started(failure) } else { failure }
}

fn not_started(failure: Failure) -> Failure {
    failure.code(NOT_STARTED)
}
