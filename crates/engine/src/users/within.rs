//! Runtimes of others for an ordinary user: in a user namespace with the container's users, as whose root they may mount its layers and
//! its file systems, and make its processes.
//!
//! Every call of such a runtime goes through `bulkhead for-monitor within ID RUNTIME WORDS`, which becomes the runtime when it is there:
//!
//! ```text
//! run                                                      any other verb
//!  │ fork ─► unshare(user) ─ newuidmap, newgidmap           │ what of the container runs has the user namespace; nothing: a new one
//!  │         root there ─► unshare(net) ─► descriptors      │ setns(user)
//!  │ starts what carries the packets, from outside          │ execve: the runtime
//!  │ setns(user, net) ─► unshare(mnt) ─► overlay
//!  │ execve: the runtime
//! ```
//! No process holds anything: the namespaces live as long as the container, and go with the runtime if that makes none.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_shim::order::Overlay;
use bulkhead_shim::status::{Process, Status};
use bulkhead_shim::users::{self, Users};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{credentials, net, path, process};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::namespace::{make, users_of_caller};
use crate::configure::Caller;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::{host, root};

/// The word behind `for-monitor`.
pub(crate) const WITHIN: &str = "within";
/// Says how, in the container's directory below `run`.
const FILE: &str = "within.json";
const VERSION: u32 = 1;
/// The verbs by which runtimes are called.
const VERBS: [&str; 10] =
    ["run", "exec", "kill", "delete", "state", "ps", "pause", "resume", "update", "events"];

/// `within.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Within {
    version: u32,
    /// The container's users.
    users: Users,
    /// Its root, if that is made of layers.
    overlay: Option<Overlay>,
    /// The kernel's parameters of a network whose packets a program carries, names with dots and values; nothing where the runtime makes the network,
    /// or takes the host's.
    carried: Option<Vec<(String, String)>>,
    /// Where its monitor writes which process it has.
    status: PathBuf,
}

impl Within {
    pub(crate) fn new(
        users: Users,
        overlay: Option<Overlay>,
        carried: Option<Vec<(String, String)>>,
        status: PathBuf,
    ) -> Self {
        Self { version: VERSION, users, overlay, carried, status }
    }

    /// Writes it for a container that is to start.
    pub(crate) fn write(&self, run_directory: &Path) -> Result<()> {
        let path = run_directory.join(FILE);
        bulkhead_shim::replace::with_json(&path, self).doing(|| format!("write {}", path.display()))
    }

    fn read(run_directory: &Path) -> Result<Option<Self>> {
        let path = run_directory.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.doing(|| format!("read {}", path.display()))?,
        };
        let within: Self = serde_json::from_slice(&text).map_err(|error| Error::Damaged {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        match within.version {
            VERSION => Ok(Some(within)),
            other => Err(Error::Damaged {
                what: path.display().to_string(),
                reason: format!("it has version {other}, and this program knows none but {VERSION}"),
            }),
        }
    }

    /// Finds the process of the container, if one runs.
    fn process(&self) -> Option<Process> {
        let status = Status::read(&self.status).ok().flatten().filter(Status::is_of_this_boot);
        status.and_then(|status| status.process).filter(Process::runs)
    }
}

impl Engine {
    /// Becomes the runtime of a container, called with these words, in the container's user namespace. The process has one thread.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn become_within(&self, id: &str, words: &[&OsStr]) -> Result<()> {
        let Some((program, words)) = words.split_first() else {
            return Err(Error::Invalid { what: WITHIN.into(), reason: "it names no runtime".into() });
        };
        // What the caller passes on is for the runtime, and for nothing that is started before it.
        let passed = Passed::hide()?;
        let within = Within::read(&self.places().container_run(id))?;
        let verb = words.iter().find(|word| VERBS.iter().any(|verb| *word == verb)).copied();
        let There { words, directory, .. } = &for_there(verb, id, words)?;
        make_readable(within.as_ref(), id, words)?;
        match within {
            // Who cleans up is root of such a namespace already, and comes into no other one.
            _ if host::caller() == Caller::Root => {}
            Some(within) if verb == Some(OsStr::new("run")) => self.begin_within(id, &within)?,
            Some(within) => join(&within.users, within.process())?,
            // It was started before this was done, by the runtime as it is.
            None if self.has_process(id) => {}
            None => users_of_caller()?.iter().try_for_each(|users| join(users, None))?,
        }
        passed.show()?;
        let mut command = Command::new(program);
        command.args(words);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let error = command.exec();
        Err(error).doing(|| format!("start the runtime {}", program.display()))
    }

