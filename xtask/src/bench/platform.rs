//! What is measured: runtimes that all understand the same command line, and the floor.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use bulkhead_measure::bundle::{self, Limits};
use bulkhead_measure::cgroups;
use bulkhead_measure::claim::{self, Claim};
use bulkhead_seccomp::{DEFAULT_CAPABILITIES, NATIVE};
use bulkhead_spec::Config;

use super::yardstick;
use crate::peers::{self, Peer};
use crate::{cache, invoke, shipped};

/// Docker's default but for this one: what it opens, mknod, no ordinary program uses.
const LEFT_OUT: &str = "CAP_MKNOD";

/// What each container may use.
const LIMITS: Limits = Limits { memory: 512 << 20, milli_cpus: 1000, tasks: 512 };

/// Something that can start a container.
pub(super) struct Platform {
    /// As the report calls it.
    pub(super) name: String,
    /// The command that runs the container once, to the end.
    pub(super) run: Vec<OsString>,
    /// None for the floor, which cannot do more than `run`.
    pub(super) runtime: Option<Runtime>,
    cgroup: String,
}

/// A runtime with a bundle of its own.
pub(super) struct Runtime {
    program: PathBuf,
    bundle: PathBuf,
    state: PathBuf,
    config: Config,
}

/// The name of our own runtime.
const OURS: &str = "bulkrun";

/// Begins the name of the directory, and of every cgroup.
const PREFIX: &str = "bh-bench-";

/// Everything below one directory, removed at the end.
pub(super) struct Platforms {
    pub(super) platforms: Vec<Platform>,
    claim: Claim,
}

impl Platforms {
    /// Builds ours, fetches the peers, and gives each a bundle. `only` names those wanted, all when empty.
    ///
    /// What a benchmark left that was killed is removed before.
    pub(super) fn make(only: &[String]) -> Result<Self> {
        remove_abandoned(&std::env::temp_dir())?;
        let mut made = Self { platforms: Vec::new(), claim: Claim::make(&std::env::temp_dir(), PREFIX)? };
        make_image(&made.image())?;
        let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
        if wanted("floor") {
            made.add_floor()?;
        }
        let mut runtimes = Vec::new();
        if wanted(OURS) {
            runtimes.push(Peer { name: OURS.to_owned(), program: shipped::build(&shipped::BULKRUN)? });
        }
        if only.is_empty() || !only.iter().all(|part| "floor bulkrun".contains(part.as_str())) {
            runtimes.extend(peers::all()?.into_iter().filter(|peer| wanted(&peer.name)));
        }
        runtimes.into_iter().try_for_each(|runtime| made.add_runtime(runtime))?;
        Ok(made)
    }

    pub(super) fn directory(&self) -> &Path {
        self.claim.path()
    }

    /// Our own program, if it takes part.
    pub(super) fn program(&self) -> Option<&Path> {
        let ours = self.platforms.iter().find(|platform| platform.name == OURS)?;
        Some(&ours.runtime.as_ref()?.program)
    }

    fn image(&self) -> PathBuf {
        self.directory().join("image")
    }

    fn next_cgroup(&self) -> String {
        format!("{}-{}", self.claim.name(), self.platforms.len())
    }

    fn add_runtime(&mut self, Peer { name, program }: Peer) -> Result<()> {
        let cgroup = self.next_cgroup();
        let bundle = self.directory().join(&cgroup);
        let state = bundle.join("state");
        fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
        let runtime = Runtime { program, config: config(&self.image(), &cgroup)?, bundle, state };
        runtime.write_config(&runtime.config)?;
        let run = runtime.words("run", &cgroup);
        self.platforms.push(Platform { name, run, runtime: Some(runtime), cgroup });
        Ok(())
    }

    fn add_floor(&mut self) -> Result<()> {
        let cgroup = self.next_cgroup();
        let program = yardstick::compile("floor", self.directory())?;
        let state = self.directory().join("floor-state");
        fs::create_dir(&state).context("make the floor's state directory")?;
        let config = config(&self.image(), &cgroup)?;
        let config_path = self.directory().join("floor.json");
        fs::write(&config_path, serde_json::to_vec(&config)?).context("write the floor's configuration")?;
        let filter = self.directory().join("floor.bpf");
        fs::write(&filter, filter_bytes(&config)?).context("write the floor's filter")?;
        let mut run = vec![program.into_os_string(), self.image().into(), cgroup.clone().into()];
        run.extend([filter.into(), config_path.into(), state.into_os_string()]);
        run.extend(cgroups::hierarchies().into_iter().map(OsString::from));
        self.platforms.push(Platform { name: "floor".to_owned(), run, runtime: None, cgroup });
        Ok(())
    }
}

