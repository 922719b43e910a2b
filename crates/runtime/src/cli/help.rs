//! `--help`: what fits a screen of 80 columns and 50 lines.

use std::fmt::Write;

use super::flag::{Flag, Takes, Verb};
use super::table::{GLOBAL, HELP, PROGRAM, VERBS};

/// The widest line.
pub(super) const WIDTH: usize = 80;

/// Returns the usage line of a verb.
pub(super) fn usage(verb: &Verb) -> String {
    usage_of(PROGRAM, verb)
}

fn usage_of(name: &str, verb: &Verb) -> String {
    let options = if verb.flags.is_empty() { "" } else { " [OPTIONS]" };
    let space = if verb.operands.usage.is_empty() { "" } else { " " };
    format!("{name} {}{options}{space}{}", verb.name, verb.operands.usage)
}

/// Returns the help of the program, which was called by `name`.
pub(super) fn program(name: &str) -> String {
    let mut out = head(&format!("{name} - Open Container Initiative runtime"));
    out.push_str(&format!("\nUsage: {name} [OPTIONS] COMMAND\n"));
    let rows = VERBS.iter().map(|verb| (format!("  {}", verb.name), verb.summary));
    section(&mut out, "Commands", rows.collect());
    section(&mut out, "Options, before COMMAND", flags(GLOBAL));
    paragraph(&mut out, &format!("{name} COMMAND --help shows the options of a command."));
    out
}

/// Returns the help of a verb.
pub(super) fn verb(name: &str, verb: &Verb) -> String {
    let mut out = head(&format!("{name} {} - {}", verb.name, verb.about));
    out.push_str("\nUsage: ");
    line_break(&mut out, &usage_of(name, verb));
    if !verb.aliases.is_empty() {
        line_break(&mut out, &format!("Also called: {}", verb.aliases.join(", ")));
    }
    section(&mut out, "Options", flags(verb.flags));
    out
}

/// Begins as runc's help does, in whose second line callers look for the name.
fn head(text: &str) -> String {
    const INDENT: &str = "   ";
    let mut out = String::from("NAME:\n");
    for line in wrapped(text, WIDTH - INDENT.len()) {
        out.push_str(INDENT);
        line_break(&mut out, &line);
    }
    out
}

/// Returns the flags that are shown to people, `--help` last.
pub(super) fn shown(flags: &'static [Flag]) -> impl Iterator<Item = &'static Flag> {
    static LAST: [Flag; 1] = [HELP];
    flags.iter().chain(&LAST).filter(|flag| flag.deprecated.is_none())
}

/// Breaks a text into lines at spaces.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn flags(flags: &'static [Flag]) -> Vec<(String, &'static str)> {
    let left = |flag: &Flag| {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        match flag.takes {
            Takes::Nothing => format!("  {short}--{}", flag.long),
            Takes::Value { name, .. } => format!("  {short}--{} {name}", flag.long),
        }
    };
    shown(flags).map(|flag| (left(flag), flag.help)).collect()
}

fn section(out: &mut String, title: &str, rows: Vec<(String, &str)>) {
    let column = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 2;
    line_break(out, "");
    line_break(out, &format!("{title}:"));
    for (left, right) in rows {
        for (at, text) in wrapped(right, WIDTH - column).iter().enumerate() {
            let left = if at == 0 { left.as_str() } else { "" };
            let written = writeln!(out, "{left:column$}{text}");
            debug_assert!(written.is_ok(), "a String takes any text");
        }
    }
}

fn paragraph(out: &mut String, text: &str) {
    line_break(out, "");
    line_break(out, text);
}

fn line_break(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}
