//! One behaviour of the command line, one row.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command as Process, Stdio};

use bulkhead_testkit::skip::report;

use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
}

fn command(line: &str) -> Command {
    parse(words(line)).unwrap_or_else(|rejected| panic!("{line}: {}", rejected.error)).command
}

fn global(line: &str) -> Global {
    parse(words(line)).unwrap_or_else(|rejected| panic!("{line}: {}", rejected.error)).global
}

fn refusal(line: &str) -> String {
    match parse(words(line)) {
        Ok(invocation) => panic!("{line}: accepted as {invocation:?}"),
        Err(rejected) => rejected.error.to_string(),
    }
}

fn id(text: &str) -> ContainerId {
    text.parse().expect("a test uses a good id")
}

#[expect(clippy::unnecessary_wraps, reason = "it keeps rows short")]
fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn made() -> CreateOptions {
    CreateOptions {
        id: id("c"),
        bundle: None,
        config: None,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        preserve_fds: 0,
        no_pivot: false,
        no_new_keyring: false,
        no_subreaper: false,
    }
}

#[test]
fn create_reads_its_flags() {
    let table = [
        ("create c", made()),
        ("create --bundle /b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create --bundle=/b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create -b /b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create -b=/b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create -b/b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create -bundle /b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create -bundle=/b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create c --bundle /b", CreateOptions { bundle: path("/b"), ..made() }),
        ("create -b /a -b /b c", CreateOptions { bundle: path("/b"), ..made() }),
        ("create --bundle= c", made()),
        ("create -b -- c", CreateOptions { bundle: path("--"), ..made() }),
        ("create -b -x c", CreateOptions { bundle: path("-x"), ..made() }),
        ("create --config /f c", CreateOptions { config: path("/f"), ..made() }),
        ("create -f /f c", CreateOptions { config: path("/f"), ..made() }),
        ("create --console-socket /s c", CreateOptions { console_socket: path("/s"), ..made() }),
        ("create --pidfd-socket /s c", CreateOptions { pidfd_socket: path("/s"), ..made() }),
        ("create --pid-file /p c", CreateOptions { pid_file: path("/p"), ..made() }),
        ("create --preserve-fds 2 c", CreateOptions { preserve_fds: 2, ..made() }),
        ("create --no-pivot c", CreateOptions { no_pivot: true, ..made() }),
        ("create --no-pivot=false c", made()),
        ("create --no-pivot --no-pivot=F c", made()),
        ("create --no-new-keyring=1 c", CreateOptions { no_new_keyring: true, ..made() }),
        ("create --no-subreaper c", CreateOptions { no_subreaper: true, ..made() }),
        ("create -- -c", CreateOptions { id: id("-c"), ..made() }),
    ];
    for (line, options) in table {
        assert_eq!(command(line), Command::Create(options), "{line}");
    }
}

#[test]
fn run_adds_two_flags_to_those_of_create() {
    let run = RunOptions { create: made(), detach: false, keep: false };
    let table = [
        ("run c", run.clone()),
        ("run -d c", RunOptions { detach: true, ..run.clone() }),
        ("run --detach c", RunOptions { detach: true, ..run.clone() }),
        ("run c -d", RunOptions { detach: true, ..run.clone() }),
        ("run --keep c", RunOptions { keep: true, ..run.clone() }),
        (
            "run -db /b c",
            RunOptions { create: CreateOptions { bundle: path("/b"), ..made() }, detach: true, ..run },
        ),
    ];
    for (line, options) in table {
        assert_eq!(command(line), Command::Run(options), "{line}");
    }
}

fn changed() -> ExecCommand {
    ExecCommand {
        args: vec!["sh".into()],
        cwd: None,
        env: Vec::new(),
        tty: false,
        user: None,
        additional_gids: Vec::new(),
        process_label: None,
        apparmor: None,
        no_new_privs: None,
        caps: Vec::new(),
    }
}

fn executed() -> ExecOptions {
    ExecOptions {
        id: id("c"),
        process: ExecProcess::Command(changed()),
        detach: false,
        cgroups: Vec::new(),
        ignore_paused: false,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        preserve_fds: 0,
    }
}

