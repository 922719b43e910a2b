//! Cleaning up after a monitor that died before its container.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use rustix::fs::FlockOperation;

use super::{Error, Lock, Result, lock};
use crate::order::Order;
use crate::status::{Phase, Status};
use crate::{clock, limited, place};

/// Ends a container whose monitor has died, by the runtime's `delete --force`, and writes so into its status, which it
/// returns; `None` when the monitor had not yet written one, or nobody can read it.
///
/// While it works it holds the monitor's lock, so no other monitor can begin here.
///
/// # Errors
/// [`Error::Alive`] when the monitor lives, [`Error::Delete`] when the runtime cannot end the container.
pub fn lost(run_directory: &Path) -> Result<Option<Status>> {
    let lock = match lock(run_directory, FlockOperation::NonBlockingLockExclusive)? {
        Lock::Held => return Err(Error::Alive { run_directory: run_directory.to_owned() }),
        Lock::Taken(lock) => Some(lock),
        Lock::Absent => None,
    };
    let path = run_directory.join(place::ORDER);
    let order = Order::read(&path).map_err(|source| Error::File {
        action: "read the order of a monitor in",
        path,
        source,
    })?;
    delete(&order)?;
    let read = |source| Error::File { action: "read", path: order.status.clone(), source };
    let status = match Status::read(&order.status) {
        Err(error) if error.kind() == ErrorKind::InvalidData => None,
        status => status.map_err(read)?,
    };
    let Some(mut status) = status else { return Ok(None) };
    if status.phase != Phase::Exited {
        // Nobody saw its end, which was between then and now. Of what never ran, or waited, the last one is known.
        if status.phase == Phase::Running {
            status.finished = Some(clock::now());
        }
        status.phase = Phase::Exited;
        status.process = None;
        status.lost = true;
        let written = |source| Error::File { action: "write", path: order.status.clone(), source };
        status.write(&order.status).map_err(written)?;
    }
    // The socket of the dead refuses connections, but a name that means nothing should not be there.
    drop(std::fs::remove_file(run_directory.join(place::SOCKET)));
    drop(lock);
    Ok(Some(status))
}

fn delete(order: &Order) -> Result<()> {
    let failed = |message: String| Error::Delete { message };
    let (program, arguments) =
        order.runtime.split_first().ok_or_else(|| failed("the order names no runtime".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).args(["delete", "--force"]).arg(&order.id);
    let output = limited::removal(&mut command, &order.bundle)
        .map_err(|error| failed(format!("run {program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
}
