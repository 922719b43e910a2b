//! bubblewrap: namespaces for one program, as flatpak uses it.

use std::path::Path;
use std::process::Command;

use super::{Adapter, Seat, WORKING_DIRECTORY};

#[derive(Debug)]
pub(super) struct Bubblewrap;

impl Adapter for Bubblewrap {
    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--bind"]);
        command.arg(&seat.root).args(["/", "--proc", "/proc", "--dev", "/dev", "--chdir", WORKING_DIRECTORY]);
        command.args(arguments);
        command
    }
}
