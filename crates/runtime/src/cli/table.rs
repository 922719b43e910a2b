//! The flag table: the only place that names verbs and flags.

use super::Command;
use super::flag::Offer::{self, Directory, File, Words};
use super::flag::{FirstOperand, Flag, Operands, Verb};

/// Names the program in usage lines, completions and the manual page.
pub(super) const PROGRAM: &str = "bulkrun";

/// Asks any verb, or the program, for its help.
pub(super) const HELP: Flag = Flag::switch("help", "show this help").short('h');

pub(super) const ROOT: Flag =
    Flag::value("root", "DIR", Directory, "where the state of containers is kept (on a tmpfs)");
pub(super) const LOG: Flag = Flag::value("log", "FILE", File, "append the log to FILE instead of stderr");
pub(super) const LOG_FORMAT: Flag =
    Flag::value("log-format", "FORMAT", Words(&["text", "json"]), "text (default) or json");
pub(super) const LOG_LEVEL: Flag = Flag::value(
    "log-level",
    "LEVEL",
    Words(&["error", "warning", "info", "debug"]),
    "error, warning, info (default) or debug",
);
pub(super) const LOG_ONLY: Flag =
    Flag::switch("log-only", "with --log, leave stderr to the container: failures are told in FILE alone");
pub(super) const DEBUG: Flag = Flag::switch("debug", "the same as --log-level debug");
pub(super) const ROOTLESS: Flag = Flag::value(
    "rootless",
    "WHEN",
    Words(&["auto", "true", "false"]),
    "ignore missing cgroup rights: true, false or auto",
);
pub(super) const CGROUP_MANAGER: Flag = Flag::value(
    "cgroup-manager",
    "MANAGER",
    Words(&["cgroupfs", "systemd", "disabled"]),
    "cgroupfs (default), systemd or disabled",
);
pub(super) const SYSTEMD_CGROUP: Flag =
    Flag::switch("systemd-cgroup", "the same as --cgroup-manager systemd");
pub(super) const CRIU: Flag = Flag::value("criu", "FILE", File, "ignored")
    .deprecated("--criu ignored (criu binary from $PATH is used); do not use");
pub(super) const VERSION: Flag = Flag::switch("version", "show the version").short('v');

pub(super) static GLOBAL: &[Flag] = &[
    ROOT,
    LOG,
    LOG_FORMAT,
    LOG_LEVEL,
    LOG_ONLY,
    DEBUG,
    ROOTLESS,
    CGROUP_MANAGER,
    SYSTEMD_CGROUP,
    CRIU,
    VERSION,
];

pub(super) const BUNDLE: Flag =
    Flag::value("bundle", "DIR", Directory, "the bundle (default: the current directory)").short('b');
pub(super) const CONFIG: Flag =
    Flag::value("config", "FILE", File, "read FILE instead of the bundle's config.json").short('f');
pub(super) const CONSOLE_SOCKET: Flag =
    Flag::value("console-socket", "SOCKET", File, "unix socket that receives the terminal");
pub(super) const PIDFD_SOCKET: Flag =
    Flag::value("pidfd-socket", "SOCKET", File, "unix socket that receives a pidfd");
pub(super) const PID_FILE: Flag = Flag::value("pid-file", "FILE", File, "write the process id to FILE");
pub(super) const PRESERVE_FDS: Flag =
    Flag::value("preserve-fds", "N", Offer::Nothing, "pass N more descriptors, 3 to 2+N");
pub(super) const NO_PIVOT: Flag =
    Flag::switch("no-pivot", "no pivot_root: for a root file system on a ramdisk");
pub(super) const NO_NEW_KEYRING: Flag = Flag::switch("no-new-keyring", "keep the caller's session keyring");
pub(super) const DETACH: Flag = Flag::switch("detach", "do not wait for the process").short('d');
pub(super) const KEEP: Flag = Flag::switch("keep", "do not delete the container after its exit");
pub(super) const NO_SUBREAPER: Flag = Flag::switch("no-subreaper", "do not adopt orphans of the container");

