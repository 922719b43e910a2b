//! What whoever wants to get out does first: what others find at /proc and /sys is mounted where nothing is.

use std::path::Path;

use bulkhead_sys::namespace::{self, Kind};
use rustix::mount::{MountFlags, MountPropagationFlags};

/// Where which file system belongs, and what tells that it is there.
const PLACES: [(&str, &str, &str); 2] = [("proc", "/proc", "/proc/self"), ("sysfs", "/sys", "/sys/kernel")];

/// Mounts what is missing, in a mount namespace of its own, so that it goes with this process. A wall may refuse that.
pub(super) fn complete() {
    let missing =
        PLACES.iter().filter(|(_, place, there)| Path::new(place).is_dir() && !Path::new(there).exists());
    let missing = Vec::from_iter(missing);
    if missing.is_empty() || namespace::unshare(Kind::Mount).is_err() {
        return;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    // A root that is no mount cannot be changed as a whole: then whatever is above it stays as it is.
    let _ = rustix::mount::mount_change("/", private);
    for (kind, place, _) in missing {
        let _ = rustix::mount::mount("none", *place, *kind, MountFlags::empty(), None);
    }
}
