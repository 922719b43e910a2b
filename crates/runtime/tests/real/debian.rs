//! Containers made of the cached Debian.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bulkhead_runtime::plan::OVERLAY_ANNOTATION;
use bulkhead_testkit::{Bundle, Sandbox};
use serde_json::json;

/// Why tests skip themselves without it.
pub(crate) const MISSING: &str = "no Debian in the cache: `cargo xtask debian` makes it";

/// The cached tree.
pub(crate) struct Debian {
    root: PathBuf,
}

impl Debian {
    /// Looks for it where `cargo xtask` puts it.
    pub(crate) fn find() -> Option<Debian> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = absolute("BULKHEAD_CACHE")
            .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("bulkhead")))
            .or_else(|| Some(absolute("HOME")?.join(".cache/bulkhead")))?;
        let root = cache.join("debian/rootfs");
        // Trees of older recipes lack it.
        root.join("srv/packages/Packages").is_file().then_some(Debian { root })
    }

    /// Makes a bundle whose root is a throw-away layer over the tree, with the default filter of system calls.
    ///
    /// A second container of the bundle finds what the first has written.
    pub(crate) fn bundle(&self, sandbox: &Sandbox, short: &str) -> Bundle {
        let bundle = sandbox.bundle(short);
        let [upper, work] = ["upper", "work"].map(|layer| bundle.directory().join(layer));
        for layer in [&upper, &work] {
            fs::create_dir(layer).unwrap();
            fs::set_permissions(layer, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let overlay = json!({ "lower": [self.root], "upper": upper, "work": work });
        let filter = serde_json::to_value(bulkhead_seccomp::default_profile()).unwrap();
        bundle
            .annotation(OVERLAY_ANNOTATION, &overlay.to_string())
            .seccomp(filter)
            .env("DEBIAN_FRONTEND=noninteractive")
            .env("LC_ALL=C.UTF-8")
    }

    /// Makes a bundle whose program is a bash script that ends at the first failure.
    pub(crate) fn script(&self, sandbox: &Sandbox, short: &str, script: &str) -> Bundle {
        self.bundle(sandbox, short).args(["bash", "-euo", "pipefail", "-c", script])
    }
}
