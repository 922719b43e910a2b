//! Two runs beside each other.

use super::machine::*;
use super::place::{Place, sound};
use crate::cgroups::Weight;
use crate::plan::{BARE, BOOT};
use crate::record::{Finding, Line, Reach, WEIGHT};
use crate::report::contrast::document;
use crate::report::document::Mood;
use crate::report::findings::Standing;
use crate::report::{Findings, compare, markdown, write_contrast};
use crate::results::Results;

#[test]
fn a_run_beside_a_daemon_is_told_from_one_without() {
    let weighed = |weight: &str| {
        let mut results = results(&mut Machine::new(3));
        results.run.environment.insert(WEIGHT.to_owned(), weight.to_owned());
        results
    };
    let (greatest, usual) = (weighed(Weight::Greatest.says()), weighed(Weight::Usual.says()));
    let warns = |text: &str| text.contains("had precedence over the machine's other work");
    assert!(warns(&compare(&greatest, &usual).markdown()));
    assert!(
        !warns(&compare(&usual, &usual).markdown())
            && !warns(&compare(&results(&mut Machine::new(3)), &usual).markdown())
    );
    let page = |results: &Results| markdown(&Findings::of(results));
    assert!(warns(&page(&usual)) && !warns(&page(&greatest)));
}

#[test]
fn two_runs_agree_and_a_slower_machine_cancels_out() {
    let place = Place::new("contrast");
    let earlier = results(&mut Machine::new(3));
    let later = results(&mut Machine { pace: 1.5, ..Machine::new(4) });
    let contrast = compare(&earlier, &later);
    let of = |platform: &str| {
        let mut figures = contrast.figures.iter();
        figures.find(|figure| figure.task == BOOT && figure.platform == platform).unwrap()
    };
    assert_eq!(of("crun").standing, Standing::Worse);
    assert!((1.45..1.55).contains(&of("crun").absolute.estimate), "{:?}", of("crun").absolute);
    assert_eq!(of("crun").against_bare.unwrap().1, Standing::Equal);
    assert_eq!((of(BARE).against_bare, of(BARE).verdicts), (None, None));
    assert_eq!(contrast.contradictions().count(), 0);
    let (then, now, both) = contrast.decided();
    assert!(both > 0 && both <= then.min(now), "{then}, {now}, {both}");
    assert!(contrast.markdown().contains(&format!("the later {now}; both decide {both}.")));
    assert_eq!((contrast.only_earlier.len(), contrast.only_later.len(), contrast.probes.len()), (0, 0, 0));
    let written = write_contrast(&contrast, &place.0).unwrap();
    written
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "html" || end == "svg"))
        .for_each(|path| drop(sound(path)));
    assert!(contrast.markdown().contains("No verdict against bare of one run contradicts"));
}

#[test]
fn a_verdict_that_one_run_was_not_to_have_contradicts_none_in_either_order() {
    let with = |decides: bool, factor: f64| {
        let mut journal = Machine::new(3).journal(12);
        for line in &mut journal {
            match line {
                Line::Run(run) => {
                    let task = run.plan.tasks.iter_mut().find(|task| task.name == "work cpu").unwrap();
                    task.quantities[0].decides = decides;
                }
                Line::Turn(turn) if turn.task == "work cpu" && turn.platform == "crun" => {
                    for finding in &mut turn.findings {
                        if let Finding::Amount { value, .. } = finding {
                            *value *= factor;
                        }
                    }
                }
                _ => {}
            }
        }
        Results::of(journal).unwrap()
    };
    for (then, now, expected) in [(true, true, 1), (true, false, 0), (false, true, 0), (false, false, 0)] {
        let contrast = compare(&with(then, 1.0), &with(now, 2.0));
        assert_eq!(contrast.contradictions().count(), expected, "{then} then, {now} now");
        let wanted = contrast.figures.iter().filter(|figure| figure.task == "work cpu" && figure.decides);
        assert_eq!(wanted.count() > 0, expected == 1);
    }
}

#[test]
fn a_wall_that_holds_better_is_good_news() {
    let with = |reached: Reach| {
        let mut journal = Machine::new(3).journal(6);
        for line in &mut journal {
            let Line::Turn(turn) = line else { continue };
            for finding in turn.findings.iter_mut().filter(|_| turn.platform == "crun") {
                if let Finding::Verdict { probe, verdict, .. } = finding
                    && probe == "kernel log"
                {
                    *verdict = reached;
                }
            }
        }
        Results::of(journal).unwrap()
    };
    for (then, now, begin, mood) in [
        (Reach::Leak, Reach::Denied, "Walls let less through than before: kernel log, crun", Mood::Good),
        (Reach::Virtual, Reach::Breach, "Walls let more through than before: kernel log, crun", Mood::Bad),
        (Reach::Denied, Reach::Virtual, "1 attempt came out otherwise", Mood::Plain),
        (Reach::Leak, Reach::Moot, "1 attempt came out otherwise", Mood::Plain),
    ] {
        let said = document(&compare(&with(then), &with(now))).opening;
        let said = Vec::from_iter(said.into_iter().map(|sentence| (sentence.text, sentence.mood)));
        assert!(said.iter().any(|(text, is)| text.starts_with(begin) && *is == mood), "{said:?}");
        assert!(
            said.iter().filter(|(_, mood)| *mood == Mood::Bad).count() == usize::from(mood == Mood::Bad),
            "{said:?}"
        );
    }
}

#[test]
fn contradictions_and_what_is_new_are_named() {
    let mut earlier = results(&mut Machine::new(3));
    earlier.run.plan.tasks[0].rate = Some(500.0);
    let mut journal = Machine::new(4).journal(12);
    for line in &mut journal {
        let Line::Turn(turn) = line else { continue };
        for finding in &mut turn.findings {
            match finding {
                Finding::Amount { value, .. } if turn.task == "work cpu" && turn.platform == "crun" => {
                    *value *= 2.0;
                }
                // What a victim keeps has no verdict.
                Finding::Amount { value, .. }
                    if turn.task.contains(" beside ") && turn.platform == "crun" =>
                {
                    *value *= 9.0;
                }
                Finding::Verdict { probe, verdict, .. }
                    if turn.platform == "crun" && probe == "kernel log" =>
                {
                    *verdict = Reach::Leak;
                }
                _ => {}
            }
        }
    }
    journal.retain(|line| !matches!(line, Line::Turn(turn) if turn.task == "work tcp-rate"));
    let mut later = Results::of(journal).unwrap();
    later.run.plan.tasks[0].rate = Some(200.0);
    later.run.environment.insert("kernel".to_owned(), "Linux 7".to_owned());
    let contrast = compare(&earlier, &later);
    assert_eq!(contrast.rates, [("boot".to_owned(), 500.0, 200.0)]);
    assert!(
        contrast
            .markdown()
            .contains("of other rates, turns a second, and are not to be set against each other: boot (500")
    );
    let contradicted = Vec::from_iter(
        contrast.contradictions().map(|figure| (figure.task.as_str(), figure.platform.as_str())),
    );
    assert_eq!(contradicted, [("work cpu", "crun")]);
    assert_eq!(contrast.probes, [("kernel log".to_owned(), "crun".to_owned(), Reach::Denied, Reach::Leak)]);
    assert!(contrast.only_earlier.contains(&"work tcp-rate · rate, bare".to_owned()));
    assert_eq!(contrast.machines["kernel"], (Some("Linux 6.18.44".to_owned()), Some("Linux 7".to_owned())));
    assert!(contrast.markdown().contains("work cpu · rate, crun (equal then, better now)"));
}
