//! Attempts on what the kernel has once, or once for each user or namespace.

use bulkhead_sys::{self as sys, Call as _};
use rustix::time::ClockId;

use super::{Attempt, MOST, Words};
use crate::error::Result;

pub(super) fn read_key(words: &Words) -> Result<Attempt> {
    Ok(sys::keyring::read(&words.c_string(0)?))
}

pub(super) fn write_key(words: &Words) -> Result<Attempt> {
    Ok(sys::keyring::add(&words.c_string(0)?, words.text(1)?.as_bytes()).map(|()| Vec::new()))
}

pub(super) fn read_shared_memory(words: &Words) -> Result<Attempt> {
    Ok(sys::shared_memory::read(words.number(0)?))
}

pub(super) fn read_log() -> Attempt {
    sys::watch::kernel_log(MOST)
}

pub(super) fn count_events() -> Attempt {
    sys::watch::processor_clock().map(|count| count.to_le_bytes().to_vec())
}

pub(super) fn list_programs() -> Attempt {
    let programs = sys::bpf::loaded_programs();
    programs.map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()).collect())
}

pub(super) fn set_clock() -> Attempt {
    // Timers that watch for changes of the clock (TFD_TIMER_CANCEL_ON_SET of timerfd_create(2)) notice even this.
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let set = rustix::time::clock_settime(ClockId::Realtime, now);
    set.call(|| "clock_settime(CLOCK_REALTIME, now)").map(|()| Vec::new())
}
