//! What `--change` says of an image that is made: an instruction of a Dockerfile that needs no build.

mod words;

use std::str::FromStr;

use bulkhead_store::{Defaults, Empty, Healthcheck};

use crate::request::{Malformed, Nanoseconds, Signal};
use words::{expand, pairs, plain, switches};

/// An instruction of a Dockerfile: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`,
/// `VOLUME` or `WORKDIR` (docker's for `commit` and `import`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    instruction: Instruction,
    /// What stands behind it.
    rest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instruction {
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    OnBuild,
    StopSignal,
    User,
    Volume,
    WorkingDirectory,
}

const INSTRUCTIONS: [(&str, Instruction); 11] = [
    ("CMD", Instruction::Cmd),
    ("ENTRYPOINT", Instruction::Entrypoint),
    ("ENV", Instruction::Env),
    ("EXPOSE", Instruction::Expose),
    ("HEALTHCHECK", Instruction::Healthcheck),
    ("LABEL", Instruction::Label),
    ("ONBUILD", Instruction::OnBuild),
    ("STOPSIGNAL", Instruction::StopSignal),
    ("USER", Instruction::User),
    ("VOLUME", Instruction::Volume),
    ("WORKDIR", Instruction::WorkingDirectory),
];

const NOUN: &str = "change";

impl FromStr for Change {
    type Err = Malformed;

    /// Reads a line. One that goes on behind a backslash at its end is one.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let joined = text.replace("\\\n", "");
        let line = joined.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let known = INSTRUCTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, instruction)) = known else {
            let all: Vec<&str> = INSTRUCTIONS.iter().map(|(name, _)| *name).collect();
            let reason = format!("expected an instruction of a Dockerfile: {}", all.join(", "));
            return Err(Malformed::new(NOUN, text, reason));
        };
        let rest = rest.trim().to_owned();
        if rest.is_empty() {
            return Err(Malformed::new(NOUN, text, "the instruction says nothing"));
        }
        if rest.contains('\n') {
            return Err(Malformed::new(NOUN, text, "one change is one instruction"));
        }
        Ok(Self { instruction: *instruction, rest })
    }
}

/// Applies changes, in their order.
///
/// # Errors
/// A value that cannot be.
pub(crate) fn apply(changes: &[Change], defaults: &mut Defaults) -> Result<(), Malformed> {
    let before = defaults.cmd.clone();
    let mut is_command_set = false;
    for change in changes {
        is_command_set |= change.instruction == Instruction::Cmd;
        let before = if is_command_set { CommandBefore::Changed } else { CommandBefore::Old };
        change.apply(defaults, before)?;
    }
    // Docker: an entrypoint takes the command away that was there, unless it takes the entrypoint itself away.
    let has_entrypoint = defaults.entrypoint.as_ref().is_some_and(|words| !words.is_empty());
    if !is_command_set && !has_entrypoint && defaults.cmd.is_none() {
        defaults.cmd = before;
    }
    Ok(())
}

/// Where the command comes from that an entrypoint finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandBefore {
    /// It was there, and does not fit a new entrypoint.
    Old,
    /// A change has set it.
    Changed,
}

impl Change {
    fn apply(&self, defaults: &mut Defaults, command_before: CommandBefore) -> Result<(), Malformed> {
        let Self { instruction, rest } = self;
        let environment = defaults.env.clone();
        let expand = |text: &str| expand(text, &environment).map_err(|reason| self.wrong(reason));
        match instruction {
            Instruction::Cmd => defaults.cmd = Some(command(rest, defaults)),
            Instruction::Entrypoint => {
                defaults.entrypoint = Some(command(rest, defaults));
                if command_before == CommandBefore::Old {
                    defaults.cmd = None;
                }
            }
            Instruction::Env => {
                for (name, value) in self.pairs(&environment)? {
                    set_variable(&mut defaults.env, &name, &value);
                }
            }
            Instruction::Label => {
                defaults.labels.extend(self.pairs(&environment)?);
            }
            Instruction::Expose => {
                for word in plain(rest) {
                    for port in ports(&expand(&word)?)
                        .ok_or_else(|| self.wrong("expected PORT, PORT/udp or FIRST-LAST"))?
                    {
                        defaults.exposed_ports.insert(port, Empty {});
                    }
                }
            }
            Instruction::Volume => {
                for place in list(rest).unwrap_or_else(|| plain(rest)) {
                    let place = expand(&place)?;
                    if place.trim().is_empty() {
                        return Err(self.wrong("the path of a volume is empty"));
                    }
                    defaults.volumes.insert(place, Empty {});
                }
            }
            Instruction::User => defaults.user = expand(&self.one_word()?)?,
            Instruction::WorkingDirectory => {
                let path = expand(rest)?;
                defaults.working_dir =
                    crate::copy::normal_path(&std::path::Path::new(&defaults.working_dir).join(path))
                        .to_string_lossy()
                        .into_owned();
            }
            Instruction::StopSignal => {
                let signal = expand(&self.one_word()?)?;
                signal.parse::<Signal>().map_err(|error| error.within(NOUN, &self.text()))?;
                defaults.stop_signal = signal;
            }
            Instruction::OnBuild => {
                let first = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                if matches!(first.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                    return Err(self.wrong(format!("ONBUILD {first} is not allowed")));
                }
                defaults.on_build.push(rest.clone());
            }
            Instruction::Healthcheck => defaults.healthcheck = Some(self.healthcheck()?),
        }
        Ok(())
    }

