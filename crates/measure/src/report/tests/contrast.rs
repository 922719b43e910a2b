//! Two runs beside each other.

use super::machine::*;
use super::place::{Place, sound};
use crate::plan::{BARE, BOOT};
use crate::record::{Finding, Line, Reach};
use crate::report::findings::Standing;
use crate::report::{compare, write_contrast};
use crate::results::Results;

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
fn contradictions_and_what_is_new_are_named() {
    let earlier = results(&mut Machine::new(3));
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
    later.run.environment.insert("kernel".to_owned(), "Linux 7".to_owned());
    let contrast = compare(&earlier, &later);
    let contradicted = Vec::from_iter(
        contrast.contradictions().map(|figure| (figure.task.as_str(), figure.platform.as_str())),
    );
    assert_eq!(contradicted, [("work cpu", "crun")]);
    assert_eq!(contrast.probes, [("kernel log".to_owned(), "crun".to_owned(), Reach::Denied, Reach::Leak)]);
    assert!(contrast.only_earlier.contains(&"work tcp-rate · rate, bare".to_owned()));
    assert_eq!(contrast.machines["kernel"], (Some("Linux 6.18.44".to_owned()), Some("Linux 7".to_owned())));
    assert!(contrast.markdown().contains("work cpu · rate, crun (equal then, better now)"));
}
