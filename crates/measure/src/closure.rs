//! What a program needs to run elsewhere: its loader and its libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Doing as _, Error};

/// Of the header of a program: where its segments are described, how long a description is, and how many there are.
const SEGMENTS: usize = 32;
const SEGMENT_SIZE: usize = 54;
const SEGMENT_COUNT: usize = 56;

/// The kind of a segment that names the loader (PT_INTERP of elf(5)).
const LOADER: u64 = 3;

/// The loader and the libraries of a program; none for a static one, or for a script.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(loader) = loader_of(program)? else { return Ok(Vec::new()) };
    listed(Command::new(&loader), loader, program)
}

/// The same, as paths from its root, of a program that belongs to another system's tree; `copy` can be read from here. A
/// module that programs load has no loader, and nothing is said of it. Only root may ask.
pub(crate) fn within(tree: &Path, program: &Path, copy: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(loader) = loader_of(copy)? else { return Ok(Vec::new()) };
    let mut ask = Command::new("chroot");
    ask.arg(tree).arg(&loader);
    listed(ask, loader, &Path::new("/").join(program))
}

fn loader_of(program: &Path) -> Result<Option<PathBuf>, Error> {
    std::fs::read(program).doing(|| format!("read {}", program.display())).map(|bytes| loader(&bytes))
}

/// What the loader, called by `ask`, lists of a program, and the loader itself.
fn listed(mut ask: Command, loader: PathBuf, program: &Path) -> Result<Vec<PathBuf>, Error> {
    let told = ask.arg("--list").arg(program).output();
    let told =
        told.doing(|| format!("ask {} for the libraries of {}", loader.display(), program.display()))?;
    if !told.status.success() {
        return Err(Error::Unusable(format!(
            "the libraries of {} are not known: {}",
            program.display(),
            String::from_utf8_lossy(&told.stderr).trim()
        )));
    }
    let mut files = libraries(&String::from_utf8_lossy(&told.stdout));
    files.push(loader);
    Ok(files)
}

/// The paths in what a loader lists: `name => /path (address)`, or `/path (address)`.
fn libraries(text: &str) -> Vec<PathBuf> {
    let paths = text.lines().filter_map(|line| {
        let path = line.rsplit_once("=>").map_or(line, |(_, path)| path);
        path.split_whitespace().next().filter(|path| path.starts_with('/'))
    });
    paths.map(PathBuf::from).collect()
}

/// The loader that a program of 64 bits names.
pub(crate) fn loader(bytes: &[u8]) -> Option<PathBuf> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, size: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        usize::try_from(field.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))).ok()
    };
    let (first, size, count) = (number(SEGMENTS, 8)?, number(SEGMENT_SIZE, 2)?, number(SEGMENT_COUNT, 2)?);
    let places = (0..count).filter_map(|index| first.checked_add(index * size));
    let place = places.into_iter().find(|place| number(*place, 4) == usize::try_from(LOADER).ok())?;
    let (from, length) = (number(place + 8, 8)?, number(place + 32, 8)?);
    let name = bytes.get(from..from.checked_add(length)?)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_loaders_are_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            libraries(text),
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn this_program_s_loader_is_among_its_files() {
        let own = std::env::current_exe().unwrap();
        let files = of(&own).unwrap();
        let loader = loader(&std::fs::read(&own).unwrap());
        assert_eq!(loader.as_ref(), files.last());
        assert!(files.iter().all(|file| file.is_file()), "{files:?}");
    }

    #[test]
    fn what_is_no_program_needs_nothing() {
        for bytes in
            [&b"#!/bin/sh"[..], b"\x7fELF\x02\x01", &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 80]].concat()]
        {
            assert_eq!(loader(bytes), None);
        }
    }
}
