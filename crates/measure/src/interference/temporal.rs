//! A victim alone, then beside an antagonist.

use std::time::{Duration, Instant};

use crate::arena::{self, Arena, LIMIT};
use crate::host;
use crate::plan::Limits;
use crate::platform::{Platform, Seat};
use crate::record::{DIED, Finding, Reading, Readings};
use crate::stage::Stage;
use crate::started::{Input, NOT_STARTED, Started, TOO_LONG};
use crate::stats::Failure;

use super::kept::{self, Pressure, Seen};
use super::matrix::Meeting;

/// The seats of the two.
const VICTIM: usize = 0;
const ANTAGONIST: usize = 1;

/// How old what a victim did alone may be when it is set beside what it does beside an antagonist: a machine changes meanwhile, and
/// may have slept.
const FRESH: Duration = Duration::from_secs(120);

/// What the last victim did without an antagonist. In one block it meets several, and is measured alone once: before the first in
/// one block, after it in the next, so that a machine that becomes slower makes T no greater in the mean. It is measured again for
/// the antagonists that it meets after [`FRESH`].
#[derive(Debug, Default)]
pub struct Alone(Vec<Taken>);

/// One victim's reading.
#[derive(Debug)]
struct Taken {
    key: Key,
    /// As [`now`] tells it.
    at: Duration,
    /// The reading, and when it was taken, milliseconds since 1970.
    reading: Result<(Reading, u64), Failure>,
}

/// In which block whose reading it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    block: usize,
    platform: String,
    victim: &'static str,
    limits: Limits,
}

/// Where the two meet.
struct Place<'a> {
    arena: &'a Arena,
    platform: &'a Platform,
    meeting: &'a Meeting,
}

/// Measures one pair.
pub(super) fn meet(
    meeting: &Meeting,
    arena: &Arena,
    platform: &Platform,
    block: usize,
    alone: &mut Alone,
) -> Vec<Finding> {
    let place = Place { arena, platform, meeting };
    let found = if block.is_multiple_of(2) || alone.known(&place.key(block), now()).is_some() {
        alone.reading(block, &place).and_then(|alone| Ok((alone, place.beside()?)))
    } else {
        place.beside().and_then(|beside| Ok((alone.reading(block, &place)?, beside)))
    };
    match found {
        Ok(((alone, alone_at), (beside, pressed))) => {
            kept::findings(&Readings { alone, alone_at, beside }, &pressed)
        }
        Err(failure) => kept::failures(&failure),
    }
}

impl Alone {
    fn reading(&mut self, block: usize, place: &Place<'_>) -> Result<(Reading, u64), Failure> {
        let key = place.key(block);
        // The victims of a block come one after the other.
        let is_of_now = |key: &Key, other: &Key| {
            (key.block, key.victim, key.limits) == (other.block, other.victim, other.limits)
        };
        self.0.retain(|taken| is_of_now(&taken.key, &key));
        if let Some(reading) = self.known(&key, now()) {
            return reading.clone();
        }
        let reading = place.alone().map(|reading| (reading, host::clock()));
        let reading = reading.map_err(|Failure(reason)| Failure(format!("the victim alone: {reason}")));
        self.0.retain(|taken| taken.key != key);
        self.0.push(Taken { key, at: now(), reading: reading.clone() });
        reading
    }

    fn known(&self, key: &Key, now: Duration) -> Option<&Result<(Reading, u64), Failure>> {
        let fresh = self.0.iter().filter(|taken| now.saturating_sub(taken.at) <= FRESH);
        fresh
            .map(|taken| (&taken.key, &taken.reading))
            .find(|(known, _)| *known == key)
            .map(|(_, reading)| reading)
    }
}

/// The time since the machine started, also that in which it slept.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What a victim did beside an antagonist, and whether that pressed.
type Beside = (Reading, Result<(), String>);

