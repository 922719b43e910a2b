//! Daemons that live as long as this program, in namespaces of their own: with each ends all that it started.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::cgroups;

use super::contestant::Ground;
use crate::invoke;

/// A program that is killed with all its children when this is dropped, or when this process ends.
pub(in crate::bench) struct Guarded {
    child: Child,
    log: PathBuf,
}

impl Guarded {
    /// Starts it with more namespaces than that of processes, as unshare(1) names them; the other programs of its package
    /// come first in its PATH.
    pub(in crate::bench) fn start(
        program: &Path,
        arguments: &[OsString],
        namespaces: &[&str],
        log: &Path,
    ) -> Result<Self> {
        let place = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            ["bin", "sbin"].map(|name| place.join(name)).into_iter().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).context("write PATH")?;
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ]);
        command.args(namespaces).arg(program).args(arguments).env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(log).with_context(|| format!("make {}", log.display()))?);
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub(in crate::bench) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The last that it has said.
    pub(in crate::bench) fn last(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().next_back().unwrap_or_default().to_owned()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Its child is the first process of a pid namespace: all in it are killed. It has nothing to keep.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How long docker's may take to listen.
const LIMIT: Duration = Duration::from_secs(60);

/// docker's.
pub(super) struct Daemon {
    guarded: Option<Guarded>,
    socket: PathBuf,
    /// Above all containers.
    cgroup: String,
}

impl Daemon {
    /// Starts the daemon that is installed with `docker`, which keeps everything in new directories.
    pub(super) fn start(docker: &Path, Ground { root, run }: Ground<'_>, cgroup: &str) -> Result<Self> {
        let [root, run] = [root, run].map(|place| place.join("docker"));
        for place in [&root, &run] {
            fs::create_dir(place).with_context(|| format!("make {}", place.display()))?;
        }
        let cgroup = format!("{cgroup}-docker");
        let socket = run.join("socket");
        let host = host(&socket);
        let dockerd = beside(docker, "dockerd").context("find dockerd beside docker")?;
        let mut arguments = Vec::from(
            [
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
            ]
            .map(OsString::from),
        );
        arguments.push(format!("--cgroup-parent=/{cgroup}").into());
        let places = [
            ("--data-root", root.join("data")),
            ("--exec-root", run.join("exec")),
            ("--pidfile", run.join("pid")),
        ];
        for (option, place) in places {
            arguments.extend([option.into(), place.into()]);
        }
        arguments.extend(["--host".into(), host.clone()]);
        // It finds no network to change.
        let guarded = Guarded::start(&dockerd, &arguments, &["--net"], &root.join("log"))?;
        let mut daemon = Self { guarded: Some(guarded), socket, cgroup };
        let end = Instant::now() + LIMIT;
        while invoke::quietly(Command::new(docker).arg("--host").arg(&host).arg("version")).is_err() {
            let has_ended = daemon.guarded.as_mut().is_none_or(Guarded::has_ended);
            let said = daemon.guarded.as_ref().map(Guarded::last).unwrap_or_default();
            ensure!(!has_ended && Instant::now() < end, "dockerd does not listen; it says: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    /// By which a client reaches it.
    pub(super) fn host(&self) -> OsString {
        host(&self.socket)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its cgroups can go when nobody is in them.
        drop(self.guarded.take());
        cgroups::remove_all(&self.cgroup);
    }
}

/// Another program of the package that a program is of.
pub(in crate::bench) fn beside(program: &Path, name: &str) -> Option<PathBuf> {
    let place = program.parent()?.parent()?;
    ["sbin", "bin"]
        .map(|directory| place.join(directory).join(name))
        .into_iter()
        .find(|other| other.is_file())
}

fn host(socket: &Path) -> OsString {
    let mut host = OsString::from("unix://");
    host.push(socket);
    host
}
