//! The OCI runtime of a container: ours or another one, by the same command line.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bulkhead_shim::limited;

use crate::configure;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::program;
use crate::request::{Ipc, Namespaces, Network, Pid, Request, UserNamespace, Uts};
use crate::start::BUNDLE;

/// The name of our own.
pub(crate) const OURS: &str = "bulkrun";

/// The name of gVisor's.
const GVISOR: &str = "runsc";

/// A runtime, with the directory of its states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runtime {
    program: PathBuf,
    states: PathBuf,
    family: Family,
    /// The words behind which it is called: none, or those that bring it into the container's user namespace.
    within: Vec<String>,
}

/// What is known of a runtime by the name of its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `bulkrun`: it mounts the layers of a root itself, in the container's own mount namespace.
    Ours,
    /// gVisor's `runsc`: a kernel of its own answers the container, whose processes and files the host does not see.
    Gvisor,
    /// Any other, such as runc and crun: namespaces of the host's kernel.
    Other,
}

impl Family {
    /// Names with something behind them, such as `runsc-debug`, are of the family, too.
    fn of(program: &Path) -> Self {
        let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is = |known: &str| {
            name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        if is(OURS) {
            Self::Ours
        } else if is(GVISOR) {
            Self::Gvisor
        } else {
            Self::Other
        }
    }
}

impl Engine {
    /// Returns where a runtime's states are, also of one that is not installed any more.
    pub(crate) fn states_of(&self, wanted: Option<&str>) -> PathBuf {
        let name = wanted.and_then(|wanted| Path::new(wanted).file_name()?.to_str());
        self.places().runtime(name.unwrap_or(OURS))
    }

    /// Returns the bundle of a container, which is there once it was started.
    pub(crate) fn bundle_of(&self, id: &str) -> PathBuf {
        self.places().container_run(id).join(BUNDLE)
    }

    /// Finds the runtime that a request names, by a name or a path; without one ours.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is not installed.
    pub(crate) fn runtime(&self, wanted: Option<&str>) -> Result<Runtime> {
        let program = match wanted {
            None | Some(OURS) => self.own_runtime()?,
            Some(path) if path.contains('/') => PathBuf::from(path),
            Some(name) => program::in_path(name).unwrap_or_default(),
        };
        if wanted.is_some() && !program::is_program(&program) {
            return Err(Error::Invalid {
                what: format!("runtime {:?}", wanted.unwrap_or(OURS)),
                reason: "there is no such program; name one that is in PATH, or its path".into(),
            });
        }
        let name = program.file_name().and_then(OsStr::to_str).unwrap_or(OURS);
        Ok(Runtime {
            states: self.places().runtime(name),
            family: Family::of(&program),
            program,
            within: Vec::new(),
        })
    }
}

impl Runtime {
    /// Tells what is known of it.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Returns it as it is called behind these words.
    pub(crate) fn within(self, words: Vec<String>) -> Self {
        Self { within: words, ..self }
    }

    /// Tells who mounts the layers of a root.
    pub(crate) fn kind(&self) -> configure::Runtime {
        match self.family {
            Family::Ours => configure::Runtime::Ours,
            Family::Other => configure::Runtime::Foreign,
            Family::Gvisor => configure::Runtime::Guest,
        }
    }

    /// Refuses what the runtime would leave out without a word.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the flag.
    pub(crate) fn check(&self, request: &Request) -> Result<()> {
        let shared =
            (self.family == Family::Gvisor).then(|| shared_with_gvisor(&request.namespaces)).flatten();
        let Some(flag) = shared else { return Ok(()) };
        Err(Error::Invalid {
            what: format!("{flag} with the runtime {}", self.program.display()),
            reason:
                "its containers have a kernel of their own, which shares this with nobody; leave it out, or \
                     choose another runtime"
                    .into(),
        })
    }

    /// Returns the words by which a container of this request is run in a cgroup: those of [`Runtime::words`], and what the
    /// runtime must know before all else.
    ///
    /// # Errors
    /// When the runtime does not tell its version.
    pub(crate) fn words_of(&self, request: &Request, cgroups_path: Option<&str>) -> Result<Vec<String>> {
        let mut words = self.words();
        words.extend(by_systemd(cgroups_path).map(str::to_owned));
        if self.family == Family::Gvisor {
            // Its own network stack would take the addresses of the interfaces away from those that it finds: on the
            // host's network from the host.
            let network = match request.namespaces.network {
                Network::Host => "host",
                Network::Networks(_) => "sandbox",
                _ => "none",
            };
            words.push(format!("--network={network}"));
            if self.keeps_changes_to_itself()? {
                words.push("--overlay2=none".to_owned());
            }
        }
        Ok(words)
    }

