//! Files by handles instead of paths: name_to_handle_at(2) and open_by_handle_at(2).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Result};

/// The most bytes of a handle (MAX_HANDLE_SZ).
const MOST: usize = 128;

/// What a file system calls a file, until it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// The file system's own kind of handles.
    pub kind: i32,
    /// At most 128 bytes.
    pub bytes: Vec<u8>,
}

/// `struct file_handle` with room for any.
#[repr(C)]
struct Raw {
    length: u32,
    kind: i32,
    bytes: [u8; MOST],
}

/// Asks for the handle of the file at `path`, which is not followed.
///
/// # Errors
/// EOPNOTSUPP on a file system without handles.
pub fn of(path: &Path) -> Result<Handle> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Errno::INVAL)
        .call(|| format!("name_to_handle_at({path:?})"))?;
    let mut raw = Raw { length: MOST as u32, kind: 0, bytes: [0; MOST] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the kernel reads the live string and writes into the live variables, no more bytes than `length` says.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            0,
        )
    })
    .call(|| format!("name_to_handle_at(AT_FDCWD, {path:?})"))?;
    let length = usize::try_from(raw.length).unwrap_or(MOST).min(MOST);
    Ok(Handle { kind: raw.kind, bytes: raw.bytes[..length].to_vec() })
}

/// Opens, for reading, the file of the file system of `mount` that has this handle, whatever lies above it.
///
/// # Errors
/// EPERM without CAP_DAC_READ_SEARCH in the first user namespace, ESTALE when there is no such file.
pub fn open(mount: impl AsFd, handle: &Handle) -> Result<OwnedFd> {
    let call = || format!("open_by_handle_at(mount, {handle:?}, O_RDONLY)");
    let mut raw = Raw { length: handle.bytes.len() as u32, kind: handle.kind, bytes: [0; MOST] };
    let room = raw.bytes.get_mut(..handle.bytes.len()).ok_or(Errno::INVAL).call(call)?;
    room.copy_from_slice(&handle.bytes);
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let mount = mount.as_fd().as_raw_fd();
    // SAFETY: the kernel reads as many bytes of the live structure as its length says.
    let returned = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, &raw mut raw, flags) };
    let descriptor = check(returned).call(call)?;
    // SAFETY: the call returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_file_is_found_by_its_handle() {
        let program = std::env::current_exe().unwrap();
        match of(&program).and_then(|handle| open(File::open(&program).unwrap(), &handle)) {
            Ok(file) => {
                use std::os::unix::fs::MetadataExt as _;
                let (one, other) = (File::from(file).metadata().unwrap(), program.metadata().unwrap());
                assert_eq!((one.dev(), one.ino()), (other.dev(), other.ino()));
            }
            Err(error) => assert!(matches!(error.errno(), Errno::PERM | Errno::OPNOTSUPP), "{error}"),
        }
    }

    #[test]
    fn a_handle_that_is_too_long_is_refused() {
        let handle = Handle { kind: 1, bytes: vec![0; MOST + 1] };
        assert_eq!(open(File::open("/").unwrap(), &handle).unwrap_err().errno(), Errno::INVAL);
    }
}
