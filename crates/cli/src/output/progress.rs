//! Bars for what takes long: one for each part of an image.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use bulkhead_engine::store::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::escape;

/// Bars on the standard error, where that is a terminal.
#[derive(Debug)]
pub(crate) struct Bars {
    all: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    /// Bars, unless nobody wants them or nobody sees them.
    pub(crate) fn new(quiet: bool) -> Bars {
        let is_seen = !quiet && std::io::stderr().is_terminal();
        Bars { all: is_seen.then(MultiProgress::new), bars: BTreeMap::new() }
    }

    /// Shows how far a part is.
    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        let Some(all) = &self.all else { return };
        let Progress { part, done, size } = *progress;
        let bar = self.bars.entry(part.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(size));
            // The template is a constant; if it were broken, the plain style would do.
            if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {bytes}/{total_bytes}") {
                bar.set_style(style);
            }
            bar.set_message(title(part));
            bar
        });
        bar.set_position(done);
    }

    /// Takes the bars away.
    pub(crate) fn clear(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}

/// What a part is called: the first digits of its digest, where it has one.
fn title(part: &str) -> String {
    let name = part.trim_end_matches("/layer.tar");
    let name = name.rsplit(['/', ':']).next().unwrap_or(name);
    escape::word(&name.chars().take(12).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_called_by_their_digests() {
        for (part, expected) in [
            ("blobs/sha256/0123456789abcdef", "0123456789ab"),
            ("0123456789abcdef/layer.tar", "0123456789ab"),
            ("layer.tar", "layer.tar"),
        ] {
            assert_eq!(title(part), expected);
        }
    }
}
