//! The Debian packages that building, testing and measuring need, and how they get there.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Result, bail};

use crate::{apt, invoke};

/// Every package, and what it is for. None of them starts anything when it is installed.
const NEEDED: &[(&str, &str)] = &[
    ("busybox-static", "programs in test images"),
    ("debootstrap", "a whole Debian to run in a container or a guest"),
    ("e2fsprogs", "disks of guests"),
    ("gcc", "the floor and the stopwatch of the benchmark, attackers in tests"),
    ("iproute2", "network links, seen from outside"),
    ("jq", "hooks that read the state"),
    ("kmod", "modules of guests' kernels"),
    ("libc6-dev", "static programs in test images"),
    ("libseccomp-dev", "the oracle of the filter compiler"),
    ("passwd", "users with subordinate ids"),
    ("patchelf", "peers of later releases, unpacked beside the system"),
    ("pkg-config", "finding libseccomp"),
    ("procps", "processes, seen from outside"),
    ("python3", "programs in test images"),
    ("strace", "failing and counting system calls"),
    ("uidmap", "newuidmap and newgidmap"),
    ("util-linux", "unshare, nsenter, script"),
];

/// What the suites of others need besides.
const FOR_CONFORMANCE: &[(&str, &str)] =
    &[("bash", "the suite of runc"), ("dpkg-dev", "unpacking sources"), ("xz-utils", "unpacking sources")];

/// How to proceed when packages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Ask on the terminal.
    Ask,
    /// Install without asking.
    Given,
}

/// Sees to it that every package is there: as root they are installed after the list was shown, for anyone
/// else the command is printed.
pub(crate) fn ensure(consent: Consent) -> Result<()> {
    ensure_all(NEEDED, consent)
}

/// The same, with what the suites of others need besides.
pub(crate) fn ensure_for_conformance(consent: Consent) -> Result<()> {
    ensure_all(&[NEEDED, FOR_CONFORMANCE].concat(), consent)
}

fn ensure_all(needed: &[(&str, &str)], consent: Consent) -> Result<()> {
    let missing = apt::missing(&Vec::from_iter(needed.iter().map(|(name, _)| *name)))?;
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are needed and not installed:");
    for (name, purpose) in needed.iter().filter(|(name, _)| missing.contains(name)) {
        println!("  {name:16} {purpose}");
    }
    let command = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!("packages are missing; install them and start again:\n  sudo {command}");
    }
    if consent == Consent::Ask && !agreed()? {
        bail!("packages are missing; install them and start again, or pass --yes:\n  {command}");
    }
    println!("Installing them.");
    apt::install(&missing)
}

/// Packages alone cannot tell whether rustup's components are there.
pub(crate) fn ensure_components() -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let program = if component == "clippy" { "cargo-clippy" } else { component };
        if !invoke::in_path(program) {
            bail!("{component} is missing: rustup component add {component}");
        }
    }
    Ok(())
}

fn agreed() -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(false);
    }
    print!("Install them now? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_free_of_daemons() {
        for list in [NEEDED, FOR_CONFORMANCE] {
            assert!(list.is_sorted(), "keep the lists sorted");
        }
        let names = Vec::from_iter(NEEDED.iter().chain(FOR_CONFORMANCE).map(|(name, _)| *name));
        for daemon in ["redis-server", "postgresql", "docker.io", "containerd", "podman", "runc", "crun"] {
            assert!(!names.contains(&daemon), "{daemon} must only be unpacked, see xtask/src/peers.rs");
        }
    }
}