    /// Tells whether something of a container runs.
    fn has_process(&self, id: &str) -> bool {
        let known = self.store.container(id).map_err(Error::from).and_then(|record| self.look(record));
        known.is_ok_and(|known| known.life.process.is_some_and(|process| process.runs()))
    }

    /// Makes all that a start of the container is in.
    fn begin_within(&self, id: &str, within: &Within) -> Result<()> {
        let doing = || "enter the container's user namespace";
        let carried = within.carried.as_deref();
        let (user, network) =
            make(&within.users, || carried.map(make_network).transpose().map(Vec::from_iter))?;
        if let [network, ..] = &*network {
            self.carry_container(id, network, &user)?;
        }
        enter(&user)?;
        for network in &network {
            namespace::join(network.as_fd(), Kind::Network).doing(doing)?;
        }
        namespace::unshare(Kind::Mount).doing(doing)?;
        within.overlay.as_ref().map_or(Ok(()), root::mount_for_runtime)
    }
}

/// Enters the user namespace that what runs of the container was started in, or a new one with the same users.
fn join(users: &Users, process: Option<Process>) -> Result<()> {
    let doing = || "enter the container's user namespace";
    if let Some(process) = process {
        // It may have gone to another user namespace meanwhile; this is its own for good, and belongs to the first.
        let link = format!("/proc/{}/ns/pid", process.pid);
        let opened = path::open_host(Path::new(&link), OFlags::RDONLY);
        // It has had its number since before that was opened.
        if process.runs() {
            let user = namespace::owner(opened.doing(doing)?.as_fd()).doing(doing)?;
            return enter(&user.ok_or(std::io::Error::from(ErrorKind::PermissionDenied)).doing(doing)?);
        }
    }
    enter(&make(users, || Ok(Vec::new()))?.0)
}

/// Becomes root there.
fn enter(user: &OwnedFd) -> Result<()> {
    let doing = || "become root of the container's user namespace";
    namespace::join(user.as_fd(), Kind::User).doing(doing)?;
    credentials::set_gid(0).doing(doing)?;
    credentials::set_uid(0).doing(doing)
}

/// Makes a network namespace with these parameters, in which the process stays.
fn make_network(parameters: &[(String, String)]) -> Result<OwnedFd> {
    let doing = || "make the container's network namespace";
    namespace::unshare(Kind::Network).doing(doing)?;
    net::bring_loopback_up().doing(doing)?;
    for (name, value) in parameters {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(file, value).doing(|| format!("set the kernel parameter {name} to {value}"))?;
    }
    users::opened(Kind::Network).doing(doing)
}

/// How a runtime is called from there.
struct There {
    words: Vec<OsString>,
    /// Its working directory, if that has to be another.
    directory: Option<PathBuf>,
    /// What it inherits.
    _held: Vec<File>,
}

