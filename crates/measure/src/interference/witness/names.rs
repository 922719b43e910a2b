//! What a witness lays out outside of its directory has names that follow from the measurement's, so that what a killed one
//! left is found.

use std::ffi::CString;

use bulkhead_sys::keyring;

use super::ROOM;
use crate::cgroups;
use crate::hash;

/// What everything is called that is laid out.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) secret_key: CString,
    pub(super) marker_key: CString,
    pub(super) segment: i32,
    pub(super) socket: String,
    pub(super) cgroup: String,
}

impl Names {
    pub(super) fn of(measurement: &str) -> Self {
        let key = |what: &str| CString::new(format!("{measurement}-{what}")).unwrap_or_default();
        // The uppermost byte keeps away from small keys that people choose.
        let hash = hash::of(measurement) as u32;
        Self {
            secret_key: key("secret"),
            marker_key: key("marker"),
            segment: (0x6400_0000 | hash & 0x00ff_ffff).cast_signed(),
            socket: format!("{measurement}-socket"),
            cgroup: format!("{measurement}-escaped"),
        }
    }

    pub(super) fn remove_keys(&self) {
        // Where they could not be made there are none.
        let _ = keyring::remove(&self.secret_key);
        let _ = keyring::remove(&self.marker_key);
    }
}

/// Removes what the measurement of this name laid out outside of its directory and could not take away.
pub(crate) fn sweep(measurement: &str) {
    let names = Names::of(measurement);
    names.remove_keys();
    bulkhead_sys::shared_memory::remove(names.segment, ROOM);
    cgroups::remove_all(&names.cgroup);
}

#[cfg(test)]
mod tests {
    use bulkhead_sys::shared_memory::Segment;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_a_killed_one_left_is_swept_away() {
        let name = format!("bh-swept-{}", std::process::id());
        let names = Names::of(&name);
        let has_keys = keyring::add(&names.secret_key, b"x").is_ok();
        let _left = std::mem::ManuallyDrop::new(Segment::create(names.segment, &[b'x'; ROOM]).unwrap());
        sweep(&name);
        assert_eq!(bulkhead_sys::shared_memory::read(names.segment).unwrap_err().errno(), Errno::NOENT);
        assert!(!has_keys || keyring::read(&names.secret_key).is_err(), "a key is left");
    }
}
