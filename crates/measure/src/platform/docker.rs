//! docker: an engine with a daemon, the one that the program reaches.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Adapter, Seat, Step, daemon, engine};
use crate::error::Error;
use crate::stats::Failure;

#[derive(Debug)]
pub(super) struct Docker;

impl Docker {
    /// The image of all sandboxes: the arena's name is in that of its seats' root, and no other has it.
    fn image(seat: &Seat) -> String {
        let arena = seat.root.parent().and_then(Path::file_name).unwrap_or_default();
        format!("{}:root", arena.to_string_lossy())
    }

    fn command<Word: AsRef<OsStr>>(program: &Path, words: &[Word]) -> Command {
        let mut command = Command::new(program);
        command.args(words);
        command
    }
}

/// What docker answers in ten seconds, or why it does not.
fn asked(program: &Path, words: &[&str]) -> Result<String, String> {
    let mut asking = Command::new("timeout");
    asking.arg("10").arg(program).args(words).stdin(Stdio::null());
    let answer = asking.output().map_err(|error| error.to_string())?;
    let [said, complaint] =
        [&answer.stdout, &answer.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    match answer.status.code() {
        Some(124) => Err("docker does not answer".to_owned()),
        Some(0) if !said.is_empty() => Ok(said),
        _ => Err(complaint),
    }
}

impl Adapter for Docker {
    fn prepare(&self, program: &Path, seat: &Seat, _: &[String]) -> Result<(), Error> {
        let image = Self::image(seat);
        // Written down first, so that it is removed whatever happens.
        if !seat.leave(&[program.as_os_str(), "rmi".as_ref(), "--force".as_ref(), image.as_ref()])? {
            return Ok(());
        }
        if asked(program, &["info", "--format", "{{.CgroupDriver}}"]).is_ok_and(|driver| driver == "systemd")
        {
            seat.stay()?;
            return Err(Error::Unusable(
                "docker's daemon has its cgroups made by systemd, beside everything that is measured; start one with \
                 --exec-opt native.cgroupdriver=cgroupfs, and let DOCKER_HOST name it"
                    .to_owned(),
            ));
        }
        let import = Self::command(program, &["import", "-", &image]);
        let made = engine::import(&import, &seat.root)?;
        made.or_else(|said| {
            seat.stay()?;
            Err(Error::Unusable(format!(
                "docker makes no image ({said}); its daemon must run, DOCKER_HOST says where"
            )))
        })
    }

    fn has_limits(&self) -> bool {
        true
    }

    /// The daemon has its own state, and is who makes the sandbox.
    fn is_local(&self) -> bool {
        false
    }

    fn has_daemon(&self) -> bool {
        true
    }

    fn makers(&self, program: &Path) -> Result<Vec<u32>, Failure> {
        // Whether DOCKER_HOST says where that is, or a context.
        let host = asked(program, &["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
            .map_err(|why| Failure(format!("find docker's daemon: {why}")))?;
        let socket = host.strip_prefix("unix://");
        let socket = socket
            .ok_or_else(|| Failure(format!("find docker's daemon: {host} is no socket of this machine")))?;
        daemon::behind(Path::new(socket), "dockerd", "containerd")
    }

    fn files(&self, program: &Path) -> Result<PathBuf, Failure> {
        let failed = |why: String| Failure(format!("find docker's files: {why}"));
        let place = asked(program, &["info", "--format", "{{.DockerRootDir}}"]).map_err(failed)?;
        // As the daemon sees it, which may have mounts of its own.
        let root = self.makers(program)?.first().map(|maker| format!("/proc/{maker}/root"));
        Ok(Path::new(&root.unwrap_or_default()).join(place.trim_start_matches('/')))
    }

    fn obstacle(&self, program: &Path) -> Option<String> {
        let answer = asked(program, &["info", "--format", "{{.ServerVersion}}"]);
        answer.err().map(|_| "its daemon does not answer; DOCKER_HOST says where that is".to_owned())
    }

    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut words = engine::run(seat);
        words.push(Self::image(seat).into());
        words.extend(arguments.iter().map(Into::into));
        Self::command(program, &words)
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(Self::command(program, &engine::exec(seat, arguments)))
    }

    fn create(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(Self::command(program, &engine::create(seat, &[Self::image(seat).into()], arguments)))
    }

    fn printed(&self, program: &Path, seat: &Seat) -> Option<Command> {
        Some(Self::command(program, &engine::logs(seat)))
    }

    fn step(&self, program: &Path, seat: &Seat, step: Step) -> Option<Command> {
        Some(Self::command(program, &engine::step(seat, step)))
    }
}
