//! Daemons that live as long as who started them, in namespaces of their own: with each ends all that it started.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::sandbox::slowness;

/// Goes into a cgroup and becomes a program.
const JOIN: &str = r#"echo 0 > "$0/cgroup.procs"; exec "$@""#;

/// Where a daemon is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Within<'a> {
    /// More namespaces than that of processes, as unshare(1) names them.
    pub namespaces: &'a [&'a str],
    /// The directory of its cgroup; that of who starts it where there is none.
    pub cgroup: Option<&'a Path>,
    /// Directories of programs that come first in its PATH, behind those of its package.
    pub programs: &'a [PathBuf],
}

/// A program that is killed with all its children when this is dropped, or when this process ends.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    log: PathBuf,
}

impl Guarded {
    /// Starts it, and has what it complains written to the file `log`; the other programs of its package come first in its PATH.
    ///
    /// # Errors
    /// When the log cannot be made, or the program not be started.
    pub fn start(program: &Path, arguments: &[OsString], within: Within<'_>, log: &Path) -> Result<Self> {
        let place = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let path =
            ["bin", "sbin"].map(|name| place.join(name)).into_iter().chain(within.programs.iter().cloned());
        let path = path.chain(std::env::split_paths(&usual));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]);
        command.arg("--mount-proc").args(within.namespaces);
        if let Some(cgroup) = within.cgroup {
            command.args(["sh", "-ec", JOIN]).arg(cgroup);
        }
        command.arg(program).args(arguments).env("PATH", std::env::join_paths(path).map_err(Error::other)?);
        let extensions = Vec::from_iter(within.programs.iter().filter_map(|place| extensions(place)));
        if !extensions.is_empty() {
            command.env("XTABLES_LIBDIR", std::env::join_paths(extensions).map_err(Error::other)?);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
        Ok(Self { child: command.spawn()?, log: log.to_owned() })
    }

    /// The file in `/proc` of its network namespace.
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id()).into()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The last line that it has complained.
    pub fn last(&self) -> String {
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

/// What networks docker's daemon has, in a network namespace of its own.
#[derive(Debug, Clone, Copy)]
pub enum Networks<'a> {
    /// It makes none, and changes no rules.
    None,
    /// Its own bridge and rules, which it makes by `iptables` and its like, found in these directories.
    Bridge(&'a [PathBuf]),
}

/// docker's daemon, which makes cgroups itself.
#[derive(Debug)]
pub struct Dockerd {
    guarded: Guarded,
    socket: PathBuf,
}

impl Dockerd {
    /// Starts the daemon of the package that the client `docker` is of, and waits until it answers. What lasts is in the directory
    /// `root`, the rest in `run`; `more` are options of its own.
    ///
    /// # Errors
    /// When there is none, or it does not answer within a minute.
    pub fn start(
        docker: &Path,
        [root, run]: [&Path; 2],
        cgroup: Option<&Path>,
        networks: Networks<'_>,
        more: &[OsString],
    ) -> Result<Self> {
        let dockerd = beside(docker, "dockerd");
        let dockerd = dockerd.ok_or_else(|| Error::other("dockerd is not beside docker"))?;
        let socket = run.join("socket");
        let mut arguments = Vec::from(["--exec-opt", "native.cgroupdriver=cgroupfs"].map(OsString::from));
        let programs = match networks {
            Networks::None => {
                let none = ["--bridge=none", "--iptables=false", "--ip6tables=false"];
                arguments.extend(none.map(OsString::from));
                &[]
            }
            Networks::Bridge(programs) => programs,
        };
        let places = [
            ("--data-root", root.join("data")),
            ("--exec-root", run.join("exec")),
            ("--pidfile", run.join("pid")),
        ];
        for (option, place) in places {
            arguments.extend([option.into(), place.into()]);
        }
        let host = host(&socket);
        arguments.extend(["--host".into(), host.clone()]);
        arguments.extend_from_slice(more);
        let within = Within { namespaces: &["--net"], cgroup, programs };
        let mut guarded = Guarded::start(&dockerd, &arguments, within, &root.join("log"))?;
        let end = Instant::now() + LIMIT * slowness();
        let mut asking = Command::new(docker);
        asking.arg("--host").arg(&host).arg("version").stdin(Stdio::null());
        asking.stdout(Stdio::null()).stderr(Stdio::null());
        while !asking.status()?.success() {
            if guarded.has_ended() || Instant::now() > end {
                return Err(Error::other(format!("dockerd does not listen; it says: {}", guarded.last())));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { guarded, socket })
    }

    /// By which a client reaches it.
    pub fn host(&self) -> OsString {
        host(&self.socket)
    }

    /// The file in `/proc` of its network namespace, in which its ports are published.
    pub fn network(&self) -> PathBuf {
        self.guarded.network()
    }
}

/// The extensions of the iptables(8) that lies in a directory of programs, if there are any: it looks for them below `/usr` only.
fn extensions(programs: &Path) -> Option<PathBuf> {
    let libraries = format!("lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
    Some(programs.parent()?.join(libraries)).filter(|place| place.is_dir())
}

/// Another program of the package that a program is of.
pub fn beside(program: &Path, name: &str) -> Option<PathBuf> {
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
