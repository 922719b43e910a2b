//! The page, its plots and its tables.

use std::path::PathBuf;

use super::machine::*;
use super::place::{Place, sound};
use crate::plan::{AGAIN, Axis, BARE, Plan, Quantity};
use crate::record::{Finding, Footprint, Level, Run, read};
use crate::report::findings::Reason;
use crate::report::{
    Contrast, Findings, compare, document, html, plot, sections, tables, write, write_contrast,
};
use crate::results::Results;

#[test]
fn the_page_is_sound_and_needs_nothing_else() {
    let place = Place::new("page");
    let results = results(&mut Machine::new(3));
    let written = write(&results, &place.0).unwrap();
    let mut pages = Vec::from_iter(
        written.iter().filter(|path| path.extension().is_some_and(|end| end != "json" && end != "md")),
    );
    assert!(pages.len() > 10, "{written:?}");
    let page = sound(pages.remove(0));
    pages.iter().for_each(|path| drop(sound(path)));
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"), "a name became markup");
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains('\u{1b}'));
    for heading in ["Verdict", "Isolation", "Noninterference", "Performance", "Raw tables"] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "no {heading}");
    }
    assert!(page.contains("<td>redis · rate 1/s</td>"), "no table of real programs");
    let markdown = std::fs::read_to_string(&written[1]).unwrap();
    assert!(!markdown.contains("<script") && markdown.contains("![") && !markdown.contains('\u{1b}'));
    for plot in markdown.lines().filter_map(|line| line.strip_suffix(')')?.rsplit_once("](plots/")) {
        assert!(place.0.join("plots").join(plot.1).exists(), "{} is not there", plot.1);
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&written[2]).unwrap()).unwrap();
    assert_eq!(json["trials"][0]["end"], "passed");
    assert_eq!(write(&results, &place.0).unwrap(), written, "a report can be made again");
}

#[test]
fn rows_stand_under_what_they_share_only_where_that_is_meant() {
    let reason = |reason: &str, count| Reason { reason: reason.to_owned(), count };
    let mut findings = findings();
    findings.disturbances = vec![
        reason("other programs had 84 % of the CPUs", 1),
        reason("other programs had 9 % of the CPUs; 12 % of the CPU time was stolen", 3),
        reason("something else", 2),
    ];
    let rows = tables::disturbances(&findings).rows;
    let row = |kind: &str, turns: &str, most: &str| [kind, turns, most].map(str::to_owned).to_vec();
    let expected = [
        row("other programs had … of the CPUs", "4", "84 %"),
        row("… of the CPU time was stolen", "3", "12 %"),
        row("something else", "2", "–"),
    ];
    assert_eq!(rows, expected);
    let machine = tables::environment(&findings);
    assert!(machine.form == document::Form::Words && machine.rows.len() == 3, "{machine:?}");
    let page = html::page(&sections::document(&findings));
    assert!(page.contains(
        "<th data-label=\"fact\">kernel</th><td data-label=\"value\" class=\"short\">Linux 6.18.44</td>"
    ));
    // A version is a word, however much it looks like a number.
    assert!(page.contains("<td data-label=\"version\" class=\"short\">1.2.3 of crun</td>"), "no version");
    let pairs = tables::meetings(&findings.interference[0]);
    let shared = pairs.rows.iter().filter(|row| row[0] == "cpu beside fork").map(|row| row[1].as_str());
    assert_eq!(Vec::from_iter(shared), [BARE, "bulkrun", "crun", "runsc", VILLAIN, AGAIN]);
}

#[test]
fn headings_of_numbers_stand_above_them_and_paper_says_what_it_lacks() {
    let page = html::page(&sections::document(&findings()));
    for heading in ["<th scope=\"col\" class=\"number\">runs</th>", "<th scope=\"col\">verdict</th>"] {
        assert!(page.contains(heading), "no {heading}");
    }
    let raw = page.split("<section id=\"raw\">").nth(1).unwrap();
    assert!(raw.contains("<p class=\"paper-only\">They are left out in print"), "paper does not say it");
    assert_eq!(page.matches("paper-only\"").count(), 1);
}

#[test]
fn a_name_is_cut_only_where_it_does_not_fit() {
    let findings = findings();
    let starts = plot::ecdf(&findings).unwrap().panels[0].drawing.inline("").to_string();
    let rest = "<script>alert(1)</script> ".replace('<', "&lt;").replace('>', "&gt;");
    // In the drawing, where an edge may hide its end, and whole for who points at it.
    assert_eq!(starts.matches(&rest).count(), 2, "{starts}");
    assert!(!starts.contains('…'), "{starts}");
}

#[test]
fn too_few_blocks_have_a_range_and_no_interval() {
    let cells = |blocks| {
        let findings = Findings::of(&Results::of(Machine::new(3).journal(blocks)).unwrap());
        let rows = tables::raw(&findings, Axis::Performance).rows;
        let row = rows.into_iter().find(|row| row[0].starts_with("boot") && row[1] == "crun").unwrap();
        [row[2].clone(), row[4].clone()]
    };
    for cell in cells(12) {
        assert!(cell.contains('[') && !cell.contains('('), "{cell}");
    }
    for cell in cells(3) {
        assert!(cell.contains('(') && !cell.contains('['), "{cell}");
    }
    let drawn = |blocks| {
        let findings = Findings::of(&Results::of(Machine::new(3).journal(blocks)).unwrap());
        let figure = plot::ratios(&findings).next().unwrap();
        (
            figure.says.contains("or the range of fewer than six blocks"),
            figure.panels[0].drawing.inline("").to_string(),
        )
    };
    let ((few, range), (many, interval)) = (drawn(3), drawn(12));
    assert!(few && range.contains("× (") && !range.contains("× ["), "a plot calls a range an interval");
    assert!(!many && interval.contains("× [") && !interval.contains("× ("));
    assert!(cells(1).iter().all(|cell| !cell.contains(['(', '['])), "one number has no spread");
}