    /// Tells whether this gVisor keeps what a container writes in a file of its own unless it is told not to: then no
    /// layer has it, and `diff`, `commit` and the next start see nothing. So do those since 2023, which know the option.
    fn keeps_changes_to_itself(&self) -> Result<bool> {
        let mut command = Command::new(&self.program);
        let output = command.arg("--version").stdin(Stdio::null()).output();
        let output = output.doing(|| format!("run {}", self.program.display()))?;
        Ok(gvisor_year(&String::from_utf8_lossy(&output.stdout)).is_none_or(|year| year >= 2023))
    }

    /// Returns the program and the arguments before its verb.
    pub(crate) fn words(&self) -> Vec<String> {
        let own = [
            self.program.to_string_lossy().into_owned(),
            "--root".to_owned(),
            self.states.to_string_lossy().into_owned(),
        ];
        self.within.iter().cloned().chain(own).collect()
    }

    /// Puts a command together, whose verb and arguments are to come.
    pub(crate) fn command(&self) -> Command {
        let mut command = match self.within.split_first() {
            None => Command::new(&self.program),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(&self.program);
                command
            }
        };
        command.arg("--root").arg(&self.states);
        command
    }

    /// Runs a verb on a container that people know by `name`, and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Runtime`] with the runtime's words.
    pub(crate) fn run(&self, verb: &'static str, name: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = self.command();
        command.arg(verb).args(arguments).stdin(Stdio::null());
        let output = command.output().doing(|| format!("run {}", self.program.display()))?;
        checked(verb, name, output)
    }

    /// Ends what the runtime has of a container with this bundle, and takes that away. That it has nothing is no error, whatever words it has
    /// for that: it has nothing if there is no state.
    ///
    /// # Errors
    /// [`Error::Runtime`] when it cannot, or does not within [`limited::REMOVAL`] and the timeouts of its hooks: then something of the container may be left.
    pub(crate) fn delete_by_force(&self, (name, id): (&str, &str), bundle: &Path) -> Result<()> {
        let verb = "delete";
        let mut command = self.command();
        command.arg(verb).args(["--force", id]);
        let deleted = match limited::removal(&mut command, bundle) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                Err(Error::Runtime { verb, name: name.to_owned(), reason: error.to_string() })
            }
            output => checked(verb, name, output.doing(|| format!("run {}", self.program.display()))?),
        };
        match deleted {
            Err(Error::Runtime { .. }) if state(&self.states, id).is_none() => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// As [`Runtime::run`], with something to read on the standard input.
    pub(crate) fn run_with(
        &self,
        verb: &'static str,
        name: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Vec<u8>> {
        let doing = || format!("run {}", self.program.display());
        let mut command = self.command();
        command.arg(verb).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(doing)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read all says why.
            let _ = stdin.write_all(input);
        }
        checked(verb, name, child.wait_with_output().doing(doing)?)
    }
}

/// The option by which any runtime has systemd make a container's cgroup, if its `cgroupsPath` is that of a scope. Without it
/// `SLICE:PREFIX:NAME` is a directory of that name, which ordinary users may not make.
pub(crate) fn by_systemd(cgroups_path: Option<&str>) -> Option<&'static str> {
    let is_scope = |path: &str| !path.starts_with('/') && path.matches(':').count() == 2;
    cgroups_path.is_some_and(is_scope).then_some("--systemd-cgroup")
}

/// Finds the state that a runtime has of a container, if there is one.
pub(crate) fn state(states: &Path, id: &str) -> Option<PathBuf> {
    [id.to_owned(), gvisor_state(id)].map(|name| states.join(name)).into_iter().find(|path| path.exists())
}

/// The container whose state has this name.
pub(crate) fn of_state(name: &str) -> &str {
    name.split_once("_sandbox:").map_or(name, |(id, _)| id)
}

/// The name of the file in which gVisor keeps what it knows of a container that is a sandbox of its own.
fn gvisor_state(id: &str) -> String {
    format!("{id}_sandbox:{id}.state")
}

/// Takes what a runtime printed, or makes an error of what it complained.
pub(crate) fn checked(verb: &'static str, name: &str, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = match said.trim() {
        "" => format!("the runtime ended with {}", output.status),
        said => said.lines().map(message).collect::<Vec<_>>().join("; "),
    };
    Err(Error::Runtime { verb, name: name.to_owned(), reason })
}

/// The flag by which a container is to share what gVisor's cannot.
fn shared_with_gvisor(namespaces: &Namespaces) -> Option<&'static str> {
    let Namespaces { network, ipc, pid, uts, cgroup: _, user } = namespaces;
    let shared = [
        ("--network", matches!(network, Network::Container(_) | Network::Pod)),
        ("--ipc", !matches!(ipc, Ipc::None | Ipc::Private)),
        ("--pid", *pid != Pid::Private),
        ("--uts", *uts != Uts::Private),
        ("--userns", matches!(user, Some(UserNamespace::Container(_)))),
    ];
    shared.into_iter().find_map(|(flag, is_shared)| is_shared.then_some(flag))
}

