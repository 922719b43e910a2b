//! How far a run is: a line that changes on a terminal, a line for each task otherwise.

use std::io::IsTerminal as _;
use std::time::Duration;

use bulkhead_measure::plan::Plan;
use bulkhead_measure::session::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Shows progress on the standard error.
#[derive(Debug)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    task: String,
}

impl Shown {
    pub(super) fn new(plan: &Plan) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: None, task: String::new() };
        }
        let turns: usize = plan.tasks.iter().map(|task| task.least * plan.platforms.len()).sum();
        let bar = ProgressBar::new(turns as u64);
        // The template is a constant; if it were broken, the plain style would do.
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
            bar.set_style(style);
        }
        Self { bar: Some(bar), task: String::new() }
    }

    /// The next turn begins.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let Progress { task, platform, block, left } = progress;
        match &self.bar {
            Some(bar) => {
                let left = left.map(|left| format!(", about {} left", HumanDuration(rounded(left))));
                bar.set_message(format!(
                    "{task}, {platform}, block {}{}",
                    block + 1,
                    left.unwrap_or_default()
                ));
                bar.inc(1);
            }
            None if self.task != *task => {
                self.task = (*task).to_owned();
                eprintln!("block {}: {task}", block + 1);
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

/// Whole seconds: nobody waits for milliseconds.
fn rounded(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs_f64().ceil() as u64)
}
