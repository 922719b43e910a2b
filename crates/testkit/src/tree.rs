//! Trees of packages that are not installed, where their programs look for their files.

use std::path::Path;
use std::process::Command;

use crate::fail::OrFail;

/// The directories that are new then are `/etc`, whose files are read from below, `/run`, `/var/lib` and `/var/log`.
const LAY: &str = r#"
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir /var/lib/.etc /var/lib/.work
mount -t overlay -o "lowerdir=$0/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$0/etc:/etc,upperdir=/var/lib/.etc,workdir=/var/lib/.work" overlay /etc
for place in /run /var/log; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
"#;

/// Lays a tree over `/usr` and `/etc`, for the rest of a test that is in a mount namespace of its own: what is written to `/etc`,
/// `/run`, `/var/lib` and `/var/log` goes with that.
///
/// # Panics
/// When it cannot be laid there, as outside of such a namespace.
#[track_caller]
pub fn lay(tree: &Path) {
    // Outside of a fresh namespace it would lie over the machine's own.
    let [own, first] = ["self", "1"].map(|process| std::fs::read_link(format!("/proc/{process}/ns/mnt")));
    let is_own = first.is_err() || first.ok() != own.ok();
    assert!(is_own, "a tree of packages is laid in a mount namespace of the test's own");
    let output = Command::new("sh").args(["-euc", LAY]).arg(tree).output().or_fail("start sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} should be laid over /usr and /etc: {said}", tree.display());
}
