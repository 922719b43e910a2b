//! Docker's json-file, byte for byte (`daemon/logger/jsonfilelog` of moby).
//!
//! ```text
//! {"log":"a line\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}
//! {"log":"the first 16384 bytes of a long line","stream":"stdout","time":"…"}
//! {"log":"and its end\n","stream":"stdout","time":"…"}
//! ```
//! A new file begins with the first line after `max_size` bytes were reached: `log.json` becomes `log.json.1`, that
//! `log.json.2`, and the last one goes. With one file it is emptied.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Burst, LONGEST, Line, Reason, Stream};
use crate::clock;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 16 * 1024;

/// The most that a line can become: each byte an escape of six, and what is around them.
const LONGEST_LINE: usize = LONGEST * 6 + 128;

#[derive(Debug)]
pub(super) struct JsonFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    max_file: u32,
    /// What each line says besides, as it stands in it.
    attributes: Vec<u8>,
    gathered: Burst,
    /// How much of that is used.
    used: usize,
    lines: u64,
    bytes: usize,
}

impl JsonFile {
    pub(super) fn open(
        path: PathBuf,
        max_size: u64,
        max_file: u32,
        attributes: &BTreeMap<String, String>,
    ) -> Result<Self, Reason> {
        let file = append_to(&path)?;
        let size = file.metadata()?.len();
        let attributes = encode_attributes(attributes);
        let mut log = Self {
            path,
            file,
            size,
            max_size,
            max_file,
            gathered: Burst::new(GATHERED + LONGEST_LINE + attributes.len()),
            attributes,
            used: 0,
            lines: 0,
            bytes: 0,
        };
        log.mend()?;
        Ok(log)
    }

    /// Ends a line that a monitor was killed in, so that the next one is whole.
    fn mend(&mut self) -> Result<(), Reason> {
        let mut last = [b'\n'];
        if self.size > 0 {
            File::open(&self.path)?.read_exact_at(&mut last, self.size - 1)?;
        }
        if last != [b'\n'] {
            self.file.write_all(b"\n")?;
            self.size += 1;
        }
        Ok(())
    }

    pub(super) fn take(&mut self, line: Line<'_>) -> Result<(), Reason> {
        let at = self.used;
        let is_full = self.max_size > 0 && self.size + at as u64 >= self.max_size;
        if is_full && let Err(reason) = self.flush().and_then(|()| self.rotate()) {
            // It is lost with the others.
            self.lines += 1;
            self.bytes += line.bytes.len();
            return Err(reason);
        }
        let at = self.used;
        let room = &mut self.gathered.bytes()?[at..];
        let mut left = Cursor { room, written: 0 };
        encode(line, &self.attributes, &mut left);
        self.used += left.written;
        self.lines += 1;
        self.bytes += line.bytes.len();
        if self.used >= GATHERED { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered. When only a part can be written, the file becomes what it was, so that no line is half.
    pub(super) fn flush(&mut self) -> Result<(), Reason> {
        if self.used == 0 {
            return Ok(());
        }
        let gathered = &self.gathered.bytes()?[..self.used];
        if let Err(error) = self.file.write_all(gathered) {
            // On a full disk a shorter file needs nothing.
            drop(self.file.set_len(self.size));
            return Err(error);
        }
        self.size += self.used as u64;
        self.forget();
        Ok(())
    }

    pub(super) fn is_written(&self) -> bool {
        self.used == 0
    }

    pub(super) fn forget(&mut self) -> (u64, usize) {
        self.used = 0;
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.bytes))
    }

    pub(super) fn rest(&mut self) {
        if self.used == 0 {
            self.gathered.rest();
        }
    }

