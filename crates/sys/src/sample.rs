//! Samples of the kernel's stack while chosen processes run: perf_event_open(2).

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Result};

/// `PERF_TYPE_SOFTWARE` and, of its events, `PERF_COUNT_SW_CPU_CLOCK`.
const SOFTWARE: u32 = 1;
const CPU_CLOCK: u64 = 0;

/// `PERF_SAMPLE_TID` and `PERF_SAMPLE_CALLCHAIN`.
const TASK_AND_STACK: u64 = 1 << 1 | 1 << 5;

/// Bits of `struct perf_event_attr`: `inherit`, `exclude_user`, `exclude_callchain_user`.
const KERNEL_OF_ALL: u64 = 1 << 1 | 1 << 4 | 1 << 22;

/// `PERF_FLAG_FD_CLOEXEC`
const CLOEXEC: libc::c_ulong = 1 << 3;

/// Where `struct perf_event_mmap_page` has `data_head` and `data_tail`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// The least form of `struct perf_event_attr`, `PERF_ATTR_SIZE_VER0`.
#[derive(Debug, Default)]
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample: u64,
    read: u64,
    bits: u64,
    wake_up: u32,
    breakpoint: u32,
    address: u64,
}

/// The records of one processor, about one process and all that it will make.
#[derive(Debug)]
pub struct Sampler {
    start: NonNull<libc::c_void>,
    /// Bytes of the mapping: a page for the counters, and a power of two of them for the records.
    length: usize,
    page: usize,
    /// Kept open: its end is that of the sampling.
    _event: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone and does not depend on the thread.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Begins to sample `pid` (0 for the caller) on a processor, each time that it has spent `period` nanoseconds there.
    ///
    /// Records wait in a buffer of `pages` pages, a power of two; what finds no room is lost, and a record says so.
    ///
    /// # Errors
    /// EACCES or EPERM without the right to watch the kernel, ENODEV for a processor that is off, ESRCH for a process that
    /// has ended, ENOSYS for a kernel without it.
    pub fn open(pid: i32, processor: u32, period: u64, pages: usize) -> Result<Self> {
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: CPU_CLOCK,
            period,
            sample: TASK_AND_STACK,
            bits: KERNEL_OF_ALL,
            ..Attributes::default()
        };
        // SAFETY: `attributes` is a live struct perf_event_attr that states its own size.
        let opened = check(unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                pid,
                processor as libc::c_int,
                -1,
                CLOEXEC,
            )
        });
        let event = opened.call(|| format!("perf_event_open(CPU_CLOCK, {pid}, {processor})"))?;
        // SAFETY: the call above made this descriptor, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(event as libc::c_int) };
        let page = rustix::param::page_size();
        let length = page * (pages + 1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping at an address that the kernel chooses replaces no other.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, event.as_raw_fd(), 0)
        };
        let failed = start == libc::MAP_FAILED;
        let error = || Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
        let start = if failed { Err(error()) } else { NonNull::new(start).ok_or(Errno::NOMEM) };
        let start =
            start.call(|| format!("mmap(NULL, {length}, PROT_READ|PROT_WRITE, MAP_SHARED, event)"))?;
        Ok(Self { start, length, page, _event: event })
    }

    /// Adds to `records` what was recorded since the last time: whole records, one behind the other.
    pub fn drain(&mut self, records: &mut Vec<u8>) {
        let tail = self.counter(TAIL);
        let from = tail.load(Ordering::Relaxed);
        // What the kernel wrote before it moved the head is seen after this.
        let to = self.counter(HEAD).load(Ordering::Acquire);
        let room = self.length - self.page;
        let mut place = from as usize % room;
        // No more than there is room for can wait.
        let mut left = (to.wrapping_sub(from) as usize).min(room);
        while left > 0 {
            let piece = left.min(room - place);
            let waiting = self.start.as_ptr().cast::<u8>().wrapping_add(self.page + place);
            // SAFETY: `place + piece` is at most `room`, so that this lies in the mapping, whose records the kernel leaves
            // alone until the tail moves; the copy is in memory of our own.
            records.extend_from_slice(unsafe { std::slice::from_raw_parts(waiting, piece) });
            (place, left) = (0, left - piece);
        }
        // The kernel may use the room after this, and not before.
        tail.store(to, Ordering::Release);
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        let place = self.start.as_ptr().cast::<u8>().wrapping_add(offset);
        // SAFETY: the offset is one of the two above, eight bytes aligned within the mapping's first page, which lives as long
        // as this; both sides use only atomic operations.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: the mapping is this owner's, and nothing borrows from it. It cannot fail for a whole mapping.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}
