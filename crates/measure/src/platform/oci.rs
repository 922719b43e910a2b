//! OCI runtimes, which all understand one command line.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use bulkhead_seccomp::DEFAULT_CAPABILITIES;

use super::{Adapter, Seat, Step, WORKING_DIRECTORY};
use crate::bundle;
use crate::error::{Doing as _, Error};

/// A runtime with these options before the verb.
#[derive(Debug)]
pub(super) struct Oci {
    pub(super) global: &'static [&'static str],
    /// The option that names the file to which what guards the sandbox says why it broke down: nobody else would hear it.
    pub(super) last_words: Option<&'static str>,
}

/// One that needs none.
pub(super) const PLAIN: Oci = Oci { global: &[], last_words: None };

impl Oci {
    fn command(&self, program: &Path, seat: &Seat, words: &[OsString]) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(&seat.state).args(self.global);
        command.args(self.last_words.map(|option| format!("{option}={}", seat.complaints().display())));
        command.args(words);
        command
    }
}

impl Adapter for Oci {
    fn prepare(&self, _: &Path, seat: &Seat, arguments: &[String]) -> Result<(), Error> {
        let root = seat.root.display().to_string();
        let cgroup = seat.cgroup.as_deref().unwrap_or(&seat.id);
        let mut config = bundle::config(&root, arguments, DEFAULT_CAPABILITIES, seat.limits, cgroup)?;
        config.process.get_or_insert_default().cwd = WORKING_DIRECTORY.to_owned();
        let path = seat.bundle.join("config.json");
        let text = serde_json::to_vec(&config).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text)).doing(|| format!("write {}", path.display()))
    }

    fn has_limits(&self) -> bool {
        true
    }

    fn run(&self, program: &Path, seat: &Seat, _: &[String]) -> Command {
        // Options come before the id: crun takes what follows it for something else.
        self.command(
            program,
            seat,
            &["run".into(), "--bundle".into(), seat.bundle.clone().into(), (&seat.id).into()],
        )
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        let words = [OsString::from("exec"), (&seat.id).into()];
        Some(self.command(
            program,
            seat,
            &Vec::from_iter(words.into_iter().chain(arguments.iter().map(Into::into))),
        ))
    }

    fn create(&self, program: &Path, seat: &Seat, _: &[String]) -> Option<Command> {
        let words = ["create".into(), "--bundle".into(), seat.bundle.clone().into(), (&seat.id).into()];
        Some(self.command(program, seat, &words))
    }

    fn step(&self, program: &Path, seat: &Seat, step: Step) -> Option<Command> {
        let id = || OsString::from(&seat.id);
        let words = match step {
            Step::Start => vec!["start".into(), id()],
            Step::Pause => vec!["pause".into(), id()],
            Step::Resume => vec!["resume".into(), id()],
            Step::Kill => vec!["kill".into(), id(), "KILL".into()],
            Step::Delete => vec!["delete".into(), id()],
            Step::Purge => vec!["delete".into(), "--force".into(), id()],
        };
        Some(self.command(program, seat, &words))
    }
}