    fn rotate(&mut self) -> Result<(), Reason> {
        for number in (1..self.max_file.max(1)).rev() {
            let older = numbered(&self.path, number);
            let newer = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            match std::fs::rename(newer, older) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.max_file > 1 {
            self.file = append_to(&self.path)?;
        } else if let Ok(file) = self.anew() {
            self.file = file;
        } else {
            // On a full disk it needs nothing.
            self.file.set_len(0)?;
        }
        self.size = 0;
        Ok(())
    }

    /// Puts another file in the place of the only one: who reads that goes on with the new one's first line, where an emptied one
    /// would have grown past the place where they were.
    fn anew(&self) -> Result<File, Error> {
        let mut next = self.path.as_os_str().to_owned();
        next.push(".next");
        let file = append_to(next.as_ref())?;
        // Of a monitor that was killed here.
        file.set_len(0)?;
        std::fs::rename(next, &self.path)?;
        Ok(file)
    }
}

fn append_to(path: &Path) -> Result<File, Error> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Writes into a buffer that is known to be large enough; what would not fit is left out.
struct Cursor<'a> {
    room: &'a mut [u8],
    written: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.room.get_mut(self.written..self.written + bytes.len()) {
            place.copy_from_slice(bytes);
            self.written += bytes.len();
        }
    }
}

/// Writes the member that has what each line says besides; nothing of nothing.
fn encode_attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    if attributes.is_empty() {
        return Vec::new();
    }
    let longest = attributes.iter().map(|(name, value)| (name.len() + value.len()) * 6 + 8).sum::<usize>();
    let mut room = vec![0; longest + 16];
    let mut out = Cursor { room: &mut room, written: 0 };
    let mut before: &[u8] = b"\"attrs\":{\"";
    for (name, value) in attributes {
        out.put(before);
        escape(name.as_bytes(), &mut out);
        out.put(b"\":\"");
        escape(value.as_bytes(), &mut out);
        before = b"\",\"";
    }
    out.put(b"\"},");
    let written = out.written;
    room.truncate(written);
    room.shrink_to_fit();
    room
}

fn encode(line: Line<'_>, attributes: &[u8], out: &mut Cursor<'_>) {
    let mut time = Vec::with_capacity(32);
    clock::write(line.time, &mut time);
    // Go leaves an empty member out, and only a part of a line can be empty; there are none.
    out.put(b"{\"log\":\"");
    escape(line.bytes, out);
    if line.ends {
        out.put(b"\\n");
    }
    out.put(match line.stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\",",
        Stream::Stderr => b"\",\"stream\":\"stderr\",",
    });
    out.put(attributes);
    out.put(b"\"time\":\"");
    out.put(&time);
    out.put(b"\"}\n");
}

/// Writes text as docker does: what could be markup, or end a line of a script, is escaped, and bytes that are no UTF-8
/// become U+FFFD each.
fn escape(bytes: &[u8], out: &mut Cursor<'_>) {
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid(), out);
        chunk.invalid().iter().for_each(|_| out.put(b"\\ufffd"));
    }
}

