//! podman: an engine without a daemon, over an OCI runtime of its own choice.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::{Adapter, Seat, Step, engine};
use crate::error::{Doing as _, Error};

/// What podman reads after all other configuration.
const CONFIGURATION: &str = "containers.conf";

#[derive(Debug)]
pub(super) struct Podman;

impl Podman {
    /// podman with storage of its own, so that neither a user's containers nor images are touched. A program that was
    /// unpacked finds its helpers beside it.
    fn command(program: &Path, seat: &Seat, words: &[OsString]) -> Command {
        let mut command = Command::new(program);
        let place = |name: &str| seat.state.join(name);
        command.arg("--root").arg(place("storage")).arg("--runroot").arg(place("run"));
        command.arg("--tmpdir").arg(place("tmp")).arg("--network-config-dir").arg(place("networks"));
        // Nothing is stored; overlayfs would leave a mount behind.
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        if Path::new("/sys/fs/cgroup/unified").exists() {
            // crun, its first choice, does not take cgroups of both versions.
            command.args(["--runtime", "runc"]);
        }
        let own = program.parent().map(|place| [place.to_owned(), place.with_file_name("sbin")]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = own.into_iter().flatten().chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(places) {
            command.env("PATH", path);
        }
        command.env("CONTAINERS_CONF_OVERRIDE", place(CONFIGURATION));
        command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "yes").args(words);
        command
    }

    /// The words for what is run in: its own default of open files is more than an administrator may allow.
    fn root(seat: &Seat) -> Vec<OsString> {
        let words = ["--quiet", "--ulimit", "host", "--rootfs"].into_iter().map(OsString::from);
        words.chain([seat.root.clone().into()]).collect()
    }

    /// Helpers that are called by no name in PATH.
    fn configuration(program: &Path) -> String {
        let up = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
        let places = ["libexec/podman", "lib/podman"].map(|place| up.join(place));
        format!("[engine]\nhelper_binaries_dir = {places:?}\n")
    }
}

impl Adapter for Podman {
    fn prepare(&self, program: &Path, seat: &Seat, _: &[String]) -> Result<(), Error> {
        // The first command of all makes the storage, which no sandbox should pay for.
        if !seat.state.join("storage").exists() {
            let file = seat.state.join(CONFIGURATION);
            std::fs::write(&file, Self::configuration(program))
                .doing(|| format!("write {}", file.display()))?;
            let output = Self::command(program, seat, &["info".into()]).output();
            let output = output.doing(|| format!("start {}", program.display()))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Error::Unusable(format!("podman does not work here: {said}")));
            }
        }
        Ok(())
    }

    fn has_limits(&self) -> bool {
        true
    }

    fn is_local(&self) -> bool {
        false
    }

    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut words = engine::run(seat);
        words.extend(Self::root(seat));
        words.extend(arguments.iter().map(Into::into));
        Self::command(program, seat, &words)
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(Self::command(program, seat, &engine::exec(seat, arguments)))
    }

    fn create(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(Self::command(program, seat, &engine::create(seat, &Self::root(seat), arguments)))
    }

    fn printed(&self, program: &Path, seat: &Seat) -> Option<Command> {
        Some(Self::command(program, seat, &engine::logs(seat)))
    }

    fn step(&self, program: &Path, seat: &Seat, step: Step) -> Option<Command> {
        Some(Self::command(program, seat, &engine::step(seat, step)))
    }
}
