//! Who pulls: engines and tools, each with storage of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::platform::{self, Platform};
use bulkhead_measure::record::Measured;
use bulkhead_testkit::daemon::{self, Guarded, Within};

use super::{tool, words};
use crate::bench::engine::{Ground, Podman, bulkhead, docker, ours, podman};
use crate::invoke;

/// How long containerd may take to listen.
const LIMIT: Duration = Duration::from_secs(30);

/// One that takes part.
pub(super) struct Contestant {
    pub(super) measured: Measured,
    /// Whether another process does the work.
    pub(super) has_daemon: bool,
    how: How,
}

enum How {
    Bulkhead(Platform),
    Podman(Podman),
    /// skopeo fetches, umoci unpacks.
    Skopeo {
        skopeo: PathBuf,
        umoci: PathBuf,
    },
    /// containerd by its own client.
    Containerd {
        containerd: PathBuf,
        ctr: PathBuf,
    },
}

/// One pull into storage in which nothing is yet.
pub(super) struct Turn {
    pub(super) pull: Vec<OsString>,
    /// Variables that it reads.
    pub(super) environment: Vec<(&'static str, OsString)>,
    /// Whoever does the work, if that is another process.
    _daemon: Option<Guarded>,
}

/// All, or ours and those that `only` names.
pub(super) fn all(only: &[String]) -> Result<Vec<Contestant>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let bulkhead = bulkhead()?;
    let measured = bulkhead.measured();
    let mut all = vec![Contestant { measured, has_daemon: false, how: How::Bulkhead(bulkhead) }];
    if wanted("podman") {
        let podman = Podman::find()?;
        all.push(Contestant { measured: podman.measured(), has_daemon: false, how: How::Podman(podman) });
    }
    if wanted("skopeo") {
        let (skopeo, umoci) = (tool("skopeo")?, tool("umoci")?);
        let measured = named("skopeo and umoci", &skopeo)?;
        all.push(Contestant { measured, has_daemon: false, how: How::Skopeo { skopeo, umoci } });
    }
    if wanted("containerd") {
        let docker = docker()?.program;
        let beside =
            |name| daemon::beside(&docker, name).with_context(|| format!("find {name} beside docker"));
        let (containerd, ctr) = (beside("containerd")?, beside("ctr")?);
        let measured = named("containerd", &containerd)?;
        all.push(Contestant { measured, has_daemon: true, how: How::Containerd { containerd, ctr } });
    }
    Ok(all)
}

impl Contestant {
    /// Makes what one pull needs on a ground where nothing is.
    pub(super) fn turn(&self, ground: Ground<'_>, reference: &str) -> Result<Turn> {
        let alone = |pull, environment| Turn { pull, environment, _daemon: None };
        Ok(match &self.how {
            How::Bulkhead(bulkhead) => {
                let ours = ours(bulkhead, ground);
                alone(ours.words(&["pull", "--quiet", reference]), ours.environment)
            }
            How::Podman(found) => {
                let podman = podman(found, ground)?;
                let words = podman.words(&["pull", "--quiet", "--tls-verify=false", reference]);
                alone(words, podman.environment)
            }
            How::Skopeo { skopeo, umoci } => {
                const PULL: &str = r#""$1" --insecure-policy copy --quiet --src-tls-verify=false "docker://$4" "oci:$3/layout:1"
                    "$2" unpack --image "$3/layout:1" "$3/bundle""#;
                let mut pull = words(["sh", "-euc", PULL, "sh"]);
                pull.extend([skopeo.into(), umoci.into(), ground.root.into(), reference.into()]);
                alone(pull, Vec::new())
            }
            How::Containerd { containerd, ctr } => with_daemon(containerd, ctr, ground, reference)?,
        })
    }
}

fn with_daemon(containerd: &Path, ctr: &Path, ground: Ground<'_>, reference: &str) -> Result<Turn> {
    let Ground { root, run } = ground;
    let config = root.join("config.toml");
    fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
        .with_context(|| format!("write {}", config.display()))?;
    let socket = run.join("socket");
    let mut arguments = vec!["--config".into(), config.into_os_string()];
    for (option, place) in
        [("--root", root.join("root")), ("--state", run.join("state")), ("--address", socket.clone())]
    {
        arguments.extend([option.into(), place.into()]);
    }
    let mut daemon = Guarded::start(containerd, &arguments, Within::default(), &root.join("log"))
        .context("start containerd")?;
    let call = |words: &[&str]| {
        let begin = [ctr.into(), "--address".into(), socket.clone().into()];
        Vec::from_iter(begin.into_iter().chain(words.iter().map(OsString::from)))
    };
    let end = Instant::now() + LIMIT;
    let version = call(&["version"]);
    while invoke::quietly(Command::new(&version[0]).args(&version[1..])).is_err() {
        ensure!(!daemon.has_ended() && Instant::now() < end, "containerd does not listen: {}", daemon.last());
        std::thread::sleep(Duration::from_millis(100));
    }
    let pull = call(&["image", "pull", "--plain-http", reference]);
    Ok(Turn { pull, environment: Vec::new(), _daemon: Some(daemon) })
}

fn named(name: &str, program: &Path) -> Result<Measured> {
    let chosen = platform::find::chosen(&[format!("{name}={}", program.display())])?;
    Ok(chosen.into_iter().next().context("find it")?.measured())
}