#[test]
fn exec_reads_what_is_about_the_process() {
    let args = |line| ExecCommand { args: words(line), ..changed() };
    let user = |uid, gid| Some(User { uid, gid });
    let table = [
        ("exec c sh", changed()),
        ("exec c sh -c --user x", args("sh -c --user x")),
        ("exec c sh -- -t", args("sh -- -t")),
        ("exec c -- sh -t", args("sh -t")),
        ("exec c -- -- x", args("-- x")),
        ("exec -- c sh", changed()),
        ("exec c --help", args("--help")),
        ("exec --cwd /d c sh", ExecCommand { cwd: path("/d"), ..changed() }),
        ("exec -e A=1 --env B=2=3 c sh", ExecCommand { env: words("A=1 B=2=3"), ..changed() }),
        ("exec -eA=1 -e=B= c sh", ExecCommand { env: words("A=1 B="), ..changed() }),
        ("exec -t c sh", ExecCommand { tty: true, ..changed() }),
        ("exec --tty=true c sh", ExecCommand { tty: true, ..changed() }),
        ("exec -u 1 c sh", ExecCommand { user: user(1, None), ..changed() }),
        ("exec -u1:2 c sh", ExecCommand { user: user(1, Some(2)), ..changed() }),
        ("exec --user 1:2 c sh", ExecCommand { user: user(1, Some(2)), ..changed() }),
        ("exec -g 5 --additional-gids 6 c sh", ExecCommand { additional_gids: vec![5, 6], ..changed() }),
        ("exec --process-label l c sh", ExecCommand { process_label: Some("l".into()), ..changed() }),
        ("exec --apparmor p c sh", ExecCommand { apparmor: Some("p".into()), ..changed() }),
        ("exec --no-new-privs c sh", ExecCommand { no_new_privs: Some(true), ..changed() }),
        ("exec --no-new-privs=false c sh", ExecCommand { no_new_privs: Some(false), ..changed() }),
        (
            "exec -c CAP_KILL --cap X c sh",
            ExecCommand { caps: vec!["CAP_KILL".into(), "X".into()], ..changed() },
        ),
    ];
    for (line, process) in table {
        let process = ExecProcess::Command(process);
        assert_eq!(command(line), Command::Exec(ExecOptions { process, ..executed() }), "{line}");
    }
}

#[test]
fn exec_reads_what_is_about_the_call() {
    let file = ExecOptions { process: ExecProcess::File("/p".into()), ..executed() };
    let table = [
        ("exec -p /p c", file.clone()),
        ("exec --process /p --tty --detach c", ExecOptions { detach: true, ..file }),
        ("exec -d c sh", ExecOptions { detach: true, ..executed() }),
        ("exec --ignore-paused c sh", ExecOptions { ignore_paused: true, ..executed() }),
        ("exec --console-socket /s c sh", ExecOptions { console_socket: path("/s"), ..executed() }),
        ("exec --pidfd-socket /s c sh", ExecOptions { pidfd_socket: path("/s"), ..executed() }),
        ("exec --pid-file /p c sh", ExecOptions { pid_file: path("/p"), ..executed() }),
        ("exec --preserve-fds=1 c sh", ExecOptions { preserve_fds: 1, ..executed() }),
        ("exec --cgroup sub c sh", ExecOptions { cgroups: vec!["sub".into()], ..executed() }),
        (
            "exec --cgroup cpu,pids:a --cgroup memory:b c sh",
            ExecOptions { cgroups: vec!["cpu,pids:a".into(), "memory:b".into()], ..executed() },
        ),
    ];
    for (line, options) in table {
        assert_eq!(command(line), Command::Exec(options), "{line}");
    }
}

