//! What follows from a journal.

use super::machine::*;
use crate::plan::{AGAIN, Axis, BARE, BOOT, FIRST_BYTE, Limits};
use crate::record::{Finding, Footprint, Level, Line, Places, Reach};
use crate::report::findings::{Findings, Keeps, Standing, TrialEnd};
use crate::report::{markdown, words};
use crate::results::Results;

#[test]
fn planted_costs_are_found_in_the_good_direction() {
    let findings = findings();
    for (task, quantity, platform, expected) in [
        (BOOT, FIRST_BYTE, "bulkrun", Some(Standing::Worse)),
        (BOOT, FIRST_BYTE, BARE, None),
        ("work cpu", "rate", "crun", Some(Standing::Equal)),
        ("work cpu", "rate", "runsc", Some(Standing::Worse)),
        ("work fork", "rate", "crun", Some(Standing::Better)),
        ("work fork", "rate", "runsc", Some(Standing::Worse)),
        ("work tcp-rate", "rate", VILLAIN, None),
    ] {
        assert_eq!(standing(&findings, task, quantity, platform), expected, "{task}, {platform}");
    }
    let row = findings.row("work fork", "rate").unwrap();
    let ratio = row.cell("runsc").unwrap().against_bare.unwrap().ratio;
    assert!((0.9 / 16.0..1.1 / 16.0).contains(&ratio.estimate), "{ratio:?}");
    let cost = row.cost(ratio);
    assert!((14.5..17.6).contains(&cost.estimate) && cost.low <= cost.estimate && cost.estimate <= cost.high);
}

#[test]
fn failures_and_disturbances_are_counted_with_their_reasons() {
    let findings = findings();
    let row = findings.row("work tcp-rate", "rate").unwrap();
    let cell = row.cell(VILLAIN).unwrap();
    assert_eq!((cell.measured, cell.failures[0].count, cell.median), (0, 12, None));
    assert!(cell.failures[0].reason.starts_with("exit code 1"));
    assert_eq!(row.cell(BARE).unwrap().disturbed, 1);
    assert_eq!(findings.disturbances[0].reason, "12 % of the time was stolen");
    assert_eq!(findings.disturbances[0].count, plan().tasks.len());
}

#[test]
fn bare_against_bare_passes_unless_it_differs() {
    let passed = findings();
    assert_eq!(trial(&passed, Axis::Performance).end, TrialEnd::Passed, "{:?}", passed.trials);
    let failed = Findings::of(&results(&mut Machine { bias: 1.2, ..Machine::new(3) }));
    assert_eq!(trial(&failed, Axis::Performance).end, TrialEnd::Failed);
    assert!(trial(&failed, Axis::Performance).found.contains(&"boot · first byte".to_owned()));
    assert!(failed.first_byte().unwrap().in_doubt && !passed.first_byte().unwrap().in_doubt);
    assert!(words::opening(&failed)[0].text.contains("boot · first byte"));
    let few = Findings::of(&Results::of(Machine::new(3).journal(4)).unwrap());
    assert_eq!(trial(&few, Axis::Performance).end, TrialEnd::NotMade);
    assert!(trial(&few, Axis::Performance).furthest.as_ref().unwrap().1 > 1.0);
}

#[test]
fn what_neighbours_keep_is_a_capped_mean_beside_its_least_and_its_dead() {
    let findings = findings();
    let limited = &findings.interference[0];
    assert_eq!((limited.limits, findings.interference.len()), (Limits::With, 2));
    assert_eq!(
        (limited.victims.as_slice(), limited.antagonists.as_slice()),
        (&VICTIMS.map(str::to_owned)[..], &ANTAGONISTS.map(str::to_owned)[..])
    );
    let of =
        |platform: &str| limited.platforms.iter().find(|neighbour| neighbour.platform == platform).unwrap();
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
    // Walls: T = 1 everywhere; Q = 1.44, which counts as 1, or 0.64: scores of 1, 0.8, 1. The pair that did not end on
    // bare is in nobody's mean.
    let (pair, least) = of("crun").least.clone().unwrap();
    assert_eq!(pair.as_str(), "cpu beside memory-bandwidth");
    assert!(limited.common.len() == 8 && !limited.common.contains(&"fork beside fork".to_owned()));
    assert!(near(least, 0.8) && near(of("crun").kept.unwrap().score.estimate, 0.8f64.powf(3.0 / 8.0)));
    let own = of("crun").own.unwrap();
    assert!(
        near(own.score.estimate, 0.8f64.powf(3.0 / 9.0)) && (own.pairs, own.blocks) == (9, 12),
        "{own:?}"
    );
    assert_eq!(of(BARE).own, of(BARE).kept, "bare has no other pairs than all have");
    // Bare: T = 0.25, so that scores are 0.5, 0.4, 0.5; in one of the nine pairs the victim dies.
    assert_eq!((of(BARE).ended, of(BARE).died, of(BARE).silent), (8, 1, 0));
    assert!(near(of(BARE).kept.unwrap().score.estimate, (0.5f64.powi(5) * 0.4f64.powi(3)).powf(1.0 / 8.0)));
    assert_eq!(of(BARE).meeting("fork", "fork").unwrap().deaths, 12);
    assert_eq!(limited.platforms.last().unwrap().platform, AGAIN, "bare again has no map of its own");
}

