//! A process that outlives a measurement which is killed, and takes away what that leaves.
//!
//! It waits for the lock of the measurement's directory ([`claim`](crate::claim)). A measurement that ends as it should has
//! removed the directory by then, and nothing is left to be done.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_sys::{process, signal};

use crate::arena;
use crate::claim::Claim;
use crate::doctor;
use crate::error::{Doing as _, Error};
use crate::guest;

/// What a terminal sends to everybody: a guard lives as long as who is guarded.
const SIGNALS: [rustix::process::Signal; 3] =
    [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::HUP];

/// The guard of one measurement. It is waited for when this is dropped, which must be after the directory is gone.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts `program`, which calls [`keep`] when it is told `measure guard DIRECTORY`.
    pub(crate) fn post(program: &Path, directory: &Path) -> Result<Self, Error> {
        let mut command = Command::new(program);
        command.args(["measure", "guard"]).arg(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).doing(|| format!("start {} as a guard", program.display()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // One that somebody has ended is as good.
        let _ = self.0.wait();
    }
}

/// Waits until the measurement that has `directory` is gone, and takes away what it left.
///
/// # Errors
/// When something is left that cannot be removed.
pub fn keep(directory: &Path) -> Result<(), Error> {
    for signal in SIGNALS {
        signal::ignore(signal.as_raw()).doing(|| "ignore signals".to_owned())?;
    }
    // So that a signal to all of a terminal's foreground, SIGKILL too, does not end both. One that leads already is as good.
    let _ = process::new_session();
    if let Some(room) = Claim::inherit(directory, guest::PREFIX) {
        return room.remove();
    }
    if let Some(abandoned) = Claim::inherit(directory, doctor::PREFIX) {
        return doctor::clear_away(&abandoned);
    }
    Claim::inherit(directory, arena::PREFIX).map_or(Ok(()), |abandoned| arena::clear_away(&abandoned))
}
