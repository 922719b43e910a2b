//! How often something is done: one turn after the other, or at intended times.
//!
//! In the closed loop a turn begins when the one before has ended, and its latency is what it took. In the open loop
//! turn number k is meant to begin k / rate after the start, whatever became of the others, and its latency counts from
//! then: what waits in line has waited, too. Turns that have not begun when the time is up are missed, and count with
//! what they have waited so far, which is less than they would have.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::ClockId;
use rustix::time::Timespec;

use crate::error::Result;
use crate::latency::Latencies;

const SECOND: u64 = 1_000_000_000;

/// What came of it.
pub(crate) struct Paced {
    /// Turns that were done.
    pub(crate) turns: u64,
    /// Turns of the open loop that never began.
    pub(crate) missed: u64,
    /// From the start to the end of the last turn, and of the open loop to the end of its time if that is later.
    pub(crate) took: Duration,
    /// Of each turn.
    pub(crate) latencies: Latencies,
}

/// Takes turns without pause until `limit` is over.
pub(crate) fn closed(limit: Duration, mut turn: impl FnMut() -> Result<()>) -> Result<Paced> {
    let mut latencies = Latencies::new()?;
    let start = now();
    let end = start + nanoseconds(limit);
    let mut before = start;
    while before < end {
        turn()?;
        let after = now();
        latencies.record(after - before);
        before = after;
    }
    let took = Duration::from_nanos(before - start);
    Ok(Paced { turns: latencies.samples(), missed: 0, took, latencies })
}

/// Means to take `rate` turns a second until `limit` is over.
pub(crate) fn open(limit: Duration, rate: f64, mut turn: impl FnMut() -> Result<()>) -> Result<Paced> {
    // Else the kernel may wake this process 50 µs late on purpose. A kernel that does not know this is as it is.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut latencies = Latencies::new()?;
    let planned = planned(limit, rate);
    let start = now();
    let end = start + nanoseconds(limit);
    let intended = |number: u64| start + (number as f64 / rate * SECOND as f64) as u64;
    let mut turns = 0;
    // Once in any case, so that there is something to tell.
    while turns < planned && (turns == 0 || now() < end) {
        sleep_until(intended(turns));
        turn()?;
        latencies.record(now().saturating_sub(intended(turns)));
        turns += 1;
    }
    let last = now();
    (turns..planned).for_each(|number| latencies.record(last.saturating_sub(intended(number))));
    Ok(Paced {
        turns,
        missed: planned - turns,
        took: limit.max(Duration::from_nanos(last - start)),
        latencies,
    })
}

/// How many turns the open loop means to take, one at least.
pub(crate) fn planned(limit: Duration, rate: f64) -> u64 {
    ((limit.as_secs_f64() * rate).floor() as u64).max(1)
}

/// The monotonic clock, nanoseconds.
pub(crate) fn now() -> u64 {
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(ClockId::Monotonic);
    tv_sec.unsigned_abs() * SECOND + tv_nsec.unsigned_abs()
}

/// Sleeps until [`now`] is `time`, and not at all when it is past.
pub(crate) fn sleep_until(time: u64) {
    let request = Timespec { tv_sec: (time / SECOND) as i64, tv_nsec: (time % SECOND) as _ };
    // A signal that is not deadly is none of this program's business: it sleeps on.
    while now() < time && rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &request).is_err() {}
}

/// A duration as [`now`] counts.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn the_closed_loop_counts_its_turns() {
        let mut turns = 0;
        let paced = closed(Duration::from_millis(20), || {
            turns += 1;
            Ok(())
        });
        let paced = paced.unwrap();
        assert_eq!((paced.turns, paced.missed, paced.latencies.samples()), (turns, 0, turns));
        assert!(paced.took >= Duration::from_millis(20), "it ended early");
    }

    #[test]
    fn what_waits_in_line_has_waited() {
        // Each turn takes ten times what lies between two: the n-th is late by what all before it took too long, and
        // those that never began have waited, too.
        let paced = open(Duration::from_millis(100), 1000.0, || {
            sleep_until(now() + 10_000_000);
            Ok(())
        });
        let paced = paced.unwrap();
        assert_eq!(paced.turns + paced.missed, 100);
        assert!((1..=10).contains(&paced.turns), "{} turns of 10 ms in 100 ms", paced.turns);
        assert_eq!(paced.latencies.samples(), 100);
        let most = serde_json::to_value(paced.latencies.summary()).unwrap()["p99"].as_f64().unwrap();
        assert!(
            most >= 80_000.0,
            "the turn that is meant to begin after 11 ms waits until 100 ms, not {most} µs"
        );
    }

    #[test]
    fn a_failure_ends_both() {
        let failing = || Err(Error::Wrong("no".to_owned()));
        assert!(closed(Duration::from_secs(5), failing).is_err());
        assert!(open(Duration::from_secs(5), 1.0, failing).is_err());
    }
}
