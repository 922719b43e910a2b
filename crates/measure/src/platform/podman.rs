//! podman: an engine without a daemon, over an OCI runtime of its own choice.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::bare::WORKING_DIRECTORY;
use super::{Adapter, Seat, Step};
use crate::bundle::Limits;
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

    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut words: Vec<OsString> =
            ["run", "--rm", "--interactive", "--quiet"].into_iter().map(Into::into).collect();
        let options = [
            ("--name", seat.id.clone()),
            ("--network", "none".to_owned()),
            ("--cap-drop", "MKNOD".to_owned()),
            ("--workdir", WORKING_DIRECTORY.to_owned()),
            // Its own default is more than an administrator may allow.
            ("--ulimit", "host".to_owned()),
        ];
        let cgroup = seat.cgroup.iter().map(|cgroup| ("--cgroup-parent", cgroup.clone()));
        let limits = seat.limits.iter().flat_map(|limits| {
            let &Limits { memory, milli_cpus, tasks } = limits;
            let cpus = format!("{}.{:03}", milli_cpus / 1000, milli_cpus % 1000);
            [("--memory", format!("{memory}b")), ("--cpus", cpus), ("--pids-limit", tasks.to_string())]
        });
        for (name, value) in options.into_iter().chain(cgroup).chain(limits) {
            words.extend([name.into(), value.into()]);
        }
        words.extend(["--rootfs".into(), seat.root.clone().into()]);
        words.extend(arguments.iter().map(Into::into));
        Self::command(program, seat, &words)
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        let words = ["exec".into(), OsString::from(&seat.id)].into_iter();
        Some(Self::command(program, seat, &Vec::from_iter(words.chain(arguments.iter().map(Into::into)))))
    }

    fn step(&self, program: &Path, seat: &Seat, step: Step) -> Option<Command> {
        let words: &[&str] = match step {
            // Its program's output would go to whoever attaches, which is another thing to time.
            Step::Create | Step::Start | Step::Kill | Step::Delete => return None,
            Step::Pause => &["pause"],
            Step::Resume => &["unpause"],
            Step::Purge => &["rm", "--force", "--time", "0"],
        };
        let words = words.iter().map(OsString::from).chain([OsString::from(&seat.id)]);
        Some(Self::command(program, seat, &Vec::from_iter(words)))
    }
}
