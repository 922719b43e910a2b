//! What such a program says to who starts it by hand.

use std::io::Write as _;

/// Prints a text, and returns the exit code: a reader that has seen enough is no failure.
pub(crate) fn print(text: &str) -> u8 {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    0
}

/// Says why a program ends with an exit code, which it returns.
pub(crate) fn complain(program: &str, reason: &str, code: u8) -> u8 {
    // There may be nobody to hear it.
    let _ = writeln!(std::io::stderr(), "{program}: {}", reason.trim_end());
    code
}
