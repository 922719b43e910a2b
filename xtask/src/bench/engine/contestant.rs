//! Engines with docker's command line, each with storage of its own and the same image.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use bulkhead_measure::platform::{self, Platform};
use bulkhead_measure::record::Measured;
use bulkhead_measure::stats::Failure;
use bulkhead_testkit::daemon::beside;

use super::daemon::{Daemon, Ports};
use crate::bench::platform::Contestants;
use crate::{invoke, networks, shipped};

/// The name of the image, which nobody would look for elsewhere.
pub(in crate::bench) const IMAGE: &str = "localhost/bench:1";

/// The image, in the directory of all contestants.
const ARCHIVE: &str = "image.tar";

/// What ends containers at once for docker and for us.
const FORCED: &[&str] = &["rm", "--force"];

/// A program that lasts.
pub(super) const SLEEP: &[&str] = &["busybox", "sleep", "1000"];

/// Where engines keep things: what lasts, and what is gone when the machine starts anew, as they have it by default.
#[derive(Clone, Copy)]
pub(in crate::bench) struct Ground<'a> {
    pub(in crate::bench) root: &'a Path,
    pub(in crate::bench) run: &'a Path,
}

/// An engine.
pub(in crate::bench) struct Contestant {
    pub(in crate::bench) measured: Measured,
    /// The program with the options that stand before the verb.
    begin: Vec<OsString>,
    /// The verb by which it removes containers that run, without waiting for them to heed a signal.
    removal: &'static [&'static str],
    /// Variables that it reads.
    pub(in crate::bench) environment: Vec<(&'static str, OsString)>,
}

impl Contestant {
    /// A whole command line.
    pub(in crate::bench) fn words(&self, words: &[&str]) -> Vec<OsString> {
        self.begin.iter().cloned().chain(words.iter().map(OsString::from)).collect()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.begin[0]);
        command
            .args(&self.begin[1..])
            .args(words)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Has it do everything from now on in another network namespace, whose file this is.
    pub(in crate::bench) fn enter(&mut self, network: &Path) {
        let mut option = OsString::from("--net=");
        option.push(network);
        self.begin.splice(0..0, [OsString::from("nsenter"), option]);
    }

    /// Calls it for the effect.
    pub(in crate::bench) fn call(&self, words: &[&str]) -> Result<(), Failure> {
        invoke::quietly(&mut self.command(words)).map_err(|error| Failure(format!("{error:#}")))
    }

    /// Removes the containers with a label; what cannot be removed shows in the next turn.
    pub(super) fn remove(&self, label: &str) {
        let filter = format!("label={label}");
        self.remove_listed(&["ps", "--all", "--quiet", "--filter", &filter]);
    }

    /// Removes all containers.
    pub(in crate::bench) fn clear(&self) {
        self.remove_listed(&["ps", "--all", "--quiet"]);
    }

    fn remove_listed(&self, list: &[&str]) {
        let Ok(ids) = invoke::text(&mut self.command(list)) else { return };
        let ids = Vec::from_iter(ids.split_whitespace());
        if !ids.is_empty() {
            drop(invoke::quietly(self.command(self.removal).args(ids)));
        }
    }
}

/// Those that are there, ours first, with the image; and docker's daemon. `only` names those wanted beside ours, all when
/// empty.
pub(in crate::bench) fn engines(
    made: &Contestants,
    run: &Path,
    only: &[String],
) -> Result<(Vec<Contestant>, Daemon)> {
    let directory = made.directory();
    let ground = Ground { root: directory, run };
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let docker = docker()?;
    let programs = programs()?;
    let daemon = Daemon::start(&docker.program, ground, &made.claimed(), &programs, Ports::Kernel)?;
    let docker = of_daemon(&docker, &daemon);
    let archive = directory.join(ARCHIVE);
    make_archive(&docker, &made.image(), &archive)?;
    let mut engines = vec![ours(&bulkhead()?, ground)];
    if wanted("podman") {
        let mut podman = podman(&Podman::find()?, ground)?;
        podman.environment.push(("PATH", with_path(&programs)?));
        engines.push(podman);
    }
    for engine in &engines {
        invoke::quietly(engine.command(&["load", "--quiet", "--input"]).arg(&archive))
            .with_context(|| format!("give {} the image", engine.measured.name))?;
    }
    if wanted("docker") {
        engines.push(docker);
    }
    Ok((engines, daemon))
}

/// Another docker, whose daemon has a program carry what is asked for at the host's loopback, with the image that [`engines`] has made.
pub(in crate::bench) fn docker_with_proxy(made: &Contestants, run: &Path) -> Result<(Contestant, Daemon)> {
    let [root, run] = [made.directory(), run].map(|place| place.join("with-proxy"));
    for place in [&root, &run] {
        std::fs::create_dir(place).with_context(|| format!("make {}", place.display()))?;
    }
    let docker = docker()?;
    let (ground, claimed) = (Ground { root: &root, run: &run }, format!("{}-proxy", made.claimed()));
    let daemon = Daemon::start(&docker.program, ground, &claimed, &programs()?, Ports::Program)?;
    let engine = of_daemon(&docker, &daemon);
    invoke::quietly(engine.command(&["load", "--quiet", "--input"]).arg(made.directory().join(ARCHIVE)))
        .context("give docker with its proxy the image")?;
    Ok((engine, daemon))
}

