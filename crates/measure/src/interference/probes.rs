//! What is attempted from inside a sandbox, and what a witness on the host has laid out for it: pure.

/// Which way the host is reached, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Something of it is read.
    Read,
    /// Something of it is changed.
    Change,
}

/// What shows that the host was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// The secret is in what was read.
    Secret,
    /// The secret, which the kernel's log was told, is in what was read.
    Logged,
    /// What was read is the secret's beginning.
    Word,
    /// What was read is what the host reads of its disk.
    Disk,
    /// What was read is what the host reads of its log's records.
    Records,
    /// What was read says that something was counted.
    Count,
    /// The number of the host's own program is in what was read.
    Program,
    /// The host's memory has the marker.
    Memory,
    /// The host's file has the marker.
    File,
    /// The key has the marker.
    Key,
    /// The host's process was ended by the signal.
    Signal,
    /// The host's timer was cancelled.
    Clock,
    /// The kernel wrote its help into its log.
    Help,
    /// The host has the directory.
    Directory,
    /// The kernel told the host of the device.
    Event,
}

/// What is aimed at; what is None could not be laid out.
#[derive(Clone, Debug, Default)]
pub(super) struct Aims {
    /// The witness's process, and where in it the secret lies, and room for a marker.
    pub(super) pid: u32,
    pub(super) secret_at: usize,
    pub(super) marker_at: usize,
    pub(super) secret: String,
    /// A process whose command line holds the secret.
    pub(super) sleeper: u32,
    /// Files of the host: one that holds the secret, one for the marker.
    pub(super) secret_file: String,
    pub(super) marker_file: String,
    /// The first file's handle: kind and hexadecimal digits.
    pub(super) handle: Option<(String, String)>,
    /// Inside: the root of the file system, a name for a node, a directory to mount on.
    pub(super) root: String,
    pub(super) node: String,
    pub(super) place: String,
    /// The device of the host's disk.
    pub(super) disk: Option<(u32, u32)>,
    /// Keys of the user keyring: one that holds the secret, one for the marker.
    pub(super) secret_key: Option<String>,
    pub(super) marker_key: Option<String>,
    /// A segment that holds the secret.
    pub(super) segment: Option<i32>,
    /// Sockets that tell the secret.
    pub(super) socket: Option<String>,
    pub(super) port: Option<u16>,
    /// A directory of the host's cgroups that is not there.
    pub(super) cgroup: Option<String>,
}

/// An attempt.
#[derive(Debug)]
pub(super) struct Probe {
    /// Unique, in the words of the report.
    pub(super) name: &'static str,
    pub(super) way: Way,
    pub(super) sight: Sight,
    /// What `bulkload probe` is told; None when something could not be laid out.
    pub(super) words: fn(&Aims) -> Option<Vec<String>>,
}

/// What is written where something is to be changed.
pub(super) const MARKER: &str = "bulkhead-marker";

/// The device that a sandbox is to tell the host of.
pub(super) const DEVICE: &str = "/devices/virtual/mem/null";

#[expect(clippy::unnecessary_wraps, reason = "in the table stand also words that are not always there")]
fn words<const N: usize>(words: [&str; N]) -> Option<Vec<String>> {
    Some(words.map(str::to_owned).to_vec())
}

