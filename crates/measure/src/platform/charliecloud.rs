//! Charliecloud: containers for clusters, in a user and a mount namespace.

use std::path::Path;
use std::process::Command;

use super::{Adapter, Seat, WORKING_DIRECTORY};

#[derive(Debug)]
pub(super) struct Charliecloud;

impl Adapter for Charliecloud {
    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(["--write", "--private-tmp", "--no-passwd", "--cd", WORKING_DIRECTORY]).arg(&seat.root);
        command.arg("--").args(arguments);
        command
    }
}
