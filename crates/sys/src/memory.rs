//! Anonymous memory: mmap(2) and munmap(2).

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

use crate::{Call, Result};

/// A mapping that is taken back when this is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

/// Memory of this process alone, zero at first; no page of it exists before it is touched.
#[derive(Debug)]
pub struct Region(Mapping);

/// Numbers that a process shares with the copies that fork(2) makes of it, zero at first.
#[derive(Debug)]
pub struct Counters(Mapping);

impl Mapping {
    fn anonymous(length: usize, flags: libc::c_int) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_ANONYMOUS;
        // SAFETY: a mapping at an address that the kernel chooses replaces no other.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        let failed = start == libc::MAP_FAILED;
        let error = || Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
        let start = if failed { Err(error()) } else { NonNull::new(start).ok_or(Errno::NOMEM) };
        let start = start.call(|| format!("mmap(NULL, {length}, PROT_READ|PROT_WRITE, {flags:#x})"))?;
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this owner's, and what borrowed from it is gone. It cannot fail for a whole mapping.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

impl Region {
    /// Maps `length` bytes.
    ///
    /// # Errors
    /// EINVAL for no bytes, ENOMEM at a limit of address space.
    pub fn map(length: usize) -> Result<Self> {
        Mapping::anonymous(length, libc::MAP_PRIVATE).map(Self)
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is private, `length` bytes long, initialised by the kernel, and borrowed through its only
        // owner; any byte is a valid u8.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr().cast(), self.0.length) }
    }
}

impl Counters {
    /// Maps `count` numbers.
    ///
    /// # Errors
    /// EINVAL for none, ENOMEM at a limit of address space.
    pub fn map(count: usize) -> Result<Self> {
        Mapping::anonymous(count * size_of::<AtomicU64>(), libc::MAP_SHARED).map(Self)
    }

    /// The numbers.
    pub fn numbers(&self) -> &[AtomicU64] {
        let count = self.0.length / size_of::<AtomicU64>();
        // SAFETY: the mapping begins at a page's address and lives as long as this owner is borrowed; it is initialised
        // by the kernel, any eight bytes are a valid AtomicU64, and all processes that share it use only atomic operations.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr().cast(), count) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::offspring;

    #[test]
    fn a_region_is_zero_and_can_be_written() {
        let mut region = Region::map(10_000).unwrap();
        assert_eq!(region.bytes().len(), 10_000);
        assert!(region.bytes().iter().all(|byte| *byte == 0));
        region.bytes().fill(3);
        assert_eq!(region.bytes()[9_999], 3);
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        assert_eq!(Region::map(0).unwrap_err().errno(), Errno::INVAL);
        assert_eq!(Counters::map(0).unwrap_err().errno(), Errno::INVAL);
    }

    #[test]
    fn a_child_counts_for_its_maker() {
        let counters = Counters::map(2).unwrap();
        let child = offspring::fork(|| {
            counters.numbers()[1].fetch_add(5, Ordering::Relaxed);
            0
        });
        assert_eq!(child.unwrap().wait().unwrap().exit_status(), Some(0));
        assert_eq!(counters.numbers()[1].load(Ordering::Relaxed), 5);
    }
}