#[test]
fn the_small_verbs_read_their_flags() {
    let kill = |signal, all| {
        let signal = Signal::from_text(signal).expect("a test uses a good signal");
        Command::Kill(KillOptions { targets: Targets::One(id("c")), signal, all })
    };
    let delete = |force| Command::Delete(DeleteOptions { targets: Targets::One(id("c")), force });
    let matching = |text| Targets::Matching(Pattern::new(text).expect("a test uses a good pattern"));
    let list = |format| Command::List(ListOptions { format });
    let ps = |format| Command::Ps(PsOptions { id: id("c"), format });
    let events = |output| Command::Events(EventsOptions { id: id("c"), output });
    let every = |milliseconds| EventsOutput::Stream(Duration::from_millis(milliseconds));
    let spec = |bundle, rootless| Command::Spec(SpecOptions { bundle, rootless });
    let table = [
        ("start c", Command::Start(id("c"))),
        ("pause c", Command::Pause(id("c"))),
        ("resume c", Command::Resume(id("c"))),
        ("unpause c", Command::Resume(id("c"))),
        ("state c", Command::State(id("c"))),
        ("features", Command::Features),
        ("kill c", kill("15", false)),
        ("kill c 9", kill("9", false)),
        ("kill c KILL", kill("9", false)),
        ("kill c sigusr1", kill("10", false)),
        ("kill c SIGRTMIN+3", kill("37", false)),
        ("kill --all c 9", kill("9", true)),
        ("kill c 9 -a", kill("9", true)),
        (
            "kill -r ^c$ 9",
            Command::Kill(KillOptions { targets: matching("^c$"), signal: Signal::KILL, all: false }),
        ),
        ("delete c", delete(false)),
        ("delete -f --regex c.*", Command::Delete(DeleteOptions { targets: matching("c.*"), force: true })),
        ("delete -f c", delete(true)),
        ("delete c --force", delete(true)),
        ("rm --force c", delete(true)),
        ("list", list(ListFormat::Table)),
        ("ls -f table", list(ListFormat::Table)),
        ("list --format json", list(ListFormat::Json)),
        ("list -f=json", list(ListFormat::Json)),
        ("list -q", list(ListFormat::Quiet)),
        ("list --quiet -f json", list(ListFormat::Quiet)),
        ("ps c", ps(PsFormat::Table(words("-ef")))),
        ("ps -f table c", ps(PsFormat::Table(words("-ef")))),
        ("ps -f json c", ps(PsFormat::Json)),
        ("ps --format=json c aux", ps(PsFormat::Json)),
        ("ps c -f json", ps(PsFormat::Table(words("-f json")))),
        ("ps c -e -o pid,comm", ps(PsFormat::Table(words("-e -o pid,comm")))),
        ("events c", events(every(5000))),
        ("events --interval 100ms c", events(every(100))),
        ("events c --interval=1m30s", events(every(90_000))),
        ("events --stats c", events(EventsOutput::Once)),
        ("events --stats --interval 1s c", events(EventsOutput::Once)),
        ("spec", spec(None, false)),
        ("spec --bundle /b --rootless", spec(path("/b"), true)),
        ("spec -b /b", spec(path("/b"), false)),
        ("completion bash", Command::Completion(Shell::Bash)),
        ("completion zsh", Command::Completion(Shell::Zsh)),
        ("completion fish", Command::Completion(Shell::Fish)),
        ("man", Command::Man),
    ];
    for (line, expected) in table {
        assert_eq!(command(line), expected, "{line}");
    }
}

fn no_images() -> ImageOptions {
    ImageOptions { cgroups_mode: 6, ..ImageOptions::default() }
}

#[test]
fn checkpoint_and_restore_read_their_flags() {
    let plain = CheckpointOptions {
        id: id("c"),
        images: no_images(),
        parent_path: None,
        leave_running: false,
        tcp_skip_in_flight: false,
        link_remap: false,
        pre_dump: false,
        status_fd: None,
        page_server: None,
    };
    let server = |address: &str, port| Some(PageServer { address: address.into(), port });
    let locks = ImageOptions { file_locks: true, cgroups_mode: 5, ..no_images() };
    let places = ImageOptions { image_path: path("/i"), work_path: path("w"), ..no_images() };
    let table = [
        ("checkpoint c", plain.clone()),
        (
            "checkpoint --image-path /i --work-path w c",
            CheckpointOptions { images: places.clone(), ..plain.clone() },
        ),
        (
            "checkpoint --file-locks --manage-cgroups-mode strict c",
            CheckpointOptions { images: locks, ..plain.clone() },
        ),
        (
            "checkpoint --pre-dump --parent-path ../p c",
            CheckpointOptions { pre_dump: true, parent_path: path("../p"), ..plain.clone() },
        ),
        ("checkpoint --status-fd 5 c", CheckpointOptions { status_fd: Some(5), ..plain.clone() }),
        ("checkpoint --status-fd=-1 c", plain.clone()),
        (
            "checkpoint --page-server [::1]:80 c",
            CheckpointOptions { page_server: server("::1", 80), ..plain.clone() },
        ),
        (
            "checkpoint --page-server h:65535 c",
            CheckpointOptions { page_server: server("h", 65535), ..plain },
        ),
    ];
    for (line, options) in table {
        assert_eq!(command(line), Command::Checkpoint(options), "{line}");
    }
    let plain = RestoreOptions {
        create: made(),
        images: no_images(),
        detach: false,
        lsm_profile: None,
        lsm_mount_context: None,
    };
    let table = [
        ("restore c", plain.clone()),
        (
            "restore -d --image-path /i --work-path w c",
            RestoreOptions { detach: true, images: places, ..plain.clone() },
        ),
        (
            "restore -b /b --preserve-fds 2 --no-pivot --no-subreaper c",
            RestoreOptions {
                create: CreateOptions {
                    bundle: path("/b"),
                    preserve_fds: 2,
                    no_pivot: true,
                    no_subreaper: true,
                    ..made()
                },
                ..plain.clone()
            },
        ),
        (
            "restore --lsm-profile apparmor:x c",
            RestoreOptions { lsm_profile: Some("apparmor:x".into()), ..plain },
        ),
    ];
    for (line, options) in table {
        assert_eq!(command(line), Command::Restore(options), "{line}");
    }
}

