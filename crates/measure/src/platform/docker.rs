//! docker: an engine with a daemon, the one that the program reaches.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Adapter, Seat, Step, daemon, engine};
use crate::error::{Doing as _, Error};
use crate::stats::Failure;

/// Makes an image of the root `$3` under the name `$2`.
const IMPORT: &str = "tar --create --directory \"$3\" . | \"$1\" import - \"$2\"";

#[derive(Debug)]
pub(super) struct Docker;

impl Docker {
    /// The image of all sandboxes: the arena's name is in that of its seats' root, and no other has it.
    fn image(seat: &Seat) -> String {
        let arena = seat.root.parent().and_then(Path::file_name).unwrap_or_default();
        format!("{}:root", arena.to_string_lossy())
    }

    fn command(program: &Path, words: Vec<OsString>) -> Command {
        let mut command = Command::new(program);
        command.args(words);
        command
    }
}

impl Adapter for Docker {
    fn prepare(&self, program: &Path, seat: &Seat, _: &[String]) -> Result<(), Error> {
        let image = Self::image(seat);
        // Written down first, so that it is removed whatever happens.
        if !seat.leave(&[program.as_os_str(), "rmi".as_ref(), "--force".as_ref(), image.as_ref()])? {
            return Ok(());
        }
        let driver = Command::new(program).args(["info", "--format", "{{.CgroupDriver}}"]).output();
        if driver.is_ok_and(|output| output.stdout.trim_ascii() == b"systemd") {
            seat.stay()?;
            return Err(Error::Unusable(
                "docker's daemon has its cgroups made by systemd, beside everything that is measured; start one with \
                 --exec-opt native.cgroupdriver=cgroupfs, and let DOCKER_HOST name it"
                    .to_owned(),
            ));
        }
        let mut import = Command::new("sh");
        import.args(["-euc", IMPORT, "sh"]).arg(program).arg(&image).arg(&seat.root);
        let output = import.output().doing(|| "start sh".to_owned())?;
        // tar's success would hide docker's failure, and the other way round.
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() && output.stdout.starts_with(b"sha256:") {
            return Ok(());
        }
        seat.stay()?;
        Err(Error::Unusable(format!(
            "docker makes no image ({said}); its daemon must run, DOCKER_HOST says where"
        )))
    }

    fn has_limits(&self) -> bool {
        true
    }

    /// The daemon has its own state, and is who makes the sandbox.
    fn is_local(&self) -> bool {
        false
    }

    fn makers(&self, program: &Path) -> Result<Vec<u32>, Failure> {
        let failed = |why: String| Failure(format!("find docker's daemon: {why}"));
        let mut asked = Command::new(program);
        // Whether DOCKER_HOST says where that is, or a context.
        asked.args(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]).stdin(Stdio::null());
        let answer = asked.output().map_err(|error| failed(error.to_string()))?;
        let host = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        let socket = host.strip_prefix("unix://").ok_or_else(|| {
            let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
            let why = if host.is_empty() { said } else { format!("{host} is no socket of this machine") };
            failed(why)
        })?;
        daemon::behind(Path::new(socket), "dockerd", "containerd")
    }

    fn obstacle(&self, program: &Path) -> Option<String> {
        let mut asked = Command::new("timeout");
        asked.arg("10").arg(program).args(["info", "--format", "{{.ServerVersion}}"]).stdin(Stdio::null());
        let answer = asked.output().ok()?;
        let answers = answer.status.success() && !answer.stdout.trim_ascii().is_empty();
        (!answers).then(|| "its daemon does not answer; DOCKER_HOST says where that is".to_owned())
    }

    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut words = engine::run(seat);
        words.push(Self::image(seat).into());
        words.extend(arguments.iter().map(Into::into));
        Self::command(program, words)
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(Self::command(program, engine::exec(seat, arguments)))
    }

    fn step(&self, program: &Path, seat: &Seat, step: Step) -> Option<Command> {
        engine::step(seat, step).map(|words| Self::command(program, words))
    }
}