/// The year of a version such as `runsc version release-20221212.0` or `… 0.0~20240729.0`.
fn gvisor_year(version: &str) -> Option<u32> {
    let line = version.lines().next()?;
    let date = line.split(|letter: char| !letter.is_ascii_digit()).find(|digits| digits.len() == 8)?;
    date.get(..4)?.parse().ok()
}

/// Takes the message from a line of logrus, which some runtimes write to their standard error.
fn message(line: &str) -> String {
    let quoted = line.split_once("msg=").map(|(_, rest)| rest);
    let unquoted = quoted.and_then(|rest| serde_json::from_str::<String>(rest.trim()).ok());
    unquoted.unwrap_or_else(|| line.trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scopes_are_made_by_systemd() {
        assert_eq!(by_systemd(Some("user.slice:bulkhead:0123")), Some("--systemd-cgroup"));
        for path in [None, Some("/bulkhead/0123"), Some("/a:b:c")] {
            assert_eq!(by_systemd(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_family_is_known_by_its_program() {
        for (program, family) in [
            ("/usr/bin/bulkrun", Family::Ours),
            ("/opt/runsc", Family::Gvisor),
            ("runsc-debug", Family::Gvisor),
            ("/usr/sbin/runc", Family::Other),
            ("runscope", Family::Other),
        ] {
            assert_eq!(Family::of(Path::new(program)), family, "{program}");
        }
    }

    #[test]
    fn gvisors_versions_are_dates() {
        assert_eq!(gvisor_year("runsc version release-20221212.0\nspec: 1.0.2\n"), Some(2022));
        assert_eq!(gvisor_year("runsc version 0.0~20240729.0\n"), Some(2024));
        assert_eq!(gvisor_year("runsc version VERSION_MISSING\n"), None);
    }

    #[test]
    fn a_container_that_no_runtime_knows_is_told_from_one_that_none_can_end() {
        let scratch = bulkhead_testkit::Scratch::new();
        let states = scratch.path().to_owned();
        let runtime = Runtime {
            program: "false".into(),
            states: states.clone(),
            family: Family::Other,
            within: Vec::new(),
        };
        runtime.delete_by_force(("web", "0123"), &states).unwrap();
        std::fs::create_dir(states.join("0123")).unwrap();
        let error = runtime.delete_by_force(("web", "0123"), &states).unwrap_err();
        assert!(matches!(error, Error::Runtime { verb: "delete", .. }), "{error:?}");
        let absent = Runtime { program: "/no/such/runtime".into(), ..runtime };
        absent.delete_by_force(("web", "4567"), &states).unwrap_err();
    }

    #[test]
    fn a_runtime_that_hangs_holds_no_command_for_ever() {
        let scratch = bulkhead_testkit::Scratch::new();
        let states = scratch.path().join("states");
        std::fs::create_dir_all(states.join("0123")).unwrap();
        let program = scratch.path().join("hanging");
        // By another process: what this one has open for writing could be busy.
        let write = "printf '#!/bin/sh\\nexec sleep 1000\\n' >\"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").args(["-c", write]).arg(&program).status().unwrap().success());
        let runtime = Runtime { program, states, family: Family::Other, within: Vec::new() };
        let begin = std::time::Instant::now();
        let error = runtime.delete_by_force(("web", "0123"), scratch.path()).unwrap_err().to_string();
        assert!(error.contains("it had not ended after 15 seconds, and was killed"), "{error}");
        assert!(begin.elapsed() < limited::REMOVAL * 2);
    }

    #[test]
    fn states_are_found_by_their_names() {
        let scratch = bulkhead_testkit::Scratch::new();
        let states = scratch.path();
        assert_eq!(state(states, "0123"), None);
        std::fs::create_dir(states.join("0123")).unwrap();
        std::fs::write(states.join("4567_sandbox:4567.state"), "{}").unwrap();
        assert!(state(states, "0123").is_some() && state(states, "4567").is_some());
        assert_eq!((of_state("0123"), of_state("4567_sandbox:4567.state")), ("0123", "4567"));
    }

    #[test]
    fn what_a_kernel_of_its_own_cannot_share_is_refused() {
        let runtime = |program: &str| Runtime {
            program: program.into(),
            states: "/states".into(),
            family: Family::of(Path::new(program)),
            within: Vec::new(),
        };
        let mut request = Request::default();
        request.namespaces.network = Network::Host;
        runtime("runsc").check(&request).unwrap();
        request.namespaces.pid = Pid::Host;
        let error = runtime("runsc").check(&request).unwrap_err().to_string();
        assert!(error.starts_with("--pid with the runtime runsc: "), "{error}");
        runtime("runc").check(&request).unwrap();
    }

    #[test]
    fn the_message_is_what_a_runtime_complains_of() {
        assert_eq!(message("time=\"x\" level=error msg=\"no \\\"a\\\"\""), "no \"a\"");
        assert_eq!(message("error: cannot pause"), "cannot pause");
    }
}
