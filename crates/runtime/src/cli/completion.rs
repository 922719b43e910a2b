//! Completion scripts for bash, zsh and fish.
//!
//! Container ids come from `bulkrun list --quiet`, with the `--root` that is on the line.

use std::fmt::Write;

use super::flag::{FirstOperand, Flag, Offer, Takes, Verb};
use super::help::shown;
use super::table::{GLOBAL, PROGRAM, VERBS};

const SHELLS: &str = "bash zsh fish";

/// Returns the script for bash; it needs no library of completions.
pub(super) fn bash() -> String {
    let mut out = format!(
        r#"# bash completion for {PROGRAM}; put it into /usr/share/bash-completion/completions/{PROGRAM}
_{PROGRAM}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb= operands=0 root= valued word i
    local IFS=$'\n'
    COMPREPLY=()
    [[ $prev == = ]] && prev=${{COMP_WORDS[COMP_CWORD-2]}}
    [[ $cur == = ]] && cur=
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}} valued=
        case $verb:$word in
"#
    );
    let mut push = |text: &str| out.push_str(text);
    push(&format!("            {}) valued=1 ;;\n", patterns("", GLOBAL)));
    for verb in VERBS.iter().filter(|verb| verb.flags.iter().any(has_value)) {
        push(&format!("            {}) valued=1 ;;\n", patterns(verb.name, verb.flags)));
    }
    push("            *:-*) ;;\n            :*) verb=$word ;;\n            *) ((operands++)) ;;\n");
    push(BASH_SKIP_VALUE);
    push(&bash_values("", GLOBAL));
    for verb in VERBS {
        push(&bash_values(verb.name, verb.flags));
    }
    push("    esac\n    case $verb:$cur in\n");
    push(&format!("        :-*) {} ;;\n", bash_words(&names(GLOBAL))));
    for verb in VERBS {
        push(&format!("        {}:-*) {} ;;\n", verb.name, bash_words(&names(verb.flags))));
    }
    let verbs: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
    push(&format!("        :*) {} ;;\n", bash_words(&verbs.join(" "))));
    for verb in VERBS {
        let words = match verb.operands.first {
            FirstOperand::Nothing => continue,
            FirstOperand::Container => {
                format!("\"$({PROGRAM} ${{root:+\"--root=$root\"}} list --quiet 2>/dev/null)\"")
            }
            FirstOperand::Verb => bash_list(&verbs.join(" ")),
            FirstOperand::Shell => bash_list(SHELLS),
        };
        push(&format!(
            "        {}:*) ((operands == 0)) && COMPREPLY=($(compgen -W {words} -- \"$cur\")) ;;\n",
            verb.name
        ));
    }
    push(&format!("    esac\n    return 0\n}}\ncomplete -F _{PROGRAM} {PROGRAM}\n"));
    out
}

/// Skips the value of the flag just seen; bash splits `--flag=value` into three words.
const BASH_SKIP_VALUE: &str = "        esac
        if [[ $valued ]]; then
            ((i++))
            [[ ${COMP_WORDS[i]} == = ]] && ((i++))
            [[ $word == --root ]] && root=${COMP_WORDS[i]}
        fi
    done
    case $verb:$prev in
";

/// Returns the case patterns of all flags of a verb that have a value.
fn patterns(verb: &str, flags: &[Flag]) -> String {
    let with_value = flags.iter().filter(|flag| has_value(flag));
    let names = with_value.flat_map(|flag| {
        let short = flag.short.map(|letter| format!("{verb}:-{letter}"));
        [Some(format!("{verb}:--{}", flag.long)), short].into_iter().flatten()
    });
    names.collect::<Vec<_>>().join(" | ")
}

