//! The command line: exactly what was typed, with types, and without a look at the machine.
//!
//! One table ([`table`]) makes the parser, the help, the completions and the manual page. Parsing opens no
//! file and asks no kernel, so that it costs nothing at start-up and can be fuzzed.

mod build;
mod completion;
mod error;
mod flag;
mod help;
mod man;
mod scan;
mod table;
mod value;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sys::signal::Signal;

pub use error::Error;
pub use flag::{FirstOperand, Flag, Offer, Operands, Takes, Verb};

use crate::id::ContainerId;
use crate::log::{Echo, Format, Level, escaped};
use crate::pattern::Pattern;
use build::Operated;
use scan::{Typed, scan};
use value::Problem;

/// One call of the program.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What was said before the verb.
    pub global: Global,
    /// What to do.
    pub command: Command,
    /// What the log must say about deprecated flags.
    pub warnings: Vec<&'static str>,
}

/// A command line that was refused, with the global flags, so that the refusal reaches the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// The global flags as far as they made sense.
    pub global: Global,
    /// Why.
    pub error: Error,
    /// How far the reading had come.
    pub stage: Stage,
}

/// What was being read of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Which flags and operands there are.
    Words,
    /// What those of a verb mean.
    Values(&'static str),
}

/// The flags before the verb.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Global {
    /// Where the state of containers is; the default depends on the user.
    pub root: Option<PathBuf>,
    /// Where the log goes instead of stderr.
    pub log: Option<PathBuf>,
    /// How a line of the log looks.
    pub log_format: Format,
    /// What is worth a line.
    pub log_level: Level,
    /// Whether stderr hears of failures, too.
    pub log_echo: Echo,
    /// Whether missing cgroup rights are ignored.
    pub rootless: Rootless,
    /// Who makes cgroups.
    pub cgroup_manager: CgroupManager,
}

/// Whether missing cgroup rights are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rootless {
    /// They are for anybody but root of the initial user namespace.
    #[default]
    Auto,
    /// They are.
    Yes,
    /// They are not.
    No,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    /// The program itself, in the cgroup file system.
    #[default]
    Cgroupfs,
    /// systemd, as units.
    Systemd,
    /// Nobody: the container stays in the caller's cgroups.
    Disabled,
}

/// What to do, with what was said about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make a container.
    Create(CreateOptions),
    /// Let the process of a created container run.
    Start(ContainerId),
    /// Make a container, start it and wait for it.
    Run(RunOptions),
    /// Run another process in a container.
    Exec(ExecOptions),
    /// Send a signal.
    Kill(KillOptions),
    /// Remove a container.
    Delete(DeleteOptions),
    /// Freeze a container.
    Pause(ContainerId),
    /// Thaw a container.
    Resume(ContainerId),
    /// Write a container to images.
    Checkpoint(CheckpointOptions),
    /// Make a container of images.
    Restore(RestoreOptions),
    /// Change limits.
    Update(UpdateOptions),
    /// Print the state of a container.
    State(ContainerId),
    /// List containers.
    List(ListOptions),
    /// List the processes of a container.
    Ps(PsOptions),
    /// Print statistics and events.
    Events(EventsOptions),
    /// Write a config.json.
    Spec(SpecOptions),
    /// Print what the runtime can do.
    Features,
    /// Print a completion script.
    Completion(Shell),
    /// Print the manual page.
    Man,
    /// Print the help of a verb or of the program.
    Help(Topic),
    /// Print the version.
    Version,
}

/// What the help is about.
#[derive(Debug, Clone, Copy)]
pub enum Topic {
    /// The program.
    Program,
    /// One verb.
    Verb(&'static Verb),
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        let name = |topic: &Self| match topic {
            Self::Program => "",
            Self::Verb(verb) => verb.name,
        };
        name(self) == name(other)
    }
}

/// The flags of `create`, and of `run` as far as it creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// The id of the new container.
    pub id: ContainerId,
    /// The bundle, if it is not the current directory.
    pub bundle: Option<PathBuf>,
    /// The configuration, if it is not the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// The socket that receives the terminal.
    pub console_socket: Option<PathBuf>,
    /// The socket that receives a pidfd of the first process.
    pub pidfd_socket: Option<PathBuf>,
    /// The file for the process id.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the container gets beside those of `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// Whether `pivot_root` is replaced by a move.
    pub no_pivot: bool,
    /// Whether the caller's session keyring is kept.
    pub no_new_keyring: bool,
    /// Whether orphans of the container are left to others.
    pub no_subreaper: bool,
}

