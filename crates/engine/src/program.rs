//! Where programs are.

use std::env;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Finds a program of this project: beside the running one, else in PATH.
///
/// # Errors
/// [`Error::Invalid`] when it is in neither.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    if let Some(program) = beside.filter(|program| is_program(program)) {
        return Ok(program);
    }
    in_path(name).ok_or_else(|| Error::Invalid {
        what: format!("program {name}"),
        reason: "it is neither beside this program nor in PATH".into(),
    })
}

/// Finds a program in PATH.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|program| is_program(program))
}

/// Tells whether a path is a file that somebody may execute.
pub(crate) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The type of the part of a program that names its loader, elf(5).
const INTERPRETER: u32 = 3;

/// Tells whether a program needs nothing but its own file: neither a loader nor libraries.
///
/// # Errors
/// As open(2) and read(2); a file that is cut off.
pub(crate) fn is_static(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0)?;
    // Where the table of the parts is, the size of a row, and how many there are: in words of 4 or of 8 bytes.
    let (table, (size, count)) = match &head[..5] {
        b"\x7fELF\x01" => {
            (u64::from(u32::from_ne_bytes(field(&head, 28))), (field(&head, 42), field(&head, 44)))
        }
        b"\x7fELF\x02" => (u64::from_ne_bytes(field(&head, 32)), (field(&head, 54), field(&head, 56))),
        _ => return Ok(false),
    };
    let (size, count) = (u16::from_ne_bytes(size), u16::from_ne_bytes(count));
    for row in 0..u64::from(count) {
        let mut kind = [0; 4];
        file.read_exact_at(&mut kind, table.saturating_add(row * u64::from(size)))?;
        if u32::from_ne_bytes(kind) == INTERPRETER {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Some bytes of a header.
fn field<const LENGTH: usize>(head: &[u8; 64], at: usize) -> [u8; LENGTH] {
    std::array::from_fn(|index| head[at + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_loader_is_static() {
        assert!(!is_static(&env::current_exe().unwrap()).unwrap(), "a test is linked to libc.so");
        let file = env::temp_dir().join(format!("bulkhead-program-{}", std::process::id()));
        std::fs::write(&file, format!("#!/bin/sh\n{}", " ".repeat(64))).unwrap();
        assert!(!is_static(&file).unwrap(), "a script needs a shell");
        std::fs::remove_file(&file).unwrap();
    }
}
