//! A bar for each layer that comes or goes, on the standard error where that is a terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use bulkhead_engine::transfer::{Move, Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The bars, which several threads move.
#[derive(Debug)]
pub(super) struct Bars {
    all: Option<MultiProgress>,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
    /// What is said of a layer that was moved.
    done: &'static str,
}

impl Bars {
    /// Bars, unless nobody wants them or nobody sees them.
    pub(super) fn new(quiet: bool, done: &'static str) -> Bars {
        let is_seen = !quiet && std::io::stderr().is_terminal();
        Bars { all: is_seen.then(MultiProgress::new), bars: Mutex::default(), done }
    }

    /// Shows how far a layer is.
    pub(super) fn show(&self, step: Move<'_>) {
        let Some(all) = &self.all else { return };
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(step.blob.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(step.size));
            // The template is a constant; if it were broken, the plain style would do.
            if let Ok(style) =
                ProgressStyle::with_template("{prefix:12} {bar:30} {bytes:>10}/{total_bytes} {msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(short(step.blob).to_owned());
            bar
        });
        match step.stage {
            Stage::Waiting => bar.set_message("waits"),
            Stage::Moving(count) => {
                bar.set_message("");
                bar.set_position(count);
            }
            Stage::Complete => bar.finish_with_message(self.done),
            Stage::Present => bar.finish_with_message("is there"),
        }
    }

    /// Takes them away.
    pub(super) fn clear(&self) {
        if let Some(all) = &self.all {
            // A terminal that is gone needs no clearing.
            let _ = all.clear();
        }
    }
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_called_by_its_first_digits() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("x"), "x");
    }
}
