//! The verdict in words.

use super::machine::*;
use crate::plan::{Axis, BARE, LEFT};
use crate::provenance::TIME;
use crate::record::{DIED, End, Finding, Line, Reach};
use crate::report::findings::Findings;
use crate::report::{document, tables, verdict, words};
use crate::results::Results;

#[test]
fn what_vouches_for_one_axis_vouches_for_no_other() {
    let findings = findings();
    // Only the first bare process loses victims: T and Q of one pair, with limits and without.
    let neighbours = trial(&findings, Axis::Noninterference);
    assert_eq!(neighbours.one_sided.len(), 4, "{neighbours:?}");
    assert_eq!((neighbours.compared, neighbours.quantities), (2, 2), "one mean with limits and one without");
    let said = words::opening(&findings);
    let performance = said.iter().find(|sentence| sentence.text.starts_with("Performance:")).unwrap();
    assert_eq!(performance.mood, document::Mood::Good, "{said:?}");
    let neighbours = said.iter().find(|sentence| sentence.text.starts_with("Noninterference:")).unwrap();
    assert!(
        neighbours.mood == document::Mood::Plain
            && neighbours.text.contains("failed where the other did not, in 4 figures.")
    );
    let few = Findings::of(&Results::of(Machine::new(3).journal(2)).unwrap());
    let said = words::opening(&few);
    let coarse = said.iter().find(|sentence| sentence.text.starts_with("Noninterference:")).unwrap();
    assert!(coarse.mood == document::Mood::Bad && coarse.text.contains("orders of magnitude"), "{coarse:?}");
    assert!(said.iter().any(|sentence| sentence.text.contains("coarse, from 2 blocks, and no ranking")));
}

