//! What the program `bulkmon` was called for.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use crate::monitor::{self, Begin};
use crate::{hold, init, reaper};

const USAGE: &str = "\
usage: bulkmon [wait] DIRECTORY
       bulkmon init -- COMMAND [ARGUMENT…]
       bulkmon hold
       bulkmon pod

The first form stays with the container whose order.json is in DIRECTORY; bulkhead calls it, with
`wait` before that is there: then the first message on the standard input lets it begin.
The second is the first process of a container that was asked to have one (--init): it starts
COMMAND, passes signals on to it, waits for whatever is orphaned, and ends as COMMAND does.
The third keeps the terminal that is its standard input, so that what somebody left in it goes on.
The fourth is the first process of a pod whose containers share their processes.
";

/// The word of a monitor that waits until its directory is made.
pub(crate) const WAIT: &str = "wait";

/// The code of a wrong command line.
pub(crate) const MISUSED: u8 = 2;

/// The main function of `bulkmon`; returns its exit status.
pub fn run() -> u8 {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let texts: Vec<_> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match *texts {
        ["init", "--", _, ..] => init::run(&words[2..]),
        ["hold"] => hold::run(),
        ["pod"] => reaper::run(),
        ["--help" | "-h"] => print(USAGE),
        ["--version" | "-v"] => print(concat!("bulkmon version ", env!("CARGO_PKG_VERSION"), "\n")),
        [word] if !word.starts_with('-') && !matches!(word, "init" | "hold") => {
            monitor::run(Path::new(&words[0]), Begin::AtOnce)
        }
        [WAIT, _] => monitor::run(Path::new(&words[1]), Begin::WhenTold),
        _ => {
            eprint!("{USAGE}");
            MISUSED
        }
    }
}

/// A reader that has seen enough is no failure.
fn print(text: &str) -> u8 {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    0
}
