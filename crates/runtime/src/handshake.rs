//! The conversation between the parent and the container's process while it is set up.
//!
//! One socket that keeps message boundaries; the child speaks, the parent answers. What is in brackets happens only
//! when the plan asks for it.
//!
//! ```text
//!   parent                                          child (clone3)
//!     |                                               |
//!     |<------------------ Born + descriptor -----|      [foreign namespaces, --detach: said by a process in between]
//!     |-- Continue ---------------------------------->|  [systemd: the process is in its scope]
//!     |-- Continue ---------------------------------->|  [user namespace, network devices: the maps are written, the devices there]
//!     |-- Trees + descriptors ------------------------>|  [user namespace: what only the host can open, in parts]
//!     |<---------------------------- Stuck + reasons -----|  [exec: another has to move it into the cgroup]
//!     |-- Continue ---------------------------------->|
//!     |                                               |  namespaces, cgroups, mounts, devices
//!     |<----------------- Unmapped + descriptor -----|      [user namespace: ids of a tree in the container to be mapped]
//!     |-- Continue ---------------------------------->|
//!     |<------------------------------- Prepared -----|  [prestart or createRuntime hooks: they run now]
//!     |-- Continue ---------------------------------->|
//!     |                                               |  createContainer hooks, root, limits
//!     |<------------------- Console + descriptor -----|  [terminal: the pseudo-terminal's master]
//!     |<------------------ Listener + descriptor -----|  [seccomp notification]
//!     |-- Continue ---------------------------------->|  [seccomp notification: the agent has it]
//!     |<---------------------------------- Ready -----|
//!     |-- Continue ---------------------------------->|  the state file names the process from here on
//!     |<------------------------ Failed + reasons -----|  (at any time instead)
//!     |<---------------------------- end of stream ----|  the user's program runs, or the process waits at the gate
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bulkhead_sys::message::{self, MAX_DESCRIPTORS, Message};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::sources::{Place, Trees};
use crate::watch::{Watch, until_readable};

/// Longest message, in bytes: a chain of errors is cut to it.
const LIMIT: usize = 4 * 1024;

/// After how long a silence of the child is looked into.
const SILENCE: Duration = Duration::from_secs(1);