pub(super) const IMAGE_PATH: Flag =
    Flag::value("image-path", "DIR", Directory, "the images (default: checkpoint)");
pub(super) const WORK_PATH: Flag =
    Flag::value("work-path", "DIR", Directory, "CRIU's log and work files (default: the images)");
pub(super) const PARENT_PATH: Flag =
    Flag::value("parent-path", "DIR", Directory, "images of an earlier pre-dump, relative");
pub(super) const LEAVE_RUNNING: Flag = Flag::switch("leave-running", "let the container run on");
pub(super) const TCP_ESTABLISHED: Flag = Flag::switch("tcp-established", "allow open TCP connections");
pub(super) const TCP_SKIP_IN_FLIGHT: Flag =
    Flag::switch("tcp-skip-in-flight", "leave out TCP connections not complete yet");
pub(super) const LINK_REMAP: Flag = Flag::switch("link-remap", "give files without a name one");
pub(super) const EXT_UNIX_SK: Flag = Flag::switch("ext-unix-sk", "allow unix sockets to the outside");
pub(super) const SHELL_JOB: Flag = Flag::switch("shell-job", "allow a session and terminal of the host");
pub(super) const LAZY_PAGES: Flag = Flag::switch("lazy-pages", "restore memory only when it is used");
pub(super) const STATUS_FD: Flag =
    Flag::value("status-fd", "N", Offer::Nothing, "get a NUL byte there when pages are served");
pub(super) const PAGE_SERVER: Flag =
    Flag::value("page-server", "ADDRESS:PORT", Offer::Nothing, "send the memory there");
pub(super) const FILE_LOCKS: Flag = Flag::switch("file-locks", "write and restore locks on files");
pub(super) const PRE_DUMP: Flag = Flag::switch("pre-dump", "write the memory only and let all run on");
pub(super) const MANAGE_CGROUPS_MODE: Flag = Flag::value(
    "manage-cgroups-mode",
    "MODE",
    Words(&["soft", "full", "strict", "ignore"]),
    "soft (default), full, strict or ignore",
);
pub(super) const EMPTY_NS: Flag =
    Flag::value("empty-ns", "NAMESPACE", Words(&["network"]), "restore it empty; network always is");
pub(super) const AUTO_DEDUP: Flag = Flag::switch("auto-dedup", "keep each page of memory once");
pub(super) const LSM_PROFILE: Flag =
    Flag::value("lsm-profile", "TYPE:NAME", Offer::Nothing, "another profile than that in the images");
pub(super) const LSM_MOUNT_CONTEXT: Flag =
    Flag::value("lsm-mount-context", "CONTEXT", Offer::Nothing, "another SELinux context of mounts");

pub(super) const PROCESS: Flag =
    Flag::value("process", "FILE", File, "take the whole process from a JSON file").short('p');
pub(super) const CWD: Flag = Flag::value("cwd", "DIR", Offer::Nothing, "working directory in the container");
pub(super) const ENV: Flag =
    Flag::value("env", "NAME=VALUE", Offer::Nothing, "add to the environment; repeatable").short('e');
pub(super) const TTY: Flag = Flag::switch("tty", "allocate a pseudo-terminal").short('t');
pub(super) const USER: Flag =
    Flag::value("user", "UID[:GID]", Offer::Nothing, "user and group, as decimal numbers").short('u');
pub(super) const ADDITIONAL_GIDS: Flag =
    Flag::value("additional-gids", "GID", Offer::Nothing, "add a group; repeatable").short('g');
pub(super) const PROCESS_LABEL: Flag =
    Flag::value("process-label", "LABEL", Offer::Nothing, "SELinux label of the process");
pub(super) const APPARMOR: Flag =
    Flag::value("apparmor", "PROFILE", Offer::Nothing, "AppArmor profile of the process");
