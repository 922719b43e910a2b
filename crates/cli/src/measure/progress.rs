//! How far a run is: a line that changes on a terminal, a line for each task otherwise.
//!
//! The bar is of time: what has passed, of that and what is likely left. It begins anew when a run is resumed, as its time does.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use bulkhead_measure::session::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Cells of the bar, in thousandths.
const WHOLE: u64 = 1000;

/// Shows progress on the standard error.
#[derive(Debug)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    began: Instant,
    task: String,
}

impl Shown {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        if !std::io::stderr().is_terminal() {
            return Self { bar: None, began, task: String::new() };
        }
        let bar = ProgressBar::new(WHOLE);
        // The template is a constant; if it were broken, the plain style would do.
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
            bar.set_style(style);
        }
        Self { bar: Some(bar), began, task: String::new() }
    }

    /// The next turn begins.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let Progress { task, platform, block, left } = progress;
        let told =
            left.map(|left| format!(", about {} left", HumanDuration(rounded(left)))).unwrap_or_default();
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{task}, {platform}, block {}{told}", block + 1));
                bar.set_position(place(self.began.elapsed(), *left));
            }
            None if self.task != *task => {
                self.task = (*task).to_owned();
                eprintln!("block {}: {task}{told}", block + 1);
            }
            None => {}
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far the bar is: never at its end while anything is left.
fn place(passed: Duration, left: Option<Duration>) -> u64 {
    let Some(left) = left else { return 0 };
    let share = passed.as_secs_f64() / (passed + left).as_secs_f64().max(0.001);
    ((share * WHOLE as f64) as u64).min(WHOLE - 1)
}

/// Whole seconds: nobody waits for milliseconds.
fn rounded(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs_f64().ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_when_the_time_is_up_and_not_before() {
        let seconds = Duration::from_secs;
        for (passed, left, expected) in
            [(0, Some(100), 0), (25, Some(75), 250), (99, Some(1), 990), (100, Some(0), 999), (7, None, 0)]
        {
            assert_eq!(place(seconds(passed), left.map(seconds)), expected, "{passed} s of {left:?} more");
        }
    }
}