#[test]
fn t_and_q_of_a_block_belong_together() {
    let mut journal = Machine::new(3).journal(12);
    for line in &mut journal {
        let Line::Turn(turn) = line else { continue };
        if turn.platform != "crun" || turn.task != "cpu beside cpu, With" {
            continue;
        }
        // What T gains in one block Q loses: four medians of them would say 0.625.
        let one = if turn.block.is_multiple_of(2) { "T" } else { "Q" };
        for finding in &mut turn.findings {
            if let Finding::Amount { quantity, value } = finding {
                *value = if quantity == one { 0.25 } else { 4.0 };
            }
        }
        if turn.block == 11 {
            turn.findings.retain(|finding| finding.outcome("Q").is_none());
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let neighbours = findings.interference[0].platforms.iter();
    let crun = neighbours.clone().find(|neighbour| neighbour.platform == "crun").unwrap();
    let meeting = crun.meeting("cpu", "cpu").unwrap();
    let score = meeting.score.unwrap();
    assert!(
        [score.low, score.estimate, score.high].iter().all(|end| (end - 0.5).abs() < 1e-9),
        "{meeting:?}"
    );
    // A block without Q is none of a victim that has latencies, and no block of the mean.
    assert_eq!((meeting.scores.len(), meeting.blocks, crun.kept.unwrap().blocks), (11, 11, 11));
    let kept = crun.kept.unwrap().score;
    assert!(kept.high - kept.low < 1e-9, "no block differs from another: {kept:?}");
}

#[test]
fn who_is_too_slow_for_latencies_has_no_better_score() {
    let kept = |lacking: usize| {
        let mut journal = Machine::new(3).journal(12);
        for line in &mut journal {
            let Line::Turn(turn) = line else { continue };
            if turn.task != "cpu beside cpu, With" {
                continue;
            }
            // Everybody's tail is worse than the rate; crun has it told in some blocks only.
            let is_late = turn.platform == "crun" && turn.block < lacking;
            for finding in &mut turn.findings {
                if finding.outcome("Q").is_some() {
                    let reason = "alone it does not keep up either".to_owned();
                    let quantity = "Q".to_owned();
                    *finding = if is_late {
                        Finding::Failure { quantity, reason }
                    } else {
                        Finding::Amount { quantity, value: 0.25 }
                    };
                }
            }
        }
        let findings = Findings::of(&Results::of(journal).unwrap());
        let of = |platform: &str| {
            let neighbours = findings.interference[0].platforms.iter();
            let neighbour = neighbours.clone().find(|neighbour| neighbour.platform == platform).unwrap();
            neighbour.meeting("cpu", "cpu").unwrap().clone()
        };
        (of("crun"), of("bulkrun"), crate::report::tables::meetings(&findings.interference[0]))
    };
    let (crun, bulkrun, _) = kept(2);
    assert_eq!((crun.score.unwrap().estimate, crun.scores.len()), (0.5, 10), "two of twelve are an accident");
    assert_eq!(bulkrun.score, crun.score);
    for lacking in [3, 12] {
        let (crun, bulkrun, table) = kept(lacking);
        assert_eq!(crun.score, bulkrun.score, "{lacking} blocks without Q make a better score");
        assert_eq!((crun.score.unwrap().estimate, crun.scores.len()), (1.0, 12));
        assert_eq!(bulkrun.without_tail, ["crun"]);
        let row = table.rows.iter().find(|row| row[0] == "cpu beside cpu" && row[1] == "bulkrun").unwrap();
        assert!(row[6].contains("by T alone: not enough of Q in crun"), "{row:?}");
    }
}

#[test]
fn what_bare_is_owed_is_divided_by_tasks() {
    let findings = findings();
    let floor = |platform: &str, antagonist: &str| {
        let mut platforms = findings.interference[0].platforms.iter();
        let neighbour = platforms.find(|neighbour| neighbour.platform == platform).unwrap();
        neighbour.meeting("cpu", antagonist).unwrap().floor
    };
    // The machine has two CPUs, on which eight spin.
    assert_eq!((floor(BARE, "cpu"), floor(AGAIN, "cpu")), (Some(2.0 / 9.0), Some(2.0 / 9.0)));
    assert_eq!((floor("crun", "cpu"), floor(BARE, "fork")), (Some(0.5), None));
}

#[test]
fn a_part_that_was_seen_in_one_run_was_not_in_every_one() {
    let mut journal = Machine::new(3).journal(3);
    let mut watched = 0;
    for line in &mut journal {
        let Line::Turn(turn) = line else { continue };
        if (turn.task.as_str(), turn.platform.as_str()) == ("kernel", "runsc") {
            watched += 1;
            if watched == 2 {
                let counts = [("function_001".to_owned(), 12)].into();
                let part = "monitor".to_owned();
                let monitor = Footprint { part, level: Level::Functions, counts, lost: 0, samples: None };
                turn.findings.push(Finding::Footprint(monitor));
            }
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let monitor = findings.footprints.iter().find(|footprints| footprints.part == "monitor").unwrap();
    let runsc = &monitor.platforms[0];
    assert_eq!((runsc.runs, runsc.names, runsc.calls, runsc.agreement()), (3, 1, 4.0, 0.0), "{runsc:?}");
}

#[test]
fn what_has_too_few_blocks_planned_was_not_to_be_decided() {
    let mut journal = Machine::new(3).journal(2);
    for line in &mut journal {
        if let Line::Run(run) = line {
            run.plan
                .tasks
                .iter_mut()
                .filter(|task| task.name == BOOT)
                .for_each(|task| (task.least, task.most) = (2, 2));
        }
    }
    let results = Results::of(journal).unwrap();
    assert!(results.plan().task(BOOT).unwrap().quantities[0].decides);
    let findings = Findings::of(&results);
    assert!(!findings.first_byte().unwrap().decides && findings.row("work cpu", "rate").unwrap().decides);
}

#[test]
fn who_starts_soonest_is_no_rank_of_medians() {
    let soonest = |blocks: usize, factor: f64| {
        let mut journal = Machine::new(3).journal(blocks);
        for line in &mut journal {
            let Line::Turn(turn) = line else { continue };
            for finding in turn.findings.iter_mut().filter(|_| turn.task == BOOT && turn.platform == "crun") {
                if let Finding::Amount { value, .. } = finding {
                    *value *= factor;
                }
            }
        }
        let findings = Findings::of(&Results::of(journal).unwrap());
        let said = words::opening(&findings).into_iter().map(|sentence| sentence.text);
        let said = said.enumerate().find(|(_, text)| text.starts_with("Of the walls "));
        (findings.soonest, said)
    };
    let (names, said) = soonest(12, 1.0);
    assert_eq!(names, ["bulkrun"]);
    let (place, text) = said.unwrap();
    assert!(place == 1 && text.starts_with("Of the walls bulkrun starts soonest (8."), "{place}: {text}");
    // Where bulkrun and runsc never stood in one block, bulkrun is not found to beat it, though crun is.
    let mut journal = Machine::new(3).journal(12);
    journal.retain(|line| match line {
        Line::Turn(turn) if turn.task == BOOT => match turn.platform.as_str() {
            "bulkrun" => turn.block < 6,
            "runsc" => turn.block >= 6,
            _ => true,
        },
        _ => true,
    });
    let names = Findings::of(&Results::of(journal).unwrap()).soonest;
    assert_eq!(names, ["bulkrun", "runsc"], "one is called the soonest that does not beat all others");
    let (names, said) = soonest(12, 3.53 / 13.0);
    assert_eq!(names.len(), 2, "one per cent is no difference: {names:?}");
    assert!(said.unwrap().1.contains(" start soonest and are not told apart ("));
    assert_eq!(soonest(5, 1.0), (Vec::new(), None), "five blocks ranked somebody");
}

#[test]
fn what_is_left_is_judged_where_a_hog_takes_it_from_bare() {
    let findings = findings();
    let [memory, processes] = &findings.capacities[..] else { panic!("{:?}", findings.capacities) };
    assert!(!memory.is_told() && memory.walls.iter().all(|wall| wall.verdict == Keeps::Moot), "{memory:?}");
    assert_eq!((processes.control.verdict, processes.control.runs), (Keeps::Nothing, 24));
    let verdicts = processes.walls.iter().map(|wall| (wall.platform.as_str(), wall.verdict));
    let expected =
        [("bulkrun", Keeps::All), ("crun", Keeps::All), ("runsc", Keeps::Ended), (VILLAIN, Keeps::Part)];
    assert_eq!(Vec::from_iter(verdicts), expected);
    assert!(processes.walls.iter().all(|wall| 2 * wall.agree > wall.runs), "{processes:?}");
}

#[test]
fn a_machine_that_slows_down_is_seen() {
    let mut machine = Machine::new(3);
    let mut lines = machine.journal(12);
    for turn in
        lines.iter_mut().filter_map(|line| if let Line::Turn(turn) = line { Some(turn) } else { None })
    {
        for finding in turn.findings.iter_mut().filter(|_| turn.task == BOOT && turn.block >= 6) {
            if let Finding::Amount { value, .. } = finding {
                *value *= 1.5;
            }
        }
    }
    let findings = Findings::of(&Results::of(lines).unwrap());
    let drift = |task: &str| findings.drifts.iter().find(|drift| drift.task == task).unwrap();
    assert!((1.4..1.6).contains(&drift(BOOT).change()), "{:?}", drift(BOOT));
    assert!((0.9..1.1).contains(&drift("work cpu").change()), "{:?}", drift("work cpu"));
    assert_eq!(drift(BOOT).minutes, Some(11.0));
}

#[test]
fn a_probe_counts_only_if_bare_succeeds() {
    let findings = findings();
    let score = |name: &str| findings.probes.scores.iter().find(|score| score.platform == name).unwrap();
    assert_eq!((score("crun").counted(), score("crun").held()), (4, 3));
    assert_eq!(score("crun").leaks, ["keyring of the same user"]);
    assert_eq!((score("runsc").answered.len(), score("runsc").denied.len()), (3, 1));
    assert_eq!(score(VILLAIN).breaches, ["write to a host file"]);
    let moot = &findings.probes.attempts["load a module"];
    assert!(moot.values().all(|attempt| attempt.reach == Reach::Moot));
}

#[test]
fn the_furthest_that_a_probe_ever_reached_counts() {
    let mut journal = Machine::new(3).journal(6);
    for line in &mut journal {
        if let Line::Turn(turn) = line
            && (turn.platform.as_str(), turn.block, turn.task.as_str()) == ("crun", 4, "probes")
        {
            let evidence = "the marker is gone".to_owned();
            let probe = "kernel log".to_owned();
            turn.findings.push(Finding::Verdict { probe, verdict: Reach::Breach, evidence });
        }
    }
    let findings = Findings::of(&Results::of(journal).unwrap());
    let attempt = &findings.probes.attempts["kernel log"]["crun"];
    assert_eq!((attempt.reach, attempt.runs, attempt.less), (Reach::Breach, 7, 6));
    assert_eq!(attempt.evidence, "the marker is gone");
}

#[test]
fn sources_alone_say_where_functions_are_when_they_were_looked_at() {
    let mut results = results(&mut Machine::new(3));
    let application = |findings: &Findings| findings.footprints[0].platforms[0].shares.clone();
    let before = application(&Findings::of(&results));
    assert!(before.iter().any(|share| share.subsystem == "mm"), "{before:?}");
    let places = [(function(0), "virt/kvm".to_owned()), (function(1), "virt/kvm".to_owned())].into();
    results.places = Some(Places { source: "sources of Linux 6.1.192".to_owned(), places });
    let findings = Findings::of(&results);
    let shares = application(&findings);
    let told = Vec::from_iter(shares.iter().map(|share| (share.subsystem.as_str(), share.names)));
    assert_eq!(told, [("not attributed", FUNCTIONS - 2), ("virt/kvm", 2)]);
    assert!(markdown(&findings).contains("the directory of the sources of Linux 6.1.192 that defines them"));
}

#[test]
fn footprints_are_shared_added_and_avoided() {
    let findings = findings();
    assert_eq!(
        Vec::from_iter(findings.footprints.iter().map(|footprints| footprints.part.as_str())),
        ["application", "set-up"]
    );
    let application = &findings.footprints[0];
    let of = |name: &str| application.platforms.iter().find(|entered| entered.platform == name).unwrap();
    for (platform, names, shared, added, avoided) in
        [("bulkrun", 220, 200, 20, 0), ("crun", 230, 200, 30, 0), ("runsc", 110, 100, 10, 100)]
    {
        let overlap = of(platform).against_bare.as_ref().unwrap();
        let found = (of(platform).names, overlap.shared, overlap.added.len(), overlap.avoided.len());
        assert_eq!(found, (names, shared, added, avoided), "{platform}");
    }
    assert_eq!(of(BARE).against_bare, None);
    assert_eq!((of(BARE).calls, of(BARE).kib, of(BARE).agreement()), (2_000.0, Some(100.0), 1.0));
    let unknown = of(VILLAIN).shares.iter().find(|share| share.subsystem == "not attributed").unwrap();
    assert_eq!(unknown.names, 30, "functions that nobody described");
    let set_up = &findings.footprints[1].platforms[0];
    assert_eq!((set_up.platform.as_str(), set_up.lost, &set_up.against_bare), ("bulkrun", 84, &None));
    assert!(set_up.shares.iter().any(|share| share.subsystem == "walls and rights" && share.names == 2));
}