/// The flags of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// How the container is made.
    pub create: CreateOptions,
    /// Whether the program ends without waiting.
    pub detach: bool,
    /// Whether the container outlives its process.
    pub keep: bool,
}

/// The flags of `exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOptions {
    /// The container.
    pub id: ContainerId,
    /// The process.
    pub process: ExecProcess,
    /// Whether the program ends without waiting.
    pub detach: bool,
    /// The sub-cgroups to run in, each `PATH` or `CONTROLLER[,CONTROLLER...]:PATH`.
    pub cgroups: Vec<String>,
    /// Whether a paused container is accepted.
    pub ignore_paused: bool,
    /// The socket that receives the terminal.
    pub console_socket: Option<PathBuf>,
    /// The socket that receives a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// The file for the process id.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the process gets beside those of `LISTEN_FDS`.
    pub preserve_fds: u32,
}

/// Where `exec` has its process from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecProcess {
    /// A JSON file has all of it; the flags about the process are ignored, as in runc.
    File(PathBuf),
    /// The container's own process with these changes.
    Command(ExecCommand),
}

/// What `exec` changes in the container's own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCommand {
    /// The arguments, at least one.
    pub args: Vec<OsString>,
    /// The working directory in the container.
    pub cwd: Option<PathBuf>,
    /// Variables as `NAME=VALUE`, to be added.
    pub env: Vec<OsString>,
    /// Whether the process gets a terminal; the container's own setting does not count.
    pub tty: bool,
    /// The user.
    pub user: Option<User>,
    /// Groups to be added.
    pub additional_gids: Vec<u32>,
    /// The SELinux label.
    pub process_label: Option<String>,
    /// The AppArmor profile.
    pub apparmor: Option<String>,
    /// Whether `no_new_privs` is set or, by `=false`, not set.
    pub no_new_privs: Option<bool>,
    /// Capabilities to be added.
    pub caps: Vec<String>,
}

/// A user and perhaps a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user, never `u32::MAX`.
    pub uid: u32,
    /// The group, never `u32::MAX`.
    pub gid: Option<u32>,
}

/// What `kill` and `delete` are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// One container.
    One(ContainerId),
    /// Every container whose id matches.
    Matching(Pattern),
}

/// The flags of `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillOptions {
    /// The container, or several.
    pub targets: Targets,
    /// The signal.
    pub signal: Signal,
    /// Whether every process gets it.
    pub all: bool,
}

/// The flags of `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOptions {
    /// The container, or several.
    pub targets: Targets,
    /// Whether it is killed first, and may be missing.
    pub force: bool,
}

/// The flags about images that `checkpoint` and `restore` share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// The directory of the images, if it is not `checkpoint`.
    pub image_path: Option<PathBuf>,
    /// The directory of logs and work files, if it is not that of the images.
    pub work_path: Option<PathBuf>,
    /// Whether there may be TCP connections.
    pub tcp_established: bool,
    /// Whether there may be unix sockets whose other ends are outside.
    pub ext_unix_sk: bool,
    /// Whether the container may be in a session of the host.
    pub shell_job: bool,
    /// Whether locks on files are part of the images.
    pub file_locks: bool,
    /// Whether memory is restored when it is used.
    pub lazy_pages: bool,
    /// Whether memory that later images have is removed from earlier ones.
    pub auto_dedup: bool,
    /// What CRIU does about cgroups: a value of `criu_cg_mode`.
    pub cgroups_mode: u8,
    /// Whether somebody asked for an empty network namespace, which is what there is in any case.
    pub empty_network: bool,
}

/// The flags of `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// The container.
    pub id: ContainerId,
    /// Where the images are and what may be in them.
    pub images: ImageOptions,
    /// Images of an earlier pre-dump, from the directory of these on.
    pub parent_path: Option<PathBuf>,
    /// Whether the container runs on.
    pub leave_running: bool,
    /// Whether TCP connections that are not complete yet are left out.
    pub tcp_skip_in_flight: bool,
    /// Whether files that have no name any more get one.
    pub link_remap: bool,
    /// Whether only memory is written, and the container runs on.
    pub pre_dump: bool,
    /// A descriptor to write to when pages are served.
    pub status_fd: Option<i32>,
    /// Where the memory goes instead of into a file.
    pub page_server: Option<PageServer>,
}

