//! Names of containers: those that people give, and those that are made for who gives none.

use bulkhead_store::Store;

use crate::error::{Error, Result};
use crate::id;

/// How a name may look: a letter or digit, then at least one more of those or `_`, `.`, `-` (docker's rule).
const RULE: &str =
    "names begin with a letter or digit, and go on with at least one more letter, digit, '_', '.' or '-'";

/// As [`RULE`], for networks.
const RULE_OF_NETWORKS: &str =
    "names begin with a letter or digit, and go on with letters, digits, '_', '.' or '-'";

/// Returns a name without the slash that docker's names have at their front and people may give.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// Checks a name that somebody gave a container or a pod.
///
/// # Errors
/// [`Error::Invalid`] with the rule.
pub fn check(name: &str) -> Result<()> {
    follow(name, 2, RULE)
}

/// As [`check`], for a network, whose name may have a single letter.
///
/// # Errors
/// As that.
pub fn check_network(name: &str) -> Result<()> {
    follow(name, 1, RULE_OF_NETWORKS)
}

fn follow(name: &str, least: usize, rule: &str) -> Result<()> {
    let invalid =
        |reason: &str| Err(Error::Invalid { what: format!("name {name:?}"), reason: reason.into() });
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if name.len() < least || !first || !rest {
        return invalid(rule);
    }
    if name.len() > 255 {
        return invalid("it has more than 255 characters");
    }
    if id::is_id(name) {
        return invalid("it looks like the id of a container");
    }
    Ok(())
}

/// Makes a name such as `patient_hopper`; from the second attempt on with a number behind it.
///
/// # Errors
/// As getrandom(2).
pub fn generate(attempt: u32) -> Result<String> {
    let [first, second, third, fourth] = id::random::<4>()?;
    let adjective = ADJECTIVES[usize::from(first) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(second) % SURNAMES.len()];
    let number = u16::from_le_bytes([third, fourth]);
    Ok(if attempt == 0 { format!("{adjective}_{surname}") } else { format!("{adjective}_{surname}{number}") })
}

/// Returns which of the names is nearest to one that is not there, when one is near.
pub fn similar<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wanted.chars().count() / 3;
    let near = names.into_iter().map(|name| (distance(wanted, name), name));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, name)| name)
}

/// Returns which image of the store is called nearly so, with its tag, when one is.
pub fn similar_image(store: &Store, wanted: &str) -> Option<String> {
    let images = store.images().unwrap_or_default();
    let names = images.iter().flat_map(|image| &image.names).filter(|name| name.digest().is_none());
    // Who leaves the tag out may have mistyped the rest, or have meant another tag.
    let called =
        Vec::from_iter(names.flat_map(|name| [(name.familiar_repository(), name), (name.familiar(), name)]));
    let near = similar(wanted, called.iter().map(|(text, _)| text.as_str()))?;
    called.iter().find(|(text, _)| text == near).map(|(_, name)| name.familiar())
}

/// How many characters must be added, removed or replaced to make one text of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, wanted) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, found) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(wanted != *found);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "alert", "amber", "ample", "awake", "bold", "brave", "brief", "bright", "brisk", "calm",
    "candid", "careful", "clear", "clever", "cosy", "crisp", "curious", "daring", "deft", "dry", "eager",
    "early", "even", "exact", "fair", "faithful", "fearless", "firm", "fleet", "frank", "free", "fresh",
    "gentle", "glad", "hardy", "honest", "humble", "keen", "kind", "light", "lively", "loyal", "lucid",
    "mellow", "merry", "modest", "neat", "nimble", "open", "patient", "plain", "polite", "prompt", "quick",
    "quiet", "ready", "sober", "steady", "sturdy", "thorough", "tidy", "watchful",
];

/// People to whom computing, and shipbuilding, owe something.
const SURNAMES: [&str; 64] = [
    "aiken",
    "allen",
    "babbage",
    "backus",
    "baran",
    "bartik",
    "blackwell",
    "booth",
    "borg",
    "brunel",
    "cerf",
    "church",
    "clarke",
    "codd",
    "conway",
    "corbato",
    "dahl",
    "davies",
    "dijkstra",
    "easley",
    "eckert",
    "engelbart",
    "estrin",
    "feinler",
    "flowers",
    "goldstine",
    "hamilton",
    "hamming",
    "hoare",
    "holberton",
    "hollerith",
    "hopper",
    "jennings",
    "johnson",
    "kay",
    "kernighan",
    "kilburn",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "mccarthy",
    "milner",
    "moore",
    "naur",
    "noether",
    "nygaard",
    "perlman",
    "plimsoll",
    "postel",
    "ritchie",
    "shannon",
    "sutherland",
    "tarjan",
    "thompson",
    "turing",
    "vaughan",
    "vonneumann",
    "wilkes",
    "williams",
    "wirth",
    "yourdon",
    "zuse",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_names_are_names_and_others_are_refused_with_the_rule() {
        for good in ["ab", "web-1", "a_b.c", "0x", &"n".repeat(255)] {
            check(good).unwrap();
        }
        for bad in ["", "a", "-a", ".x", "a/b", "a b", "ä1", "..", "a\n", &"n".repeat(256), &"0".repeat(64)]
        {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.starts_with("name "), "{error}");
        }
    }

    #[test]
    fn made_names_are_valid_and_the_second_attempt_has_a_number() {
        for name in ADJECTIVES.iter().flat_map(|adjective| SURNAMES.map(|name| format!("{adjective}_{name}")))
        {
            check(&name).unwrap();
        }
        check(&generate(0).unwrap()).unwrap();
        assert!(generate(1).unwrap().ends_with(|last: char| last.is_ascii_digit()));
    }

    #[test]
    fn a_mistyped_name_is_near_its_own_only() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(similar("wbe", ["web", "db"]), None, "two changes of three letters are another word");
        assert_eq!(similar("web-sever", ["web-server", "db"]), Some("web-server"));
        assert_eq!(similar("x", ["y"]), None);
    }
}
