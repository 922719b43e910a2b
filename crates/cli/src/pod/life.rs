//! Verbs that change what the containers of pods do.

use std::process::ExitCode;

use bulkhead_engine::store::Kind;
use bulkhead_engine::{Engine, Filters, Force, POD_FILTERS, Stop, pod};
use clap::Args;

use crate::confirm::Asking;
use crate::container::life::{Sent, Stopping, each};
use crate::failure::Failure;
use crate::home::Home;
use crate::verbs::Operation;

/// Which pods are meant.
#[derive(Args, Debug)]
struct Meant {
    /// All pods
    #[arg(short, long, conflicts_with = "pods")]
    all: bool,
    /// The pods
    #[arg(required_unless_present = "all", value_name = "POD")]
    pods: Vec<String>,
}

impl Meant {
    fn names(&self, engine: &Engine) -> Result<Vec<String>, Failure> {
        if !self.all {
            return Ok(self.pods.clone());
        }
        Ok(engine.pods(&Filters::default())?.into_iter().map(|pod| pod.id).collect())
    }

    /// Does something to each, and prints their ids.
    fn each(
        &self,
        home: &Home,
        mut act: impl FnMut(&Engine, &str) -> bulkhead_engine::Result<String>,
    ) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        each(&self.names(&engine)?, |name| Ok(act(&engine, name)?))
    }
}

/// Start all containers of pods
#[derive(Args, Debug)]
pub(crate) struct Start {
    #[command(flatten)]
    meant: Meant,
}

impl Operation for Start {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        self.meant.each(home, Engine::start_pod)
    }
}

/// Stop all containers of pods
#[derive(Args, Debug)]
pub(crate) struct StopAll {
    /// Kill them so many seconds after the signal; -1 for never
    #[arg(
        short = 't',
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// Take a pod that is not there for stopped
    #[arg(short, long)]
    ignore: bool,
    #[command(flatten)]
    meant: Meant,
}

impl Operation for StopAll {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let StopAll { time, ignore, meant } = self;
        let stop = Stop { signal: None, grace: time.map(Stopping::grace) };
        let engine = home.engine()?;
        let names = present(&engine, meant.names(&engine)?, ignore)?;
        each(&names, |name| Ok(engine.stop_pod(name, &stop)?))
    }
}

/// Those of the pods that are there, if the others do not matter.
fn present(engine: &Engine, names: Vec<String>, ignore: bool) -> Result<Vec<String>, Failure> {
    if !ignore {
        return Ok(names);
    }
    let mut found = Vec::new();
    for name in names {
        match engine.pod(&name) {
            Err(error) if error.kind() == Kind::NotFound => {}
            other => found.push(other?.id),
        }
    }
    Ok(found)
}

/// Stop all containers of pods and start them again
#[derive(Args, Debug)]
pub(crate) struct Restart {
    #[command(flatten)]
    meant: Meant,
}

impl Operation for Restart {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        self.meant.each(home, |engine, name| engine.restart_pod(name, &Stop::default()))
    }
}

/// Send the containers of pods a signal
#[derive(Args, Debug)]
pub(crate) struct Kill {
    #[command(flatten)]
    sent: Sent,
    #[command(flatten)]
    meant: Meant,
}

impl Operation for Kill {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let signal = self.sent.number();
        self.meant.each(home, |engine, name| engine.kill_pod(name, signal))
    }
}

/// Freeze all processes of pods
#[derive(Args, Debug)]
pub(crate) struct Pause {
    #[command(flatten)]
    meant: Meant,
}

impl Operation for Pause {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        self.meant.each(home, Engine::pause_pod)
    }
}

/// Let frozen pods go on
#[derive(Args, Debug)]
pub(crate) struct Unpause {
    #[command(flatten)]
    meant: Meant,
}

impl Operation for Unpause {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        self.meant.each(home, Engine::unpause_pod)
    }
}

/// Remove pods with their containers
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Kill containers that run
    #[arg(short, long)]
    force: bool,
    /// Take a pod that is not there for removed
    #[arg(short, long)]
    ignore: bool,
    #[command(flatten)]
    meant: Meant,
}

impl Operation for Remove {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Remove { force, ignore, meant } = self;
        let force = if force { Force::Yes } else { Force::No };
        let engine = home.engine()?;
        let names = present(&engine, meant.names(&engine)?, ignore)?;
        each(&names, |name| Ok(engine.remove_pod(name, force)?))
    }
}

/// Remove pods of which nothing runs
#[derive(Args, Debug)]
pub(crate) struct Prune {
    #[command(flatten)]
    asking: Asking,
}

impl Operation for Prune {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let question = "This removes all pods of which nothing runs, with their containers.";
        if !self.asking.agrees(question)? {
            return Ok(ExitCode::SUCCESS);
        }
        let engine = home.engine()?;
        let filters = ["status=created", "status=exited"];
        let pods = engine.pods(&Filters::parse(&filters, &POD_FILTERS)?)?;
        let names = Vec::from_iter(pods.into_iter().map(|pod: pod::Pod| pod.id));
        each(&names, |name| Ok(engine.remove_pod(name, Force::No)?))
    }
}

/// Tell by the exit code whether a pod is there: 0 if it is, 1 if not
#[derive(Args, Debug)]
pub(crate) struct Exists {
    /// The pod
    pod: String,
}

impl Operation for Exists {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        match home.engine()?.pod(&self.pod) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(error) if error.kind() == Kind::NotFound => Ok(ExitCode::FAILURE),
            Err(error) => Err(error.into()),
        }
    }
}
