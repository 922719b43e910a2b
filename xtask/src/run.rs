//! `cargo xtask run [-- OPTIONS IMAGE COMMAND…]`: builds Bulkhead, and is `bulkhead run`.
//!
//! Without words it shows a container: of a small image, where a registry can be reached, and of this machine's own files
//! where none can.

use std::ffi::OsString;
use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use lexopt::Parser;

use crate::{demo, invoke, shipped};

/// What is shown, if it can be had.
const IMAGE: &str = "docker.io/library/alpine";

/// What is shown where nobody can type.
const LOOK: &str = "head -n 1 /etc/os-release; id; echo processes: /proc/[0-9]*";

/// Builds, and becomes `bulkhead run`.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    let mut words = Vec::new();
    if let Some(argument) = parser.next()? {
        let lexopt::Arg::Value(first) = argument else {
            return Err(argument.unexpected()).context("usage: cargo xtask run [-- OPTIONS IMAGE COMMAND…]");
        };
        words.push(first);
        words.extend(parser.raw_args()?);
    }
    let bulkhead = shipped::build_engine()?;
    if words.is_empty() {
        let Some(example) = example(&bulkhead)? else {
            return demo::run(Parser::from_args(std::iter::empty::<OsString>()));
        };
        words = example;
    }
    let mut command = Command::new(&bulkhead);
    command.arg("run").args(words);
    eprintln!("$ {}", invoke::line(&command));
    Err(command.exec()).with_context(|| format!("start {}", bulkhead.display()))
}

/// The words of a container that can be had here; none for an ordinary user without an image: only root can put a writable
/// layer over a root on which other file systems are mounted.
fn example(bulkhead: &Path) -> Result<Option<Vec<OsString>>> {
    let is_here = invoke::quietly(Command::new(bulkhead).args(["image", "inspect", IMAGE])).is_ok();
    let is_had = is_here || {
        // It says itself how far it is, and what keeps it.
        let mut pull = Command::new(bulkhead);
        pull.args(["pull", IMAGE]);
        eprintln!("$ {}", invoke::line(&pull));
        let status = pull.stdin(Stdio::null()).stdout(stderr()).status();
        status.with_context(|| format!("start {}", bulkhead.display()))?.success()
    };
    let mut words = vec!["--rm"];
    let is_seen = stdin().is_terminal() && stdout().is_terminal() && stderr().is_terminal();
    if is_seen {
        words.push("-it");
    }
    if is_had {
        words.push(IMAGE);
    } else {
        eprintln!(
            "no image can be had: this is a container of this machine's own files; what it writes goes with it"
        );
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        words.extend(["--rootfs", "/:O"]);
    }
    words.push("sh");
    if !is_seen {
        words.extend(["-c", LOOK]);
    }
    Ok(Some(words.into_iter().map(OsString::from).collect()))
}