impl Drop for Platforms {
    fn drop(&mut self) {
        self.platforms.iter().for_each(Platform::clean_up);
        if let Err(error) = fs::remove_dir_all(self.directory()) {
            eprintln!("could not remove {}: {error}", self.directory().display());
        }
    }
}

/// Another platform's runtime has no part in this: what is left of a container is a directory and its cgroups.
fn remove_abandoned(place: &Path) -> Result<()> {
    for claim in claim::abandoned(place, PREFIX)? {
        cgroups::named_after(claim.name()).iter().for_each(|cgroup| cgroups::remove_all(cgroup));
        cache::remove(claim.path())?;
    }
    Ok(())
}

impl Platform {
    /// Removes whatever a failed run left, so that the next one meets a clean machine.
    pub(super) fn clean_up(&self) {
        if let Some(runtime) = &self.runtime {
            let words = runtime.words("delete", &self.cgroup);
            // Where there is nothing to delete this fails, as it should.
            drop(invoke::quietly(Command::new("timeout").arg("10").args(words)));
        }
        cgroups::remove_all(&self.cgroup);
    }

    /// The same run with another memory limit, in bytes.
    pub(super) fn with_memory(&self, limit: i64, check: impl FnOnce(&Self) -> bool) -> Result<bool> {
        let Some(runtime) = &self.runtime else { return Ok(false) };
        let mut config = runtime.config.clone();
        let resources = config.linux.as_mut().and_then(|linux| linux.resources.as_mut());
        if let Some(memory) = resources.and_then(|resources| resources.memory.as_mut()) {
            memory.limit = Some(limit);
        }
        runtime.write_config(&config)?;
        let answer = check(self);
        runtime.write_config(&runtime.config)?;
        Ok(answer)
    }

    /// Creates the container and deletes it; tells whether that worked.
    pub(super) fn creates(&self) -> bool {
        let Some(runtime) = &self.runtime else { return false };
        let words = runtime.words("create", &self.cgroup);
        // The container inherits these: with a pipe, waiting for its end would never end.
        let null = std::process::Stdio::null;
        let mut create = Command::new("timeout");
        create.arg("10").args(words).stdin(null()).stdout(null()).stderr(null());
        let succeeded = create.status().is_ok_and(|status| status.success());
        self.clean_up();
        succeeded
    }
}

impl Runtime {
    fn words(&self, verb: &str, id: &str) -> Vec<OsString> {
        let mut words =
            vec![self.program.clone().into_os_string(), "--root".into(), self.state.clone().into()];
        words.push(verb.into());
        // Options come before the id: crun takes what follows it for something else.
        match verb {
            "delete" => words.push("--force".into()),
            _ => words.extend(["--bundle".into(), self.bundle.clone().into_os_string()]),
        }
        words.push(id.into());
        words
    }

    fn write_config(&self, config: &Config) -> Result<()> {
        fs::write(self.bundle.join("config.json"), serde_json::to_vec_pretty(config)?)
            .context("write a bundle")
    }
}

fn config(image: &Path, cgroup: &str) -> Result<Config> {
    let kept = Vec::from_iter(DEFAULT_CAPABILITIES.iter().copied().filter(|name| *name != LEFT_OUT));
    let args = ["/bin/true".to_owned()];
    Ok(bundle::config(&image.display().to_string(), &args, &kept, Some(LIMITS), &format!("/{cgroup}"))?)
}

/// The filter as an array of `struct sock_filter`.
fn filter_bytes(config: &Config) -> Result<Vec<u8>> {
    let profile =
        config.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()).context("find the filter")?;
    let program = bulkhead_seccomp::compile(profile, NATIVE).context("compile the filter")?;
    let mut bytes = Vec::with_capacity(program.instructions.len() * 8);
    for instruction in program.instructions {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// A static busybox and the directories that mounts need.
fn make_image(image: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(image.join(directory)).context("make the image")?;
    }
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = places.into_iter().find(|place| place.exists());
    let busybox = busybox.context("busybox is missing: apt-get install busybox-static")?;
    fs::copy(busybox, image.join("bin/busybox")).context("copy busybox")?;
    symlink("busybox", image.join("bin/true")).context("link true")
}
