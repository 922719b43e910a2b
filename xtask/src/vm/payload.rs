//! The disk that carries programs and the job into a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::boot::Run;
use super::disk::{self, Name};
use super::guest;
use super::job::{Init, Job, SecurityModule, Work};
use crate::{cache, invoke};

/// What a job may write beside its files.
const FREE: u64 = 64 << 20;

/// What a guest gets.
pub(super) struct Payload {
    /// Single files, below one of the places that `with` names.
    pub(super) files: Vec<PathBuf>,
    /// Files and directories that appear in the guest where the host has them; of a directory that holds some of
    /// `files` only those.
    pub(super) with: Vec<PathBuf>,
    pub(super) init: Init,
    pub(super) module: Option<SecurityModule>,
    pub(super) work: Work,
}

impl Payload {
    /// Writes it to the run's disk.
    pub(super) fn write(self, run: &Run) -> Result<()> {
        let stage = run.stage();
        let files = stage.join(guest::FILES);
        for file in &self.files {
            copy(file, &guest::in_payload(&files, file))?;
        }
        for place in &self.with {
            let partly = self.files.iter().any(|file| file.starts_with(place));
            if !partly {
                copy(place, &guest::in_payload(&files, place))?;
            }
        }
        // Not by name: cargo may have built another since this one began.
        fs::copy("/proc/self/exe", stage.join(guest::PROGRAM)).context("copy this program")?;
        let Self { with: places, init, module, work, .. } = self;
        let job = Job { init, module, places, cache: cache::directory()?, work };
        let job = serde_json::to_vec_pretty(&job).context("write the job")?;
        fs::write(stage.join(guest::JOB), job).context("write the job")?;
        disk::from_directory(&stage, &run.payload(), FREE, Name::Label(guest::PAYLOAD_LABEL))?;
        cache::remove(&stage)
    }
}

/// Links a file, or copies where that is impossible; of a directory all that is in it. A link in a directory stays one,
/// wherever it leads; one that was named itself is followed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().with_context(|| format!("{} has no parent", to.display()))?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    if from.is_file() && !from.is_symlink() && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copy = |how: &[&str]| {
        invoke::quietly(Command::new("cp").args(["--archive", "-H"]).args(how).arg(from).arg(to))
    };
    if copy(&["--link"]).is_ok() {
        return Ok(());
    }
    // A part may have been linked, and what is written over a link would change the file itself.
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("remove {}", to.display()))?;
    }
    copy(&[])
}
