//! The inheritance that v1 cpusets lack: a new one has no CPUs and no memory nodes, and takes no process until it has.

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::plan::Plan;

const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Gives a container's cpuset, and the parents made for it, what its parent has, but for what the plan sets.
pub(crate) fn inherit(
    dir: &Dir,
    mount_point: &str,
    new_parents: &[&str],
    plan: &Plan,
    is_new: bool,
) -> Result<()> {
    let Some((parent, _)) = dir.path().rsplit_once('/') else { return Ok(()) };
    let missing: Vec<&str> = FILES.into_iter().filter(|file| !plan.sets(file)).collect();
    // Unless the plan sets both, or parents have to be filled so that their children can be, there is nothing to do.
    if missing.is_empty() && new_parents.is_empty() {
        return Ok(());
    }
    let parent = Dir::open(parent)?;
    for file in FILES {
        let value = filled(&parent, mount_point, file)?;
        // A new cpuset is known to be empty, which saves looking.
        if missing.contains(&file) && (is_new || is_empty(&read(dir, file)?)) {
            write(dir, file, &value)?;
        }
    }
    Ok(())
}

/// Returns what a directory holds, filling it, and its parents first, where that is nothing.
fn filled(dir: &Dir, mount_point: &str, file: &str) -> Result<String> {
    let value = read(dir, file)?;
    if !is_empty(&value) || dir.path().len() <= mount_point.len() {
        return Ok(value);
    }
    let Some((parent, _)) = dir.path().rsplit_once('/') else { return Ok(value) };
    let value = filled(&Dir::open(parent)?, mount_point, file)?;
    write(dir, file, &value)?;
    Ok(value)
}

fn is_empty(value: &str) -> bool {
    value.trim().is_empty()
}

/// Reads a file whose name lacks the prefix where the hierarchy is mounted with `noprefix`.
fn read(dir: &Dir, file: &str) -> Result<String> {
    match dir.read(file) {
        Err(error) if error.is_gone() => dir.read(bare(file)),
        result => result,
    }
}

fn write(dir: &Dir, file: &str, value: &str) -> Result<()> {
    let value = value.trim();
    match dir.write(file, value) {
        Err(Error::System { source, .. }) if source.errno() == rustix::io::Errno::NOENT => {
            dir.write(bare(file), value)
        }
        result => result,
    }
}

fn bare(file: &str) -> &str {
    file.strip_prefix("cpuset.").unwrap_or(file)
}
