//! `attach`, and what `run` and `start` share with it: a client that stays until its container ends.

use std::process::ExitCode;

use bulkhead_engine::{Attach as Streams, Session};
use clap::Args;

use crate::failure::Failure;
use crate::home::Home;
use crate::terminal::{self, Ended, Keys, Signals, Stdin};
use crate::verbs::Operation;

/// Seconds for which a container waits for a client that does not read.
const PATIENCE: u32 = 60;

/// Attach this terminal to a running container
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// Leave it by these keys
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: Keys,
    /// Leave the standard input alone
    #[arg(long)]
    no_stdin: bool,
    /// Send signals on to the container
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    /// The container
    container: String,
}

impl Operation for Attach {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Attach { detach_keys, no_stdin, sig_proxy, container } = self;
        let engine = home.engine()?;
        let has_stdin = engine.container(&container)?.request.process.stdin;
        let stdin = has_stdin && !no_stdin;
        let streams = Streams { stdin, stdout: true, stderr: true, patience: PATIENCE, ..Streams::default() };
        let session = engine.attach(&container, streams)?;
        let signals = if sig_proxy { Signals::Proxied } else { Signals::Own };
        follow(session, &Following { stdin, keys: detach_keys, signals })
    }
}

/// How a container is followed.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) stdin: bool,
    pub(super) keys: Keys,
    pub(super) signals: Signals,
}

/// Stays with a container; its code becomes this program's.
pub(super) fn follow(mut session: Session<'_>, following: &Following) -> Result<ExitCode, Failure> {
    let Following { stdin, keys, signals } = following;
    let stdin = if *stdin { Stdin::Attached } else { Stdin::Left };
    match terminal::relay(&mut session, stdin, keys.clone(), *signals)? {
        Ended::Exited(exit) => {
            session.finish()?;
            Ok(ExitCode::from(exit.code))
        }
        Ended::Detached => Ok(ExitCode::SUCCESS),
    }
}