impl Place<'_> {
    fn key(&self, block: usize) -> Key {
        let Self { platform, meeting, .. } = self;
        Key { block, platform: platform.name.clone(), victim: meeting.victim.name, limits: meeting.limits }
    }

    fn seat(&self, number: usize, arguments: &[String]) -> Result<(Seat, Vec<String>), Failure> {
        let stage = Stage { arena: self.arena, platform: self.platform };
        stage.seat_as(number, arguments, |seat| seat.limits = self.meeting.bounds())
    }

    fn victim(&self) -> Result<Reading, Failure> {
        let (seat, words) = self.seat(VICTIM, &self.meeting.task_words())?;
        let ran = arena::start(self.platform.run(&seat, &words), &seat, Input::Nothing)
            .and_then(|started| started.finish(LIMIT));
        let ran = ran.inspect_err(|_| self.arena.clear(self.platform, &seat))?;
        kept::reading(&ran.output)
    }

    /// The victim without an antagonist. What is to wait for the disk and does not says nothing of who shares a disk.
    fn alone(&self) -> Result<Reading, Failure> {
        let is_synced = self.meeting.victim.is_synced();
        let disk = is_synced.then(|| self.arena.disk(self.platform)).transpose()?;
        let reading = self.victim()?;
        disk.map_or(Ok(()), |disk| disk.since()?.witness(reading.turns as f64))?;
        Ok(reading)
    }

    fn beside(&self) -> Result<Beside, Failure> {
        let (seat, words) = self.seat(ANTAGONIST, &self.meeting.hog_words())?;
        let met = self.meet(&seat, &words);
        met.inspect_err(|_| self.arena.clear(self.platform, &seat))
    }

    fn meet(&self, seat: &Seat, words: &[String]) -> Result<Beside, Failure> {
        let failed = |Failure(reason): Failure| Failure(format!("the antagonist: {reason}"));
        let mut hog = arena::start(self.platform.run(seat, words), seat, Input::Held).map_err(failed)?;
        hog.first_byte(LIMIT).map_err(failed)?;
        let (began, before) = (Instant::now(), self.usage(seat));
        let beside = self.victim();
        let took = began.elapsed().as_secs_f64();
        let used = self.usage(seat).zip(before).map(|(now, before)| now.saturating_sub(before));
        let pressure = end(hog, failed)?;
        let beside = beside.map_err(|Failure(reason)| {
            // Alone it had ended in time: what is starved is not saved. What never began says nothing of a wall.
            let is_there = !reason.starts_with(NOT_STARTED);
            let starved = if reason.contains(TOO_LONG) { " of want" } else { "" };
            Failure(if is_there {
                format!("{DIED}{starved}: {reason}")
            } else {
                format!("the victim: {reason}")
            })
        })?;
        let seen = Seen {
            cpus: used.map(|used| used.as_secs_f64() / took),
            processors: arena::processors(),
            memory: self.meeting.bounds().filter(|_| self.platform.has_limits()).map(|bounds| bounds.memory),
            wanted: self.meeting.wanted(),
        };
        let pressed = pressure.check(self.meeting.antagonist.proof, &seen);
        Ok((beside, pressed))
    }

    /// The CPU time that the sandbox on `seat` had so far, by the host's accounts.
    fn usage(&self, seat: &Seat) -> Option<Duration> {
        self.arena.heavy()?.child_usage(seat.cgroup.as_deref()?)
    }
}

/// Ends the antagonist, which had begun.
fn end(mut hog: Started, failed: impl Fn(Failure) -> Failure) -> Result<Pressure, Failure> {
    hog.look().map_err(|failure| kept::ended(&failure))?;
    hog.let_go();
    hog.finish(LIMIT).and_then(|ended| Pressure::of(&ended.output)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_alone_that_is_old_is_none() {
        let key = |platform: &str| Key {
            block: 1,
            platform: platform.to_owned(),
            victim: "cpu",
            limits: Limits::With,
        };
        let reading = Err(Failure("taken".to_owned()));
        let alone = Alone(vec![Taken { key: key("crun"), at: Duration::from_secs(10), reading }]);
        let is_known = |platform: &str, seconds: u64| {
            alone.known(&key(platform), Duration::from_secs(seconds)).is_some()
        };
        assert!(is_known("crun", 10) && is_known("crun", 130), "it is fresh");
        assert!(!is_known("crun", 131) && !is_known("runc", 10), "it is old, or another's");
        assert!(now() > Duration::ZERO);
    }
}