#[test]
fn green_is_only_what_was_quiet() {
    let mut journal = Machine::new(3).journal(12);
    for line in &mut journal {
        if let Line::Turn(turn) = line {
            turn.disturbance = Some("other programs had 40 % of the CPUs".to_owned());
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let said = &words::opening(&findings)[0];
    assert!(said.mood == document::Mood::Plain && said.text.contains("most turns"), "{said:?}");
}

#[test]
fn the_opening_has_a_sentence_for_each_axis_and_none_without_figures() {
    let whole = words::opening(&findings());
    for begin in [
        "Time to the first byte: bare 2.4",
        "Work in bulkrun: is within 5 % of bare in cpu, fork, tcp-rate, redis.",
        "Work in runsc: costs more than bare in fork 1",
        "Of the 19 comparisons with bare that the run was to decide (start and work): 19 decided (11 equal, 7 worse, 1 better); \
         of the 15 of work: 15 decided (11 equal, 3 worse, 1 better).",
        "Of the host's kernel the application enters, in functions: bare 200; bulkrun 220 (20 of them new, 0 of bare's",
        "Beside antagonists, with limits, a victim keeps of 1, in the mean of the 8 of 9 pairs that ended everywhere: bare (without \
         limits) 0.46 [0.46, 0.46], bulkrun 0.92 [0.92, 0.92], ",
        "Beside a hog that takes it from bare processes, in bulkrun and crun a victim keeps all of processes with limits.",
        "Beside a hog that takes it from bare processes, in runsc the hog's sandbox ends as a whole where it takes processes",
        "Beside the literature, 11 claims: 0 found here, too, 2 found otherwise, 9 open. Not found here: that gVisor ",
    ] {
        assert!(whole.iter().any(|sentence| sentence.text.starts_with(begin)), "no `{begin}` in {whole:#?}");
    }
    let own =
        whole.iter().find(|sentence| sentence.text.starts_with("Beside antagonists, with limits")).unwrap();
    assert!(
        own.text.contains(" Over all that ended on each: bulkrun 0.93 [0.93, 0.93] of 9 pairs, "),
        "{own:?}"
    );
    let mut journal = Machine::new(3).journal(3);
    journal.retain(|line| !matches!(line, Line::Turn(turn) if turn.task != "kernel"));
    let findings = Findings::of(&Results::of(journal).unwrap());
    let alone = words::opening(&findings);
    let text = |sentence: &document::Sentence| sentence.text.clone();
    assert!(
        alone
            .iter()
            .map(text)
            .any(|text| text.contains("runsc 110 (10 of them new, 100 of bare's avoided), 3.30×"))
    );
    assert!(
        !alone.iter().map(text).any(|text| text.contains("comparison") || text.contains("vouches")),
        "{alone:#?}"
    );
    assert_eq!(words::glance(&findings).head, ["platform", "kernel entered"]);
}

#[test]
fn each_wall_has_a_sentence_on_top_and_the_rest_is_folded() {
    let findings = findings();
    let top = verdict::verdict(&findings);
    let walls = findings.walls().count();
    assert!(top.len() <= walls + 1, "{top:#?}");
    for (begin, mood) in
        [("bulkrun: it starts in 8.", document::Mood::Bad), ("runsc: it starts in ", document::Mood::Plain)]
    {
        let found = top.iter().find(|sentence| sentence.text.starts_with(begin));
        assert_eq!(found.map(|sentence| sentence.mood), Some(mood), "no `{begin}` in {top:#?}");
    }
    let runsc = &top.iter().find(|sentence| sentence.text.starts_with("runsc")).unwrap().text;
    for part in [
        "; work costs no more than bare in 1 of 4 kinds, more in fork 1",
        "; its application enters 110 functions of the host's kernel, 3.30× as often as bare; beside",
        "; none of 4 probes got through.",
    ] {
        assert!(runsc.contains(part), "no `{part}` in {runsc}");
    }
    let all = words::opening(&findings);
    let rest = verdict::more(&findings, &top);
    assert!(rest.iter().all(|sentence| all.contains(sentence) && !top.contains(sentence)));
    assert!(
        all.iter().all(|sentence| rest.contains(sentence) || top.contains(sentence)),
        "something is lost"
    );
    let doubtful = Findings::of(&results(&mut Machine { bias: 1.2, ..Machine::new(3) }));
    assert!(verdict::verdict(&doubtful)[0].text.contains("boot · first byte"), "a doubt is folded");
}

#[test]
fn that_nothing_is_known_of_hogs_is_no_good_news() {
    let sentence = |died: bool| {
        let mut journal = Machine::new(3).journal(3);
        journal
            .retain(|line| !matches!(line, Line::Turn(turn) if turn.task == "processes left, with limits"));
        for line in &mut journal {
            let Line::Turn(turn) = line else { continue };
            if died && turn.task == "memory left, with limits" && turn.platform == BARE {
                let reason = format!("{DIED}: signal: 9 (SIGKILL): it said nothing");
                turn.findings = vec![Finding::Failure { quantity: LEFT.to_owned(), reason }];
            }
        }
        let findings = Findings::of(&Results::of(journal).unwrap());
        let said = words::opening(&findings);
        said.into_iter().find(|sentence| sentence.text.contains("hog")).unwrap()
    };
    let nothing = sentence(false);
    assert!(
        nothing.text.starts_with("No hog took anything away from bare processes, so that nothing is known")
    );
    assert_eq!(nothing.mood, document::Mood::Bad);
    // A victim that was killed beside the hog was not left alone.
    let died = sentence(true);
    assert!(
        died.text.starts_with("Beside a hog that takes it from bare processes, in bulkrun, crun, runsc and"),
        "{died:?}"
    );
}

#[test]
fn bare_is_the_control_of_probes_and_no_wall_that_failed() {
    let findings = findings();
    let glance = words::glance(&findings);
    let probes = glance.head.iter().position(|head| head == "probes held").unwrap();
    let held = glance.rows.iter().map(|row| (row[0].as_str(), row[probes].as_str()));
    assert_eq!(
        Vec::from_iter(held.take(3)),
        [(BARE, "the control"), ("bulkrun", "3 of 4"), ("crun", "3 of 4")]
    );
    let told = words::noninterference(&findings);
    let bare = &told.iter().find(|(name, _)| name == BARE).unwrap().1;
    let control = "it is the control: the 4 attempts that reach the host from it are those that count.";
    assert!(bare.ends_with(control) && !bare.contains("keyring"), "{bare}");
}

#[test]
fn a_probe_that_was_not_made_is_no_wall_that_held() {
    let mut journal = Machine::new(3).journal(6);
    for line in &mut journal {
        let Line::Turn(turn) = line else { continue };
        for finding in &mut turn.findings {
            if let Finding::Verdict { verdict, .. } = finding
                && turn.platform == "bulkrun"
            {
                *verdict = Reach::Moot;
            }
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let score = findings.probes.scores.iter().find(|score| score.platform == "bulkrun").unwrap();
    assert_eq!((score.counted(), score.unmade.len()), (0, 4), "{score:?}");
    let said = words::opening(&findings);
    let unmade =
        said.iter().find(|sentence| sentence.text.contains("4 of 4 probes could not be made on bulkrun"));
    assert_eq!(unmade.map(|sentence| sentence.mood), Some(document::Mood::Bad), "{said:#?}");
    let table = tables::probes(&findings);
    assert!(table.rows.iter().any(|row| row[1] == "bulkrun" && row[2] == "not made"), "{:?}", table.rows);
}

#[test]
fn what_there_was_no_time_for_is_told() {
    let mut journal = Machine::new(3).journal(7);
    for line in &mut journal {
        match line {
            Line::Run(run) => drop(run.environment.insert(TIME.to_owned(), "4 min 40 s".to_owned())),
            Line::End(end) => *end = End::Budget,
            _ => {}
        }
    }
    // Of one task the last block was not made.
    journal.retain(|line| !matches!(line, Line::Turn(turn) if turn.block == 6 && turn.task == "boot"));
    let whole = words::opening(&Findings::of(&Results::of(journal).unwrap()));
    let said = whole.iter().find(|sentence| sentence.text.starts_with("The time")).unwrap();
    let expected = "The time (4 min 40 s) ran out before everything was known well. Blocks measured: 6 to 7 of at most 12 of start, \
                    life and work; 7 of at most 12 of what hogs leave.";
    assert_eq!(
        (said.text.as_str(), said.mood),
        (expected, document::Mood::Plain),
        "victims and probes are known"
    );
    let complete = words::opening(&findings());
    assert!(!complete.iter().any(|sentence| sentence.text.starts_with("The time")), "{complete:?}");
}

#[test]
fn one_run_beside_a_hog_is_called_one() {
    let said = |blocks| {
        let findings = Findings::of(&Results::of(Machine::new(3).journal(blocks)).unwrap());
        let mut said = words::opening(&findings).into_iter().map(|sentence| sentence.text);
        said.find(|text| text.starts_with("Beside a hog")).unwrap()
    };
    assert!(said(1).ends_with(", as one run tells, which may be an accident."), "{}", said(1));
    assert!(!said(3).contains("accident"), "{}", said(3));
}
