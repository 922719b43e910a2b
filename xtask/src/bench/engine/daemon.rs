//! docker's daemon, with what it leaves of cgroups.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bulkhead_measure::cgroups;
use bulkhead_testkit::daemon::{Dockerd, Networks};

use super::contestant::Ground;

pub(in crate::bench) struct Daemon {
    dockerd: Option<Dockerd>,
    host: OsString,
    network: PathBuf,
    /// Above all containers.
    cgroup: String,
}

impl Daemon {
    /// Starts the daemon that is installed with `docker`, which keeps everything in new directories, and has a bridge in a network
    /// namespace of its own, made by `programs` of other packages. No program copies what comes to its ports.
    pub(super) fn start(
        docker: &Path,
        Ground { root, run }: Ground<'_>,
        cgroup: &str,
        programs: &[PathBuf],
    ) -> Result<Self> {
        let [root, run] = [root, run].map(|place| place.join("docker"));
        for place in [&root, &run] {
            fs::create_dir(place).with_context(|| format!("make {}", place.display()))?;
        }
        let cgroup = format!("{cgroup}-docker");
        let parent = format!("--cgroup-parent=/{cgroup}").into();
        let without_proxy = "--userland-proxy=false".into();
        let more = [parent, without_proxy];
        let dockerd = Dockerd::start(docker, [&root, &run], None, Networks::Bridge(programs), &more)
            .context("start dockerd")?;
        Ok(Self { host: dockerd.host(), network: dockerd.network(), dockerd: Some(dockerd), cgroup })
    }

    /// The file of the network namespace in which its ports are published.
    pub(in crate::bench) fn network(&self) -> &Path {
        &self.network
    }

    /// By which a client reaches it.
    pub(super) fn host(&self) -> OsString {
        self.host.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its cgroups can go when nobody is in them.
        drop(self.dockerd.take());
        cgroups::remove_all(&self.cgroup);
    }
}