fn of_daemon(docker: &Platform, daemon: &Daemon) -> Contestant {
    Contestant {
        begin: vec![docker.program.clone().into(), "--host".into(), daemon.host()],
        measured: docker.measured(),
        removal: FORCED,
        environment: Vec::new(),
    }
}

/// The directories of the programs by which others make networks: `iptables`, `nft`.
fn programs() -> Result<Vec<PathBuf>> {
    let trees = networks::ensure()?;
    // The newest may need a newer C library than the machine has.
    let own = trees.first().context("no programs for networks were unpacked")?;
    Ok(["usr/sbin", "usr/bin"].map(|place| own.join(place)).into())
}

/// PATH, with these directories first.
fn with_path(programs: &[PathBuf]) -> Result<OsString> {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let all = programs.iter().cloned().chain(std::env::split_paths(&usual));
    std::env::join_paths(all).context("put PATH together")
}

/// A docker that was installed or unpacked with its daemon, the newest first.
pub(in crate::bench) fn docker() -> Result<Platform> {
    let all = platform::find::all()?;
    let mut found = all.into_iter().filter(|entry| entry.kind.name == "docker").flat_map(|entry| entry.found);
    let whole = found.find(|docker| beside(&docker.program, "dockerd").is_some());
    whole.context("docker is not here with its daemon: cargo xtask peers fetches it")
}

fn find(name: &str) -> Result<Platform> {
    let chosen = platform::find::chosen(&[name.to_owned()]).context("cargo xtask peers fetches it")?;
    chosen.into_iter().next().with_context(|| format!("find {name}"))
}

/// The root of all contestants, as an image in docker's archive.
fn make_archive(docker: &Contestant, root: &Path, archive: &Path) -> Result<()> {
    const MAKE: &str = r#"root=$1 archive=$2; shift 2
        tar --create --directory "$root" . | "$@" import - "$IMAGE"
        "$@" save --output "$archive" "$IMAGE""#;
    let mut command = Command::new("sh");
    command.args(["-euc", MAKE, "sh"]).arg(root).arg(archive).args(&docker.begin).env("IMAGE", IMAGE);
    invoke::quietly(&mut command).context("make the image")
}

/// Ours, built.
pub(in crate::bench) fn bulkhead() -> Result<Platform> {
    let program = shipped::build_engine()?;
    let chosen = platform::find::chosen(&[format!("bulkhead={}", program.display())])?;
    chosen.into_iter().next().context("find bulkhead")
}

/// Ours on a ground.
pub(in crate::bench) fn ours(platform: &Platform, Ground { root, run }: Ground<'_>) -> Contestant {
    let [root, run] = [root, run].map(|place| place.join("bulkhead").into_os_string());
    let program = platform.program.clone().into_os_string();
    let begin = vec![program, "--root".into(), root, "--run".into(), run];
    Contestant { measured: platform.measured(), begin, removal: FORCED, environment: Vec::new() }
}

/// podman over crun, its first choice, both of the newest there is.
pub(in crate::bench) struct Podman {
    podman: Platform,
    crun: Platform,
}

impl Podman {
    pub(in crate::bench) fn find() -> Result<Self> {
        Ok(Self { podman: find("podman")?, crun: find("crun")? })
    }

    pub(in crate::bench) fn measured(&self) -> Measured {
        self.podman.measured()
    }
}

/// podman on a ground.
pub(in crate::bench) fn podman(
    Podman { podman, crun }: &Podman,
    Ground { root, run }: Ground<'_>,
) -> Result<Contestant> {
    let conmon = podman.program.with_file_name("conmon");
    let mut begin = vec![podman.program.clone().into_os_string()];
    let places = [("--root", root, "storage"), ("--network-config-dir", root, "networks")];
    for (option, place, name) in
        places.into_iter().chain([("--runroot", run, "run"), ("--tmpdir", run, "tmp")])
    {
        begin.extend([option.into(), place.join("podman").join(name).into_os_string()]);
    }
    begin.extend(["--cgroup-manager", "cgroupfs", "--events-backend", "none"].map(OsString::from));
    begin.extend([
        "--runtime".into(),
        crun.program.clone().into_os_string(),
        "--conmon".into(),
        conmon.into(),
    ]);
    // Helpers that were unpacked are called by no name in PATH.
    let up = podman.program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let places = ["libexec/podman", "lib/podman"].map(|place| up.join(place));
    let configuration = root.join("podman.conf");
    std::fs::write(&configuration, format!("[engine]\nhelper_binaries_dir = {places:?}\n"))
        .with_context(|| format!("write {}", configuration.display()))?;
    let environment = vec![
        ("CONTAINERS_CONF_OVERRIDE", configuration.into_os_string()),
        ("HOME", home_with_policy(root)?.into_os_string()),
        ("PODMAN_IGNORE_CGROUPSV1_WARNING", "yes".into()),
    ];
    let removal = &["rm", "--force", "--time", "0"];
    Ok(Contestant { measured: podman.measured(), begin, removal, environment })
}

/// A home in which podman finds what an installed one has below `/etc`: whose images it takes, which are everybody's.
fn home_with_policy(root: &Path) -> Result<PathBuf> {
    let home = root.join("home");
    let place = home.join(".config/containers");
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let policy = place.join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
        .with_context(|| format!("write {}", policy.display()))?;
    Ok(home)
}
