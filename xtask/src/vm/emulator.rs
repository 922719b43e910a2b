//! QEMU, of the newest suite of this machine's archive: only unpacked, and started with its own loader and libraries.
//!
//! The newest, since kernels of later releases crash on the QEMU 7.2 of Debian 12.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::apt::{self, Archive};
use crate::cache;

const PACKAGE: &str = "qemu-system-x86";

/// Raise it when this file makes something else of the same package.
const RECIPE: u32 = 1;

const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Where the firmware lies.
const DATA: &[&str] = &["usr/share/seabios", "usr/share/qemu"];

/// An emulator in the cache.
pub(super) struct Emulator(PathBuf);

/// Fetches it when it is missing. Needs no root.
pub(super) fn ensure() -> Result<Emulator> {
    ensure!(cfg!(target_arch = "x86_64"), "guests are x86-64 only");
    let _lock = cache::lock("vm")?;
    let recipe = format!("{RECIPE} {PACKAGE}\n");
    let directory = cache::made_by("vm/emulator", &recipe, |directory| {
        let archive = Archive::of_this_machine()?.newest();
        println!("fetching the emulator of {}", archive.release);
        let _peers = cache::lock("peers")?; // They are downloaded to the same place.
        apt::unpack(&archive.download(&[PACKAGE])?, directory)?;
        for file in [PROGRAM, LOADER] {
            ensure!(directory.join(file).is_file(), "{file} is in none of the packages");
        }
        Ok(())
    });
    directory.map(Emulator).context("get the emulator")
}

impl Emulator {
    /// A command that starts it. The kernel kills it with us, however we end: nothing else could when we are killed
    /// ourselves.
    pub(super) fn command(&self) -> Command {
        let Self(directory) = self;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        command.arg(directory.join(LOADER)).arg("--library-path").arg(directory.join(LIBRARIES));
        command.arg(directory.join(PROGRAM));
        for place in DATA {
            command.arg("-L").arg(directory.join(place));
        }
        command
    }
}
