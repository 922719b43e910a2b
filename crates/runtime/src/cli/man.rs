//! The manual page bulkrun(8), in the man macros that every roff has.

use super::flag::{Flag, Takes, Verb};
use super::help;
use super::table::{GLOBAL, PROGRAM, VERBS};

/// Returns the whole page.
pub(super) fn page() -> String {
    let mut page = Page::default();
    page.line(&format!(".TH {} 8 \"\" \"Bulkhead {}\"", PROGRAM.to_uppercase(), env!("CARGO_PKG_VERSION")));
    page.section("NAME");
    page.text(&format!("{PROGRAM} - OCI container runtime"));
    page.section("SYNOPSIS");
    page.text(&format!("{PROGRAM} [OPTIONS] COMMAND"));
    page.section("DESCRIPTION");
    page.paragraphs(DESCRIPTION);
    page.section("OPTIONS");
    page.text("These come before the command.");
    page.flags(GLOBAL);
    page.section("COMMANDS");
    for verb in VERBS {
        page.verb(verb);
    }
    for (title, paragraphs) in [("EXIT STATUS", EXIT_STATUS), ("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)]
    {
        page.section(title);
        page.paragraphs(paragraphs);
    }
    page.section("SEE ALSO");
    page.line(".BR namespaces (7),\n.BR cgroups (7),\n.BR capabilities (7),\n.BR seccomp (2)");
    page.roff
}

const DESCRIPTION: &[&str] = &[
    "Makes, runs and removes containers as the OCI runtime specification describes them. A container is made \
     from a bundle: a directory with a file config.json and, as a rule, a root file system. Command line, \
     output and exit codes are those of runc, so that engines can call it instead.",
    "An option and its value are two arguments or one with = between them. Options may come before or after \
     the container, except where a command for the container follows. -- ends the options.",
];
const EXIT_STATUS: &[&str] = &[
    "run and exec end with the exit code of the process that they waited for, or with 128 and the number of \
     the signal that ended it. An exec that could not run its process ends with 255, but with 1 where it got no \
     container or a flag that it does not know. Whatever else fails ends with 1, after one line on the standard \
     error that says why; with --log the line is in the log as well.",
];
const FILES: &[&str] =
    &["/run/bulkrun holds the state of root's containers, $XDG_RUNTIME_DIR/bulkrun that of other users'. \
     --root names another place."];
const ENVIRONMENT: &[&str] =
    &["LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES pass sockets into the container, NOTIFY_SOCKET makes its \
     readiness known, both as systemd has it. XDG_RUNTIME_DIR is where an ordinary user's state is."];

#[derive(Default)]
struct Page {
    roff: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.roff.push_str(line);
        self.roff.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    /// Adds text that roff must take literally.
    fn text(&mut self, text: &str) {
        let text = escaped(text);
        self.line(&text);
    }

    fn paragraphs(&mut self, paragraphs: &[&str]) {
        for (at, paragraph) in paragraphs.iter().enumerate() {
            if at > 0 {
                self.line(".PP");
            }
            for line in help::wrapped(paragraph, 100) {
                self.text(&line);
            }
        }
    }

    fn verb(&mut self, verb: &Verb) {
        self.line(&format!(".SS \"{}\"", escaped(&help::usage(verb))));
        self.paragraphs(&[verb.about]);
        if !verb.aliases.is_empty() {
            self.text(&format!("Also called {}.", verb.aliases.join(" and ")));
        }
        self.flags(verb.flags);
    }

    fn flags(&mut self, flags: &'static [Flag]) {
        for flag in help::shown(flags) {
            let short = flag.short.map(|letter| format!("\\fB\\-{letter}\\fR, ")).unwrap_or_default();
            let long = escaped(flag.long);
            let value = match flag.takes {
                Takes::Nothing => String::new(),
                Takes::Value { name, .. } => format!(" \\fI{}\\fR", escaped(name)),
            };
            self.line(".TP");
            self.line(&format!("{short}\\fB\\-\\-{long}\\fR{value}"));
            self.text(flag.help);
        }
    }
}

/// Escapes what roff would interpret: backslashes, hyphens that are minus signs, control lines.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
