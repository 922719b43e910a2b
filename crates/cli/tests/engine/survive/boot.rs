//! A machine that boots: a pid namespace with a boot id and a `/run` of its own, over the same disk. It goes down as a power
//! cut does, with everything that runs in it.

use std::cell::RefCell;
use std::fs;

use bulkhead_testkit::{Output, Run, Running, wait_until};

use crate::shop::{IMAGE, Shop};

/// Becomes the first process. What it is called from outside is in the old `/proc`.
const INIT: &str = r#"
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount --bind "$1/boot-id" /proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=700 tmpfs "$1/engine-run"
echo "$pid" >"$1/boot-pid.new"
mv "$1/boot-pid.new" "$1/boot-pid"
exec sleep infinity
"#;

/// A machine over a shop's disk. Dropping it takes the power away.
pub(super) struct Boot<'s> {
    pub(super) shop: &'s Shop,
    init: RefCell<Option<Running>>,
    pid: String,
}

impl<'s> Boot<'s> {
    /// Boots; `number` makes the boot's id.
    pub(super) fn new(shop: &'s Shop, number: usize) -> Self {
        let directory = shop.path("");
        fs::create_dir_all(shop.path("engine-run")).unwrap();
        fs::write(shop.path("boot-id"), format!("00000000-0000-4000-8000-{number:012}\n")).unwrap();
        drop(fs::remove_file(shop.path("boot-pid")));
        let words = [
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
            "sh",
            "-euc",
            INIT,
            "sh",
        ];
        let init = shop.sandbox.command("setpriv").args(words).arg(directory).spawn();
        wait_until("the machine has booted", || shop.path("boot-pid").exists());
        let pid = fs::read_to_string(shop.path("boot-pid")).unwrap().trim().to_owned();
        Self { shop, init: RefCell::new(Some(init)), pid }
    }

    /// Puts a command of the machine together.
    pub(super) fn bulkhead(&self, words: &[&str]) -> Run {
        self.shop.bulkhead_by(self.enter(), words)
    }

    /// Puts any other command of the machine together, of which these are the first words.
    pub(super) fn enter(&self) -> Run {
        self.shop.sandbox.command("nsenter").args(["--target", &self.pid, "--mount", "--pid", "--"])
    }

    /// What a command prints, which succeeds.
    #[track_caller]
    pub(super) fn said(&self, words: &[&str]) -> String {
        self.bulkhead(words).output().succeeds().stdout
    }

    /// `run` with options and a script, in a cgroup of the shop's.
    pub(super) fn run(&self, options: &[&str], script: &str) -> Output {
        let parent = self.shop.parent();
        let verb = ["run", "--cgroup-parent", &parent, "--stop-timeout", "1"];
        self.bulkhead(&[&verb, options, &[IMAGE, "sh", "-c", script]].concat()).output()
    }

    /// Names and states of all containers.
    #[track_caller]
    pub(super) fn states(&self) -> String {
        let told = self.said(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
        let mut lines = Vec::from_iter(told.lines());
        lines.sort_unstable();
        lines.join(", ")
    }
}

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        // Its child, the first process of the namespace, goes with it, and with that all others.
        drop(self.init.take());
        let gone = || {
            fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while gone() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // The kernel's memory of cgroups goes with a machine; here they are the host's.
        for cgroup in self.shop.sandbox.cgroups(&format!("/{}", self.shop.sandbox.name())) {
            for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
                while entry.path().join("cgroup.procs").exists()
                    && fs::remove_dir(entry.path()).is_err()
                    && std::time::Instant::now() < end
                {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
    }
}
