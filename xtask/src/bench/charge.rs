//! What a container costs itself before its program runs: memory that its cgroup is charged.
//!
//! Counters of a cgroup do not tell: the kernel charges each CPU 64 pages in advance. The least limit does under which
//! the thing still works.

use bulkhead_measure::stats::{Amount, Failure};

use super::experiment::Amounts;
use super::platform::Contestant;
use super::start::{CREATE, RUN};
use super::stopwatch::Stopwatch;

/// Limits are tried between these, in KiB.
const SMALLEST: i64 = 16;
const LARGEST: i64 = 16 * 1024;

/// Where the search ends: two limits this close are one.
const STEP: i64 = 16;

/// How often a limit must do: on which CPU something runs decides how much of the advance is used.
const TIMES: usize = 4;

/// The least memory limits, KiB, under which `create` succeeds, and under which the container also runs `true`.
pub(super) fn measure(contestant: &mut Contestant, stopwatch: &Stopwatch) -> Result<Amounts, Failure> {
    if contestant.is_floor() {
        return Err(Failure("it does not read its limits".to_owned()));
    }
    let mut with = |works: &dyn Fn(&Contestant) -> bool| {
        let kib = least(|kib| {
            let limited = contestant.limit(kib * 1024).is_ok();
            let worked = limited && (0..TIMES).all(|_| works(contestant));
            if !worked {
                contestant.clean_up();
            }
            worked
        });
        let kib = kib.ok_or_else(|| Failure(format!("not even {LARGEST} KiB do")));
        kib.and_then(|kib| Amount::new(kib as f64))
    };
    let create = with(&Contestant::creates);
    let run = with(&|contestant| stopwatch.time(&contestant.run, 1).is_ok());
    contestant.relax().map_err(|error| Failure(format!("{error:#}")))?;
    Ok(vec![(CREATE, create), (RUN, run)])
}

/// The least limit for which `works` holds, by bisection.
fn least(mut works: impl FnMut(i64) -> bool) -> Option<i64> {
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
