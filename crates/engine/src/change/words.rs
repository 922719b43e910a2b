//! Words of an instruction: quotation marks, backslashes and variables, as in Dockerfiles ("Environment replacement").

use std::iter::Peekable;
use std::str::Chars;

/// Reads `NAME=value …`, or `NAME value`, whose value is the rest of the line, with variables replaced by those of an
/// environment.
pub(super) fn pairs(text: &str, environment: &[String]) -> Result<Vec<(String, String)>, String> {
    let words = plain(text);
    if words.first().is_some_and(|first| !first.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("expected NAME=value")?;
        return Ok(vec![(name.to_owned(), expand(value.trim(), environment)?)]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').ok_or("expected NAME=value")?;
        match expand(name, environment)? {
            name if name.is_empty() => Err("a value has no name".to_owned()),
            name => Ok((name, expand(value, environment)?)),
        }
    };
    words.iter().map(pair).collect()
}

/// Cuts a text into words at blanks outside of quotation marks, which stay in them.
pub(super) fn plain(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, blank) if blank.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => {
                word.push(letter);
                word.extend(letters.next());
                continue;
            }
            _ => {}
        }
        word.push(letter);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes `--name=value` from the front of a text.
pub(super) fn switches(text: &str) -> (Vec<(String, String)>, &str) {
    let mut switches = Vec::new();
    let mut rest = text.trim_start();
    while let Some(switch) = rest.strip_prefix("--") {
        let (word, behind) = switch.split_once(char::is_whitespace).unwrap_or((switch, ""));
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        switches.push((name.to_owned(), value.to_owned()));
        rest = behind.trim_start();
    }
    (switches, rest)
}

/// Takes quotation marks and backslashes from a word, and replaces `$NAME`, `${NAME}`, `${NAME:-else}` and `${NAME:+then}`.
pub(super) fn expand(word: &str, environment: &[String]) -> Result<String, String> {
    let mut expansion = Expansion { letters: word.chars().peekable(), environment };
    expansion.until(None)
}

struct Expansion<'a> {
    letters: Peekable<Chars<'a>>,
    environment: &'a [String],
}

impl Expansion<'_> {
    /// Reads up to a letter, or to the end.
    fn until(&mut self, end: Option<char>) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.letters.next() {
                None if end.is_none() => return Ok(text),
                None => return Err("a `${` has no `}`".to_owned()),
                letter if letter == end => return Ok(text),
                Some('\'') => self.single(&mut text)?,
                Some('"') => self.double(&mut text)?,
                Some('\\') => text.extend(self.letters.next()),
                Some('$') => text.push_str(&self.variable()?),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn single(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.letters.next() {
                None => return Err("a quotation mark is not closed".to_owned()),
                Some('\'') => return Ok(()),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn double(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.letters.next() {
                None => return Err("a quotation mark is not closed".to_owned()),
                Some('"') => return Ok(()),
                Some('$') => text.push_str(&self.variable()?),
                Some('\\') => match self.letters.next() {
                    Some(letter @ ('"' | '$' | '\\')) => text.push(letter),
                    Some(letter) => text.extend(['\\', letter]),
                    None => text.push('\\'),
                },
                Some(letter) => text.push(letter),
            }
        }
    }

    fn variable(&mut self) -> Result<String, String> {
        if self.letters.next_if_eq(&'{').is_none() {
            let name = self.name();
            // A `$` before anything else is one.
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        let name = self.name();
        let value = self.value(&name).filter(|value| !value.is_empty());
        match self.letters.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let kind = self.letters.next();
                let other = self.until(Some('}'))?;
                match kind {
                    Some('-') => Ok(value.unwrap_or(other)),
                    Some('+') => Ok(value.map(|_| other).unwrap_or_default()),
                    _ => Err(format!("${{{name}:…}} is neither ${{{name}:-…}} nor ${{{name}:+…}}")),
                }
            }
            Some(other) => Err(format!("{other:?} cannot stand behind ${{{name}")),
            None => Err("a `${` has no `}`".to_owned()),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) =
            self.letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        {
            name.push(letter);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        let mut known = self.environment.iter().rev().filter_map(|text| text.split_once('='));
        known.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }
}
