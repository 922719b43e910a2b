//! Programs of plugins: how they are found, called, and understood.
//!
//! A plugin reads its settings from its standard input, is told what to do by its environment, and answers on its standard output,
//! also when it refuses. All three are files, so that nobody waits for a reader, and none is held up by what a plugin leaves behind.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, MemfdFlags, access, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Map, Value, json};

use super::config::{List, is_program};
use super::error::{Code, Doing as _, Ending, Error, Refusal, Result};
use super::key::Key;
use super::lock::last_of;
use super::version::Version;

/// Bytes of an answer at most.
const LARGEST: u64 = 1 << 20;

/// What a plugin is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// ADD.
    Add,
    /// CHECK.
    Check,
    /// DEL.
    Delete,
    /// GC.
    Collect,
    /// STATUS.
    Status,
    /// VERSION.
    Version,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Delete => "DEL",
            Self::Collect => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        })
    }
}

/// Where plugins are, and how they are run.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// Directories, of which the first with a program counts.
    pub(super) path: Vec<PathBuf>,
    /// Where plugins find other programs.
    pub(super) search: OsString,
    /// How long each may take.
    pub(super) limit: Duration,
}

/// What one attachment adds to the environment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) key: &'a Key,
    /// As `IgnoreUnknown=1;K8S_POD_NAME=a`.
    pub(super) arguments: &'a str,
    /// The path of the namespace.
    pub(super) namespace: Option<&'a str>,
}

/// One call of a plugin.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) verb: Verb,
    /// The plugin's type.
    pub(super) plugin: &'a str,
    /// Its program.
    pub(super) program: &'a Path,
    pub(super) settings: &'a Map<String, Value>,
    pub(super) place: Option<Place<'a>>,
}

impl Programs {
    /// Finds the program of a plugin.
    ///
    /// # Errors
    /// [`Error::NoPlugin`].
    pub(super) fn find(&self, network: &str, plugin: &str) -> Result<PathBuf> {
        let is_there = |file: &PathBuf| file.is_file() && access(file, Access::EXEC_OK).is_ok();
        let mut files = self.path.iter().map(|directory| directory.join(plugin));
        let found = if is_program(plugin) { files.find(is_there) } else { None };
        found.ok_or_else(|| Error::NoPlugin {
            network: network.to_owned(),
            plugin: plugin.to_owned(),
            path: self.path.clone(),
        })
    }

    /// Runs a plugin, and returns what it answers. What it complains goes to `complaints`.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Failed`], [`Error::Garbled`].
    pub(super) fn run(&self, call: &Call<'_>, mut complaints: File) -> Result<Vec<u8>> {
        let Call { verb, plugin, program, settings, place } = call;
        let starting = || format!("start the plugin {}", program.display());
        let mut answer = memory("answer").doing(starting)?;
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment(*verb, *place)).current_dir("/").process_group(0);
        let copies = (complaints.try_clone().doing(starting)?, answer.try_clone().doing(starting)?);
        command.stderr(copies.0).stdout(copies.1);
        command.stdin(text_of(settings).doing(starting)?);
        let mut child = command.spawn().doing(starting)?;
        let ended = wait(&mut child, self.limit).doing(|| format!("wait for the plugin {plugin}"))?;
        let (plugin, verb) = ((*plugin).to_owned(), *verb);
        let Some(status) = ended else {
            let output = last_of(&mut complaints);
            return Err(Error::Failed { plugin, verb, ending: Ending::TimedOut(self.limit), output });
        };
        let answered = read(&mut answer).doing(|| format!("read the answer of the plugin {plugin}"))?;
        if status.success() {
            return answered.ok_or_else(|| {
                let reason = format!("it is longer than {LARGEST} bytes");
                Error::Garbled { plugin, verb, reason }
            });
        }
        let output = last_of(&mut complaints);
        let answered = answered.unwrap_or_default();
        match refusal(&answered, &output) {
            Some(refusal) => Err(Error::Refused { plugin, verb, refusal: Box::new(refusal) }),
            None => {
                let answered = String::from_utf8_lossy(&answered);
                let output = if output.is_empty() { answered.trim().to_owned() } else { output };
                Err(Error::Failed { plugin, verb, ending: Ending::Status(status), output })
            }
        }
    }

    /// Asks a plugin which versions of the specification it speaks; those that are known here.
    pub(super) fn versions(&self, plugin: &str, program: &Path) -> Result<Vec<Version>> {
        let settings = Map::from_iter([("cniVersion".to_owned(), json!(Version::NEWEST.as_str()))]);
        let call = Call { verb: Verb::Version, plugin, program, settings: &settings, place: None };
        let complaints = memory("complaints").doing(|| format!("start the plugin {plugin}"))?;
        let answer = self.run(&call, complaints)?;
        let document = object(&answer, plugin, Verb::Version)?;
        let supported = document.get("supportedVersions").and_then(Value::as_array);
        let supported = supported.ok_or_else(|| Error::Garbled {
            plugin: plugin.to_owned(),
            verb: Verb::Version,
            reason: "supportedVersions is no list".to_owned(),
        })?;
        let mut known = Vec::from_iter(supported.iter().filter_map(Value::as_str).filter_map(Version::read));
        known.sort_unstable();
        Ok(known)
    }

    /// Finds all programs of a network, and chooses the newest version that it is written for and all of them speak. Of a network
    /// with a single one that is it, and what a plugin says to it is told to the user.
    pub(super) fn choose(&self, list: &List) -> Result<Version> {
        let found = list.plugins.iter().map(|plugin| Ok((plugin, self.find(&list.name, &plugin.kind)?)));
        let found = found.collect::<Result<Vec<_>>>()?;
        let mut common = list.versions.clone();
        if common.len() > 1 {
            for (plugin, program) in found {
                let spoken = self.versions(&plugin.kind, &program)?;
                common.retain(|version| spoken.contains(version));
                if common.is_empty() {
                    let (network, plugin) = (list.name.clone(), plugin.kind.clone());
                    return Err(Error::NoVersion { network, plugin, versions: list.versions.clone() });
                }
            }
        }
        Ok(common.last().copied().unwrap_or(Version::V0_1_0))
    }

    /// What the specification asks for, and where plugins find programs of the system.
    fn environment(&self, verb: Verb, place: Option<Place<'_>>) -> Vec<(&'static str, OsString)> {
        let separator = OsStr::new(":");
        let directories = Vec::from_iter(self.path.iter().map(|directory| directory.as_os_str()));
        let mut environment = vec![
            ("PATH", self.search.clone()),
            ("CNI_COMMAND", verb.to_string().into()),
            ("CNI_PATH", directories.join(separator)),
        ];
        if let Some(Place { key, arguments, namespace }) = place {
            environment.push(("CNI_CONTAINERID", key.container().into()));
            environment.push(("CNI_IFNAME", key.interface().into()));
            environment.extend(namespace.map(|path| ("CNI_NETNS", path.into())));
            if !arguments.is_empty() {
                environment.push(("CNI_ARGS", arguments.into()));
            }
        }
        environment
    }
}