#[test]
fn update_reads_limits() {
    let none = Limits::default;
    let table = [
        ("update c", none()),
        ("update --blkio-weight 500 c", Limits { blkio_weight: Some(500), ..none() }),
        ("update --blkio-weight 0 c", none()),
        ("update --cpu-period 1 c", Limits { cpu_period: Some(1), ..none() }),
        ("update --cpu-quota -1 c", Limits { cpu_quota: Some(-1), ..none() }),
        ("update --cpu-quota=5000 c", Limits { cpu_quota: Some(5000), ..none() }),
        ("update --cpu-burst 1 c", Limits { cpu_burst: Some(1), ..none() }),
        ("update --cpu-share 1 c", Limits { cpu_shares: Some(1), ..none() }),
        ("update --cpu-rt-period 1 c", Limits { cpu_rt_period: Some(1), ..none() }),
        ("update --cpu-rt-runtime -1 c", Limits { cpu_rt_runtime: Some(-1), ..none() }),
        ("update --cpu-idle 1 c", Limits { cpu_idle: Some(1), ..none() }),
        ("update --cpuset-cpus 0-1 c", Limits { cpuset_cpus: Some("0-1".into()), ..none() }),
        ("update --cpuset-mems 0 c", Limits { cpuset_mems: Some("0".into()), ..none() }),
        ("update --memory 1M c", Limits { memory: Some(1 << 20), ..none() }),
        ("update --memory -1 c", Limits { memory: Some(-1), ..none() }),
        ("update c --memory-reservation 1k", Limits { memory_reservation: Some(1024), ..none() }),
        ("update --memory-swap 2g c", Limits { memory_swap: Some(2 << 30), ..none() }),
        ("update --pids-limit 10 c", Limits { pids: Some(10), ..none() }),
        ("update --pids-limit -1 c", Limits { pids: Some(-1), ..none() }),
        ("update --pids-limit 0 c", none()),
        ("update --memory= c", none()),
        ("update --kernel-memory 1 --kernel-memory-tcp 1 c", none()),
    ];
    for (line, limits) in table {
        let limits = NewLimits::Flags(Box::new(limits));
        let expected = UpdateOptions { id: id("c"), limits, l3_cache_schema: None, mem_bw_schema: None };
        assert_eq!(command(line), Command::Update(expected), "{line}");
    }
}

#[test]
fn update_reads_where_a_document_is() {
    let update =
        UpdateOptions { id: id("c"), limits: NewLimits::Stdin, l3_cache_schema: None, mem_bw_schema: None };
    let table = [
        ("update -r - c", update.clone()),
        ("update --resources=- c", update.clone()),
        ("update c -r /f", UpdateOptions { limits: NewLimits::File("/f".into()), ..update.clone() }),
        ("update -r - --memory nonsense c", update.clone()),
        (
            "update -r - --l3-cache-schema L3:0=f c",
            UpdateOptions { l3_cache_schema: Some("L3:0=f".into()), ..update.clone() },
        ),
        (
            "update -r - --mem-bw-schema MB:0=7 c",
            UpdateOptions { mem_bw_schema: Some("MB:0=7".into()), ..update },
        ),
    ];
    for (line, options) in table {
        assert_eq!(command(line), Command::Update(options), "{line}");
    }
}