/// All attempts.
#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    Probe { name: "memory of another process, read", way: Way::Read, sight: Sight::Secret, words: |aims| words(["memory-read", &aims.pid.to_string(), &address(aims.secret_at), &aims.secret.len().to_string()]) },
    Probe { name: "memory of another process, written", way: Way::Change, sight: Sight::Memory, words: |aims| words(["memory-write", &aims.pid.to_string(), &address(aims.marker_at), MARKER]) },
    Probe { name: "another process, traced", way: Way::Read, sight: Sight::Word, words: |aims| words(["ptrace", &aims.pid.to_string(), &address(aims.secret_at)]) },
    Probe { name: "another process, signalled", way: Way::Change, sight: Sight::Signal, words: |aims| words(["signal", &aims.sleeper.to_string()]) },
    Probe { name: "file of the host, read", way: Way::Read, sight: Sight::Secret, words: |aims| words(["file-read", &aims.secret_file]) },
    Probe { name: "file of the host, written", way: Way::Change, sight: Sight::File, words: |aims| words(["file-write", &aims.marker_file, MARKER]) },
    Probe { name: "file of the host, by its handle", way: Way::Read, sight: Sight::Secret, words: |aims| { let (kind, bytes) = aims.handle.as_ref()?; words(["handle-read", &aims.root, kind, bytes]) } },
    Probe { name: "file of the host, by /proc/1/root", way: Way::Read, sight: Sight::Secret, words: |aims| words(["file-read", &format!("/proc/1/root{}", aims.secret_file)]) },
    Probe { name: "file of the host, by another's /proc/PID/root", way: Way::Read, sight: Sight::Secret, words: |aims| words(["file-read", &format!("/proc/{}/root{}", aims.sleeper, aims.secret_file)]) },
    Probe { name: "disk of the host, by a device node", way: Way::Read, sight: Sight::Disk, words: |aims| { let (major, minor) = aims.disk?; words(["device-read", &aims.node, "block", &major.to_string(), &minor.to_string()]) } },
    Probe { name: "kernel log, by a device node", way: Way::Read, sight: Sight::Records, words: |aims| words(["device-read", &aims.node, "char", "1", "11"]) },
    Probe { name: "kernel log, by syslog(2)", way: Way::Read, sight: Sight::Logged, words: |_| words(["kernel-log"]) },
    Probe { name: "processes of the host, by mounting proc", way: Way::Read, sight: Sight::Secret, words: |aims| words(["mount-read", "proc", "proc", &aims.place, &format!("{}/cmdline", aims.sleeper)]) },
    Probe { name: "key of the same user, read", way: Way::Read, sight: Sight::Secret, words: |aims| words(["keyring-read", aims.secret_key.as_ref()?]) },
    Probe { name: "key of the same user, written", way: Way::Change, sight: Sight::Key, words: |aims| words(["keyring-write", aims.marker_key.as_ref()?, MARKER]) },
    Probe { name: "shared memory of System V, read", way: Way::Read, sight: Sight::Secret, words: |aims| words(["shared-memory", &aims.segment?.to_string()]) },
    Probe { name: "abstract unix socket, heard", way: Way::Read, sight: Sight::Secret, words: |aims| words(["abstract-socket", aims.socket.as_ref()?]) },
    Probe { name: "loopback of the host, heard", way: Way::Read, sight: Sight::Secret, words: |aims| words(["tcp", &format!("127.0.0.1:{}", aims.port?)]) },
    Probe { name: "clock, set", way: Way::Change, sight: Sight::Clock, words: |_| words(["clock"]) },
    Probe { name: "processors, watched by perf", way: Way::Read, sight: Sight::Count, words: |_| words(["perf"]) },
    Probe { name: "BPF programs, listed", way: Way::Read, sight: Sight::Program, words: |_| words(["bpf"]) },
    Probe { name: "magic SysRq, by /proc", way: Way::Change, sight: Sight::Help, words: |_| words(["file-write", "/proc/sysrq-trigger", "h"]) },
    Probe { name: "event of a device, by /sys", way: Way::Change, sight: Sight::Event, words: |_| words(["file-write", &format!("/sys{DEVICE}/uevent"), "change"]) },
    Probe { name: "cgroup beside one's own, made", way: Way::Change, sight: Sight::Directory, words: |aims| words(["directory-make", aims.cgroup.as_ref()?]) },
];

fn address(address: usize) -> String {
    format!("{address:#x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_probe_has_a_name_and_words_of_its_own() {
        let aims = Aims {
            handle: Some(("1".to_owned(), "00".to_owned())),
            disk: Some((8, 0)),
            secret_key: Some("one".to_owned()),
            marker_key: Some("other".to_owned()),
            segment: Some(5),
            socket: Some("socket".to_owned()),
            port: Some(80),
            cgroup: Some("/sys/fs/cgroup/x".to_owned()),
            ..Aims::default()
        };
        let names = BTreeSet::from_iter(PROBES.iter().map(|probe| probe.name));
        let words = BTreeSet::from_iter(PROBES.iter().map(|probe| (probe.words)(&aims).unwrap()));
        assert_eq!((names.len(), words.len()), (PROBES.len(), PROBES.len()));
        let nothing = Aims::default();
        let missing = PROBES.iter().filter(|probe| (probe.words)(&nothing).is_none()).count();
        assert_eq!(missing, 8, "what was not laid out is aimed at");
    }
}
