//! The log: lines as logrus writes them, because engines parse them.
//!
//! With `--log FILE` each line is appended by one write(2), so that many processes can share the file. Without
//! it lines go to stderr, and on a terminal they become plain sentences.

use std::fmt;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::Call;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::timestamp::Timestamp;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `time="…" level=… msg="…"`.
    #[default]
    Text,
    /// An object with `level`, `msg` and `time`.
    Json,
}

/// How much a message matters; the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// What a developer wants to know.
    Debug,
    /// What happened as it should.
    #[default]
    Info,
    /// What was not done as asked, though the operation goes on.
    Warning,
    /// Why the operation failed.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Whether stderr hears, too, why the operation failed when there is a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Echo {
    /// It does, as runc has it.
    #[default]
    Stderr,
    /// It does not: it belongs to the process that is to be run.
    Nowhere,
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("open log file {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: bulkhead_sys::Error,
}

/// Where messages go.
///
/// A log is passed by reference to whoever has something to say; a forked child may use it too.
#[derive(Debug)]
pub struct Log {
    sink: Sink,
    format: Format,
    least: Level,
    echo: Echo,
}

#[derive(Debug)]
enum Sink {
    File(OwnedFd),
    Stderr,
}

impl Log {
    /// Opens a log that appends to `file`, or writes to stderr without one, and drops what is below `least`. With a file
    /// `echo` says what stderr hears.
    ///
    /// # Errors
    /// [`OpenError`] if the file can be neither opened nor made.
    pub fn open(file: Option<&Path>, format: Format, least: Level, echo: Echo) -> Result<Self, OpenError> {
        let sink = match file {
            Some(path) => {
                // NOCTTY: a terminal named here must not become ours.
                let flags =
                    OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
                let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
                    .call(|| "the kernel says")
                    .map_err(|source| OpenError { path: path.to_owned(), source })?;
                Sink::File(file)
            }
            None => Sink::Stderr,
        };
        Ok(Self { sink, format, least, echo })
    }

    /// Logs to stderr as text, when there is nothing better.
    pub fn stderr() -> Self {
        Self { sink: Sink::Stderr, format: Format::Text, least: Level::Info, echo: Echo::Stderr }
    }

    /// Returns whether messages of `level` are written: the way to spare the work of making one.
    pub fn wants(&self, level: Level) -> bool {
        level >= self.least
    }

    /// Logs why the operation failed. A log file gets the line, and stderr the sentence too, unless it is to hear nothing:
    /// `plain`, where a program that reads text there expects no more.
    pub fn fatal(&self, message: impl fmt::Display, plain: Option<&str>) {
        let message = message.to_string();
        let to_file = matches!(self.sink, Sink::File(_));
        let terminal = std::io::stderr().is_terminal();
        let plain = plain.filter(|_| !terminal && self.format == Format::Text);
        if to_file || plain.is_none() {
            self.write(Level::Error, &message);
        }
        if to_file && self.echo == Echo::Nowhere {
            return;
        }
        let text = match plain {
            Some(plain) => format!("{}\n", escaped(plain, "")),
            None if !to_file => return,
            None if terminal => sentence(Level::Error, &message),
            None => format!("{message}\n"),
        };
        append(std::io::stderr().as_fd(), text.as_bytes());
    }

    /// Logs what was not done as asked.
    pub fn warn(&self, message: impl fmt::Display) {
        self.write(Level::Warning, &message);
    }

    /// Logs what happened as it should.
    pub fn info(&self, message: impl fmt::Display) {
        self.write(Level::Info, &message);
    }

    /// Logs what a developer wants to know.
    pub fn debug(&self, message: impl fmt::Display) {
        self.write(Level::Debug, &message);
    }

    /// Writes a line if `level` is wanted. A log that cannot be written is no reason to fail.
    fn write(&self, level: Level, message: &dyn fmt::Display) {
        if !self.wants(level) {
            return;
        }
        let message = message.to_string();
        let line = match (self.format, &self.sink) {
            (Format::Json, _) => json(level, &message, Timestamp::now()),
            (Format::Text, Sink::Stderr) if std::io::stderr().is_terminal() => sentence(level, &message),
            (Format::Text, _) => text(level, &message, Timestamp::now()),
        };
        match &self.sink {
            Sink::File(file) => append(file.as_fd(), line.as_bytes()),
            Sink::Stderr => append(std::io::stderr().as_fd(), line.as_bytes()),
        }
    }
}