pub(super) const NO_NEW_PRIVS: Flag = Flag::switch("no-new-privs", "set no_new_privs for the process");
pub(super) const CAP: Flag =
    Flag::value("cap", "CAP", Offer::Nothing, "add a capability; repeatable").short('c');
pub(super) const CGROUP: Flag = Flag::value(
    "cgroup",
    "[CTRL[,CTRL]:]PATH",
    Offer::Nothing,
    "existing sub-cgroup to run in; repeatable on v1",
);
pub(super) const IGNORE_PAUSED: Flag = Flag::switch("ignore-paused", "allow a paused container");

pub(super) const ALL: Flag = Flag::switch("all", "signal every process of the container").short('a');
pub(super) const REGEX: Flag =
    Flag::switch("regex", "CONTAINER is a regular expression: every one that matches").short('r');
pub(super) const FORCE: Flag =
    Flag::switch("force", "kill the container first; a missing one is no error").short('f');
pub(super) const FORMAT: Flag =
    Flag::value("format", "FORMAT", Words(&["table", "json"]), "table (default) or json").short('f');
pub(super) const QUIET: Flag = Flag::switch("quiet", "print ids only").short('q');

pub(super) const STATS: Flag = Flag::switch("stats", "print the statistics once and end");
pub(super) const INTERVAL: Flag =
    Flag::value("interval", "TIME", Offer::Nothing, "time between statistics, as in 1m30s (default: 5s)");
pub(super) const SPEC_ROOTLESS: Flag = Flag::switch("rootless", "for a container of an ordinary user");

pub(super) const RESOURCES: Flag =
    Flag::value("resources", "FILE", File, "read JSON from FILE, or - for stdin; limits below are ignored")
        .short('r');
pub(super) const BLKIO_WEIGHT: Flag =
    Flag::value("blkio-weight", "N", Offer::Nothing, "relative weight of block I/O, 10 to 1000");
pub(super) const CPU_PERIOD: Flag =
    Flag::value("cpu-period", "USEC", Offer::Nothing, "CFS period; 0 for the system's default");
pub(super) const CPU_QUOTA: Flag =
    Flag::value("cpu-quota", "USEC", Offer::Nothing, "CPU time within a period; -1 for no limit");
pub(super) const CPU_BURST: Flag =
    Flag::value("cpu-burst", "USEC", Offer::Nothing, "CPU time that may be saved up for a burst");
pub(super) const CPU_SHARE: Flag =
    Flag::value("cpu-share", "N", Offer::Nothing, "relative weight against other containers");
pub(super) const CPU_RT_PERIOD: Flag =
    Flag::value("cpu-rt-period", "USEC", Offer::Nothing, "realtime period; 0 for the system's default");
pub(super) const CPU_RT_RUNTIME: Flag =
    Flag::value("cpu-rt-runtime", "USEC", Offer::Nothing, "realtime CPU time within a period");
pub(super) const CPU_IDLE: Flag =
    Flag::value("cpu-idle", "0|1", Offer::Nothing, "1 to run only when nothing else does");
pub(super) const CPUSET_CPUS: Flag =
    Flag::value("cpuset-cpus", "LIST", Offer::Nothing, "CPUs to use, as in 0-3,7");
pub(super) const CPUSET_MEMS: Flag =
    Flag::value("cpuset-mems", "LIST", Offer::Nothing, "memory nodes to use");
pub(super) const MEMORY: Flag =
    Flag::value("memory", "BYTES", Offer::Nothing, "memory limit, as in 512M; -1 for no limit");
pub(super) const MEMORY_RESERVATION: Flag =
    Flag::value("memory-reservation", "BYTES", Offer::Nothing, "soft memory limit");
pub(super) const MEMORY_SWAP: Flag =
    Flag::value("memory-swap", "BYTES", Offer::Nothing, "limit of memory and swap; -1 for no limit");
pub(super) const PIDS_LIMIT: Flag =
    Flag::value("pids-limit", "N", Offer::Nothing, "most processes; -1 for no limit, 0 to leave it");
