//! On which processor a task runs.
//!
//! Where the scheduler puts a child decides more of a rate than most walls do: on two processors that of forks differs by a tenth
//! from run to run, on one by 3 %.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, Result};

/// Keeps this process, and the children that it will have, on the last of the processors that it may run on, and returns its number:
/// the first ones have more interrupts to serve. A kernel that only pretends, as gVisor's does, is not held against the task.
pub(crate) fn stay_on_one() -> Result<usize> {
    let failed = |doing| move |error| Error::Io { doing, source: io::Error::from(error) };
    let may = sched_getaffinity(None).map_err(failed("sched_getaffinity"))?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|processor| may.is_set(*processor));
    let last = last.ok_or_else(|| Error::Wrong("there is no processor to run on".to_owned()))?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).map_err(failed("sched_setaffinity"))?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_where_it_may_be() {
        // In a thread, which no other test has.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let may = sched_getaffinity(None).unwrap();
                let processor = stay_on_one().unwrap();
                let stays = sched_getaffinity(None).unwrap();
                assert!(may.is_set(processor) && stays.is_set(processor) && stays.count() == 1, "{stays:?}");
                assert_eq!(stay_on_one().unwrap(), processor, "it may not stay where it is");
            });
        });
    }
}