/// Somebody who takes memory pages over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServer {
    /// Host name or address.
    pub address: String,
    /// TCP port, never zero.
    pub port: u16,
}

/// The flags of `restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// How all but the processes is made.
    pub create: CreateOptions,
    /// Where the images are and what may be in them.
    pub images: ImageOptions,
    /// Whether the program ends without waiting.
    pub detach: bool,
    /// The security module's profile instead of that in the images, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// The security module's context of mounts instead of that in the images.
    pub lsm_mount_context: Option<String>,
}

/// The flags of `update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateOptions {
    /// The container.
    pub id: ContainerId,
    /// Where the new limits are.
    pub limits: NewLimits,
    /// The Intel RDT cache schema.
    pub l3_cache_schema: Option<String>,
    /// The Intel RDT memory bandwidth schema.
    pub mem_bw_schema: Option<String>,
}

/// Where `update` has its limits from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewLimits {
    /// JSON on the standard input.
    Stdin,
    /// A JSON file.
    File(PathBuf),
    /// Flags.
    Flags(Box<Limits>),
}

/// The limits that flags of `update` can set; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Relative weight of block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CPU time in a period in microseconds; below zero there is no limit.
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up in microseconds.
    pub cpu_burst: Option<u64>,
    /// Relative weight of the CPU.
    pub cpu_shares: Option<u64>,
    /// Realtime period in microseconds.
    pub cpu_rt_period: Option<u64>,
    /// Realtime CPU time in a period in microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// 1 for `SCHED_IDLE`.
    pub cpu_idle: Option<i64>,
    /// CPUs as a list of ranges.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes as a list of ranges.
    pub cpuset_mems: Option<String>,
    /// Memory in bytes; -1 for no limit.
    pub memory: Option<i64>,
    /// Soft limit of memory in bytes; -1 for no limit.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together in bytes; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// Number of processes; -1 for no limit.
    pub pids: Option<i64>,
}

/// The flags of `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOptions {
    /// The form of the list.
    pub format: ListFormat,
}

/// The form in which `list` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// Columns.
    Table,
    /// A JSON array.
    Json,
    /// Ids, one a line.
    Quiet,
}

/// The flags of `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsOptions {
    /// The container.
    pub id: ContainerId,
    /// The form of the list.
    pub format: PsFormat,
}

/// The form in which `ps` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PsFormat {
    /// Lines of ps(1) when it is called with these arguments, at least one.
    Table(Vec<OsString>),
    /// A JSON array of process ids.
    Json,
}

/// The flags of `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsOptions {
    /// The container.
    pub id: ContainerId,
    /// How much is printed.
    pub output: EventsOutput,
}

/// How much `events` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsOutput {
    /// The statistics once.
    Once,
    /// Statistics at this interval, never zero, and events as they come.
    Stream(Duration),
}

/// The flags of `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecOptions {
    /// Where to write, if not into the current directory.
    pub bundle: Option<PathBuf>,
    /// Whether the container is for an ordinary user.
    pub rootless: bool,
}

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// A [`Rejected`] with the first thing that makes no sense.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Box<Rejected>> {
    let mut arguments = arguments.into_iter();
    let refuse = |global, Refusal { error, stage }| Box::new(Rejected { global, error, stage });
    let early = |error: Error| refuse(Global::default(), error.into());
    let typed = scan(None, &mut arguments).map_err(early)?;
    let global = global(&typed).map_err(early)?;
    match command(&typed, &mut arguments) {
        Ok((command, later)) => {
            let warnings = typed.warnings().into_iter().chain(later).collect();
            Ok(Invocation { global, command, warnings })
        }
        Err(refusal) => Err(refuse(global, refusal)),
    }
}

/// Returns the help of the program or of one verb, for a program that was called by `name`, which may be a path.
pub fn help(topic: Topic, name: Option<&OsStr>) -> String {
    let name = called(name);
    match topic {
        Topic::Program => help::program(name),
        Topic::Verb(verb) => help::verb(name, verb),
    }
}

