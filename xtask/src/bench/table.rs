//! Tables of figures, as they stand in docs/performance.md.

use bulkhead_measure::stats::{Comparison, Experiment, Summary};

/// What a cell says of a quantity.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Least,
    /// The median with its interval.
    Median,
    /// The median alone, with so many digits behind the point.
    Middle(usize),
}

impl Shown {
    pub(super) fn of(self, Summary { least, median, .. }: &Summary) -> String {
        let text = match self {
            Self::Least => least.map(|least| format!("{:.1}", least.value())),
            Self::Median => {
                median.map(|median| format!("{:.1} [{:.1} {:.1}]", median.estimate, median.low, median.high))
            }
            Self::Middle(digits) => median.map(|median| format!("{:.digits$}", median.estimate)),
        };
        text.unwrap_or("–".to_owned())
    }
}

/// The ratio of one platform to another, with its interval and what it decides.
pub(super) fn ratio(experiment: &Experiment, platform: usize, reference: usize) -> String {
    let Some(comparison) = experiment.compare(platform, reference) else { return "–".to_owned() };
    let Comparison { ratio, pairs, verdict } = comparison;
    let left_out = if pairs < experiment.len() {
        format!(" in {pairs} of {} blocks", experiment.len())
    } else {
        String::new()
    };
    format!("{:.2} [{:.2} {:.2}] {verdict}{left_out}", ratio.estimate, ratio.low, ratio.high)
}

/// What a table does not say of a task: who failed, and what was disturbed.
pub(super) fn notes(title: &str, experiment: &Experiment, platforms: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let summaries = Vec::from_iter((0..platforms).map(|platform| experiment.summary(platform)));
    for Summary { name, failures, measured, .. } in &summaries {
        notes.extend(failures.first().map(|failure| {
            let all = measured + failures.len();
            format!("{name} failed {} of {all} {title}: {failure}", failures.len())
        }));
    }
    let disturbed = summaries.iter().map(|summary| summary.disturbed).max().unwrap_or(0);
    if disturbed > 0 {
        notes.push(format!(
            "{disturbed} blocks {title} were disturbed by other virtual machines; they count."
        ));
    }
    notes
}

/// Columns stand below each other, so that it is good to read as it is, too.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            text += &if column == 0 { format!("| {cell:<width$} |") } else { format!(" {cell:>width$} |") };
        }
        text.push('\n');
        if number == 0 {
            text += &format!("|---|{}\n", "---:|".repeat(row.len().saturating_sub(1)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_rule_below_its_header() {
        let rows = [["a", "b"], ["long", "1"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "| a    | b |\n|---|---:|\n| long | 1 |\n");
    }
}
