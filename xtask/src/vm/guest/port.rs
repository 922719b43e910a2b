//! The guest's serial ports.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

use crate::vm::job::Word;

/// What a command prints.
pub(super) const OUTPUT: &str = "/dev/ttyS1";
/// What the host is told.
const REPORT: &str = "/dev/ttyS2";

/// Opens a port that passes every byte as it is.
pub(super) fn open(port: &str) -> Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).open(port).with_context(|| format!("open {port}"))?;
    let mut attributes = tcgetattr(&file).with_context(|| format!("ask for the attributes of {port}"))?;
    attributes.make_raw();
    tcsetattr(&file, OptionalActions::Now, &attributes).with_context(|| format!("make {port} raw"))?;
    Ok(file)
}

/// Tells the host what happens.
pub(super) struct Reporter(Mutex<File>);

impl Reporter {
    pub(super) fn open() -> Result<Self> {
        open(REPORT).map(|file| Self(Mutex::new(file)))
    }

    /// One line, written at once whatever other threads say.
    pub(super) fn say(&self, word: &Word) -> Result<()> {
        let mut line = serde_json::to_vec(word).context("write a word")?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line).context("write to the report")?;
        // The machine may be switched off at any time after this.
        tcdrain(&*file).context("wait for the report to leave")
    }
}