/// Has words name what the runtime can open when it is there: files of a process outside hide from it. What was opened for that is inherited.
/// What stands behind the container's id is for a process in it.
fn for_there(verb: Option<&OsStr>, id: &str, words: &[&OsStr]) -> Result<There> {
    let (mut held, mut directory) = (Vec::new(), None);
    let mut said: Vec<OsString> = Vec::new();
    let own = words.iter().position(|word| *word == id).unwrap_or(words.len());
    for (number, word) in words.iter().enumerate() {
        let option = said.last().and_then(|last| last.to_str()).filter(|_| number < own);
        let is_elsewhere = word.to_str().is_some_and(|word| word.starts_with("/proc/"));
        let is_socket = option == Some("--console-socket");
        let is_file = matches!(option, Some("--log" | "--process"));
        let doing = || format!("open {}", word.display());
        let place = Path::new(word);
        match (is_elsewhere && (is_socket || is_file), is_socket) {
            (false, _) => said.push((*word).to_owned()),
            // A descriptor of the directory would be one more way out for a container, so it is found from where the runtime is: in the bundle
            // beside it, or here.
            (true, true) => {
                let name = place.file_name().unwrap_or_default();
                let below = if verb == Some(OsStr::new("run")) {
                    Path::new("..")
                } else {
                    // Only the name of a descriptor's directory is there to be followed: it has to be its own from there, too.
                    let found = place.parent().unwrap_or(place);
                    directory = Some(fs::read_link(found).doing(doing)?);
                    Path::new(".")
                };
                said.push(below.join(name).into());
            }
            (true, false) => {
                let file = OpenOptions::new().read(true).write(true).open(place).doing(doing)?;
                process::set_close_on_exec(file.as_raw_fd(), false).doing(doing)?;
                said.push(format!("/proc/self/fd/{}", file.as_raw_fd()).into());
                held.push(file);
            }
        }
    }
    Ok(There { words: said, directory, _held: held })
}

/// Makes the file for the number of a process as the user's: where the container's root is another one, a runtime would make one that only that
/// one may read.
fn make_readable(within: Option<&Within>, id: &str, words: &[OsString]) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let root = within.and_then(|within| within.users.on_host(0, 0)).map(|(uid, _)| uid);
    if root.is_none_or(|root| root == own) {
        return Ok(());
    }
    let options = words.iter().take_while(|word| *word != id);
    let Some(path) = options.skip_while(|word| *word != "--pid-file").nth(1) else { return Ok(()) };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .map(drop)
        .doing(|| format!("make {}", path.display()))
}

/// Descriptors that the caller passes on to the runtime.
struct Passed(Vec<i32>);

impl Passed {
    /// Has nothing that is started meanwhile have them.
    fn hide() -> Result<Self> {
        let doing = || "look at the descriptors of the caller";
        let mut passed = Vec::new();
        for entry in fs::read_dir("/proc/self/fd").doing(doing)? {
            let Some(number) = entry.doing(doing)?.file_name().to_str().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if number > 2 && is_passed_on(number) {
                passed.push(number);
            }
        }
        let hidden = Self(passed);
        hidden.mark(true)?;
        Ok(hidden)
    }

    fn show(&self) -> Result<()> {
        self.mark(false)
    }

    fn mark(&self, close: bool) -> Result<()> {
        let marked = self.0.iter().try_for_each(|number| process::set_close_on_exec(*number, close));
        marked.doing(|| "pass descriptors on to the runtime")
    }
}

/// Tells whether a descriptor is open and stays so at execve(2) (`flags` of proc_pid_fdinfo(5)).
fn is_passed_on(number: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_what_is_found_from_there() {
        let file = File::open("/dev/null").unwrap();
        let here = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let socket = "/proc/1/fd/7/console";
        let words = [
            "--root",
            "/states",
            "--log",
            &here,
            "run",
            "--console-socket",
            socket,
            "0123",
            "--log",
            "/proc/1",
        ];
        let words = words.map(OsStr::new);
        let There { words: said, _held: held, .. } =
            for_there(Some(OsStr::new("run")), "0123", &words).unwrap();
        let log = format!("/proc/self/fd/{}", held[0].as_raw_fd());
        let expected = [
            "--root",
            "/states",
            "--log",
            &log,
            "run",
            "--console-socket",
            "../console",
            "0123",
            "--log",
            "/proc/1",
        ];
        assert_eq!(said, expected);
        assert!(is_passed_on(held[0].as_raw_fd()) && !is_passed_on(file.as_raw_fd()));
    }
}
