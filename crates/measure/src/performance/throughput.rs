//! How many sandboxes a machine makes and removes in a second.

use std::time::{Duration, Instant};

use super::{Amounts, Stage, life};
use crate::arena::{self, LIMIT};
use crate::platform::Seat;
use crate::started::{self, Input, Started};
use crate::stats::{Amount, Failure};

/// Sandboxes one after the other on each seat, at least.
const ROUNDS: usize = 3;

/// How long more are started: of what takes a millisecond a few would be as much this program's doing.
const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// One of the seats that are used at the same time.
struct Line {
    seat: Seat,
    words: Vec<String>,
    running: Option<Started>,
    begun: usize,
}

pub(super) fn starts(stage: Stage<'_>, at_a_time: usize) -> Result<Amounts, Failure> {
    let mut lines = Vec::new();
    for number in 0..at_a_time {
        let (seat, words) = stage.seat(number, &["hello"])?;
        lines.push(Line { seat, words, running: None, begun: 0 });
    }
    let began = Instant::now();
    let went = go(stage, &mut lines, began);
    let took = began.elapsed();
    if went.is_err() {
        for line in &mut lines {
            line.running = None;
            stage.arena.clear(stage.platform, &line.seat);
        }
    }
    went?;
    let all: usize = lines.iter().map(|line| line.begun).sum();
    Ok(vec![("rate", Amount::new(all as f64 / took.as_secs_f64()))])
}

/// Whether one more is started on a seat.
fn goes_on(begun: usize, elapsed: Duration) -> bool {
    begun < ROUNDS || elapsed < LONG_ENOUGH
}

/// Starts the next on each seat as soon as the one before has ended.
fn go(stage: Stage<'_>, lines: &mut [Line], began: Instant) -> Result<(), Failure> {
    let end = Instant::now() + LIMIT + Duration::from_secs(lines.len() as u64);
    loop {
        for line in lines.iter_mut() {
            if let Some(mut running) = line.running.take() {
                if running.look()?.is_some() {
                    life::ended(running)?;
                } else {
                    line.running = Some(running);
                }
            }
            if line.running.is_none() && goes_on(line.begun, began.elapsed()) {
                line.begun += 1;
                let command = stage.platform.run(&line.seat, &line.words);
                line.running = Some(arena::start(command, &line.seat, Input::Nothing)?);
            }
        }
        let waited = Vec::from_iter(lines.iter().filter_map(|line| Some(line.running.as_ref()?.ending())));
        if waited.is_empty() {
            return Ok(());
        }
        started::wait_for(&waited, end)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quick_is_done_more_often() {
        let rounds = |milliseconds: u64| {
            let elapsed = |begun: usize| Duration::from_millis(milliseconds * begun as u64);
            (0..).find(|begun| !goes_on(*begun, elapsed(*begun))).unwrap()
        };
        assert_eq!((rounds(1), rounds(90), rounds(2000)), (300, 4, 3));
    }
}