pub(super) const L3_CACHE_SCHEMA: Flag =
    Flag::value("l3-cache-schema", "TEXT", Offer::Nothing, "Intel RDT cache schema");
pub(super) const MEM_BW_SCHEMA: Flag =
    Flag::value("mem-bw-schema", "TEXT", Offer::Nothing, "Intel RDT memory bandwidth schema");

/// What runc says of both flags for kernel memory.
const KERNEL_MEMORY_IGNORED: &str = "Kernel memory settings are ignored and will be removed";
pub(super) const KERNEL_MEMORY: Flag =
    Flag::value("kernel-memory", "BYTES", Offer::Nothing, "ignored").deprecated(KERNEL_MEMORY_IGNORED);
pub(super) const KERNEL_MEMORY_TCP: Flag =
    Flag::value("kernel-memory-tcp", "BYTES", Offer::Nothing, "ignored").deprecated(KERNEL_MEMORY_IGNORED);

/// One container and nothing else.
const CONTAINER: Operands =
    Operands { usage: "CONTAINER", least: 1, most: 1, ends_flags: false, first: FirstOperand::Container };
/// The id of a container that does not exist yet.
const NEW_CONTAINER: Operands = Operands { first: FirstOperand::Nothing, ..CONTAINER };
/// Nothing at all.
const NONE: Operands =
    Operands { usage: "", least: 0, most: 0, ends_flags: false, first: FirstOperand::Nothing };

/// Finds a verb by its name or another word for it.
pub(super) fn verb(word: &[u8]) -> Option<&'static Verb> {
    let called = |verb: &&Verb| {
        verb.name.as_bytes() == word || verb.aliases.iter().any(|alias| alias.as_bytes() == word)
    };
    VERBS.iter().find(called)
}