/// Reads an answer that is to be an object.
pub(super) fn object(answer: &[u8], plugin: &str, verb: Verb) -> Result<Map<String, Value>> {
    let reason = match serde_json::from_slice(answer) {
        Ok(Value::Object(object)) => return Ok(object),
        _ if answer.trim_ascii().is_empty() => "it is empty".to_owned(),
        Ok(_) => "it is no JSON object".to_owned(),
        Err(error) => format!("it is no JSON: {error}"),
    };
    Err(Error::Garbled { plugin: plugin.to_owned(), verb, reason })
}

/// A path by which a plugin reaches a namespace of which this process has a descriptor, as long as it has that: a number of a
/// process, since plugins start others and hand the path to daemons.
pub(super) fn path_of(namespace: BorrowedFd<'_>) -> String {
    // /proc may be of another pid namespace than ours.
    let own = std::fs::read_link("/proc/self").ok();
    let own = own.and_then(|own| own.to_str()?.parse().ok()).unwrap_or_else(std::process::id);
    format!("/proc/{own}/fd/{}", namespace.as_raw_fd())
}

/// A file that is in memory only.
pub(super) fn memory(name: &str) -> Result<File, Errno> {
    memfd_create(name, MemfdFlags::CLOEXEC).map(File::from)
}

fn text_of(settings: &Map<String, Value>) -> std::io::Result<File> {
    let mut file = memory("settings")?;
    file.write_all(&serde_json::to_vec(settings)?)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Reads an answer; none that is too long.
fn read(answer: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    answer.seek(SeekFrom::Start(0))?;
    answer.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| u64::try_from(bytes.len()).is_ok_and(|length| length <= LARGEST)))
}

/// Waits for a plugin, and kills it with all of its group when its time is over.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    match ends(group, limit) {
        Ok(true) => return child.wait().map(Some),
        ended => {
            // It is the group's first and was not waited for: the number is still its own.
            let _ = kill_process_group(group, Signal::KILL);
            child.wait()?;
            ended?;
        }
    }
    Ok(None)
}

/// Tells whether a process ends within a time.
fn ends(process: Pid, limit: Duration) -> Result<bool, Errno> {
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// Reads why a plugin refuses: an object with a code or a message.
fn refusal(answer: &[u8], output: &str) -> Option<Refusal> {
    let document: Map<String, Value> = serde_json::from_slice(answer).ok()?;
    let text = |name| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = document.get("code").and_then(Value::as_u64);
    let (message, details) = (text("msg"), text("details"));
    if code.is_none() && message.is_empty() {
        return None;
    }
    Some(Refusal { code: Code::of(code.unwrap_or(0)), message, details, output: output.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_all_that_was_said() {
        let read = |text: &str, output| refusal(text.as_bytes(), output).map(|refusal| refusal.to_string());
        let whole = r#"{"cniVersion": "1.0.0", "code": 7, "msg": "too small", "details": "10.0.0.0/31"}"#;
        assert_eq!(read(whole, "").unwrap(), "too small: 10.0.0.0/31 (code 7, invalid configuration)");
        assert_eq!(
            read(r#"{"code": 120}"#, "a\n b\n").unwrap(),
            "it does not say why (code 120); it says: a | b"
        );
        assert_eq!(read(r#"{"msg": "no"}"#, "").unwrap(), "no (code 0)");
        for text in ["", "{}", "[]", "panic: x", r#"{"code": "x"}"#] {
            assert_eq!(read(text, "x"), None, "{text}");
        }
    }
}
