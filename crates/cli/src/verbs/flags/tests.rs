use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use bulkhead_testkit::skip;
use bulkhead_testkit::skip::cached;

use super::*;
use crate::verbs::{FAMILIES, Verb};

/// Ours alone, or not docker's to list: told by every section at once.
const EVERYWHERE: &[&str] = &["--help"];

/// Verbs that docker has not, or whose flags are not docker's.
const OURS: &[&str] = &["measure", "help", "completion", "man"];

fn verbs() -> impl Iterator<Item = &'static Verb> {
    FAMILIES.iter().flat_map(|family| family.verbs).filter(|verb| !OURS.contains(&verb.names[0]))
}

/// The long flags of a section, and whether they are there.
fn told(verb: &str) -> BTreeMap<String, &'static str> {
    let rows = rows(verb).unwrap_or_else(|| panic!("docs/docker-flags.md has no section {verb}"));
    let rows = rows.filter(|(flags, _)| flags.starts_with('`'));
    let rows = rows.flat_map(|(flags, meaning)| flags.split(", ").map(move |flag| (flag, meaning)));
    rows.map(|(flag, meaning)| (flag.trim_matches('`').to_owned(), meaning)).collect()
}

/// The flags of our parser, long and short.
fn defined(verb: &Verb) -> BTreeSet<String> {
    let command = verb.command(verb.names[0]);
    let mut flags = BTreeSet::new();
    for arg in command.get_arguments() {
        flags
            .extend(arg.get_long_and_visible_aliases().into_iter().flatten().map(|long| format!("--{long}")));
        if arg.get_id() != "help" {
            flags.extend(
                arg.get_short_and_visible_aliases().into_iter().flatten().map(|short| format!("-{short}")),
            );
        }
    }
    flags
}

#[test]
fn the_table_tells_of_every_flag_that_is_there() {
    for verb in verbs() {
        let name = verb.names[0];
        let told = told(name);
        let there = |meaning: &str| !meaning.starts_with("not there: ");
        for (flag, meaning) in &told {
            let is_known = meaning.starts_with("same")
                || meaning.starts_with("different: ")
                || meaning.starts_with("ours: ");
            assert!(is_known || !there(meaning), "{name} {flag}: {meaning:?} begins with no verdict");
        }
        let told = told.into_iter().filter(|(_, meaning)| there(meaning)).map(|(flag, _)| flag);
        let told = BTreeSet::from_iter(told);
        let mut defined = defined(verb);
        defined.retain(|flag| !EVERYWHERE.contains(&flag.as_str()));
        assert_eq!(
            told, defined,
            "{name}: left what docs/docker-flags.md tells, right what the parser knows"
        );
    }
}

#[test]
fn the_table_forgets_no_flag_of_docker() {
    let docker = cached("engines/newest")
        .map(|engine| engine.join("usr/bin/docker"))
        .filter(|docker| docker.is_file());
    let Some(docker) = docker else {
        skip!("cargo xtask engines unpacks docker, which has not been done here")
    };
    for verb in verbs() {
        let name = verb.names[0];
        let output = Command::new(&docker).args(name.split(' ')).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        // docker answers for what it does not know with the help of the whole.
        if !help.contains(&format!("docker {name}")) {
            continue;
        }
        let told = told(name);
        for flag in flags_of(&help) {
            let is_told = told.contains_key(&flag) || EVERYWHERE.contains(&flag.as_str());
            assert!(is_told, "docs/docker-flags.md does not tell what becomes of docker {name} {flag}");
        }
    }
}

/// The flags in a help of docker's.
fn flags_of(help: &str) -> Vec<String> {
    let lines = help.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --"));
    let words = lines.flat_map(|line| line.split_whitespace().take(2));
    words.filter(|word| word.starts_with('-')).map(|word| word.trim_end_matches(',').to_owned()).collect()
}

/// Fails where a value that begins with `-` and stands behind a blank is taken for an option.
#[test]
fn values_that_may_be_negative_stand_behind_a_blank() {
    for words in [
        "run --memory-swap -1 x",
        "run --memory-swappiness -1 x",
        "run --pids-limit -1 x",
        "run --oom-score-adj -500 x",
        "run --cpu-quota -1 x",
        "run --cpu-rt-runtime -1 x",
        "run --stop-timeout -1 x",
        "create --memory-swap -1 --pids-limit -1 --oom-score-adj -500 --cpu-rt-runtime -1 x",
        "update --memory-swap -1 --pids-limit -1 --cpu-quota -1 x",
        "stop -t -1 x",
        "stop --timeout -1 x",
        "stop --time -1 x",
        "restart -t -1 x",
        "logs --tail -1 x",
        "logs -n -1 x",
        "ps -n -1",
        "ps --last -1",
        "network connect --gw-priority -1 net x",
        "pod create --memory-swap -1 --pids-limit -1 x",
        "pod stop -t -1 x",
        "pod logs --tail -1 x",
    ] {
        let words = Vec::from_iter(words.split(' ').map(std::ffi::OsString::from));
        let (verb, name) = crate::verbs::find(&words).unwrap();
        let rest = &words[name.split(' ').count()..];
        let typed = std::iter::once("bulkhead".into()).chain(rest.iter().cloned());
        let parsed = as_docker(verb.command(name)).try_get_matches_from(typed);
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
    }
}
