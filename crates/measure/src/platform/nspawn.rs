//! systemd-nspawn: systemd's own containers, here without systemd.

use std::path::Path;
use std::process::Command;

use super::{Adapter, Seat, WORKING_DIRECTORY};

#[derive(Debug)]
pub(super) struct Nspawn;

impl Adapter for Nspawn {
    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--private-network"]);
        command.arg(format!("--machine={}", seat.id)).arg(format!("--chdir={WORKING_DIRECTORY}"));
        command.arg("--directory").arg(&seat.root).arg("--").args(arguments);
        command
    }
}