fn bash_values(verb: &str, flags: &[Flag]) -> String {
    let mut out = String::new();
    for flag in flags {
        let Takes::Value { offer, .. } = flag.takes else { continue };
        let action = match offer {
            Offer::Nothing => ":".to_owned(),
            Offer::File => r#"COMPREPLY=($(compgen -f -- "$cur"))"#.to_owned(),
            Offer::Directory => r#"COMPREPLY=($(compgen -d -- "$cur"))"#.to_owned(),
            Offer::Words(words) => bash_words(&words.join(" ")),
        };
        let pattern = patterns(verb, std::slice::from_ref(flag));
        out.push_str(&format!("        {pattern}) {action}; return 0 ;;\n"));
    }
    out
}

fn bash_words(words: &str) -> String {
    format!("COMPREPLY=($(compgen -W {} -- \"$cur\"))", bash_list(words))
}

/// Quotes words with newlines between them: the script sets IFS to that, so that file names may have spaces.
fn bash_list(words: &str) -> String {
    format!("$'{}'", words.replace(' ', "\\n"))
}

/// Returns the script for zsh.
pub(super) fn zsh() -> String {
    let mut out = format!(
        r#"#compdef {PROGRAM}
# zsh completion for {PROGRAM}; put it as _{PROGRAM} into a directory of $fpath
_{PROGRAM}_containers() {{
    local -a ids
    ids=(${{(f)"$({PROGRAM} ${{opt_args[--root]:+--root=${{opt_args[--root]}}}} list --quiet 2>/dev/null)"}})
    compadd -a ids
}}
_{PROGRAM}_verbs() {{
    local -a verbs
    verbs=(
"#
    );
    let mut push = |text: &str| out.push_str(text);
    for verb in VERBS {
        push(&format!("        '{}:{}'\n", verb.name, zsh_text(verb.summary)));
    }
    push(&format!(
        "    )\n    _describe command verbs\n}}\n_{PROGRAM}() {{\n    local state\n    local -A opt_args\n"
    ));
    push("    _arguments -C -S \\\n");
    push(&zsh_flags("        ", GLOBAL));
    push(&format!("        '1: :_{PROGRAM}_verbs' '*:: :->verb'\n    case $state:$words[1] in\n"));
    for verb in VERBS {
        let names: Vec<_> =
            [verb.name].iter().chain(verb.aliases).map(|name| format!("verb:{name}")).collect();
        push(&format!("        {})\n            _arguments -S \\\n", names.join("|")));
        push(&zsh_flags("                ", verb.flags));
        push(&format!("                {} ;;\n", zsh_operands(verb)));
    }
    push(&format!("    esac\n}}\n_{PROGRAM} \"$@\"\n"));
    out
}

fn zsh_operands(verb: &Verb) -> String {
    let first = match verb.operands.first {
        FirstOperand::Nothing => "':container:'".to_owned(),
        FirstOperand::Container => format!("'1:container:_{PROGRAM}_containers'"),
        FirstOperand::Verb => format!("'1:command:_{PROGRAM}_verbs'"),
        FirstOperand::Shell => format!("'1:shell:({SHELLS})'"),
    };
    match (verb.operands.most, verb.operands.ends_flags) {
        (0, _) => "&& return".to_owned(),
        (_, true) => format!("{first} '*::argument:_normal'"),
        (_, false) => first,
    }
}

fn zsh_flags(indent: &str, flags: &'static [Flag]) -> String {
    let mut out = String::new();
    for flag in shown(flags) {
        let help = zsh_text(flag.help);
        let (mark, value) = match flag.takes {
            Takes::Nothing => ("", String::new()),
            Takes::Value { name, offer } => {
                let action = match offer {
                    Offer::Nothing => String::new(),
                    Offer::File => "_files".to_owned(),
                    Offer::Directory => "_files -/".to_owned(),
                    Offer::Words(words) => format!("({})", words.join(" ")),
                };
                ("=", format!(":{}:{action}", zsh_text(name)))
            }
        };
        let repeat = if flag.help.contains("repeatable") { "*" } else { "" };
        let written = match flag.short {
            Some(letter) if repeat.is_empty() => writeln!(
                out,
                "{indent}'(-{letter} --{long})'{{-{letter}{plus},--{long}{mark}}}'[{help}]{value}' \\",
                long = flag.long,
                plus = if mark.is_empty() { "" } else { "+" },
            ),
            Some(letter) => {
                writeln!(out, "{indent}'*'{{-{letter}+,--{}{mark}}}'[{help}]{value}' \\", flag.long)
            }
            None => writeln!(out, "{indent}'{repeat}--{}{mark}[{help}]{value}' \\", flag.long),
        };
        debug_assert!(written.is_ok(), "a String takes any text");
    }
    out
}

/// Escapes what ends a part of a specification of `_arguments`, within single quotes.
fn zsh_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\'' => out.push_str("'\\''"),
            '[' | ']' | ':' | '\\' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// Returns the script for fish.
pub(super) fn fish() -> String {
    let valued = GLOBAL.iter().filter(|flag| has_value(flag)).map(|flag| format!("--{}", flag.long));
    let valued = valued.collect::<Vec<_>>().join(" ");
    let before = format!("not __{PROGRAM}_verb >/dev/null");
    let mut out = format!(
        r#"# fish completion for {PROGRAM}; put it into ~/.config/fish/completions/{PROGRAM}.fish
function __{PROGRAM}_verb
    set -l words (commandline -opc)
    set -e words[1]
    set -l skip no
    for word in $words
        if test $skip = yes
            set skip no
            continue
        end
        switch $word
            case {valued}
                set skip yes
            case '-*'
            case '*'
                echo $word
                return 0
        end
    end
    return 1
end
function __{PROGRAM}_containers
    set -l words (commandline -opc)
    if set -l at (contains -i -- --root $words)
        {PROGRAM} --root $words[(math $at + 1)] list --quiet 2>/dev/null
    else
        {PROGRAM} list --quiet 2>/dev/null
    end
end
complete -c {PROGRAM} -f
"#
    );
    let mut push = |text: &str| out.push_str(text);
    for flag in shown(GLOBAL) {
        push(&fish_flag(&before, flag));
    }
    for verb in VERBS {
        push(&format!(
            "complete -c {PROGRAM} -n '{before}' -a {} -d {}\n",
            verb.name,
            fish_text(verb.summary)
        ));
    }
    for verb in VERBS {
        let mut seen = vec![verb.name];
        seen.extend(verb.aliases);
        let seen = format!("contains -- (__{PROGRAM}_verb) {}", seen.join(" "));
        for flag in shown(verb.flags) {
            push(&fish_flag(&seen, flag));
        }
        let verbs: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        let offered = match verb.operands.first {
            FirstOperand::Nothing => continue,
            FirstOperand::Container => format!("(__{PROGRAM}_containers)"),
            FirstOperand::Verb => verbs.join(" "),
            FirstOperand::Shell => SHELLS.to_owned(),
        };
        push(&format!("complete -c {PROGRAM} -n '{seen}' -a '{offered}'\n"));
    }
    out
}

fn fish_flag(condition: &str, flag: &Flag) -> String {
    let short = flag.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Value { offer: Offer::Nothing, .. } => " -x".to_owned(),
        Takes::Value { offer: Offer::File, .. } => " -r -F".to_owned(),
        Takes::Value { offer: Offer::Directory, .. } => " -x -a '(__fish_complete_directories)'".to_owned(),
        Takes::Value { offer: Offer::Words(words), .. } => format!(" -x -a '{}'", words.join(" ")),
    };
    let (long, help) = (flag.long, fish_text(flag.help));
    format!("complete -c {PROGRAM} -n '{condition}'{short} -l {long}{value} -d {help}\n")
}

fn fish_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn has_value(flag: &Flag) -> bool {
    matches!(flag.takes, Takes::Value { .. })
}

/// Lists the names of flags that are shown.
fn names(flags: &'static [Flag]) -> String {
    let both = |flag: &'static Flag| {
        let short = flag.short.map(|letter| format!("-{letter}"));
        short.into_iter().chain([format!("--{}", flag.long)])
    };
    shown(flags).flat_map(both).collect::<Vec<_>>().join(" ")
}
