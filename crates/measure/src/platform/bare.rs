//! No wall at all, and the oldest one.

use std::path::Path;
use std::process::Command;

use super::{Adapter, Seat};

/// A process of the host.
#[derive(Debug)]
pub(super) struct Bare;

/// A process of the host with another root.
#[derive(Debug)]
pub(super) struct Chroot;

impl Adapter for Bare {
    fn run(&self, _: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let (program, rest) = arguments.split_first().map_or(("", arguments), |(first, rest)| (first, rest));
        let mut command = Command::new(seat.on_host(program));
        // Where it begins is for whoever starts it to say.
        command.args(rest).env_clear();
        command
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(self.run(program, seat, arguments))
    }
}

impl Adapter for Chroot {
    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.arg(&seat.root).args(arguments).env_clear();
        command
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(self.run(program, seat, arguments))
    }
}
