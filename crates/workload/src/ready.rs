//! The program that is there to be started: from its first byte on it runs.

use std::io::{Read as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Writes `R`.
pub(crate) fn announce() -> Result<()> {
    say(b"R")
}

/// Writes `F`: what a hog takes is exhausted.
pub(crate) fn announce_full() -> Result<()> {
    say(b"F")
}

/// Writes what whoever started the program knows it by.
pub(crate) fn say(word: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(word).and_then(|()| output.flush()).map_err(Error::io("write to standard output"))
}

/// Tells, without waiting, whether standard input has ended.
pub(crate) fn is_let_go() -> bool {
    let input = std::io::stdin();
    let mut ready = [PollFd::new(&input, PollFlags::IN)];
    let is_ready = rustix::event::poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0);
    // What is said is not heard.
    is_ready && matches!(rustix::io::read(&input, &mut [0; 64]), Ok(0) | Err(Errno::IO | Errno::BADF))
}

/// Writes `R` and waits for the end of standard input.
pub(crate) fn run() -> Result<()> {
    announce()?;
    wait()
}

/// Waits for the end of standard input.
pub(crate) fn wait() -> Result<()> {
    let mut input = std::io::stdin().lock();
    let mut ignored = [0; 4096];
    while input.read(&mut ignored).map_err(Error::io("read standard input"))? > 0 {}
    Ok(())
}
