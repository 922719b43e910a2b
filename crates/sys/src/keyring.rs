//! Keys of the user keyring, add_key(2) and keyctl(2): they belong to a user id within a user namespace, and to no other
//! namespace.

use std::ffi::CStr;

use crate::syscall::check;
use crate::{Call, Result};

/// The special names of keyrings, see keyctl(2).
const PROCESS_KEYRING: libc::c_long = -2;
const USER_KEYRING: libc::c_long = -4;

const UNLINK: libc::c_long = 9;
const LINK: libc::c_long = 8;
const SEARCH: libc::c_long = 10;
const READ: libc::c_long = 11;

/// The type of keys that hold whatever a program gives them.
const TYPE: &CStr = c"user";

/// The most that is read of a key, bytes.
const MOST: usize = 4096;

/// Puts a key into the user keyring, in the place of one of the same name.
///
/// # Errors
/// EDQUOT at the user's quota, ENOSYS on a kernel without keyrings.
pub fn add(name: &CStr, payload: &[u8]) -> Result<()> {
    // SAFETY: the strings and the payload are alive, the payload with its true length; the kernel copies them.
    check(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            TYPE.as_ptr(),
            name.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            USER_KEYRING,
        )
    })
    .map(drop)
    .call(|| format!("add_key(\"user\", {name:?}, USER_KEYRING)"))
}

/// Reads a key of the user keyring.
///
/// The process possesses its user's keyring afterwards, until it ends: only who possesses a key may read it.
///
/// # Errors
/// ENOKEY when there is none of this name, EACCES without the right to read it.
pub fn read(name: &CStr) -> Result<Vec<u8>> {
    // SAFETY: LINK takes two serial numbers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, LINK, USER_KEYRING, PROCESS_KEYRING) })
        .call(|| "keyctl(LINK, USER_KEYRING, PROCESS_KEYRING)")?;
    let key = find(name)?;
    let mut payload = vec![0; MOST];
    // SAFETY: the kernel writes at most `payload.len()` bytes into the live buffer.
    let length =
        check(unsafe { libc::syscall(libc::SYS_keyctl, READ, key, payload.as_mut_ptr(), payload.len()) })
            .call(|| format!("keyctl(READ, {key})"))?;
    // It is the key's whole length, which may be more than was asked for.
    payload.truncate(usize::try_from(length).unwrap_or(0));
    Ok(payload)
}

/// Takes a key out of the user keyring.
///
/// # Errors
/// As [`read`].
pub fn remove(name: &CStr) -> Result<()> {
    let key = find(name)?;
    // SAFETY: UNLINK takes two serial numbers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, UNLINK, key, USER_KEYRING) })
        .map(drop)
        .call(|| format!("keyctl(UNLINK, {key}, USER_KEYRING)"))
}

fn find(name: &CStr) -> Result<libc::c_long> {
    // SAFETY: both strings are alive, and the kernel copies them.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, SEARCH, USER_KEYRING, TYPE.as_ptr(), name.as_ptr(), 0 as libc::c_long)
    })
    .call(|| format!("keyctl(SEARCH, USER_KEYRING, \"user\", {name:?})"))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_key_is_read_until_it_is_removed() {
        let name = CString::new(format!("bulkhead-test-{}", std::process::id())).unwrap();
        if let Err(error) = add(&name, b"secret") {
            // Containers often forbid keyrings.
            assert!(matches!(error.errno(), Errno::NOSYS | Errno::PERM), "{error}");
            return;
        }
        let payload = read(&name);
        remove(&name).unwrap();
        assert_eq!(payload.unwrap(), b"secret");
        assert_eq!(read(&name).unwrap_err().errno(), Errno::NOKEY);
    }
}
