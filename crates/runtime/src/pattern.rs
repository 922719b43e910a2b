//! Patterns over container ids: the extended regular expressions of regex(7), as `kill --regex` of crun takes them.
//!
//! ```text
//!   expression = sequence ("|" sequence)*
//!   sequence   = (atom ("*" | "+" | "?")*)*
//!   atom       = "(" expression ")" | "[" set "]" | "." | "^" | "$" | "\" character | character
//! ```
//!
//! An expression becomes a list of operations, and a text is compared with all its paths at once: no pattern takes more
//! than the product of both lengths.

/// How deep parentheses may be.
const DEPTH: u32 = 32;

/// The longest pattern, in bytes: each sign that repeats, and each pair of parentheses, copies what it is about.
const LONGEST: usize = 4096;

/// A pattern that an id may match anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Operation>);

/// One operation; jumps are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    /// Goes on after one byte in, or with `false` outside, any of the ranges.
    Byte(bool, Vec<(u8, u8)>),
    /// Goes on at the beginning of the text.
    Begin,
    /// Goes on at the end of the text.
    End,
    /// Goes on in two places.
    Fork(isize, isize),
    /// Goes on elsewhere.
    Jump(isize),
}

/// What is wrong with a pattern, as the end of a sentence that begins with it.
type Problem = &'static str;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is not an expression, what is longer than 4096 bytes, and `{`, which regex(7) has and ids do not need.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("is longer than 4096 bytes");
        }
        let mut parser = Parser { rest: text.as_bytes(), depth: 0 };
        let operations = parser.expression()?;
        match parser.rest {
            [] => Ok(Self(operations)),
            _ => Err("has a \")\" without \"(\""),
        }
    }

    /// Tells whether a part of `text` matches.
    pub fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut now = Vec::new();
        for at in 0..=bytes.len() {
            let end = at == bytes.len();
            let mut seen = vec![false; self.0.len() + 1];
            // A match may begin anywhere.
            now.push(0);
            let mut next = Vec::new();
            while let Some(place) = now.pop() {
                if std::mem::replace(&mut seen[place], true) {
                    continue;
                }
                let to = |distance: isize| place.saturating_add_signed(distance);
                match self.0.get(place) {
                    None => return true,
                    Some(Operation::Byte(wanted, ranges)) => {
                        let byte = bytes.get(at).copied();
                        let listed = |byte| ranges.iter().any(|&(low, high)| (low..=high).contains(&byte));
                        next.extend(byte.filter(|&byte| listed(byte) == *wanted).map(|_| to(1)));
                    }
                    Some(Operation::Begin) => now.extend((at == 0).then(|| to(1))),
                    Some(Operation::End) => now.extend(end.then(|| to(1))),
                    Some(Operation::Fork(one, other)) => now.extend([to(*one), to(*other)]),
                    Some(Operation::Jump(distance)) => now.push(to(*distance)),
                }
            }
            now = next;
        }
        false
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    depth: u32,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn expression(&mut self) -> Result<Vec<Operation>, Problem> {
        let mut alternatives = vec![self.sequence()?];
        while self.rest.first() == Some(&b'|') {
            self.next();
            alternatives.push(self.sequence()?);
        }
        let Some(mut joined) = alternatives.pop() else { return Ok(Vec::new()) };
        // From the last one on, so that each knows how far it is to the end.
        joined.reverse();
        while let Some(alternative) = alternatives.pop() {
            joined.push(Operation::Jump(distance(joined.len() + 1)));
            let length = distance(alternative.len());
            joined.extend(alternative.into_iter().rev());
            joined.push(Operation::Fork(1, length + 2));
        }
        joined.reverse();
        Ok(joined)
    }

    fn sequence(&mut self) -> Result<Vec<Operation>, Problem> {
        let mut operations = Vec::new();
        while self.rest.first().is_some_and(|byte| !matches!(byte, b'|' | b')')) {
            let mut part = self.atom()?;
            while let Some(&sign @ (b'*' | b'+' | b'?')) = self.rest.first() {
                self.next();
                part = repeated(part, sign);
            }
            operations.extend(part);
        }
        Ok(operations)
    }

    fn atom(&mut self) -> Result<Vec<Operation>, Problem> {
        let byte = match self.next() {
            Some(b'(') => return self.group(),
            Some(b'[') => return self.set().map(|set| vec![set]),
            Some(b'.') => return Ok(vec![Operation::Byte(false, Vec::new())]),
            Some(b'^') => return Ok(vec![Operation::Begin]),
            Some(b'$') => return Ok(vec![Operation::End]),
            Some(b'*' | b'+' | b'?') => return Err("repeats nothing"),
            Some(b'{') => return Err("has a \"{\", which is not supported"),
            Some(b'\\') => self.next().ok_or("ends with a \"\\\"")?,
            other => other.unwrap_or_default(),
        };
        Ok(vec![Operation::Byte(true, vec![(byte, byte)])])
    }

    fn group(&mut self) -> Result<Vec<Operation>, Problem> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("has too many \"(\" in each other");
        }
        let inner = self.expression()?;
        self.depth -= 1;
        match self.next() {
            Some(b')') => Ok(inner),
            _ => Err("has a \"(\" without \")\""),
        }
    }

    /// A `]` that comes first is itself, and so is a `-` at either end.
    fn set(&mut self) -> Result<Operation, Problem> {
        let open = "has a \"[\" without \"]\"";
        let wanted = self.rest.first() != Some(&b'^');
        if !wanted {
            self.next();
        }
        let mut ranges = Vec::new();
        loop {
            let low = self.next().ok_or(open)?;
            match low {
                b']' if !ranges.is_empty() => return Ok(Operation::Byte(wanted, ranges)),
                b'[' if matches!(self.rest.first(), Some(b':' | b'.' | b'=')) => {
                    return Err("has a class of characters, which is not supported");
                }
                _ => {}
            }
            let high = match self.rest {
                [b'-', high, ..] if *high != b']' => {
                    let high = *high;
                    self.next();
                    self.next();
                    high
                }
                _ => low,
            };
            if high < low {
                return Err("has a range that ends before it begins");
            }
            ranges.push((low, high));
        }
    }
}

