//! Published claims beside what was found.

use super::machine::*;
use crate::record::Line;
use crate::report::findings::{Accord, Findings, Joined};
use crate::report::markdown;
use crate::results::Results;

/// The findings of a journal in which some words stand for others.
fn findings_with(words: &[(&str, &str)]) -> Findings {
    Findings::of(&results_with(words))
}

fn results_with(words: &[(&str, &str)]) -> Results {
    let lines = Machine::new(3).journal(12).into_iter().map(|line| {
        let mut text = serde_json::to_string(&line).unwrap();
        words.iter().for_each(|(one, other)| text = text.replace(one, other));
        serde_json::from_str(&text).unwrap()
    });
    Results::of(Vec::<Line>::from_iter(lines)).unwrap()
}

/// The claim that begins so: its accord, and what its tests say.
fn claim(findings: &Findings, begin: &str) -> (Accord, Vec<(String, Accord)>, String) {
    let claim = findings.literature.iter().find(|claim| claim.claim.starts_with(begin)).unwrap();
    let tests = claim.tests.iter().map(|test| (test.platform.clone(), test.accord));
    let here = claim.tests.iter().map(|test| test.here.as_str());
    (claim.accord, tests.collect(), Vec::from_iter(here).join("; "))
}

#[test]
fn a_claim_is_tested_by_what_its_source_measured() {
    let plain = findings();
    let (accord, tests, _) = claim(&plain, "containers cost");
    // Of processor and memory the half that was measured says nothing of the other.
    let named = |name: &str, accord| (name.to_owned(), accord);
    let halves =
        ["bulkrun", "crun"].map(|name| [named(name, Accord::Agrees), named(name, Accord::Open)]).concat();
    assert_eq!((accord, tests), (Accord::Open, halves));
    let both = findings_with(&[("work tcp-rate", "work memory")]);
    let (accord, tests, here) = claim(&both, "containers cost");
    assert!(accord == Accord::Agrees && tests.len() == 4 && here.contains("within 5 % of bare"), "{here}");
    let dear = findings_with(&[("work tcp-rate", "work memory"), ("runsc", "podman")]);
    assert_eq!(claim(&dear, "containers cost").0, Accord::Differs, "one container that differs is enough");
    // No runtime by itself is Docker.
    let (accord, _, here) = claim(&plain, "Docker takes");
    assert!(accord == Accord::Open && here.contains("crun 1"), "{here}");
    let docker = findings_with(&[("crun", "docker")]);
    assert_eq!(claim(&docker, "Docker takes").0, Accord::Differs, "13 times is not two orders of magnitude");
    let network = "gVisor's own network stack";
    let (accord, _, here) = claim(&plain, network);
    assert!(accord == Accord::Open && here.contains("not measured on both"), "{here}");
    // Four times bare's cost, and what runc costs: the same.
    let (accord, tests, here) = claim(&findings_with(&[("crun", "runc")]), network);
    assert!(accord == Accord::Agrees && tests.len() == 1 && here.contains("nothing is downloaded"), "{here}");
    let cheap = findings_with(&[("crun", "runc"), ("work cpu", "heavy iperf3")]);
    let (accord, tests, _) = claim(&cheap, network);
    assert_eq!((accord, tests.len()), (Accord::Differs, 2), "over iperf3 it costs 1.2 times as much");
}

#[test]
fn gvisor_is_compared_with_what_it_was_compared_with() {
    let (accord, _, here) = claim(&findings(), "in gVisor allocating");
    assert!(accord == Accord::Open && here.contains("not measured"), "{here}");
    let alone = findings_with(&[("work fork", "work mmap")]);
    let (accord, _, here) = claim(&alone, "in gVisor allocating");
    assert!(accord == Accord::Open && here.starts_with("runc, which"), "{here}");
    // 16 times bare's cost, and 0.8 times: 20.
    let both = findings_with(&[("work fork", "work mmap"), ("crun", "runc")]);
    let (accord, tests, here) = claim(&both, "in gVisor allocating");
    assert_eq!((accord, tests[0].0.as_str()), (Accord::Agrees, "runsc"));
    assert!(here.contains(": 20.") || here.contains(": 19."), "{here}");
    let files = findings_with(&[("work fork", "work open-close"), ("crun", "runc")]);
    assert_eq!(claim(&files, "in gVisor opening").0, Accord::Differs, "20 times is not 216 times");
}

#[test]
fn code_is_not_told_by_system_calls() {
    let functions = findings();
    assert_eq!(claim(&functions, "gVisor executes").0, Accord::Differs);
    let (accord, _, here) = claim(&functions, "gVisor and containers");
    // runsc and crun: 110 and 230 functions, all 110 of them in both.
    assert!(accord == Accord::Differs && here.starts_with("48 %"), "{here}");
    assert_eq!(claim(&functions, "gVisor makes several").0, Accord::Open);
    let calls = findings_with(&[("\"functions\"", "\"tracepoints\"")]);
    let (accord, _, here) = claim(&calls, "gVisor executes");
    assert!(accord == Accord::Open && here.contains("--in-guest"), "{here}");
    assert_eq!(claim(&calls, "gVisor and containers").0, Accord::Open);
    // 110 names, 60 times each, beside 200 names, ten times each.
    let (accord, _, here) = claim(&calls, "gVisor makes several");
    assert!(accord == Accord::Agrees && here.contains("3.30×"), "{here}");
}

#[test]
fn another_journal_answers_what_this_one_leaves_open() {
    let own = results_with(&[]);
    let other = |place: &str, words: &[(&str, &str)]| Joined {
        place: place.to_owned(),
        results: results_with(words),
    };
    let full = other("full", &[("work fork", "work mmap"), ("crun", "runc")]);
    let heavy = other("heavy", &[("work fork", "work mmap"), ("crun", "runc")]);
    let joined = Findings::joined(&own, &[full, heavy]);
    let (accord, tests, _) = claim(&joined, "in gVisor allocating");
    assert_eq!((accord, tests.len()), (Accord::Agrees, 1), "the second says the same, and is not asked");
    // What is decided here is not decided otherwise by a journal that was measured at another time.
    assert_eq!(claim(&joined, "gVisor executes").0, claim(&Findings::of(&own), "gVisor executes").0);
    let from = joined.literature.iter().flat_map(|claim| &claim.tests).filter_map(|test| test.from.clone());
    assert!(Vec::from_iter(from).iter().all(|from| from.starts_with("full")));
    let text = markdown(&joined);
    assert!(
        text.contains("(journal of full") && text.contains("claims answered by the journals of"),
        "{text}"
    );
}
