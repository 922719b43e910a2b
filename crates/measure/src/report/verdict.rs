//! What stands on top: what nobody may overlook, which wall for what, and each wall in a sentence. The rest of what words say is
//! folded below.

use crate::plan::Axis;

use super::document::{Mood, Sentence};
use super::findings::{Findings, Standing};
use super::number::{count, counted, rough, times};
use super::words;

/// Of the work that costs most, so many kinds are named.
const DEAREST: usize = 3;

pub(super) fn verdict(findings: &Findings) -> Vec<Sentence> {
    let doubts = Axis::ALL.into_iter().filter_map(|axis| words::trial(findings, axis));
    let mut sentences = Vec::from_iter(doubts.filter(|sentence| sentence.mood == Mood::Bad));
    if findings.turns == 0 {
        sentences.push(words::nothing());
    }
    sentences.extend(words::choice(findings));
    sentences.extend(findings.walls().filter_map(|wall| of_wall(findings, wall)));
    sentences
}

/// Everything else that words say.
pub(super) fn more(findings: &Findings, verdict: &[Sentence]) -> Vec<Sentence> {
    let mut rest = words::opening(findings);
    rest.retain(|sentence| !verdict.contains(sentence));
    rest
}

/// How it starts, what it costs, what it leaves open, and what got through; None where nothing of that was measured.
fn of_wall(findings: &Findings, wall: &str) -> Option<Sentence> {
    let first = words::start(findings, wall).map(|start| format!("it starts in {start}"));
    let kernel = kernel(findings, wall);
    let kept = findings.interference.first().and_then(|interference| {
        let mut platforms = interference.platforms.iter();
        let kept = platforms.find(|neighbour| neighbour.platform == wall)?.kept?;
        let limits = interference.limits.words();
        Some(format!("beside antagonists, {limits}, a victim keeps {} of 1", rough(kept.score.estimate)))
    });
    let score = findings.probes.scores.iter().find(|score| score.platform == wall);
    let through = score.map(|score| {
        Vec::from_iter(score.breaches.iter().chain(&score.leaks).map(String::as_str)).join(", ")
    });
    let holes = through.as_ref().is_some_and(|through| !through.is_empty());
    let probes = score.zip(through).filter(|(score, _)| score.counted() > 0).map(|(score, through)| {
        let counted = counted(score.counted(), "probe");
        if through.is_empty() {
            format!("none of {counted} got through")
        } else {
            format!("what got through: {through}")
        }
    });
    let parts = [first, work(findings, wall), kernel, kept, probes];
    let text = Vec::from_iter(parts.into_iter().flatten()).join("; ");
    let sentence = if holes { Sentence::bad } else { Sentence::plain };
    (!text.is_empty()).then(|| sentence(format!("{wall}: {text}.")))
}

/// `work costs no more than bare in 2 of 5 kinds, more in fork 13.5×, cpu 1.30×`
fn work(findings: &Findings, wall: &str) -> Option<String> {
    let rows = findings.rows.iter().filter(|row| row.decides && row.is_work());
    let compared = Vec::from_iter(rows.filter_map(|row| Some((row, row.cell(wall)?.against_bare?))));
    let of = |wanted| compared.iter().filter(move |(_, against)| against.standing == wanted);
    let mut dear = Vec::from_iter(
        of(Standing::Worse)
            .map(|(row, against)| (row.cost(against.ratio).estimate, words::work_name(findings, row))),
    );
    dear.sort_by(|one, other| other.0.total_cmp(&one.0));
    let named =
        Vec::from_iter(dear.iter().take(DEAREST).map(|(cost, name)| format!("{name} {}", times(*cost))));
    let more = dear.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let no_more = of(Standing::Equal).count() + of(Standing::Better).count();
    let undecided = of(Standing::NotDecided).count();
    let parts = [
        (no_more > 0).then(|| {
            format!("work costs no more than bare in {no_more} of {}", counted(compared.len(), "kind"))
        }),
        (!dear.is_empty()).then(|| format!("more in {}{more}", named.join(", "))),
        (undecided > 0).then(|| format!("is not decided in {undecided}")),
    ];
    let parts = Vec::from_iter(parts.into_iter().flatten()).join(", ");
    let begin = if no_more > 0 {
        ""
    } else if dear.is_empty() {
        "work "
    } else {
        "work costs "
    };
    (!parts.is_empty()).then(|| format!("{begin}{parts}"))
}

/// `its application enters 45 system calls of the host's kernel, 8.70× as often as bare`
fn kernel(findings: &Findings, wall: &str) -> Option<String> {
    let (platforms, level) = words::application(findings)?;
    let entered = platforms.iter().find(|entered| entered.platform == wall)?;
    let often = words::as_often(platforms, wall).map(|often| format!(", {} as often as bare", times(often)));
    Some(format!(
        "its application enters {} {} of the host's kernel{}",
        count(entered.names as f64),
        words::things(level),
        often.unwrap_or_default()
    ))
}
