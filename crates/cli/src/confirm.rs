//! Questions before much is removed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// Asks whether to go on.
///
/// # Errors
/// Where nobody can answer.
pub(crate) fn ask(warning: &str) -> Result<Answer, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new("nobody is there to be asked").hint("-f does it without a question"));
    }
    let mut error = io::stderr();
    write!(error, "{warning}\nGo on? [y/N] ").and_then(|()| error.flush()).map_err(Failure::doing("ask"))?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(Failure::doing("read the answer"))?;
    let is_yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if is_yes { Answer::Yes } else { Answer::No })
}
