//! `attach`, and what `run` and `start` share with it: a client that stays until its container ends.

use std::process::ExitCode;

use bulkhead_engine::{Attach as Streams, Session, Size};
use clap::Args;

use crate::failure::{Failure, chain, warn};
use crate::home::Home;
use crate::terminal::{self, Ended, Keys, Signals, Stdin};
use crate::verbs::Operation;

/// Seconds for which a container waits for a client that does not read.
const PATIENCE: u32 = 60;

/// Attach this terminal to a running container
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// Leave it by these keys
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,
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
        let process = engine.container(&container)?.request.process;
        let stdin = process.stdin && !no_stdin;
        let keys = if process.terminal { Keys::or_configured(detach_keys)? } else { Keys::default() };
        let streams = Streams { stdin, stdout: true, stderr: true, patience: PATIENCE, ..Streams::default() };
        let session = engine.attach(&container, streams)?;
        if process.terminal
            && let Some(Size { rows, columns }) = terminal::size()
        {
            // A program draws its screen again only when the size changes: first to another, then to this one. What is not
            // taken is said again with the next change.
            let other = Size { rows: rows.saturating_add(1), columns };
            session.resize(other).map_err(|error| Failure::new(chain(&error)))?;
        }
        let signals = if sig_proxy { Signals::Proxied } else { Signals::Own };
        follow(session, &Following { stdin, keys, signals })
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
        Ended::Exited(code) => {
            if session.is_cut_short() {
                warn("the container's monitor died just after the container: its last output may be missing");
            }
            // What follows the end may fail, and the code is the process's all the same.
            if let Err(error) = session.finish() {
                Failure::from(error).report();
            }
            Ok(ExitCode::from(code))
        }
        Ended::Detached | Ended::Gone | Ended::Signalled(_) => Ok(ExitCode::SUCCESS),
    }
}
