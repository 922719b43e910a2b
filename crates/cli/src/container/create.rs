//! `create` and `run`.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use bulkhead_engine::{Attach, Engine};
use clap::Args;
use rustix::termios::isatty;

use super::attach::{Following, follow};
use super::options::{Options, Stream, Wanted};
use crate::failure::{Failure, NOT_STARTED};
use crate::home::Home;
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
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: Keys,
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
        let id = create(&engine, &wanted)?;
        writeln!(io::stdout(), "{id}")?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Operation for Run {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Run { detach, detach_keys, sig_proxy, options } = self;
        let wanted = options.wanted()?;
        let attach = if detach { None } else { Some(streams(&wanted)?) };
        let engine = home.engine().map_err(not_started)?;
        // The file with the id is there before anything runs that may read it.
        let (id, session) = if wanted.cidfile.is_some() {
            let id = create(&engine, &wanted).map_err(not_started)?;
            let session = engine.start(&id, attach).map_err(of_run)?;
            (id, session)
        } else {
            let running = engine.run(&wanted.request, attach).map_err(of_run)?;
            (running.created.id, running.session)
        };
        let Some(session) = session else {
            writeln!(io::stdout(), "{id}")?;
            return Ok(ExitCode::SUCCESS);
        };
        let signals = if sig_proxy { Signals::Proxied } else { Signals::Own };
        follow(
            session,
            &Following { stdin: attach.is_some_and(|attach| attach.stdin), keys: detach_keys, signals },
        )
    }
}

fn create(engine: &Engine, wanted: &Wanted) -> Result<String, Failure> {
    let Wanted { request, cidfile, .. } = wanted;
    let file = cidfile.as_deref().map(claim).transpose()?;
    let created = match engine.create(request) {
        Ok(created) => created,
        Err(error) => {
            // Nothing was made that the file could name.
            if let Some(path) = cidfile {
                let _ = std::fs::remove_file(path);
            }
            return Err(error.into());
        }
    };
    if let (Some(mut file), Some(path)) = (file, cidfile) {
        file.write_all(created.id.as_bytes()).map_err(Failure::doing(format!("write {}", path.display())))?;
    }
    Ok(created.id)
}

/// Makes the file for the id, which nobody has made before.
fn claim(path: &Path) -> Result<std::fs::File, Failure> {
    let told = path.display();
    std::fs::File::create_new(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let failure =
                Failure::new(format!("the file {told} for the id is there already")).code(NOT_STARTED);
            failure.hint("it names a container that may run: remove the file, or choose another")
        }
        _ => Failure::new(format!("make {told}: {error}")).code(NOT_STARTED),
    })
}

/// Which streams are attached: those that were named, else output and, if it is to be open, input.
fn streams(wanted: &Wanted) -> Result<Attach, Failure> {
    let Wanted { request, attach, .. } = wanted;
    let has = |stream| attach.is_empty() || attach.contains(&stream);
    let stdin = has(Stream::Stdin) && request.process.stdin;
    if request.process.terminal && stdin && !isatty(rustix::stdio::stdin()) {
        terminal::require().map_err(not_started)?;
    }
    Ok(Attach { stdin, stdout: has(Stream::Stdout), stderr: has(Stream::Stderr), ..Attach::default() })
}

/// What kept a container from running, with docker's code.
fn of_run(error: bulkhead_engine::Error) -> Failure {
    let code = error.exit_code();
    Failure::from(error).code(code)
}

fn not_started(failure: Failure) -> Failure {
    failure.code(NOT_STARTED)
}