#[test]
fn global_flags_come_first() {
    let plain = Global::default;
    let table = [
        ("list", plain()),
        ("--root /r list", Global { root: path("/r"), ..plain() }),
        ("--root=/r list", Global { root: path("/r"), ..plain() }),
        ("-root /r list", Global { root: path("/r"), ..plain() }),
        ("--log /l list", Global { log: path("/l"), ..plain() }),
        ("--log= list", plain()),
        ("--log-format json list", Global { log_format: Format::Json, ..plain() }),
        ("--log-format text list", plain()),
        ("--log-level error list", Global { log_level: Level::Error, ..plain() }),
        ("--log-level warn list", Global { log_level: Level::Warning, ..plain() }),
        ("--log-level warning list", Global { log_level: Level::Warning, ..plain() }),
        ("--log-level debug list", Global { log_level: Level::Debug, ..plain() }),
        ("--log-only --log /l list", Global { log: path("/l"), log_echo: Echo::Nowhere, ..plain() }),
        ("--debug list", Global { log_level: Level::Debug, ..plain() }),
        ("--debug=false list", plain()),
        ("--debug --log-level error list", Global { log_level: Level::Error, ..plain() }),
        ("--log-level error --debug list", Global { log_level: Level::Debug, ..plain() }),
        ("--rootless true list", Global { rootless: Rootless::Yes, ..plain() }),
        ("--rootless 0 list", Global { rootless: Rootless::No, ..plain() }),
        ("--rootless AUTO list", plain()),
        ("--systemd-cgroup list", Global { cgroup_manager: CgroupManager::Systemd, ..plain() }),
        ("--cgroup-manager systemd list", Global { cgroup_manager: CgroupManager::Systemd, ..plain() }),
        ("--cgroup-manager disabled list", Global { cgroup_manager: CgroupManager::Disabled, ..plain() }),
        ("--systemd-cgroup --cgroup-manager cgroupfs list", plain()),
        ("--systemd-cgroup=false list", plain()),
        ("--criu /x list", plain()),
    ];
    for (line, expected) in table {
        assert_eq!(global(line), expected, "{line}");
    }
}

#[test]
fn what_crun_and_containerd_type_is_understood() {
    let run = command("--cgroup-manager cgroupfs --root /r run --config /f -b /b c");
    let create = CreateOptions { config: path("/f"), bundle: path("/b"), ..made() };
    assert_eq!(run, Command::Run(RunOptions { create, detach: false, keep: false }));
    let line = "--root /run/x --log /l/log.json --log-format json exec --process /p --detach --pid-file /i c";
    let process = ExecProcess::File("/p".into());
    let exec = ExecOptions { process, detach: true, pid_file: path("/i"), ..executed() };
    assert_eq!(command(line), Command::Exec(exec));
}

