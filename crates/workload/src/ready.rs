//! The program that is there to be started: from its first byte on it runs.

use std::io::{Read as _, Write as _};

use crate::error::{Error, Result};

/// Writes `R` and waits for the end of standard input.
pub(crate) fn run() -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(b"R").and_then(|()| output.flush()).map_err(Error::io("write to standard output"))?;
    let mut input = std::io::stdin().lock();
    let mut ignored = [0; 4096];
    while input.read(&mut ignored).map_err(Error::io("read standard input"))? > 0 {}
    Ok(())
}