/// What the child says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The mounts exist; the hooks of the creation may run.
    Prepared,
    /// It may not enter the container's cgroup, for these reasons; somebody else may move it there.
    Stuck(Vec<String>),
    /// The master of the container's terminal.
    Console(OwnedFd),
    /// The descriptor on which system calls are notified.
    Listener(OwnedFd),
    /// The container's process exists: its pid and a descriptor of it, from a process in between.
    Born(i32, OwnedFd),
    /// A tree of mounts, from a process in between.
    Made(OwnedFd),
    /// A tree whose ids only the parent can map, with the number of its mount.
    Unmapped(u32, OwnedFd),
    /// Nothing is left but to execute the program.
    Ready,
    /// It cannot go on: the chain of errors, outermost first.
    Failed(Vec<String>),
    /// It executes the program, waits at the gate, or is dead.
    Nothing,
}

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Parent(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub struct Child(OwnedFd);

/// Makes both ends.
///
/// # Errors
/// As socketpair(2).
pub(crate) fn pair() -> Result<(Parent, Child)> {
    let (parent, child) = message::pair().doing(|| "make the socket between parent and container")?;
    Ok((Parent(parent), Child(child)))
}

/// How many failures to wait are borne in a row.
const FAILURES: usize = 100;

/// Waits, in the child, for a message of at most `limit` bytes.
///
/// A shortage of memory is borne: once the child is ready the parent has reported success, and at the gate there is
/// nobody who could be told.
///
/// # Errors
/// As recvmsg(2), when it fails again and again.
pub(crate) fn wait_on(socket: impl AsFd, limit: usize) -> bulkhead_sys::Result<Message> {
    for _ in 0..FAILURES {
        if let Ok(message) = message::receive(&socket, limit) {
            return Ok(message);
        }
    }
    message::receive(&socket, limit)
}

/// Tells whether an error means that nobody is at the other end any more.
pub(crate) fn is_over(error: &Error) -> bool {
    matches!(error, Error::System { source, .. } if matches!(source.errno(), Errno::PIPE | Errno::CONNRESET))
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Parent {
    /// Wraps the other end of a socket that was passed through the gate.
    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for what the child says next, and looks into its silence as often as that lasts for [`SILENCE`].
    ///
    /// # Errors
    /// Those of [`hear`](Self::hear), and of `look`, which end the wait.
    pub(crate) fn hear_patiently(
        &self,
        watch: Option<&Watch>,
        look: impl Fn() -> Result<()>,
    ) -> Result<Said> {
        while !until_readable(&self.0, Some(SILENCE), watch)? {
            look()?;
        }
        self.hear(None)
    }

    /// Waits for what the child says next.
    ///
    /// # Errors
    /// A message that this version does not know, and those of [`until_readable`].
    pub(crate) fn hear(&self, watch: Option<&Watch>) -> Result<Said> {
        if watch.is_some() {
            until_readable(&self.0, None, watch)?;
        }
        let mut message = message::receive(&self.0, LIMIT).doing(|| "listen to the container's process")?;
        let descriptor = message.descriptors.pop();
        match (message.bytes.split_first(), descriptor) {
            (None, _) => Ok(Said::Nothing),
            (Some((b'P', _)), _) => Ok(Said::Prepared),
            (Some((b'R', _)), _) => Ok(Said::Ready),
            (Some((b'C', _)), Some(descriptor)) => Ok(Said::Console(descriptor)),
            (Some((b'L', _)), Some(descriptor)) => Ok(Said::Listener(descriptor)),
            (Some((b'M', _)), Some(descriptor)) => Ok(Said::Made(descriptor)),
            (Some((b'B', pid)), Some(pidfd)) if pid.len() == 4 => {
                Ok(Said::Born(i32::from_ne_bytes([pid[0], pid[1], pid[2], pid[3]]), pidfd))
            }
            (Some((b'U', number)), Some(tree)) if number.len() == 4 => {
                Ok(Said::Unmapped(number_of(number), tree))
            }
            (Some((b'S', text)), _) => Ok(Said::Stuck(decode_chain(text))),
            (Some((b'F', text)), _) => Ok(Said::Failed(decode_chain(text))),
            (Some((tag, _)), _) => {
                Err(Error::Usage(format!("the container's process sent an unknown message {tag}")))
            }
        }
    }

    /// Lets the child go on.
    ///
    /// # Errors
    /// EPIPE when the child is dead.
    pub(crate) fn proceed(&self) -> Result<()> {
        message::send(&self.0, b"c", &[]).doing(|| "let the container's process go on")
    }

    /// Sends all trees that the child borrows, in as many messages as it takes; the last one is not full.
    ///
    /// # Errors
    /// EPIPE when the child is dead.
    pub(crate) fn lend(&self, trees: &Trees) -> Result<()> {
        let end = trees.len().is_multiple_of(MAX_DESCRIPTORS).then_some(&[][..]);
        trees.chunks(MAX_DESCRIPTORS).chain(end).try_for_each(|part| {
            let mut bytes = vec![b't'];
            part.iter().for_each(|(place, _)| bytes.extend_from_slice(&place_number(*place).to_ne_bytes()));
            let descriptors: Vec<_> = part.iter().map(|(_, tree)| tree.as_fd()).collect();
            message::send(&self.0, &bytes, &descriptors).doing(|| "lend mounts to the container's process")
        })
    }
}

/// The number that stands for the root.
const ROOT: u32 = u32::MAX;

fn place_number(place: Place) -> u32 {
    match place {
        Place::Root => ROOT,
        Place::Mount(number) => number,
    }
}

fn number_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(ROOT, |bytes| u32::from_ne_bytes(*bytes))
}

impl Child {
    /// Wraps a socket on which failures are reported, such as the one that `start` passes through the gate.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits until the parent lets it go on.
    ///
    /// # Errors
    /// The parent is dead: whatever it was to record is not recorded.
    pub fn wait(&self) -> Result<()> {
        let message = wait_on(&self.0, LIMIT).doing(|| "wait for the parent")?;
        if message.bytes.is_empty() {
            return Err(Error::Usage("the parent process ended".into()));
        }
        Ok(())
    }

    /// Waits for the trees that the parent lends.
    ///
    /// # Errors
    /// The parent is dead, or has no descriptor for a tree.
    pub(crate) fn borrow_trees(&self) -> Result<Trees> {
        let mut trees = Trees::new();
        loop {
            let Message { bytes, descriptors } = wait_on(&self.0, LIMIT).doing(|| "wait for mounts")?;
            let Some((b't', numbers)) = bytes.split_first() else {
                return Err(Error::Usage("the parent process ended".into()));
            };
            let places: Vec<_> = numbers.chunks_exact(4).map(number_of).collect();
            if places.len() != descriptors.len() {
                return Err(Error::Usage("mounts of the host did not arrive: too many open files".into()));
            }
            let is_last = places.len() < MAX_DESCRIPTORS;
            let named = places.into_iter().map(|number| match number {
                ROOT => Place::Root,
                number => Place::Mount(number),
            });
            trees.extend(named.zip(descriptors));
            if is_last {
                return Ok(trees);
            }
        }
    }

    /// Lets the parent map the ids of a tree, for the mount with this number.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn unmapped(&self, number: u32, tree: BorrowedFd<'_>) -> Result<()> {
        let mut bytes = vec![b'U'];
        bytes.extend_from_slice(&number.to_ne_bytes());
        self.say(&bytes, &[tree])?;
        self.wait()
    }

    /// Says that the mounts exist, and waits.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn prepared(&self) -> Result<()> {
        self.say(b"P", &[])?;
        self.wait()
    }

    /// Says why it may not enter the container's cgroup, and waits until it may go on.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn stuck(&self, chain: &[String]) -> Result<()> {
        self.say(&encode_chain(b'S', chain), &[])?;
        self.wait()
    }

    /// Hands over the master of the terminal.
    ///
    /// # Errors
    /// EPIPE when the parent is dead.
    pub fn console(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.say(b"C", &[master])
    }

    /// Hands over the notification descriptor, and waits until an agent serves it.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn listener(&self, descriptor: BorrowedFd<'_>) -> Result<()> {
        self.say(b"L", &[descriptor])?;
        self.wait()
    }

    /// Says, from a process in between, that the container's process exists.
    ///
    /// # Errors
    /// EPIPE when the parent is dead.
    pub fn born(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let mut bytes = vec![b'B'];
        bytes.extend_from_slice(&pid.to_ne_bytes());
        self.say(&bytes, &[pidfd])
    }

    /// Hands over, from a process in between, a tree of mounts.
    ///
    /// # Errors
    /// EPIPE when the parent is dead.
    pub fn made(&self, tree: BorrowedFd<'_>) -> Result<()> {
        self.say(b"M", &[tree])
    }

    /// Says that nothing is left to do, and waits until it may execute the program.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn ready(&self) -> Result<()> {
        self.say(b"R", &[])?;
        self.wait()
    }

    /// Says why it cannot go on. Nobody is left to hear of a failure of this.
    pub fn failed(&self, chain: &[String]) {
        let _ = message::send(&self.0, &encode_chain(b'F', chain), &[]);
    }

    fn say(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        message::send(self.0.as_fd(), bytes, descriptors).doing(|| "speak to the parent")
    }
}

