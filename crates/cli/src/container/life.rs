//! Verbs that change what containers do.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::request::Signal;
use bulkhead_engine::{Attach, CONTAINER_FILTERS, Engine, Force, Grace, Kind, Removal, Stop, Until, Volumes};
use clap::Args;

use super::attach::{Following, follow};
use crate::confirm::{Pruning, UNTIL, tell_freed, tell_removed};
use crate::failure::{Failure, chain, warn};
use crate::home::Home;
use crate::terminal::{self, Keys, Signals};
use crate::verbs::Operation;

/// Start stopped containers
#[derive(Args, Debug)]
pub(crate) struct Start {
    /// Attach to its output, and send signals on
    #[arg(short, long)]
    attach: bool,
    /// Attach to its input, too
    #[arg(short, long)]
    interactive: bool,
    /// Leave it by these keys
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Start {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Start { attach, interactive, detach_keys, containers } = self;
        let engine = home.engine()?;
        if !attach && !interactive {
            return each(&containers, |name| {
                let started = engine.start(name, None).map_err(|error| Failure::from(error).code(1))?;
                started.warnings.iter().for_each(|text| warn(text));
                Ok(name.to_owned())
            });
        }
        let [container] = containers.as_slice() else {
            let failure = Failure::new("one terminal attaches to one container at a time");
            return Err(failure.hint("leave out -a and -i, and look at `bulkhead logs -f`"));
        };
        let process = engine.container(container)?.request.process;
        let stdin = interactive && process.stdin;
        let (keys, size) = match process.terminal {
            true => (Keys::or_configured(detach_keys)?, terminal::size()),
            false => (Keys::default(), None),
        };
        let streams = Attach { stdin, stdout: true, stderr: true, size, ..Attach::default() };
        let started = engine.start(container, Some(streams))?;
        started.warnings.iter().for_each(|text| warn(text));
        match started.session {
            Some(session) => follow(session, &Following { stdin, keys, signals: Signals::Proxied }),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

/// How containers are stopped.
#[derive(Args, Debug)]
pub(crate) struct Stopping {
    /// Send this signal first
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<Signal>,
    /// Kill it so many seconds after that; -1 for never
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
}

impl Stopping {
    fn stop(&self) -> Stop {
        let Stopping { signal, timeout } = self;
        Stop { signal: signal.map(Signal::number), grace: timeout.map(Self::grace) }
    }

    /// How long it may take; a negative number is for ever.
    pub(crate) fn grace(seconds: i64) -> Grace {
        match u32::try_from(seconds) {
            Ok(seconds) => Grace::Seconds(seconds),
            Err(_) => Grace::Unlimited,
        }
    }
}

/// Stop running containers
#[derive(Args, Debug)]
pub(crate) struct StopOptions {
    #[command(flatten)]
    stopping: Stopping,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for StopOptions {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let stop = self.stopping.stop();
        on_each(home, &self.containers, |engine, name| Ok(engine.stop(name, &stop)?))
    }
}

/// Stop containers and start them again
#[derive(Args, Debug)]
pub(crate) struct Restart {
    #[command(flatten)]
    stopping: Stopping,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Restart {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let stop = self.stopping.stop();
        on_each(home, &self.containers, |engine, name| Ok(engine.restart(name, &stop)?))
    }
}

/// What is sent.
#[derive(Args, Debug)]
pub(crate) struct Sent {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: Signal,
}

impl Sent {
    pub(crate) fn number(&self) -> i32 {
        self.signal.number()
    }
}

/// Send running containers a signal
#[derive(Args, Debug)]
pub(crate) struct Kill {
    #[command(flatten)]
    sent: Sent,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Kill {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        on_each(home, &self.containers, |engine, name| Ok(engine.kill(name, self.sent.number())?))
    }
}

/// Freeze all processes of containers
#[derive(Args, Debug)]
pub(crate) struct Pause {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Pause {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        on_each(home, &self.containers, |engine, name| Ok(engine.pause(name)?))
    }
}

/// Let frozen containers go on
#[derive(Args, Debug)]
pub(crate) struct Unpause {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Unpause {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        on_each(home, &self.containers, |engine, name| Ok(engine.unpause(name)?))
    }
}

/// Wait until containers have ended, and print their codes
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Wait {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        each(&self.containers, |name| Ok(engine.wait(name, Until::NotRunning)?.to_string()))
    }
}

/// Remove containers
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Remove volumes without a name with them
    #[arg(short, long)]
    volumes: bool,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Remove {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Remove { force, volumes, containers } = self;
        let removal = Removal {
            force: if force { Force::Yes } else { Force::No },
            volumes: if volumes { Volumes::Remove } else { Volumes::Keep },
        };
        let engine = home.engine()?;
        let code = each_that_is(&containers, |name| match engine.remove(name, removal) {
            // As docker's: what is not there need not be removed.
            Err(error) if force && error.kind() == Kind::NotFound => {
                warn(&chain(&error));
                Ok(None)
            }
            removed => Ok(removed.map(|_| Some(name.to_owned()))?),
        })?;
        engine.finish_removals()?;
        Ok(code)
    }
}

/// Remove containers that do not run
#[derive(Args, Debug)]
pub(crate) struct Prune {
    #[command(flatten)]
    pruning: Pruning,
}

impl Operation for Prune {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let warning = "This removes all containers that do not run.";
        let keys = [&CONTAINER_FILTERS[..], &[UNTIL]].concat();
        let Some((filters, until)) = self.pruning.agreed_until(warning, &keys)? else {
            return Ok(ExitCode::SUCCESS);
        };
        let pruned = home.engine()?.prune_containers(&filters, until)?;
        tell_removed("Containers", &pruned.names)?;
        tell_freed(pruned.bytes)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Name a container anew
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// The container
    container: String,
    /// Its new name
    name: String,
}

impl Operation for Rename {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        home.engine()?.rename(&self.container, &self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Does something to each container, and prints what it was called by.
fn on_each(
    home: &Home,
    names: &[String],
    mut act: impl FnMut(&Engine, &str) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let engine = home.engine()?;
    each(names, |name| act(&engine, name).map(|()| name.to_owned()))
}

/// Does something for each name, and prints what comes of it. What fails is told, and keeps none of the others from it.
pub(crate) fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<String, Failure>,
) -> Result<ExitCode, Failure> {
    each_that_is(names, |name| act(name).map(Some))
}

/// As [`each`], and prints nothing of what need not be there and is not.
pub(crate) fn each_that_is(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<Option<String>, Failure>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(Some(text)) => writeln!(io::stdout(), "{text}")?,
            Ok(None) => {}
            Err(Failure::Unread) => return Err(Failure::Unread),
            Err(failure) => {
                failure.report();
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
