//! The probe matrix: how far each attempt reached on each platform.

use crate::record::Reach;
use crate::report::findings::{Attempt, Findings};
use crate::report::markup::Element;
use crate::report::number::counted;
use crate::report::tables::reach;

use super::{Drawing, Figure, headroom, label, lines, rect, rising, text};

const ROW: f64 = 22.0;

/// More of a row, where the name takes two lines.
const MORE: f64 = 12.0;

/// The most letters of a line of a name, on a phone.
const LETTERS: usize = 24;
const LEFT: f64 = 0.46;

/// What a verdict looks like: its class and its letter.
const LOOKS: [(Reach, &str, &str); 5] = [
    (Reach::Denied, "held", "✓"),
    (Reach::Virtual, "virtual", "v"),
    (Reach::Leak, "leak", "L"),
    (Reach::Breach, "breach", "B"),
    (Reach::Moot, "unknown", "–"),
];

/// None without probes.
pub(in crate::report) fn matrix(findings: &Findings) -> Option<Figure> {
    let attempts = &findings.probes.attempts;
    let names = Vec::from_iter(findings.names());
    let width = (0.88 - LEFT) / names.len().max(1) as f64;
    let top = headroom(names.iter().copied());
    let mut parts = Vec::new();
    for (column, name) in names.iter().enumerate() {
        parts.push(rising(LEFT + (column as f64 + 0.5) * width, top - 6.0, name));
    }
    let mut y = top;
    for (probe, platforms) in attempts {
        let (first, second) = lines(probe, LETTERS);
        let height = if second.is_some() { ROW + MORE } else { ROW };
        parts.push(label("label", 0.0, y + 15.0, &first, LETTERS));
        parts.extend(second.map(|second| label("label", 0.0, y + 28.0, &second, LETTERS)));
        for (column, name) in names.iter().enumerate() {
            let Some(attempt) = platforms.get(*name) else { continue };
            let place = (LEFT + column as f64 * width, y);
            parts.extend(cell(attempt, name, place, (width, height)));
        }
        y += height;
    }
    let mut foot = y + 20.0;
    for (place, (verdict, class, letter)) in LOOKS.into_iter().enumerate() {
        let left = (place % 3) as f64 / 3.0;
        parts.push(rect(class, left, foot - 12.0, 0.05, 16.0));
        parts.push(text(letters(class), left + 0.025, foot, letter));
        parts.push(text("small", left + 0.065, foot, reach(verdict)));
        if place % 3 == 2 {
            foot += 22.0;
        }
    }
    let drawing = Drawing { height: foot + 10.0, parts };
    (!attempts.is_empty()).then(|| Figure::of_one("probes", "Attempts on the host", says(findings), drawing))
}

fn says(findings: &Findings) -> String {
    let held =
        findings.probes.scores.iter().filter(|score| findings.walls().any(|name| name == score.platform));
    let told = held.map(|score| {
        let holes = score.leaks.len() + score.breaches.len();
        match holes {
            0 => format!("{} held against all {}", score.platform, score.counted()),
            holes => format!("{} let {} of {} through", score.platform, holes, score.counted()),
        }
    });
    let moot = findings
        .probes
        .attempts
        .values()
        .filter(|platforms| platforms.values().all(|attempt| attempt.reach == Reach::Moot));
    let moot = match moot.count() {
        0 => String::new(),
        moot => format!(" Moot, since nothing is reached without a wall either: {}.", counted(moot, "probe")),
    };
    let told = Vec::from_iter(told).join(", ");
    let mut told = if told.is_empty() { "No wall was probed with success".to_owned() } else { told };
    told.push('.');
    format!(
        "A witness on the host decides, not a return code: denied; virtual, answered by the sandbox's own kernel; leak, \
         something was read; breach, something was changed. {told}{moot}"
    )
}

fn cell(attempt: &Attempt, name: &str, (x, y): (f64, f64), (width, height): (f64, f64)) -> Vec<Element> {
    let look = LOOKS.into_iter().find(|(verdict, ..)| *verdict == attempt.reach);
    let (_, class, letter) = look.unwrap_or(LOOKS[4]);
    let whole = format!("{name}: {}. {}", reach(attempt.reach), attempt.evidence);
    let gap = 0.004;
    vec![
        rect(class, x + gap, y + 1.5, width - 2.0 * gap, height - 3.0).add(Element::of("title", whole)),
        text(letters(class), x + width / 2.0, y + height / 2.0 + 4.0, letter),
    ]
}

fn letters(class: &str) -> &'static str {
    match class {
        "leak" | "breach" => "small middle ondark",
        _ => "small middle",
    }
}