fn encode_chain(tag: u8, chain: &[String]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(chain.join("\0").as_bytes());
    bytes.truncate(LIMIT);
    bytes
}

fn decode_chain(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).split('\0').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_with_its_chain() {
        let (parent, child) = pair().unwrap();
        child.failed(&["mount proc at /proc".into(), "fsopen(\"proc\"): no such device".into()]);
        match parent.hear(None).unwrap() {
            Said::Failed(chain) => {
                assert_eq!(chain, ["mount proc at /proc", "fsopen(\"proc\"): no such device"]);
            }
            other => panic!("heard {other:?}"),
        }
    }

    #[test]
    fn any_number_of_trees_arrives_at_its_places() {
        for count in [0, 1, 31, 32, 33, 64] {
            let (parent, child) = pair().unwrap();
            let tree = || std::fs::File::open("/dev/null").unwrap().into();
            let mut trees: Trees = (0..count).map(|number| (Place::Mount(number), tree())).collect();
            trees.extend((count > 0).then(|| (Place::Root, tree())).filter(|_| count % 2 == 1));
            parent.lend(&trees).unwrap();
            let places = |trees: &Trees| trees.iter().map(|(place, _)| *place).collect::<Vec<_>>();
            assert_eq!(places(&child.borrow_trees().unwrap()), places(&trees), "{count}");
        }
    }

    #[test]
    fn a_dead_parent_is_an_error_and_a_dead_child_is_silence() {
        let (parent, child) = pair().unwrap();
        drop(parent);
        assert!(child.ready().is_err());
        let (parent, child) = pair().unwrap();
        drop(child);
        assert!(matches!(parent.hear(None).unwrap(), Said::Nothing));
    }
}
