//! A terminal that passes everything on as it is typed.

use bulkhead_engine::Size;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

/// The standard input as a raw terminal. It is as it was before when this value is dropped.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// Makes it raw, if it is a terminal.
    pub(super) fn begin() -> Result<Option<Raw>, Failure> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let failure = |errno: rustix::io::Errno| Failure::new(format!("prepare the terminal: {errno}"));
        let before = tcgetattr(stdin).map_err(failure)?;
        let mut raw = before.clone();
        // Lines come as the container's terminal ends them.
        raw.make_raw();
        let restore = Raw(before);
        tcsetattr(stdin, OptionalActions::Now, &raw).map_err(failure)?;
        Ok(Some(restore))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The size of the caller's terminal, if there is one that has any.
pub(crate) fn size() -> Option<Size> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let sizes = streams.into_iter().flat_map(tcgetwinsize);
    sizes.map(|size| Size { rows: size.ws_row, columns: size.ws_col }).find(|size| *size != Size::default())
}
