//! Shared memory of System V, shmget(2), shmat(2), shmctl(2): everybody in an IPC namespace finds it by its key.

use std::mem::MaybeUninit;

use crate::syscall::check;
use crate::{Call, Result};

/// The most that is read of a segment, bytes.
const MOST: usize = 4096;

/// A segment that is removed when this is dropped.
#[derive(Debug)]
pub struct Segment(libc::c_int);

impl Segment {
    /// Makes a segment that holds `content`, for the processes of its owner.
    ///
    /// # Errors
    /// EEXIST when the key is in use, EINVAL for no content, ENOSPC at a limit.
    pub fn create(key: i32, content: &[u8]) -> Result<Self> {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
        // SAFETY: shmget(2) takes integers.
        let id = check(unsafe { libc::shmget(key, content.len(), flags) }.into())
            .call(|| format!("shmget({key:#x}, {}, IPC_CREAT|IPC_EXCL|0600)", content.len()))?;
        let segment = Self(id as libc::c_int);
        let start = attach(segment.0, 0)?;
        // SAFETY: the segment was made with this length and is attached for writing; the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), start, content.len()) };
        detach(start);
        Ok(segment)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID ignores its last argument. It cannot fail for the owner.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Removes the segment with this key, if there is one that the caller's user has made and that is `length` bytes long:
/// a key is short, and another's may be the same.
pub fn remove(key: i32, length: usize) {
    // SAFETY: shmget(2) takes integers.
    let id = unsafe { libc::shmget(key, 0, 0) };
    if id < 0 {
        return;
    }
    let maker = rustix::process::geteuid().as_raw();
    if status(id).is_ok_and(|status| status.shm_perm.cuid == maker && status.shm_segsz == length) {
        drop(Segment(id));
    }
}

fn status(id: libc::c_int) -> Result<libc::shmid_ds> {
    let mut status = MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: the kernel writes a whole structure into the live buffer, or fails.
    check(unsafe { libc::shmctl(id, libc::IPC_STAT, status.as_mut_ptr()) }.into())
        .call(|| format!("shmctl({id}, IPC_STAT)"))?;
    // SAFETY: all-zero bytes are a valid structure, which is how it began.
    Ok(unsafe { status.assume_init() })
}

/// Reads the beginning of the segment with this key, 4096 bytes or fewer.
///
/// # Errors
/// ENOENT when there is none, EACCES without the right.
pub fn read(key: i32) -> Result<Vec<u8>> {
    // SAFETY: shmget(2) takes integers.
    let id = check(unsafe { libc::shmget(key, 0, 0) }.into()).call(|| format!("shmget({key:#x}, 0, 0)"))?;
    let id = id as libc::c_int;
    let length = status(id)?.shm_segsz.min(MOST);
    let start = attach(id, libc::SHM_RDONLY)?;
    let mut content = vec![0; length];
    // SAFETY: the segment has `length` bytes or more and stays attached; the two do not overlap. Others may write to
    // it meanwhile, whereupon the copy is some mixture of bytes.
    unsafe { std::ptr::copy_nonoverlapping(start, content.as_mut_ptr(), length) };
    detach(start);
    Ok(content)
}

fn attach(id: libc::c_int, flags: libc::c_int) -> Result<*mut u8> {
    // SAFETY: the kernel chooses the address, so that no mapping is replaced.
    let start = unsafe { libc::shmat(id, std::ptr::null(), flags) };
    // The address -1 is no address.
    check(start as libc::c_long).call(|| format!("shmat({id}, NULL, {flags:#x})"))?;
    Ok(start.cast())
}

fn detach(start: *mut u8) {
    // SAFETY: `attach` returned this address and nothing borrows from it any more. It cannot fail then.
    unsafe { libc::shmdt(start.cast()) };
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_segment_is_read_while_it_is_there() {
        let key = 0x6200_0000 | std::process::id().cast_signed() & 0x00ff_ffff;
        let segment = Segment::create(key, b"secret").unwrap();
        assert_eq!(read(key).unwrap(), b"secret");
        assert_eq!(Segment::create(key, b"other").unwrap_err().errno(), Errno::EXIST);
        drop(segment);
        assert_eq!(read(key).unwrap_err().errno(), Errno::NOENT);
        let _left = std::mem::ManuallyDrop::new(Segment::create(key, b"left").unwrap());
        remove(key, 5);
        assert_eq!(read(key).unwrap(), b"left", "one of another length is another's");
        remove(key, 4);
        remove(key, 4);
        assert_eq!(read(key).unwrap_err().errno(), Errno::NOENT);
    }
}
