//! The words of a template.

use super::Error;

/// A word and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    /// Its first character, counted from 1.
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// What a word is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// What stands outside of braces.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.` alone.
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`, without the dollar.
    Variable(String),
    /// A function or a keyword.
    Name(String),
    /// A string between quotes of any kind.
    Quoted(String),
    /// A number.
    Number(serde_json::Number),
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `(`
    Left,
    /// `)`
    Right,
}

/// Cuts a template into words. Text that `{{-` and `-}}` trim is trimmed already, and comments are gone.
///
/// # Errors
/// A character that begins no word, and braces and quotes without their ends.
pub(super) fn scan(text: &str) -> Result<Vec<Token>, Error> {
    let mut scanner = Scanner { letters: text.chars().collect(), next: 0, tokens: Vec::new() };
    let mut trims = Trim::No;
    while scanner.next < scanner.letters.len() {
        scanner.text(trims);
        if scanner.next < scanner.letters.len() {
            trims = scanner.action()?;
        }
    }
    Ok(scanner.tokens)
}

/// Whether the space before a text belongs to it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trim {
    No,
    Yes,
}

struct Scanner {
    letters: Vec<char>,
    next: usize,
    tokens: Vec<Token>,
}

impl Scanner {
    fn rest(&self) -> &[char] {
        &self.letters[self.next.min(self.letters.len())..]
    }

    fn begins(&self, word: &str) -> bool {
        let mut rest = self.rest().iter();
        word.chars().all(|letter| rest.next() == Some(&letter))
    }

    fn push(&mut self, at: usize, kind: Kind) {
        self.tokens.push(Token { at: at + 1, kind });
    }

    /// What comes before the next braces.
    fn text(&mut self, before: Trim) {
        let begin = self.next;
        while self.next < self.letters.len() && !self.begins("{{") {
            self.next += 1;
        }
        let mut text: &[char] = &self.letters[begin..self.next];
        if before == Trim::Yes {
            while let [first, rest @ ..] = text
                && first.is_whitespace()
            {
                text = rest;
            }
        }
        if self.begins("{{-") && self.rest().get(3).is_some_and(|letter| letter.is_whitespace()) {
            while let [rest @ .., last] = text
                && last.is_whitespace()
            {
                text = rest;
            }
        }
        if !text.is_empty() {
            let text = text.iter().collect();
            self.push(begin, Kind::Text(text));
        }
    }

    /// What stands between braces; tells whether the text after them is trimmed.
    fn action(&mut self) -> Result<Trim, Error> {
        let begin = self.next;
        self.next += 2;
        if self.begins("-") && self.rest().get(1).is_some_and(|letter| letter.is_whitespace()) {
            self.next += 1;
        }
        let spaces = self.rest().iter().take_while(|letter| letter.is_whitespace()).count();
        if self.rest()[spaces..].starts_with(&['/', '*']) {
            self.next += spaces;
            return self.comment(begin);
        }
        self.push(begin, Kind::Open);
        loop {
            let Some(&letter) = self.rest().first() else {
                return Err(Error::new(begin + 1, "{{ without }}"));
            };
            if self.begins("}}") {
                self.push(self.next, Kind::Close);
                self.next += 2;
                return Ok(Trim::No);
            }
            if letter.is_whitespace() {
                self.next += 1;
                if self.begins("-}}") {
                    self.push(self.next, Kind::Close);
                    self.next += 3;
                    return Ok(Trim::Yes);
                }
                continue;
            }
            self.word(letter)?;
        }
    }

    fn comment(&mut self, begin: usize) -> Result<Trim, Error> {
        while !self.begins("*/") {
            if self.rest().is_empty() {
                return Err(Error::new(begin + 1, "a comment without */"));
            }
            self.next += 1;
        }
        self.next += 2;
        let spaces = self.rest().iter().take_while(|letter| letter.is_whitespace()).count();
        self.next += spaces;
        if self.begins("}}") {
            self.next += 2;
            return Ok(Trim::No);
        }
        if spaces > 0 && self.begins("-}}") {
            self.next += 3;
            return Ok(Trim::Yes);
        }
        Err(Error::new(begin + 1, "a comment stands alone between its braces"))
    }

    fn word(&mut self, letter: char) -> Result<(), Error> {
        let at = self.next;
        let simple = [('|', Kind::Pipe), (',', Kind::Comma), ('(', Kind::Left), (')', Kind::Right)];
        if let Some((_, kind)) = simple.into_iter().find(|(sign, _)| *sign == letter) {
            self.next += 1;
            self.push(at, kind);
            return Ok(());
        }
        let kind = match letter {
            ':' if self.begins(":=") => {
                self.next += 2;
                Kind::Declare
            }
            '=' => {
                self.next += 1;
                Kind::Assign
            }
            '.' => {
                self.next += 1;
                let name = self.name();
                if name.is_empty() { Kind::Dot } else { Kind::Field(name) }
            }
            '$' => {
                self.next += 1;
                Kind::Variable(self.name())
            }
            '"' | '`' => self.quoted(letter)?,
            _ if letter.is_ascii_digit() || letter == '-' || letter == '+' => self.number()?,
            _ if letter.is_alphabetic() || letter == '_' => Kind::Name(self.name()),
            _ => return Err(Error::new(at + 1, format!("{letter:?} begins nothing that is known"))),
        };
        self.push(at, kind);
        Ok(())
    }

    /// Letters, digits and underscores.
    fn name(&mut self) -> String {
        let is_part = |letter: &&char| letter.is_alphanumeric() || **letter == '_';
        let name: String = self.rest().iter().take_while(is_part).collect();
        self.next += name.chars().count();
        name
    }

    fn number(&mut self) -> Result<Kind, Error> {
        let is_part = |letter: &&char| letter.is_ascii_alphanumeric() || "+-._".contains(**letter);
        let text: String = self.rest().iter().take_while(is_part).collect();
        let plain = text.trim_start_matches('+');
        let number = plain
            .parse::<i64>()
            .map(serde_json::Number::from)
            .ok()
            .or_else(|| plain.parse().ok().and_then(serde_json::Number::from_f64));
        let number = number.ok_or_else(|| Error::new(self.next + 1, format!("{text} is no number")))?;
        self.next += text.chars().count();
        Ok(Kind::Number(number))
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, Error> {
        let begin = self.next;
        let unended = || Error::new(begin + 1, format!("a string without its end {quote}"));
        self.next += 1;
        let mut text = String::new();
        loop {
            let letter = *self.rest().first().ok_or_else(unended)?;
            self.next += 1;
            if letter == quote {
                return Ok(Kind::Quoted(text));
            }
            if letter != '\\' || quote == '`' {
                text.push(letter);
                continue;
            }
            let escaped = *self.rest().first().ok_or_else(unended)?;
            self.next += 1;
            text.push(match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\\' | '"' | '\'' => escaped,
                _ => {
                    return Err(Error::new(
                        self.next - 1,
                        format!("\\{escaped} is no escape: \\n \\t \\r \\\\ \\\" are"),
                    ));
                }
            });
        }
    }
}
