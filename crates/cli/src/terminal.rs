//! The caller's terminal, signals and streams, while a container is attached to them.

mod keys;
mod peer;
mod raw;
mod relay;

pub(crate) use keys::Keys;
pub(crate) use peer::{OnPipes, OnTerminal};
pub(crate) use raw::size;
pub(crate) use relay::{Ended, Signals, Stdin, relay};

use rustix::termios::isatty;

use crate::failure::Failure;

/// Refuses a terminal for a container whose caller has none to lend, as docker does.
pub(crate) fn require() -> Result<(), Failure> {
    if isatty(rustix::stdio::stdin()) {
        return Ok(());
    }
    let failure = Failure::new("the standard input is no terminal");
    Err(failure.hint("leave out -t, or -i, where no person types"))
}
