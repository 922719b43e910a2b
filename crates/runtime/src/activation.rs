//! Descriptors that a caller passes to a container: those of socket activation, sd_listen_fds(3), and `--preserve-fds`.

use crate::cli::Command;
use crate::fds;

/// How many descriptors from 3 on the container's process gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Those of socket activation, which come first.
    pub listening: u32,
    /// Those of `--preserve-fds`.
    pub preserved: u32,
}

impl Passed {
    /// Counts the descriptors of socket activation and adds `preserved`.
    ///
    /// LISTEN_FDS is for the process that LISTEN_PID names. Callers that write 1 there, the pid that the container's
    /// process will have, or nothing, mean the container too.
    pub fn with_activation(preserved: u32) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let is_meant = match std::env::var_os("LISTEN_PID") {
            None => true,
            Some(_) => matches!(number("LISTEN_PID"), Some(pid) if pid == 1 || pid == std::process::id()),
        };
        let listening = number("LISTEN_FDS").filter(|_| is_meant).unwrap_or(0);
        Self { listening, preserved }
    }

    /// Returns the descriptors of a process that joins a container, for which socket activation is not meant.
    pub fn preserved(preserved: u32) -> Self {
        Self { listening: 0, preserved }
    }

    /// Returns how many there are.
    pub fn count(self) -> u32 {
        self.listening.saturating_add(self.preserved)
    }

    /// Returns the variables that tell the calling process, which is the container's, about those of socket activation.
    pub fn variables(self) -> Vec<(&'static str, String)> {
        if self.listening == 0 {
            return Vec::new();
        }
        // In a pid namespace that others share it is not process 1.
        let own = rustix::process::getpid().to_string();
        let mut variables = vec![("LISTEN_FDS", self.listening.to_string()), ("LISTEN_PID", own)];
        variables.extend(std::env::var("LISTEN_FDNAMES").map(|names| ("LISTEN_FDNAMES", names)));
        variables
    }
}

/// Looks which of the descriptors that a command passes on are open; returns a warning when some are not.
///
/// It must come before the program opens anything: what is open then is the caller's.
pub fn check(command: &Command) -> Option<String> {
    let passed = match command {
        Command::Create(options) => Passed::with_activation(options.preserve_fds),
        Command::Run(options) => Passed::with_activation(options.create.preserve_fds),
        Command::Restore(options) => Passed::preserved(options.create.preserve_fds),
        Command::Exec(options) => Passed::preserved(options.preserve_fds),
        Command::Checkpoint(options) => {
            if let Some(number) = options.status_fd {
                fds::find_named(number.unsigned_abs());
            }
            return None;
        }
        _ => return None,
    };
    fds::find_passed(passed.count())
}
