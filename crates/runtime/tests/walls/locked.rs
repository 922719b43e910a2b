//! What the host has set for its mounts, seen and attacked from a user namespace that has the rights to mount.

use std::fs;

use bulkhead_testkit::{Bundle, is_root, requires};

use crate::outside::SECRET;
use crate::sandbox;

/// The container's root user is this one on the host.
const FIRST: u32 = 100_000;

/// A read-only mount of the host, with a submount that hides something.
const TREE: &str = "set -e; mkdir -p $D/tree; mount -t tmpfs -o mode=777 tree $D/tree; mkdir $D/tree/sub; \
     cat $D/secret > $D/tree/sub/hidden; mount -t tmpfs -o mode=777 cover $D/tree/sub; \
     mount -o remount,bind,ro,nosuid,nodev $D/tree; exec \"$@\"";

fn may_mount(bundle: Bundle) -> Bundle {
    let maps = [(0, FIRST, 65536)];
    bundle.user_namespace(&maps, &maps).owned_by(FIRST, FIRST).edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_ADMIN".into());
        }
    })
}

/// Needs `sources::Visit`. Seen to fail without it: the volume became writable, and the submount went.
#[test]
fn what_the_host_has_set_for_a_volume_stays_in_a_user_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let directory = sandbox.directory().to_owned();
    fs::write(directory.join("secret"), SECRET).unwrap();
    let prepare = format!("D={}; {TREE}", directory.display());
    let words = ["unshare", "-m", "--propagation", "private", "sh", "-c", prepare.as_str(), "sh"];
    let sandbox = sandbox.through(words);
    for options in [&["rbind"][..], &["rbind", "nosuid", "nodev"], &["rbind", "ro"]] {
        let bundle = may_mount(sandbox.bundle(options[options.len() - 1])).script(
            "for o in rw suid dev rw,suid,dev; do mount -o remount,bind,$o /v && echo $o is set; done; \
             for o in '' -l -f; do umount $o /v/sub && echo the submount is gone; done; \
             mount --bind /v /mnt && cat /mnt/sub/hidden; cat /v/sub/hidden; touch /v/new && echo written; \
             echo held",
        );
        let bundle = bundle.mount("none", directory.join("tree"), "/v", options);
        sandbox.run(&bundle).output().succeeds().prints("held\n");
    }
}