    fn pairs(&self, environment: &[String]) -> Result<Vec<(String, String)>, Malformed> {
        pairs(&self.rest, environment).map_err(|reason| self.wrong(reason))
    }

    fn one_word(&self) -> Result<String, Malformed> {
        match plain(&self.rest).as_slice() {
            [word] => Ok(word.clone()),
            _ => Err(self.wrong("expected one word")),
        }
    }

    /// Reads `NONE`, or `[--interval=TIME …] CMD COMMAND`.
    fn healthcheck(&self) -> Result<Healthcheck, Malformed> {
        let (options, rest) = switches(&self.rest);
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let mut check = Healthcheck::default();
        if kind.eq_ignore_ascii_case("none") && command.trim().is_empty() && options.is_empty() {
            check.test = vec!["NONE".to_owned()];
            return Ok(check);
        }
        if !kind.eq_ignore_ascii_case("cmd") || command.trim().is_empty() {
            return Err(self.wrong("expected NONE, or CMD with a command"));
        }
        check.test = match list(command.trim()) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), command.trim().to_owned()],
        };
        for (name, value) in options {
            let time = || -> Result<i64, Malformed> {
                let Nanoseconds(time) =
                    value.parse().map_err(|error: Malformed| error.within(NOUN, &self.text()))?;
                i64::try_from(time).map_err(|_| self.wrong("the time is too long"))
            };
            match name.as_str() {
                "interval" => check.interval = time()?,
                "timeout" => check.timeout = time()?,
                "start-period" => check.start_period = time()?,
                "start-interval" => check.start_interval = time()?,
                "retries" => {
                    let count = value.parse::<u32>().ok().filter(|&count| count > 0);
                    check.retries =
                        count.map(i64::from).ok_or_else(|| self.wrong("retries is a whole number from 1"))?;
                }
                other => return Err(self.wrong(format!("HEALTHCHECK has no option --{other}"))),
            }
        }
        Ok(check)
    }

    fn text(&self) -> String {
        let name =
            INSTRUCTIONS.iter().find(|(_, known)| *known == self.instruction).map_or("", |(name, _)| name);
        format!("{name} {}", self.rest)
    }

    fn wrong(&self, reason: impl Into<String>) -> Malformed {
        Malformed::new(NOUN, &self.text(), reason)
    }
}

/// Reads a command: words as JSON, or a line for the shell.
fn command(rest: &str, defaults: &Defaults) -> Vec<String> {
    let shell = || defaults.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    list(rest).unwrap_or_else(|| [shell(), vec![rest.to_owned()]].concat())
}

/// Reads words as JSON. What only looks like it is a line for the shell, as docker has it.
fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// Reads `80`, `80/udp` or `8000-8002/tcp` as single ports.
fn ports(word: &str) -> Option<Vec<String>> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0 && !text.starts_with('+'));
    let (first, last) = (number(first)?, number(last)?);
    let is_known = matches!(protocol.as_str(), "tcp" | "udp" | "sctp") && first <= last;
    is_known.then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Sets a variable in its place, or behind the others.
