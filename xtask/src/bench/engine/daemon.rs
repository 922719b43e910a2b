//! docker's daemon, with what it leaves of cgroups.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bulkhead_measure::cgroups;
use bulkhead_testkit::daemon::{Dockerd, Networks};

use super::contestant::Ground;

/// Who leads what comes to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// The kernel, also what is asked for at the host's loopback.
    Kernel,
    /// A program, what is asked for there.
    Program,
}

pub(in crate::bench) struct Daemon {
    dockerd: Option<Dockerd>,
    host: OsString,
    network: PathBuf,
    /// Above all containers.
    cgroup: String,
}

impl Daemon {
    /// Starts the daemon that is installed with `docker`, which keeps everything in new directories, and has a bridge in a network
    /// namespace of its own, made by `programs` of other packages.
    pub(super) fn start(
        docker: &Path,
        Ground { root, run }: Ground<'_>,
        cgroup: &str,
        programs: &[PathBuf],
        ports: Ports,
    ) -> Result<Self> {
        let [root, run] = [root, run].map(|place| place.join("docker"));
        for place in [&root, &run] {
            fs::create_dir(place).with_context(|| format!("make {}", place.display()))?;
        }
        let cgroup = format!("{cgroup}-docker");
        let parent = format!("--cgroup-parent=/{cgroup}").into();
        let proxy = format!("--userland-proxy={}", ports == Ports::Program).into();
        let more = [parent, proxy];
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
