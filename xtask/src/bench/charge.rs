//! What the set-up costs the container: memory that its cgroup is charged before its program runs.

use super::machine;
use super::platform::Platform;
use super::stopwatch::Stopwatch;

/// Limits are tried between these, in KiB.
const SMALLEST: i64 = 16;
const LARGEST: i64 = 16 * 1024;

/// Where the search ends: two limits this close are one.
const STEP: i64 = 16;

/// Two ways to look at the same charge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Charge {
    /// The cgroup's peak after `create`, in KiB. The kernel charges in batches of 64 pages for each CPU, so
    /// this rounds up.
    pub(super) peak_kib: Option<f64>,
    /// The least memory limit under which the container starts and runs `true`, in KiB.
    pub(super) least_kib: Option<i64>,
}

pub(super) fn measure(platform: &Platform, stopwatch: &Stopwatch) -> Charge {
    let starts = |kib: i64| {
        let run = |platform: &Platform| stopwatch.time(&platform.run, 1).is_ok();
        let started = platform.with_memory(kib * 1024, run).unwrap_or(false);
        if !started {
            platform.clean_up();
        }
        started
    };
    Charge {
        peak_kib: platform.created(machine::peak_kib),
        least_kib: platform.runtime.as_ref().and_then(|_| least(starts)),
    }
}

/// The least limit for which `starts` holds, by bisection.
fn least(starts: impl Fn(i64) -> bool) -> Option<i64> {
    let (mut low, mut high) = (SMALLEST, LARGEST);
    if !starts(high) {
        return None;
    }
    while high - low > STEP {
        let middle = (low + high) / 2 / STEP * STEP;
        if starts(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_is_found() {
        for wanted in [32, 208, 256, 4096, 16 * 1024] {
            assert_eq!(least(|limit| limit >= wanted), Some(wanted));
        }
        assert_eq!(least(|_| false), None);
    }
}
