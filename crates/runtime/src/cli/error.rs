//! What can be wrong with a command line.

use crate::id::InvalidId;

/// A command line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The verb is not one of ours.
    #[error("unknown command {name:?}{}", hint(.nearest))]
    UnknownCommand {
        /// The word typed.
        name: String,
        /// The verb that it resembles.
        nearest: Option<&'static str>,
    },
    /// Help is wanted for a verb that is not one of ours, without what could move a cursor. The words are runc's.
    #[error("No help topic for '{0}'")]
    UnknownTopic(String),
    /// No flag of the verb has that name.
    #[error("{place}unknown option {flag:?}{}", hint(.nearest))]
    UnknownFlag {
        /// The verb with a colon, or nothing before the verb.
        place: String,
        /// The argument as typed, up to a `=`.
        flag: String,
        /// The flag that it resembles.
        nearest: Option<String>,
    },
    /// The flag belongs before the verb.
    #[error("{verb}: {flag} is a global option: put it before {verb:?}")]
    Misplaced {
        /// The verb.
        verb: &'static str,
        /// The flag, with dashes.
        flag: String,
    },
    /// The flag is the last argument and wants a value.
    #[error("{flag} needs a value: {flag} {name}")]
    MissingValue {
        /// The flag, with dashes.
        flag: String,
        /// The placeholder of the value.
        name: &'static str,
    },
    /// The value cannot be read.
    #[error("{flag}: {value:?} {problem}")]
    Value {
        /// The flag, with dashes, or the operand.
        flag: String,
        /// The value as typed.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There are too few or too many operands.
    #[error("{verb:?} requires {limit} argument(s): {usage}")]
    Operands {
        /// The verb.
        verb: &'static str,
        /// "exactly 1", "a minimum of 1" and so on, in runc's words.
        limit: String,
        /// The usage line.
        usage: String,
    },
    /// `exec` got neither a command nor `--process`.
    #[error("exec args cannot be empty: give a COMMAND or --process FILE")]
    EmptyExec,
    /// Both `--process` and a command were given to `exec`.
    #[error("exec: --process FILE already names the command, but {0:?} was given too")]
    TwoProcesses(String),
    /// The container id is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

fn hint<T: AsRef<str>>(nearest: &Option<T>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean {:?}?", name.as_ref())).unwrap_or_default()
}

/// Returns the candidate that `word` most resembles, if it is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + word.chars().count().min(12) / 4;
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Counts the letters to insert, delete, replace or swap with a neighbour (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(64).collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, &a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let mut best = (previous[j] + usize::from(a != b)).min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == right[j - 1] && left[i - 1] == b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_that_was_meant() {
        let verbs = ["create", "start", "state", "delete", "list", "run", "ps"];
        let meant = |word| nearest(word, verbs.into_iter());
        assert_eq!(meant("craete"), Some("create"));
        assert_eq!(meant("strat"), Some("start"));
        assert_eq!(meant("lst"), Some("list"));
        assert_eq!(meant("rum"), Some("run"));
        assert_eq!(meant("frobnicate"), None);
        assert_eq!(meant(&"x".repeat(100_000)), None);
    }
}