#[test]
fn help_and_version_win_over_what_is_missing() {
    let topic = |name: &str| Command::Help(Topic::Verb(table::verb(name.as_bytes()).expect("a verb")));
    let program = || Command::Help(Topic::Program);
    let table = [
        ("", program()),
        ("--help", program()),
        ("-h", program()),
        ("help", program()),
        ("h", program()),
        ("--debug", program()),
        ("help create", topic("create")),
        ("help ls", topic("list")),
        ("create --help", topic("create")),
        ("create -h", topic("create")),
        ("exec -h c sh", topic("exec")),
        ("kill a b --help", topic("kill")),
        ("--version", Command::Version),
        ("-v", Command::Version),
        ("--version list", Command::Version),
        ("--version=false", program()),
    ];
    for (line, expected) in table {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn deprecated_flags_warn_once() {
    let warnings = |line| parse(words(line)).expect("a good line").warnings;
    assert_eq!(
        warnings("--criu /x state c"),
        ["--criu ignored (criu binary from $PATH is used); do not use"]
    );
    let kernel = "Kernel memory settings are ignored and will be removed";
    assert_eq!(warnings("update --kernel-memory 1 --kernel-memory-tcp 1 c"), [kernel]);
    assert!(warnings("kill --all c 9").is_empty());
}

#[test]
fn a_refusal_names_the_flag_and_what_is_wrong() {
    let long = format!("create {}", "x".repeat(256));
    let table = [
        ("frobnicate", r#"unknown command "frobnicate""#),
        ("craete c", r#"unknown command "craete", did you mean "create"?"#),
        ("--rot /r list", r#"unknown option "--rot", did you mean "--root"?"#),
        ("create --bundel=/b c", r#"create: unknown option "--bundel", did you mean "--bundle"?"#),
        ("create -x c", r#"create: unknown option "-x""#),
        ("run -dx c", r#"run: unknown option "-dx""#),
        ("kill c -9", r#"kill: unknown option "-9""#),
        ("run --root /r c", r#"run: --root is a global option: put it before "run""#),
        ("create --bundle", "--bundle needs a value: --bundle DIR"),
        ("create -b", "--bundle needs a value: --bundle DIR"),
        ("--root", "--root needs a value: --root DIR"),
        ("--root= list", r#"--root: "" is not a directory"#),
        ("create", r#""create" requires exactly 1 argument(s): bulkrun create [OPTIONS] CONTAINER"#),
        ("create a b", r#""create" requires exactly 1 argument(s): bulkrun create [OPTIONS] CONTAINER"#),
        ("list x", r#""list" requires exactly 0 argument(s): bulkrun list [OPTIONS]"#),
        ("kill", r#""kill" requires a minimum of 1 argument(s): bulkrun kill [OPTIONS] CONTAINER [SIGNAL]"#),
        (
            "kill a 9 c",
            r#""kill" requires a maximum of 2 argument(s): bulkrun kill [OPTIONS] CONTAINER [SIGNAL]"#,
        ),
        (
            "exec",
            r#""exec" requires a minimum of 1 argument(s): bulkrun exec [OPTIONS] CONTAINER [--] COMMAND [ARG...]"#,
        ),
        ("exec c", "exec args cannot be empty: give a COMMAND or --process FILE"),
        ("exec c --", "exec args cannot be empty: give a COMMAND or --process FILE"),
        ("exec -p /p c sh", r#"exec: --process FILE already names the command, but "sh" was given too"#),
        ("exec --env A c sh", r#"--env: "A" is not NAME=VALUE"#),
        (
            "exec -u root c sh",
            r#"--user: "root" is not UID or UID:GID, each a decimal number from 0 to 4294967294"#,
        ),
        ("exec -g -5 c sh", r#"--additional-gids: "-5" is not a decimal id from 0 to 4294967294"#),
        ("exec --tty=maybe c sh", r#"--tty: "maybe" is neither true nor false"#),
        ("create --preserve-fds -1 c", r#"--preserve-fds: "-1" is not a number of file descriptors"#),
        ("kill c FOO", r#"SIGNAL: "FOO" is not a signal"#),
        ("kill c 65", r#"SIGNAL: "65" is not a signal"#),
        ("events --interval 0s c", r#"--interval: "0s" is not greater than 0"#),
        (
            "events --interval soon c",
            r#"--interval: "soon" is not a length of time such as 5s, 100ms or 1m30s"#,
        ),
        ("list -f xml", r#"--format: "xml" is neither table nor json"#),
        ("--log-format xml list", r#"--log-format: "xml" is neither text nor json"#),
        ("--log-level loud list", r#"--log-level: "loud" is none of error, warning, info and debug"#),
        ("--rootless perhaps list", r#"--rootless: "perhaps" is none of auto, true and false"#),
        ("--cgroup-manager s list", r#"--cgroup-manager: "s" is none of cgroupfs, systemd and disabled"#),
        ("update --memory lots c", r#"--memory: "lots" is not a size in bytes such as 1048576, 512M or -1"#),
        ("update --blkio-weight 5 c", r#"--blkio-weight: "5" is not a weight from 10 to 1000"#),
        ("update --cpu-idle 2 c", r#"--cpu-idle: "2" is neither 0 nor 1"#),
        (
            "update --cpu-share -1 c",
            r#"--cpu-share: "-1" is not a whole number from 0 to 18446744073709551615"#,
        ),
        ("update --cpu-quota x c", r#"--cpu-quota: "x" is not a whole number of at most 64 bits"#),
        ("completion tcsh", r#"SHELL: "tcsh" is none of bash, zsh and fish"#),
        ("help frobnicate", r#"unknown command "frobnicate""#),
        ("frobnicate --help", "No help topic for 'frobnicate'"),
        ("\u{1b}[2J --help", "No help topic for '\\x1b[2J'"),
        (
            "create ../x",
            r#"invalid container id format: invalid character `/` in the ID "../x"; it has only letters, digits, '_', '+', '-' and '.'"#,
        ),
        (long.as_str(), "invalid container id format: 256 bytes are too long, at most 255 are allowed"),
    ];
    for (line, sentence) in table {
        assert_eq!(refusal(line), sentence, "{line}");
    }
    let empty = parse(["state", ""].map(OsString::from)).unwrap_err();
    assert_eq!(empty.error.to_string(), "container id cannot be empty");
}

#[test]
fn a_refusal_of_checkpoint_or_restore_names_the_flag_and_what_is_wrong() {
    for (line, sentence) in [
        ("checkpoint --page-server 10.0.0.1 c", r#"--page-server: "10.0.0.1" is not ADDRESS:PORT"#),
        ("checkpoint --page-server ::1:80 c", r#"--page-server: "::1:80" is not ADDRESS:PORT"#),
        ("checkpoint --page-server :80 c", r#"--page-server: ":80" is not ADDRESS:PORT"#),
        ("checkpoint --page-server a:0 c", r#"--page-server: "a:0" is not ADDRESS:PORT"#),
        ("checkpoint --status-fd x c", r#"--status-fd: "x" is not the number of a file descriptor"#),
        (
            "restore --manage-cgroups-mode hard c",
            r#"--manage-cgroups-mode: "hard" is none of soft, full, strict and ignore"#,
        ),
        ("restore --empty-ns pid c", r#"--empty-ns: "pid" is not supported: only network is"#),
    ] {
        assert_eq!(refusal(line), sentence, "{line}");
    }
}

#[test]
fn a_refusal_after_the_global_flags_still_knows_the_log() {
    let rejected = parse(words("--log /l --log-format json create")).unwrap_err();
    assert_eq!(rejected.global.log, path("/l"));
    assert_eq!(rejected.global.log_format, Format::Json);
}

#[test]
fn bytes_that_are_no_text_are_kept_in_paths_and_arguments() {
    use std::os::unix::ffi::OsStringExt;

    let odd = OsString::from_vec(b"/\xff".to_vec());
    let line = ["exec".into(), "--cwd".into(), odd.clone(), "c".into(), odd.clone()];
    let Command::Exec(exec) = parse(line).expect("paths may have any bytes").command else { panic!("exec") };
    let process = ExecCommand { args: vec![odd.clone()], cwd: Some(odd.clone().into()), ..changed() };
    assert_eq!(exec.process, ExecProcess::Command(process));
    let joined = OsString::from_vec(b"--bundle=/\xff".to_vec());
    let Command::Create(create) = parse(["create".into(), joined, "c".into()]).expect("the same").command
    else {
        panic!("create")
    };
    assert_eq!(create.bundle, Some(odd.into()));
}

/// Every flag of the table has to change the result or warn: a row that nobody reads would be ignored silently.
#[test]
fn every_flag_of_the_table_is_read() {
    let value = |flag: &Flag| match (flag.takes, flag.long) {
        (Takes::Nothing, _) => String::new(),
        (Takes::Value { offer: Offer::Words(words), .. }, _) => format!("={}", words.last().expect("a word")),
        (_, "interval") => "=7m".to_owned(),
        (_, "env") => "=A=B".to_owned(),
        (_, "blkio-weight") => "=77".to_owned(),
        (_, "page-server") => "=host:1".to_owned(),
        _ => "=1".to_owned(),
    };
    for verb in table::VERBS {
        let operands = match verb.name {
            "exec" => "c sh",
            "completion" => "bash",
            _ if verb.operands.least == 1 => "c",
            _ => "",
        };
        let plain = parse(words(&format!("{} {operands}", verb.name))).expect("a plain line");
        for flag in verb.flags {
            let operands = if flag.long == "process" { "c" } else { operands };
            let names = [Some(format!("--{}", flag.long)), flag.short.map(|letter| format!("-{letter}"))];
            for name in names.into_iter().flatten() {
                let line = format!("{} {name}{} {operands}", verb.name, value(flag));
                let given =
                    parse(words(&line)).unwrap_or_else(|rejected| panic!("{line}: {}", rejected.error));
                assert_ne!(given, plain, "{line} is ignored");
            }
        }
    }
    let plain = parse(words("list")).expect("a plain line");
    for flag in table::GLOBAL {
        let line = format!("--{}{} list", flag.long, value(flag));
        assert_ne!(parse(words(&line)).expect("a global flag"), plain, "{line} is ignored");
    }
}

#[test]
fn names_in_the_table_are_unique() {
    let mut verbs = HashSet::new();
    for verb in table::VERBS {
        for name in [verb.name].iter().chain(verb.aliases) {
            assert!(verbs.insert(*name), "two verbs are called {name}");
        }
    }
    let tables = table::VERBS.iter().map(|verb| (verb.name, verb.flags)).chain([("", table::GLOBAL)]);
    for (verb, flags) in tables {
        let mut names = HashSet::from(["help".to_owned(), "h".to_owned()]);
        for flag in flags {
            for name in [Some(flag.long.to_owned()), flag.short.map(String::from)].into_iter().flatten() {
                assert!(names.insert(name.clone()), "{verb}: two flags are called {name}");
            }
        }
    }
}

#[test]
fn every_help_fits_a_screen_of_80_by_50() {
    let topics = [Topic::Program].into_iter().chain(table::VERBS.iter().map(Topic::Verb));
    for topic in topics {
        let text = help(topic, None);
        assert!(text.lines().count() <= 49, "{} lines:\n{text}", text.lines().count());
        for line in text.lines() {
            assert!(line.chars().count() <= help::WIDTH, "{line:?} is too wide");
            assert_eq!(line, line.trim_end(), "a line ends in space");
        }
    }
}

#[test]
fn the_help_of_a_verb_looks_like_this() {
    let expected = "\
NAME:
   runc delete - Removes the state, the cgroups and what else is left of a
   container that has stopped or was never started.

Usage: runc delete [OPTIONS] CONTAINER
Also called: rm

Options:
  -f, --force  kill the container first; a missing one is no error
  -r, --regex  CONTAINER is a regular expression: every one that matches
  -h, --help   show this help
";
    let topic = || Topic::Verb(table::verb(b"delete").expect("a verb"));
    assert_eq!(help(topic(), Some(OsStr::new("/usr/sbin/runc"))), expected);
    let strange = help(topic(), Some(OsStr::new("run\u{1b}c")));
    assert!(strange.contains("Usage: bulkrun delete"), "a name that would move the cursor is not shown");
}

#[test]
fn the_help_lists_what_is_not_deprecated() {
    for verb in table::VERBS {
        let text = help::verb(table::PROGRAM, verb);
        for flag in verb.flags {
            assert_eq!(text.contains(&format!("--{} ", flag.long)), flag.deprecated.is_none(), "{text}");
        }
    }
    assert!(!help::program(table::PROGRAM).contains("criu"));
}

/// Gives `text` to a program that may be missing; then the test says so and is content.
fn accepted_by(program: &str, arguments: &[&str], text: &str) -> bool {
    let started = Process::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        report(&format!("{program} is not installed"));
        return true;
    };
    let mut input = child.stdin.take().expect("stdin is a pipe");
    input.write_all(text.as_bytes()).expect("the program reads all");
    drop(input);
    let output = child.wait_with_output().expect("the program ends");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.is_empty(), "{program}: {complaints}");
    output.status.success()
}

#[test]
fn completion_scripts_are_valid() {
    assert!(accepted_by("bash", &["-n"], &completion(Shell::Bash)));
    assert!(accepted_by("zsh", &["-n"], &completion(Shell::Zsh)));
    assert!(accepted_by("fish", &["--no-execute"], &completion(Shell::Fish)));
}

#[test]
fn bash_completes_verbs_flags_and_values() {
    let complete = |line: &str| {
        let script = format!(
            "{}\nCOMP_WORDS=({line} '')\n[[ '{line}' == *- ]] && COMP_WORDS=({line})\n\
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\nbulkrun() {{ printf id-of; printf ,%s \"$@\"; }}\n_bulkrun\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            completion(Shell::Bash)
        );
        let output = Process::new("bash").args(["-c", &script]).output().expect("bash is there");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        String::from_utf8(output.stdout).expect("words").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(complete("bulkrun").contains(&"create".to_owned()));
    assert!(complete("bulkrun --root /r").contains(&"exec".to_owned()));
    assert_eq!(complete("bulkrun --log-format"), ["text", "json"]);
    assert_eq!(complete("bulkrun --log-format ="), ["text", "json"]);
    assert_eq!(complete("bulkrun --root = /r state"), ["id-of,--root=/r,list,--quiet"]);
    assert!(complete("bulkrun run -").contains(&"--bundle".to_owned()));
    assert_eq!(complete("bulkrun --root /r state"), ["id-of,--root=/r,list,--quiet"]);
    assert_eq!(complete("bulkrun exec -e A=1"), ["id-of,list,--quiet"]);
    assert_eq!(complete("bulkrun list -f"), ["table", "json"]);
    assert_eq!(complete("bulkrun completion"), ["bash", "zsh", "fish"]);
    assert_eq!(complete("bulkrun state c"), [""]);
}

#[test]
fn the_manual_page_is_valid_roff_and_names_every_flag() {
    let page = man();
    for verb in table::VERBS {
        assert!(page.contains(&format!(".SS \"bulkrun {}", verb.name)), "{}", verb.name);
        for flag in help::shown(verb.flags) {
            assert!(page.contains(&format!("\\-\\-{}", flag.long.replace('-', "\\-"))), "--{}", flag.long);
        }
    }
    let macros = [".TH ", ".SH ", ".SS ", ".TP", ".PP", ".BR "];
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        assert!(macros.iter().any(|known| line.starts_with(known)), "{line:?} is no macro of man(7)");
    }
    assert!(accepted_by("groff", &["-man", "-Tutf8", "-ww"], &page));
    assert!(accepted_by("mandoc", &["-T", "lint", "-W", "error"], &page));
}