#[test]
fn starts_and_work_have_a_scale_each() {
    let findings = findings();
    let figures = Vec::from_iter(plot::ratios(&findings));
    let names = Vec::from_iter(figures.iter().map(|figure| figure.name.as_str()));
    assert_eq!(names, ["ratios-work", "ratios-life"]);
    let drawn = |figure: &plot::Figure| figure.panels[0].drawing.inline("").to_string();
    // 74 times as dear is a start; of work 16 is the most, so that the scale of work ends there.
    assert!(drawn(&figures[1]).contains(">100×<") || drawn(&figures[1]).contains(">10×<"));
    assert!(!drawn(&figures[0]).contains(">30×<"), "work has the scale of starts");
    for (figure, dearest) in
        figures.iter().zip(["work fork · rate on runsc, 1", "boot · first byte on runsc, 7"])
    {
        assert!(figure.says.contains(dearest), "{}", figure.says);
        for key in ["better", "equal", "worse", "not decided"] {
            assert!(drawn(figure).contains(&format!(">{key}</text>")), "{key} is not explained");
        }
    }
}

#[test]
fn levels_of_watching_are_not_set_against_each_other() {
    let quantity = Quantity::less("footprint", "").beside();
    let with = |level: &str, names: &[&str]| {
        let mut results = results(&mut Machine::new(3));
        results.run.environment.insert("kernel watched".to_owned(), format!("{level}, by something"));
        let tasks = &mut results.run.plan.tasks;
        tasks.iter_mut().find(|task| task.name == "kernel").unwrap().quantities = vec![quantity.clone()];
        for turn in results.turns.iter_mut().filter(|turn| turn.task == "kernel") {
            turn.findings.push(Finding::Amount { quantity: "footprint".to_owned(), value: 200.0 });
            let counts = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
            let footprint = Footprint {
                part: "tear-down".to_owned(),
                level: Level::Tracepoints,
                counts,
                lost: 0,
                samples: None,
            };
            turn.findings.push(Finding::Footprint(footprint));
        }
        results
    };
    let figures =
        |contrast: &Contrast| contrast.figures.iter().filter(|figure| figure.task == "kernel").count();
    let same = compare(&with("level 1", &["a", "b"]), &with("level 1", &["b", "c"]));
    assert_eq!((figures(&same), &same.levels), (5, &None));
    let entries = same
        .footprints
        .iter()
        .find(|entries| (entries.part.as_str(), entries.platform.as_str()) == ("tear-down", "crun"));
    let entries = entries.unwrap();
    assert_eq!((entries.earlier, entries.later), (2, 2));
    assert_eq!(
        (entries.added.as_slice(), entries.gone.as_slice()),
        (&["c".to_owned()][..], &["a".to_owned()][..])
    );
    let other = compare(&with("level 1", &["a"]), &with("level 2", &["a"]));
    assert_eq!(figures(&other), 0, "system calls are set against functions");
    assert!(other.markdown().contains("watched at level 1 then and at level 2 now"));
    // Beside the figures stand what vouches for them and what neighbours keep.
    let text = same.markdown();
    assert!(
        text.contains("| performance | 4 of 5 intervals contain 1")
            && text.contains("| with limits | crun | 0.92 \\[0.92, 0.92\\]"),
        "{text}"
    );
    assert!(text.contains(" more without a verdict."));
}

#[test]
fn styles_are_the_same_as_text_and_as_markup() {
    for style in [plot::STYLE, include_str!("../page.css")] {
        assert!(!style.contains(['<', '>', '&', '\'', '"']), "a style is escaped in XML and not in HTML");
    }
}

#[test]
fn a_journal_without_any_turn_is_a_report_too() {
    let place = Place::new("empty");
    let written = write(&Results::begun(run(plan())), &place.0).unwrap();
    let page = sound(&written[0]);
    assert!(page.contains("The run did not end") && page.contains("nothing vouches for the machine"));
    let bare = Plan { platforms: Vec::new(), tasks: Vec::new(), seed: 1 };
    let nothing = Run { plan: bare, platforms: Vec::new(), ..run(plan()) };
    sound(&write(&Results::begun(nothing), &place.0).unwrap()[0]);
}

/// The journal of these tests as a file, for whoever wants to look at the page: `BULKHEAD_REPORT` names a directory.
#[test]
fn the_page_can_be_looked_at() {
    let place = Place::new("look");
    let mut journal = crate::record::Journal::open(&place.0).unwrap();
    Machine::new(3).journal(12).iter().for_each(|line| journal.add(line).unwrap());
    let results = Results::of(read(&place.0).unwrap()).unwrap();
    let directory = std::env::var_os("BULKHEAD_REPORT").map_or_else(|| place.0.clone(), PathBuf::from);
    let written = write(&results, &directory).unwrap();
    let contrast =
        compare(&results, &Results::of(Machine { pace: 1.1, ..Machine::new(9) }.journal(12)).unwrap());
    write_contrast(&contrast, &directory).unwrap();
    assert_eq!(
        sound(&written[0]),
        html::page(&sections::document(&Findings::of(&results))),
        "the journal lost something"
    );
}