fn append(file: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

/// Makes logrus's line for a file: keys and values, quoted as Go quotes where they are not plain words.
fn text(level: Level, message: &str, time: Timestamp) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    let time = time.whole();
    let level = level.word();
    if message.is_empty() {
        format!("time=\"{time}\" level={level}\n")
    } else if message.chars().all(plain) {
        format!("time=\"{time}\" level={level} msg={message}\n")
    } else {
        format!("time=\"{time}\" level={level} msg=\"{}\"\n", escaped(message, "\\\""))
    }
}

/// Makes logrus's JSON line; its keys are sorted.
fn json(level: Level, message: &str, time: Timestamp) -> String {
    let level = level.word();
    let message = serde_json::Value::from(message);
    format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{}\"}}\n", time.whole())
}

/// Makes a line for a person at a terminal.
fn sentence(level: Level, message: &str) -> String {
    format!("{}: {}\n", level.word(), escaped(message, ""))
}

/// Escapes as Go's `%q` what could move a cursor, change the order of reading or end the quotation (`special`).
pub fn escaped(message: &str, special: &str) -> String {
    use std::fmt::Write;

    let mut out = String::with_capacity(message.len() + 16);
    for c in message.chars() {
        let done = match c {
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            c if special.contains(c) => write!(out, "\\{c}"),
            c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
            c if is_invisible(c) => write!(out, "\\u{:04x}", u32::from(c)),
            c => out.write_char(c),
        };
        debug_assert!(done.is_ok(), "a String takes any text");
    }
    out
}

/// C1 controls, line separators and marks that change the direction of writing.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "1970-01-01T00:00:00Z";

    fn epoch(line: &str) -> String {
        // The second of the clock is the only part of a line that a test cannot know.
        let at = line.find("20").map(|at| at..at + TIME.len());
        at.map_or_else(|| line.to_owned(), |at| line.replacen(&line[at], TIME, 1))
    }

    #[test]
    fn a_text_line_is_what_logrus_writes() {
        let now = Timestamp::now();
        let line = |message| epoch(&text(Level::Warning, message, now));
        assert_eq!(line("two words"), format!("time=\"{TIME}\" level=warning msg=\"two words\"\n"));
        assert_eq!(line("word"), format!("time=\"{TIME}\" level=warning msg=word\n"));
        assert_eq!(line(""), format!("time=\"{TIME}\" level=warning\n"));
        assert_eq!(
            line("a \"b\" \\ \u{1b}[2J\n\u{9b}"),
            format!("time=\"{TIME}\" level=warning msg=\"a \\\"b\\\" \\\\ \\x1b[2J\\n\\u009b\"\n")
        );
    }

    #[test]
    fn a_json_line_has_sorted_keys_and_parses() {
        let line = epoch(&json(Level::Error, "bad \"x\"\n\u{1b}", Timestamp::now()));
        assert_eq!(
            line,
            format!("{{\"level\":\"error\",\"msg\":\"bad \\\"x\\\"\\n\\u001b\",\"time\":\"{TIME}\"}}\n")
        );
        let value: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
        assert_eq!(value["msg"], "bad \"x\"\n\u{1b}");
    }

    #[test]
    fn a_terminal_gets_a_sentence_that_cannot_move_its_cursor() {
        assert_eq!(sentence(Level::Error, "no \"x\" \u{1b}[31m\r\n"), "error: no \"x\" \\x1b[31m\\r\\n\n");
        assert_eq!(sentence(Level::Error, "é\u{202e}\u{85}"), "error: é\\u202e\\u0085\n");
    }

    #[test]
    fn a_file_gets_only_the_levels_that_were_asked_for_and_keeps_what_it_had() {
        let scratch = bulkhead_testkit::Scratch::new();
        let path = scratch.path().join("log");
        std::fs::write(&path, "old\n").expect("write the old line");
        let log = Log::open(Some(&path), Format::Text, Level::Warning, Echo::Stderr).expect("open the log");
        log.debug("debug");
        log.info("info");
        log.warn("first");
        log.write(Level::Error, &"second");
        let lines = std::fs::read_to_string(&path).expect("read the log");
        let words: Vec<_> = lines.lines().map(|line| line.rsplit('=').next().unwrap_or_default()).collect();
        assert_eq!(words, ["old", "first", "second"]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_named() {
        let error = Log::open(Some(Path::new("/proc/nothing/log")), Format::Text, Level::Info, Echo::Stderr)
            .unwrap_err();
        assert_eq!(error.to_string(), "open log file /proc/nothing/log");
        assert!(std::error::Error::source(&error).is_some());
    }
}