fn repeated(part: Vec<Operation>, sign: u8) -> Vec<Operation> {
    let length = distance(part.len());
    let mut operations = Vec::with_capacity(part.len() + 2);
    if sign != b'+' {
        operations.push(Operation::Fork(1, length + if sign == b'*' { 2 } else { 1 }));
    }
    operations.extend(part);
    match sign {
        b'*' => operations.push(Operation::Jump(-length - 1)),
        b'+' => operations.push(Operation::Fork(-length, 1)),
        _ => {}
    }
    operations
}

fn distance(length: usize) -> isize {
    isize::try_from(length).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_anywhere_in_an_id() {
        for (pattern, matching, others) in [
            ("", &["a", ""][..], &[][..]),
            ("web", &["web", "my-web-1"], &["we", "WEB"]),
            ("^web", &["web-1"], &["my-web"]),
            ("web$", &["my-web"], &["web-1"]),
            ("^web-[0-9]+$", &["web-1", "web-20"], &["web-", "web-1a", "web-x"]),
            ("^w.b$", &["web", "wxb"], &["wb", "weeb"]),
            ("^a*$", &["", "a", "aaa"], &["b", "ab"]),
            ("^ab?c$", &["ac", "abc"], &["abbc"]),
            ("^(ab)+$", &["ab", "abab"], &["", "aba"]),
            ("^(web|db)-1$", &["web-1", "db-1"], &["web-2", "webdb-1"]),
            ("^a|b$", &["ax", "xb"], &["xa", "bx"]),
            ("^(a|)b$", &["ab", "b"], &["aab"]),
            ("^(a*)*b$", &["b", "aaab"], &["a"]),
            ("^[^0-9]$", &["a", "-"], &["1"]),
            ("^[]-]$", &["]", "-"], &["a"]),
            ("^[a-]$", &["a", "-"], &["b"]),
            (r"^a\.b$", &["a.b"], &["axb"]),
            ("test-*", &["test", "test--", "my-test-1"], &["tes"]),
        ] {
            let read = Pattern::new(pattern).unwrap();
            for id in matching {
                assert!(read.is_in(id), "{pattern:?} should match {id:?}");
            }
            for id in others {
                assert!(!read.is_in(id), "{pattern:?} should not match {id:?}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let deep = "(".repeat(1000);
        let long = "a|".repeat(60_000);
        for pattern in [
            "*",
            "+a",
            "(",
            ")",
            "a)",
            "(a",
            "[",
            "[]",
            "[^]",
            "[b-a]",
            "[[:alpha:]]",
            "a{2}",
            "\\",
            &deep,
            &long,
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern:?} was accepted");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = Pattern::new(&"(a*)*".repeat(200)).unwrap();
        let start = std::time::Instant::now();
        assert!(pattern.is_in(&"a".repeat(255)));
        let hard = Pattern::new(&format!("^{}$", "a?".repeat(200) + &"a".repeat(200))).unwrap();
        assert!(!hard.is_in(&"a".repeat(199)));
        let many = Pattern::new(&("a|".repeat(2046) + "^b$")).unwrap();
        assert!(many.is_in("b") && many.is_in("ca") && !many.is_in("bb"));
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "it took {:?}", start.elapsed());
    }
}