fn set_variable(environment: &mut Vec<String>, name: &str, value: &str) {
    let text = format!("{name}={value}");
    match environment.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = text,
        None => environment.push(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Defaults, String> {
        let mut defaults = Defaults {
            env: vec!["PATH=/bin".to_owned(), "A=old".to_owned()],
            cmd: Some(vec!["sh".to_owned()]),
            working_dir: "/srv".to_owned(),
            ..Defaults::default()
        };
        let changes: Result<Vec<Change>, Malformed> = changes.iter().map(|text| text.parse()).collect();
        let changes = changes.map_err(|error| error.to_string())?;
        apply(&changes, &mut defaults).map_err(|error| error.to_string())?;
        Ok(defaults)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn commands_are_words_or_a_line() {
        assert_eq!(changed(&[r#"CMD ["a", "b c"]"#]).unwrap().cmd, Some(words(&["a", "b c"])));
        assert_eq!(changed(&["cmd echo $A"]).unwrap().cmd, Some(words(&["/bin/sh", "-c", "echo $A"])));
        assert_eq!(changed(&["CMD [a]"]).unwrap().cmd, Some(words(&["/bin/sh", "-c", "[a]"])));
        let with = changed(&[r#"ENTRYPOINT ["e"]"#]).unwrap();
        assert_eq!((with.entrypoint, with.cmd), (Some(words(&["e"])), None), "the old command goes");
        let both = changed(&[r#"CMD ["c"]"#, r#"ENTRYPOINT ["e"]"#]).unwrap();
        assert_eq!((both.entrypoint, both.cmd), (Some(words(&["e"])), Some(words(&["c"]))));
        let none = changed(&["ENTRYPOINT []"]).unwrap();
        assert_eq!((none.entrypoint, none.cmd), (Some(words(&[])), Some(words(&["sh"]))));
    }

    #[test]
    fn variables_and_labels_have_docker_s_forms() {
        for (change, expected) in [
            ("ENV A=new", ["PATH=/bin", "A=new"].as_slice()),
            ("ENV B=1 C='2 3' D=\"$A\\\"x\"", &["PATH=/bin", "A=old", "B=1", "C=2 3", "D=old\"x"]),
            ("ENV B some words", &["PATH=/bin", "A=old", "B=some words"]),
            ("ENV PATH=$PATH:/opt/${A}/${NO:-none}${A:+yes}", &["PATH=/bin:/opt/old/noneyes", "A=old"]),
            ("ENV B='$A' C=\\$A D=a\\ b", &["PATH=/bin", "A=old", "B=$A", "C=$A", "D=a b"]),
            ("ENV A=1 \\\n  B=2", &["PATH=/bin", "A=1", "B=2"]),
        ] {
            assert_eq!(changed(&[change]).unwrap().env, expected, "{change}");
        }
        let labels = changed(&["LABEL a=b \"org.x y\"=$A"]).unwrap().labels;
        assert_eq!(Vec::from_iter(labels), [("a".into(), "b".into()), ("org.x y".into(), "old".into())]);
    }

    #[test]
    fn the_others() {
        let keys = |map: std::collections::BTreeMap<String, Empty>| map.into_keys().collect::<Vec<_>>();
        let exposed = changed(&["EXPOSE 80 53/udp 8000-8001/TCP"]).unwrap().exposed_ports;
        assert_eq!(keys(exposed), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(keys(changed(&["VOLUME /a /b"]).unwrap().volumes), ["/a", "/b"]);
        assert_eq!(keys(changed(&[r#"VOLUME ["/a b"]"#]).unwrap().volumes), ["/a b"]);
        assert_eq!(changed(&["USER app:adm"]).unwrap().user, "app:adm");
        assert_eq!(changed(&["WORKDIR sub/../x"]).unwrap().working_dir, "/srv/x");
        assert_eq!(changed(&["WORKDIR /a b"]).unwrap().working_dir, "/a b");
        assert_eq!(changed(&["STOPSIGNAL SIGINT"]).unwrap().stop_signal, "SIGINT");
        assert_eq!(changed(&["ONBUILD RUN x"]).unwrap().on_build, ["RUN x"]);
        let check =
            changed(&["HEALTHCHECK --interval=5s --retries=2 CMD curl -f x"]).unwrap().healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (5_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
        assert_eq!(changed(&["HEALTHCHECK NONE"]).unwrap().healthcheck.unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_no_change_is_named() {
        for (change, expected) in [
            ("RUN x", "expected an instruction of a Dockerfile: CMD, ENTRYPOINT"),
            ("FROM x", "expected an instruction"),
            ("", "expected an instruction"),
            ("CMD", "says nothing"),
            ("ENV A", "expected NAME=value"),
            ("ENV A=b C", "expected NAME=value"),
            ("ENV =b", "has no name"),
            ("ENV A=${", "has no `}`"),
            ("ENV A='x", "is not closed"),
            ("EXPOSE x", "expected PORT"),
            ("EXPOSE 0", "expected PORT"),
            ("EXPOSE 80/ip", "expected PORT"),
            ("USER a b", "expected one word"),
            ("STOPSIGNAL NO", "signal"),
            ("ONBUILD FROM x", "not allowed"),
            ("HEALTHCHECK --every=1s CMD x", "no option --every"),
            ("HEALTHCHECK x", "expected NONE, or CMD"),
            ("CMD a\nCMD b", "one change is one instruction"),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert!(error.contains(expected), "{change:?} is refused with {error:?}, not {expected:?}");
        }
    }
}