fn escape_text(text: &str, out: &mut Cursor<'_>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut begin = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let mut code = [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        let (escaped, length): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'<' | b'>' | b'&' | 0..0x20 => (&code, 1),
            // U+2028 and U+2029 are e2 80 a8 and e2 80 a9.
            0xe2 if matches!(bytes[at..], [_, 0x80, 0xa8 | 0xa9, ..]) => {
                code = *b"\\u2028";
                code[5] = b'0' + (bytes[at + 2] - 0xa0);
                (&code, 3)
            }
            _ => continue,
        };
        out.put(&bytes[begin..at]);
        out.put(escaped);
        begin = at + length;
    }
    out.put(&bytes[begin..]);
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    fn encoded(bytes: &[u8], ends: bool) -> String {
        let mut room = vec![0; LONGEST_LINE];
        let mut out = Cursor { room: &mut room, written: 0 };
        encode(Line { stream: Stream::Stdout, bytes, ends, time: 1_504_227_661_000_000_001 }, b"", &mut out);
        let written = out.written;
        String::from_utf8(room[..written].to_vec()).unwrap()
    }

    #[test]
    fn lines_are_docker_s() {
        // What moby's own test expects of these (jsonlogbytes_test.go), and its bytes for others.
        for (bytes, text) in [
            (&b"A log line"[..], "A log line"),
            (b"\"A log line with \\\\\"", r#"\"A log line with \\\\\""#),
            (b"A log line with \r", r"A log line with \r"),
            (b"A log line with & < >", r"A log line with \u0026 \u003c \u003e"),
            ("A log line with utf8 : 🚀 ψ ω β".as_bytes(), "A log line with utf8 : 🚀 ψ ω β"),
            ("\u{2028} \u{2029} \u{2027}".as_bytes(), "\\u2028 \\u2029 \u{2027}"),
            (&[0xaf], r"\ufffd"),
            (&[0x7f], "\x7f"),
            (&[0xf0, 0x9f, b'x'], r"\ufffd\ufffdx"),
            (b"\x1b[31m\ttab\0", r"\u001b[31m\u0009tab\u0000"),
            (b"", ""),
        ] {
            let line = encoded(bytes, true);
            let expected = format!(
                "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2017-09-01T01:01:01.000000001Z\"}}\n"
            );
            assert_eq!(line, expected);
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line} is JSON");
        }
        assert!(encoded(b"part", false).starts_with("{\"log\":\"part\",\"stream\""), "a part has no end");
    }

    #[test]
    fn each_line_says_what_it_is_to_say_besides() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log.json");
        let attributes =
            [("tag", "web"), ("A", "<\"\n")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut log = JsonFile::open(path.clone(), 0, 1, &attributes.into()).unwrap();
        take(&mut log, &"x".repeat(LONGEST));
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = r#"","stream":"stderr","attrs":{"A":"\u003c\"\n","tag":"web"},"time":"1970-"#;
        assert!(text.contains(&expected[1..]), "{}", &text[LONGEST..]);
        assert_eq!(texts(&path).len(), 1);
    }

    #[test]
    fn the_longest_line_fits() {
        let line = encoded(&[0; LONGEST], true);
        assert!(line.ends_with("Z\"}\n"), "it is whole");
    }

    fn take(log: &mut JsonFile, text: &str) {
        log.take(Line { stream: Stream::Stderr, bytes: text.as_bytes(), ends: true, time: 0 }).unwrap();
        log.flush().unwrap();
    }

    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| value(line)["log"].as_str().unwrap().trim_end().to_owned()).collect()
    }

    #[test]
    fn files_are_rotated_once_they_are_full() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log.json");
        // Each line has 64 bytes.
        let mut log = JsonFile::open(path.clone(), 100, 3, &BTreeMap::new()).unwrap();
        for number in 1..=7 {
            take(&mut log, &number.to_string());
        }
        assert_eq!(texts(&path), ["7"]);
        assert_eq!(texts(&numbered(&path, 1)), ["5", "6"]);
        assert_eq!(texts(&numbered(&path, 2)), ["3", "4"]);
        assert!(!numbered(&path, 3).exists(), "three files are kept");
        // Another monitor goes on where this one was.
        take(&mut JsonFile::open(path.clone(), 100, 3, &BTreeMap::new()).unwrap(), "8");
        assert_eq!(texts(&path), ["7", "8"]);
    }

    #[test]
    fn a_single_file_makes_room_for_another_one() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log.json");
        let mut log = JsonFile::open(path.clone(), 100, 1, &BTreeMap::new()).unwrap();
        let before = File::open(&path).unwrap();
        for number in 1..=3 {
            take(&mut log, &number.to_string());
        }
        assert_eq!(texts(&path), ["3"]);
        assert!(!numbered(&path, 1).exists() && !scratch.path().join("log.json.next").exists());
        assert!(before.metadata().unwrap().len() > 0, "who reads on has the lines before");
    }

    #[test]
    fn a_line_that_was_cut_by_a_kill_spoils_no_other() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log.json");
        std::fs::write(&path, "{\"log\":\"cu").unwrap();
        take(&mut JsonFile::open(path.clone(), 0, 1, &BTreeMap::new()).unwrap(), "whole");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"log\":\"cu\n{\"log\":\"whole\\n\""), "{text}");
    }
}