/// Returns what the program is called by one who used this path of it.
pub fn called(path: Option<&OsStr>) -> &str {
    let name = path.and_then(|path| Path::new(path).file_name()).and_then(OsStr::to_str);
    // A terminal shows it.
    name.filter(|name| name.chars().all(|letter| letter.is_ascii_graphic())).unwrap_or(table::PROGRAM)
}

/// Returns the version as engines read it: the program's on the first line, the specification's below.
pub fn version() -> String {
    format!(
        "{} version {}\nspec: {}\n",
        table::PROGRAM,
        env!("CARGO_PKG_VERSION"),
        bulkhead_spec::OCI_VERSION
    )
}

/// Returns the completion script for a shell.
pub fn completion(shell: Shell) -> String {
    match shell {
        Shell::Bash => completion::bash(),
        Shell::Zsh => completion::zsh(),
        Shell::Fish => completion::fish(),
    }
}

/// Returns the manual page bulkrun(8) in roff.
pub fn man() -> String {
    man::page()
}

fn global(typed: &Typed) -> Result<Global, Error> {
    let root = |value: &OsStr| match value.is_empty() {
        true => Err(Problem("is not a directory".into())),
        false => Ok(PathBuf::from(value)),
    };
    let level = match typed.later(&table::DEBUG, &table::LOG_LEVEL) {
        Some(flag) if flag.long == table::DEBUG.long && typed.switch(&table::DEBUG)? => Level::Debug,
        _ => typed.last(&table::LOG_LEVEL, value::log_level)?.unwrap_or_default(),
    };
    let manager = match typed.later(&table::SYSTEMD_CGROUP, &table::CGROUP_MANAGER) {
        Some(flag) if flag.long == table::SYSTEMD_CGROUP.long && typed.switch(&table::SYSTEMD_CGROUP)? => {
            CgroupManager::Systemd
        }
        _ => typed.last(&table::CGROUP_MANAGER, value::cgroup_manager)?.unwrap_or_default(),
    };
    Ok(Global {
        // An empty root is refused, although other empty values count as absent: it comes from a variable
        // that was meant to be set, and the default is somebody else's state.
        root: typed.all(&table::ROOT, root)?.pop(),
        log: typed.path(&table::LOG),
        log_format: typed.last(&table::LOG_FORMAT, value::log_format)?.unwrap_or_default(),
        log_level: level,
        log_echo: if typed.switch(&table::LOG_ONLY)? { Echo::Nowhere } else { Echo::Stderr },
        rootless: typed.last(&table::ROOTLESS, value::rootless)?.unwrap_or_default(),
        cgroup_manager: manager,
    })
}

type Parsed = (Command, Vec<&'static str>);

/// Why a command line is refused, and how far the reading had come.
struct Refusal {
    error: Error,
    stage: Stage,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, stage: Stage::Words }
    }
}

fn command(global: &Typed, arguments: &mut dyn Iterator<Item = OsString>) -> Result<Parsed, Refusal> {
    if global.switch(&table::VERSION)? {
        return Ok((Command::Version, Vec::new()));
    }
    let Some(word) = global.operands.first().filter(|_| !matches!(global.switch(&table::HELP), Ok(true)))
    else {
        return Ok((Command::Help(Topic::Program), Vec::new()));
    };
    let verb = match find_verb(word) {
        Err(Error::UnknownCommand { name, .. })
            if Iterator::any(&mut &mut *arguments, |word| word == "-h" || word == "--help") =>
        {
            return Err(Error::UnknownTopic(escaped(&name, "")).into());
        }
        found => found?,
    };
    let mut typed = scan(Some(verb), arguments)?;
    if typed.switch(&table::HELP)? {
        return Ok((Command::Help(Topic::Verb(verb)), Vec::new()));
    }
    if verb.operands.ends_flags {
        typed.operands.extend(arguments);
    }
    let command = (verb.build)(&Operated::new(verb, &typed)?)
        .map_err(|error| Refusal { error, stage: Stage::Values(verb.name) })?;
    Ok((command, typed.warnings()))
}

fn find_verb(word: &OsStr) -> Result<&'static Verb, Error> {
    let bytes = word.as_encoded_bytes();
    table::verb(bytes).ok_or_else(|| {
        let name = word.to_string_lossy().into_owned();
        let names = table::VERBS.iter().map(|verb| verb.name);
        Error::UnknownCommand { nearest: error::nearest(&name, names), name }
    })
}
