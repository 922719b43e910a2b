//! Bytes of a stream become lines, as docker cuts them.

use super::{Line, Stream};

/// The longest part of a line, in bytes: docker's.
pub(crate) const LONGEST: usize = 16 * 1024;

/// Cuts what is in a buffer of [`LONGEST`] bytes into lines.
///
/// The bytes that make no whole line yet stay in the buffer, at its begin, and more are read behind them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// How many bytes the buffer has that were in no line yet.
    kept: usize,
}

impl Lines {
    /// Where in the buffer to read to.
    pub(crate) fn end(&self) -> usize {
        self.kept
    }

    /// Tells whether the buffer can be forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// Cuts lines after `read` bytes were read, and hands each to `take`. What is left is not yet moved: see
    /// [`Lines::shift`].
    pub(crate) fn cut(
        &mut self,
        buffer: &[u8],
        read: usize,
        (stream, time): (Stream, u64),
        mut take: impl FnMut(Line<'_>),
    ) -> Rest {
        let end = self.kept + read;
        let mut begin = 0;
        let mut searched = self.kept;
        while let Some(found) = buffer[searched..end].iter().position(|&byte| byte == b'\n') {
            take(Line { stream, bytes: &buffer[begin..searched + found], ends: true, time });
            begin = searched + found + 1;
            searched = begin;
        }
        if begin == 0 && end == buffer.len() {
            take(Line { stream, bytes: &buffer[..end], ends: false, time });
            begin = end;
        }
        self.kept = end - begin;
        Rest { begin, end }
    }

    /// Moves what is in no line yet to the buffer's begin.
    pub(crate) fn shift(buffer: &mut [u8], Rest { begin, end }: Rest) {
        if begin > 0 {
            buffer.copy_within(begin..end, 0);
        }
    }

    /// Hands over what is left when the stream has ended: a line without an end.
    pub(crate) fn finish(
        &mut self,
        buffer: &[u8],
        (stream, time): (Stream, u64),
        take: impl FnOnce(Line<'_>),
    ) {
        if self.kept > 0 {
            take(Line { stream, bytes: &buffer[..self.kept], ends: false, time });
            self.kept = 0;
        }
    }
}

/// Where in a buffer the bytes are that were in no line yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rest {
    begin: usize,
    end: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads chunks through a buffer, then the end; returns lines and whether they end.
    fn lines(size: usize, chunks: &[&str]) -> Vec<(String, bool)> {
        let mut buffer = vec![0; size];
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut note =
            |line: Line<'_>| found.push((String::from_utf8_lossy(line.bytes).into_owned(), line.ends));
        for chunk in chunks {
            let at = lines.end();
            buffer[at..at + chunk.len()].copy_from_slice(chunk.as_bytes());
            let rest = lines.cut(&buffer, chunk.len(), (Stream::Stdout, 0), &mut note);
            Lines::shift(&mut buffer, rest);
        }
        lines.finish(&buffer, (Stream::Stdout, 0), &mut note);
        assert!(lines.is_empty(), "nothing is kept after the end");
        found
    }

    #[test]
    fn lines_are_cut_as_docker_cuts_them() {
        type Row = (&'static [&'static str], &'static [(&'static str, bool)]);
        let rows: &[Row] = &[
            (&["one\ntwo\n"], &[("one", true), ("two", true)]),
            (&["\n\n"], &[("", true), ("", true)]),
            (&["on", "e\nt", "wo\n"], &[("one", true), ("two", true)]),
            (&["open"], &[("open", false)]),
            (&["12345678", "9\n"], &[("12345678", false), ("9", true)]),
            (&["12345678", "\n"], &[("12345678", false), ("", true)]),
            (&["1234567\n", "x"], &[("1234567", true), ("x", false)]),
            (&["a\n23456", "78", "9", "\n"], &[("a", true), ("23456789", false), ("", true)]),
            (&["12345678", "12345678"], &[("12345678", false), ("12345678", false)]),
            (&[], &[]),
        ];
        for (chunks, expected) in rows {
            let expected: Vec<_> = expected.iter().map(|&(text, ends)| (text.to_owned(), ends)).collect();
            assert_eq!(lines(8, chunks), expected, "of {chunks:?}");
        }
    }
}
