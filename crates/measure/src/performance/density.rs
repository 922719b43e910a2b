//! What each further idle sandbox takes.

use std::fs;
use std::path::Path;

use super::{Amounts, Stage};
use crate::arena::{self, LIMIT};
use crate::cgroups::Heavy;
use crate::interrupt;
use crate::open_files::OpenFiles;
use crate::platform::Seat;
use crate::started::{Input, Started};
use crate::stats::{Amount, Failure, Outcome};

/// How many there are when memory is looked at.
const COUNTS: &[usize] = &[1, 5, 10, 20, 100, 300, 1000];

/// The least slope that is told from none, KiB.
const FLOOR: f64 = 1.0;

/// Of fewer counts there is no slope: what the first sandbox makes for all of them would be taken for its own.
const FEWEST: usize = 3;

/// Files that are open for each sandbox that runs: its end, its input and its output.
const FILES: u64 = 3;

/// What must be left of the machine's memory for another sandbox, in KiB.
const RESERVE: f64 = 1024.0 * 1024.0;

/// What the kernel keeps for processes and their surroundings, by its names in /proc/meminfo.
const KERNEL: &[&str] = &["Slab", "KernelStack", "PageTables"];

/// Memory at one time, KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    count: f64,
    processes: f64,
    kernel: f64,
    /// What the cgroup was charged, if somebody counts.
    charged: Option<f64>,
}

/// With up to `most` of them.
pub(super) fn slope(stage: Stage<'_>, most: usize) -> Result<Amounts, Failure> {
    let heavy = stage.arena.heavy().ok_or_else(|| Failure("finding all processes takes root".to_owned()))?;
    // Monitors that are not here are told apart, or nothing is told.
    stage.arena.daemons().processes(stage.platform)?;
    let _files = OpenFiles::allow(FILES * most as u64 + 100)?;
    let mut there: Vec<(Seat, Started)> = Vec::new();
    let (seen, stopped) = fill(stage, heavy, most, &mut there);
    empty(stage, there, stopped.is_some());
    // What fits is as good a slope as what was to fit.
    if let Some(failure) = stopped.filter(|_| seen.len() < FEWEST || interrupt::check().is_err()) {
        return Err(failure);
    }
    let of = |value: fn(&Memory) -> Option<f64>| {
        let points = seen.iter().map(|memory| Some((memory.count, value(memory)?)));
        let points = points.collect::<Option<Vec<_>>>();
        let points =
            points.ok_or_else(|| Failure("it makes no cgroup in which memory is counted".to_owned()))?;
        found(rise(&points))
    };
    Ok(vec![
        ("processes", of(|memory| Some(memory.processes))),
        ("charged", of(|memory| memory.charged)),
        ("kernel", of(|memory| Some(memory.kernel))),
    ])
}

/// Ends them all. After a failure none is trusted to have gone.
fn empty(stage: Stage<'_>, mut there: Vec<(Seat, Started)>, failed: bool) {
    for (_, started) in &mut there {
        started.let_go();
    }
    let mut left = Vec::new();
    for (seat, started) in there {
        if started.finish(LIMIT).is_err() || failed {
            left.push(seat);
        }
    }
    stage.arena.clear_all(stage.platform, &left);
}

/// A slope that is told from none. Another one is no small amount: the machine's other work has moved more than it.
fn found(rise: f64) -> Outcome {
    if rise >= FLOOR {
        return Amount::new(rise);
    }
    Err(Failure(format!("{rise:.1} KiB for each, which is below what the machine's own noise lets see")))
}

/// What was seen at each count that was reached, and why not at more.
fn fill(
    stage: Stage<'_>,
    heavy: &Heavy,
    most: usize,
    there: &mut Vec<(Seat, Started)>,
) -> (Vec<Memory>, Option<Failure>) {
    let mut seen = Vec::new();
    let stopped = fill_up(stage, heavy, most, there, &mut seen).err();
    (seen, stopped)
}

fn fill_up(
    stage: Stage<'_>,
    heavy: &Heavy,
    most: usize,
    there: &mut Vec<(Seat, Started)>,
    seen: &mut Vec<Memory>,
) -> Result<(), Failure> {
    let meminfo = || fs::read_to_string("/proc/meminfo").unwrap_or_default();
    for count in COUNTS.iter().filter(|count| **count <= most) {
        while there.len() < *count {
            stage.arena.is_in_time()?;
            if kilobytes(&meminfo(), "MemAvailable").is_some_and(|left| left < RESERVE) {
                return Err(Failure(format!(
                    "no more than {} fit into the memory of this machine",
                    there.len()
                )));
            }
            let (seat, words) = stage.seat(there.len(), &["ready"])?;
            let begun = arena::start(stage.platform.run(&seat, &words), &seat, Input::Held);
            let mut started = begun.inspect_err(|_| stage.arena.clear(stage.platform, &seat))?;
            let first = started.first_byte(LIMIT);
            there.push((seat, started));
            first?;
        }
        let mut processes = heavy.processes();
        processes.extend(stage.arena.daemons().processes(stage.platform)?);
        let own = std::process::id();
        let processes = processes.into_iter().filter(|pid| *pid != own).filter_map(proportional).sum();
        let meminfo = meminfo();
        let kernel = KERNEL.iter().filter_map(|name| kilobytes(&meminfo, name)).sum();
        let charged = heavy.charged().filter(|bytes| *bytes > 0).map(|bytes| bytes as f64 / 1024.0);
        seen.push(Memory { count: *count as f64, processes, kernel, charged });
    }
    Ok(())
}

/// Its pages, those that it shares divided among all that have them.
fn proportional(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup")).ok()?;
    kilobytes(&text, "Pss")
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The slope of the line through `points` with the least squares.
fn rise(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let alone: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    together / alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_found_under_an_offset() {
        let points = COUNTS.iter().map(|count| (*count as f64, 1000.0 + 12.5 * *count as f64));
        assert!((rise(&Vec::from_iter(points)) - 12.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_lost_in_noise_is_no_amount() {
        assert_eq!(found(812.5), Amount::new(812.5));
        for (rise, told) in [(0.4, "0.4 KiB for each, which is below"), (-312.0, "-312.0 KiB for each")] {
            let Failure(reason) = found(rise).unwrap_err();
            assert!(reason.starts_with(told), "{reason}");
        }
    }

    #[test]
    fn kilobytes_are_read() {
        let text = "Rss:  10 kB\nPss_Dirty: 4 kB\nPss:        7 kB\n";
        assert_eq!(kilobytes(text, "Pss"), Some(7.0));
        assert_eq!(kilobytes(text, "Swap"), None);
        assert!(proportional(std::process::id()).is_some_and(|kilobytes| kilobytes > 0.0));
    }
}
