//! What takes long to make is kept outside the checkout.
//!
//! `$BULKHEAD_CACHE`, else `$XDG_CACHE_HOME/bulkhead`, else `~/.cache/bulkhead`. Everything in it can be deleted
//! at any time and is made again when missing.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bulkhead_measure::platform::find;
use rustix::fs::FlockOperation;

/// The variable that names the cache; it is set for every test, so that those find what was made for them.
pub(crate) const VARIABLE: &str = find::CACHE;

/// The cache's directory, made when missing.
pub(crate) fn directory() -> Result<PathBuf> {
    let directory = find::cache(|name| std::env::var_os(name))
        .with_context(|| format!("find a place for the cache: neither {VARIABLE} nor HOME is set"))?;
    fs::create_dir_all(&directory).with_context(|| format!("make the cache {}", directory.display()))?;
    Ok(directory)
}

/// Waits until no other process holds the lock of this name; it is let go when the result is dropped.
pub(crate) fn lock(name: &str) -> Result<File> {
    let path = directory()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another run to let go of {}", path.display());
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

/// Waits until no other process holds the lock of this name alone; others may hold it in the same way.
pub(crate) fn share(name: &str) -> Result<File> {
    let path = directory()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::LockShared)
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// The directory `name` of the cache, made by `make` when missing.
///
/// `make` works in a directory beside it that takes the name only when everything succeeded, so what is there
/// is whole.
pub(crate) fn made(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = directory()?;
    let (finished, unfinished) = (directory.join(name), directory.join(format!("{name}.unfinished")));
    if finished.exists() {
        return Ok(finished);
    }
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    make(&unfinished)?;
    fs::rename(&unfinished, &finished).with_context(|| format!("name {}", finished.display()))?;
    Ok(finished)
}

/// Like [`made`], and made again when it was made by another recipe, which is kept in its file `recipe`.
pub(crate) fn made_by(name: &str, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    const RECIPE: &str = "recipe";
    let place = directory()?.join(name);
    if fs::read_to_string(place.join(RECIPE)).is_ok_and(|made| made == recipe) {
        return Ok(place);
    }
    remove(&place)?;
    made(name, |directory| {
        make(directory)?;
        fs::write(directory.join(RECIPE), recipe).with_context(|| format!("write how {name} was made"))
    })
}

/// Removes a directory tree; one that is not there is fine.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
