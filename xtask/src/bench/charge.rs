//! What a container costs itself before its program runs: memory that its cgroup is charged.
//!
//! Counters of a cgroup do not tell: the kernel charges each CPU 64 pages in advance. The least limit does under which
//! the thing still works.

use super::platform::Platform;
use super::stopwatch::Stopwatch;

/// Limits are tried between these, in KiB.
const SMALLEST: i64 = 16;
const LARGEST: i64 = 16 * 1024;

/// Where the search ends: two limits this close are one.
const STEP: i64 = 16;

/// How often a limit must do: on which CPU something runs decides how much of the advance is used.
const TIMES: usize = 4;

/// The least memory limits, in KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Charge {
    /// Under which `create` succeeds: the container's set-up.
    pub(super) set_up_kib: Option<i64>,
    /// Under which the container also starts and runs `true`.
    pub(super) start_kib: Option<i64>,
}

pub(super) fn measure(platform: &Platform, stopwatch: &Stopwatch) -> Charge {
    let with = |kib: i64, works: &dyn Fn(&Platform) -> bool| {
        let always = |platform: &Platform| (0..TIMES).all(|_| works(platform));
        let worked = platform.with_memory(kib * 1024, always).unwrap_or(false);
        if !worked {
            platform.clean_up();
        }
        worked
    };
    if platform.runtime.is_none() {
        return Charge { set_up_kib: None, start_kib: None };
    }
    Charge {
        set_up_kib: least(|kib| with(kib, &Platform::creates)),
        start_kib: least(|kib| with(kib, &|platform| stopwatch.time(&platform.run, 1).is_ok())),
    }
}

/// The least limit for which `works` holds, by bisection.
fn least(works: impl Fn(i64) -> bool) -> Option<i64> {
    let (mut low, mut high) = (SMALLEST, LARGEST);
    if !works(high) {
        return None;
    }
    while high - low > STEP {
        let middle = (low + high) / 2 / STEP * STEP;
        if works(middle) { high = middle } else { low = middle }
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
