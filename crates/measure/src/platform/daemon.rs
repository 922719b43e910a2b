//! Daemons that make sandboxes for their clients: which of this machine's processes they are.

use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::stats::Failure;

/// What is to be known of a process, by its /proc/PID/stat.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// What the kernel calls it: 15 bytes at most.
    name: String,
}

/// The daemon that is called `name` and listens at `socket`, and the one called `helper` that works for it.
pub(super) fn behind(socket: &Path, name: &str, helper: &str) -> Result<Vec<u32>, Failure> {
    let listener = listener(socket)
        .map_err(|error| Failure(format!("find the daemon that listens at {}: {error}", socket.display())))?;
    chosen(listener, &processes(), name, helper).ok_or_else(|| {
        Failure(format!(
            "no process called {name} is on this machine for who listens at {}",
            socket.display()
        ))
    })
}

/// The process that began to listen there.
fn listener(socket: &Path) -> std::io::Result<u32> {
    // 0 for one in another pid namespace: then it is known by its name alone.
    let peer = bulkhead_sys::message::peer(UnixStream::connect(socket)?).map_err(std::io::Error::other)?;
    u32::try_from(peer).map_err(std::io::Error::other)
}

/// Where another one listens for the daemon, as systemd does, every daemon of that name is meant. A helper that a daemon has not
/// started itself may be anybody's child, but another daemon's.
fn chosen(listener: u32, processes: &[Process], name: &str, helper: &str) -> Option<Vec<u32>> {
    let called = |name: &str| Vec::from_iter(processes.iter().filter(move |process| process.name == name));
    let (all, helpers) = (called(name), called(helper));
    let mut daemons = all.clone();
    if daemons.iter().any(|daemon| daemon.pid == listener) {
        daemons.retain(|daemon| daemon.pid == listener);
    }
    let made = |daemon: &Process, helper: &Process| helper.parent == daemon.pid;
    let lacks = |daemon: &&Process| !helpers.iter().any(|helper| made(daemon, helper));
    let is_wanted = |helper: &&Process| match all.iter().find(|daemon| made(daemon, helper)) {
        Some(maker) => daemons.contains(maker),
        None => daemons.iter().any(&lacks),
    };
    let helpers = helpers.iter().copied().filter(is_wanted);
    (!daemons.is_empty()).then(|| daemons.iter().copied().chain(helpers).map(|process| process.pid).collect())
}

fn processes() -> Vec<Process> {
    let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    let numbered =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let texts = numbered.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    texts.filter_map(|text| process(&text)).collect()
}

/// `PID (NAME) STATE PARENT …`, where the name may hold anything.
fn process(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?;
    Some(Process { pid: pid.parse().ok()?, parent: parent.parse().ok()?, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn of(pid: u32, parent: u32, name: &str) -> Process {
        Process { pid, parent, name: name.to_owned() }
    }

    #[test]
    fn a_daemon_is_told_from_others_of_its_name() {
        let mut all = vec![
            of(1, 0, "systemd"),
            of(10, 1, "dockerd"),
            of(11, 1, "containerd"),
            of(20, 7, "dockerd"),
            of(21, 20, "containerd"),
            of(30, 1, "containerd-shim"),
        ];
        let chosen = |listener: u32, all: &[Process]| chosen(listener, all, "dockerd", "containerd");
        assert_eq!(chosen(20, &all), Some(vec![20, 21]));
        // Another one listens, so that it is not known which of them answers.
        assert_eq!(chosen(1, &all), Some(vec![10, 20, 11, 21]));
        // One that the machine's own helper serves.
        assert_eq!(chosen(10, &all), Some(vec![10, 11]));
        all.retain(|process| process.name != "dockerd");
        assert_eq!(chosen(1, &all), None);
    }

    #[test]
    fn who_listens_is_known() {
        let scratch = bulkhead_testkit::Scratch::new();
        let socket = scratch.path().join("socket");
        let _listening = UnixListener::bind(&socket).unwrap();
        assert_eq!(listener(&socket).unwrap(), std::process::id());
        let own = processes().into_iter().find(|process| process.pid == std::process::id()).unwrap();
        assert_eq!(behind(&socket, &own.name, "no such helper"), Ok(vec![std::process::id()]));
        assert!(behind(&socket, "no such daemon", "x").unwrap_err().0.contains("no process called"));
        assert!(behind(&scratch.path().join("none"), "x", "x").unwrap_err().0.contains("find the daemon"));
        assert_eq!(process("7 (a) b (c)) S 3 7 7 0"), Some(of(7, 3, "a) b (c)")));
    }
}