/// All verbs, in the order of the help.
pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "create",
        aliases: &[],
        summary: "make a container that waits for start",
        about: "Makes a container from a bundle: a directory with a config.json and, as a rule, a root file \
                system. Its process waits until start is called.",
        operands: NEW_CONTAINER,
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PID_FILE,
            PIDFD_SOCKET,
            PRESERVE_FDS,
            NO_PIVOT,
            NO_NEW_KEYRING,
            NO_SUBREAPER,
        ],
        build: |verb| Ok(Command::Create(verb.create()?)),
    },
    Verb {
        name: "start",
        aliases: &[],
        summary: "let the process of a created container run",
        about: "Executes the process of a container that create made.",
        operands: CONTAINER,
        flags: &[],
        build: |verb| Ok(Command::Start(verb.id()?)),
    },
    Verb {
        name: "run",
        aliases: &[],
        summary: "make a container, run it and wait for it",
        about: "Does create and start, then waits, ends with the process's exit code, or with 128 and the \
                number of the signal that ended it, and deletes the container.",
        operands: NEW_CONTAINER,
        flags: &[
            BUNDLE,
            CONFIG,
            DETACH,
            KEEP,
            CONSOLE_SOCKET,
            PID_FILE,
            PIDFD_SOCKET,
            PRESERVE_FDS,
            NO_PIVOT,
            NO_NEW_KEYRING,
            NO_SUBREAPER,
        ],
        build: |verb| Ok(Command::Run(verb.run()?)),
    },
    Verb {
        name: "exec",
        aliases: &[],
        summary: "run another process in a container",
        about: "Runs COMMAND, or the process of a JSON file, in a running container, and ends with its exit \
                code, or with 255 if it could not be run. What follows CONTAINER belongs to COMMAND.",
        operands: Operands {
            usage: "CONTAINER [--] COMMAND [ARG...]",
            least: 1,
            most: usize::MAX,
            ends_flags: true,
            first: FirstOperand::Container,
        },
        flags: &[
            PROCESS,
            CWD,
            ENV,
            TTY,
            USER,
            ADDITIONAL_GIDS,
            PROCESS_LABEL,
            APPARMOR,
            NO_NEW_PRIVS,
            CAP,
            CGROUP,
            IGNORE_PAUSED,
            DETACH,
            CONSOLE_SOCKET,
            PID_FILE,
            PIDFD_SOCKET,
            PRESERVE_FDS,
        ],
        build: |verb| Ok(Command::Exec(verb.exec()?)),
    },
    Verb {
        name: "kill",
        aliases: &[],
        summary: "send a signal to a container",
        about: "Sends SIGNAL (default: SIGTERM) to the container's first process. A signal is a number or a \
                name, with or without SIG: 9, KILL, SIGRTMIN+3.",
        operands: Operands {
            usage: "CONTAINER [SIGNAL]",
            least: 1,
            most: 2,
            ends_flags: false,
            first: FirstOperand::Container,
        },
        flags: &[ALL, REGEX],
        build: |verb| Ok(Command::Kill(verb.kill()?)),
    },
    Verb {
        name: "delete",
        aliases: &["rm"],
        summary: "remove a stopped container",
        about: "Removes the state, the cgroups and what else is left of a container that has stopped or was \
                never started.",
        operands: CONTAINER,
        flags: &[FORCE, REGEX],
        build: |verb| Ok(Command::Delete(verb.delete()?)),
    },
    Verb {
        name: "pause",
        aliases: &[],
        summary: "freeze all processes of a container",
        about: "Freezes all processes of a container until resume is called.",
        operands: CONTAINER,
        flags: &[],
        build: |verb| Ok(Command::Pause(verb.id()?)),
    },
    Verb {
        name: "resume",
        aliases: &["unpause"],
        summary: "let a paused container go on",
        about: "Thaws all processes of a container that pause froze.",
        operands: CONTAINER,
        flags: &[],
        build: |verb| Ok(Command::Resume(verb.id()?)),
    },
    Verb {
        name: "checkpoint",
        aliases: &[],
        summary: "write a running container to images",
        about: "Has CRIU write the processes of a running container to images, and removes the container unless \
                it is to run on.",
        operands: CONTAINER,
        flags: &[
            IMAGE_PATH,
            WORK_PATH,
            PARENT_PATH,
            LEAVE_RUNNING,
            TCP_ESTABLISHED,
            TCP_SKIP_IN_FLIGHT,
            LINK_REMAP,
            EXT_UNIX_SK,
            SHELL_JOB,
            LAZY_PAGES,
            STATUS_FD,
            PAGE_SERVER,
            FILE_LOCKS,
            PRE_DUMP,
            MANAGE_CGROUPS_MODE,
            EMPTY_NS,
            AUTO_DEDUP,
        ],
        build: |verb| Ok(Command::Checkpoint(verb.checkpoint()?)),
    },
    Verb {
        name: "restore",
        aliases: &[],
        summary: "make a container of images",
        about: "Has CRIU make the processes of a container again of the images that checkpoint wrote, then does \
                as run.",
        operands: NEW_CONTAINER,
        flags: &[
            BUNDLE,
            CONFIG,
            IMAGE_PATH,
            WORK_PATH,
            DETACH,
            CONSOLE_SOCKET,
            PID_FILE,
            PRESERVE_FDS,
            NO_PIVOT,
            NO_SUBREAPER,
            TCP_ESTABLISHED,
            EXT_UNIX_SK,
            SHELL_JOB,
            LAZY_PAGES,
            FILE_LOCKS,
            MANAGE_CGROUPS_MODE,
            EMPTY_NS,
            AUTO_DEDUP,
            LSM_PROFILE,
            LSM_MOUNT_CONTEXT,
        ],
        build: |verb| Ok(Command::Restore(verb.restore()?)),
    },
    Verb {
        name: "update",
        aliases: &[],
        summary: "change the resource limits of a container",
        about: "Changes limits of a container while it runs; what is not given stays as it is. Sizes may end \
                in K, M, G, T or P.",
        operands: CONTAINER,
        flags: &[
            RESOURCES,
            BLKIO_WEIGHT,
            CPU_PERIOD,
            CPU_QUOTA,
            CPU_BURST,
            CPU_SHARE,
            CPU_RT_PERIOD,
            CPU_RT_RUNTIME,
            CPU_IDLE,
            CPUSET_CPUS,
            CPUSET_MEMS,
            MEMORY,
            MEMORY_RESERVATION,
            MEMORY_SWAP,
            KERNEL_MEMORY,
            KERNEL_MEMORY_TCP,
            PIDS_LIMIT,
            L3_CACHE_SCHEMA,
            MEM_BW_SCHEMA,
        ],
        build: |verb| Ok(Command::Update(verb.update()?)),
    },
    Verb {
        name: "state",
        aliases: &[],
        summary: "print the state of a container as JSON",
        about: "Prints the state of a container as JSON.",
        operands: CONTAINER,
        flags: &[],
        build: |verb| Ok(Command::State(verb.id()?)),
    },
    Verb {
        name: "list",
        aliases: &["ls"],
        summary: "list the containers of a state root",
        about: "Lists the containers whose state is under --root.",
        operands: NONE,
        flags: &[FORMAT, QUIET],
        build: |verb| Ok(Command::List(verb.list()?)),
    },
    Verb {
        name: "ps",
        aliases: &[],
        summary: "list the processes of a container",
        about: "Lists the processes of a container with the ids that they have on the host. What follows \
                CONTAINER is given to ps(1) (default: -ef), whose output must have a column PID.",
        operands: Operands {
            usage: "CONTAINER [PS-OPTION...]",
            least: 1,
            most: usize::MAX,
            ends_flags: true,
            first: FirstOperand::Container,
        },
        flags: &[FORMAT],
        build: |verb| Ok(Command::Ps(verb.ps()?)),
    },
    Verb {
        name: "events",
        aliases: &[],
        summary: "print statistics and OOM kills as JSON lines",
        about: "Prints statistics at an interval, and an event for each time the container ran out of memory, \
                as one JSON object a line, until the container stops.",
        operands: CONTAINER,
        flags: &[STATS, INTERVAL],
        build: |verb| Ok(Command::Events(verb.events()?)),
    },
    Verb {
        name: "spec",
        aliases: &[],
        summary: "write a config.json to begin with",
        about: "Writes a config.json that runs sh, as a start for one's own. A file that exists is never \
                overwritten.",
        operands: NONE,
        flags: &[BUNDLE, SPEC_ROOTLESS],
        build: |verb| Ok(Command::Spec(verb.spec()?)),
    },
    Verb {
        name: "features",
        aliases: &[],
        summary: "print what this runtime can do as JSON",
        about: "Prints the features document of the OCI runtime specification.",
        operands: NONE,
        flags: &[],
        build: |_| Ok(Command::Features),
    },
    Verb {
        name: "completion",
        aliases: &[],
        summary: "print a completion script for a shell",
        about: "Prints a script that completes verbs, flags and containers in bash, zsh or fish.",
        operands: Operands {
            usage: "SHELL",
            least: 1,
            most: 1,
            ends_flags: false,
            first: FirstOperand::Shell,
        },
        flags: &[],
        build: |verb| Ok(Command::Completion(verb.shell()?)),
    },
    Verb {
        name: "man",
        aliases: &[],
        summary: "print the manual page",
        about: "Prints the manual page bulkrun(8) in roff.",
        operands: NONE,
        flags: &[],
        build: |_| Ok(Command::Man),
    },
    Verb {
        name: "help",
        aliases: &["h"],
        summary: "show the help of the program or of a verb",
        about: "Shows the help of the program or of a verb.",
        operands: Operands {
            usage: "[COMMAND]",
            least: 0,
            most: 1,
            ends_flags: false,
            first: FirstOperand::Verb,
        },
        flags: &[],
        build: |verb| Ok(Command::Help(verb.topic()?)),
    },
];
