//! What other users of the host can see and reach of a container.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use bulkhead_testkit::{Sandbox, is_root, requires};

use crate::sandbox;

/// Starts the runtime under a umask that takes nothing away, with a state directory that it must make itself.
fn create(sandbox: &Sandbox) -> std::path::PathBuf {
    let bundle = sandbox.bundle("a").args(["sleep", "1000"]);
    let root = sandbox.state_directory();
    fs::remove_dir(&root).unwrap();
    let script = "umask 0; exec \"$@\"";
    let verb = ["create", "--bundle", bundle.directory().to_str().unwrap(), bundle.id()];
    let run = sandbox.command("sh").args(["-c", script, "sh"]).arg(sandbox.runtime_program());
    run.arg("--root").arg(&root).args(verb).output().succeeds();
    root
}

/// Needs the modes at mkdir(2), open(2) and, for the socket, before bind(2). Seen to fail without the fchmod(2) of the
/// socket: the gate has the mode 0777.
#[test]
fn state_has_its_final_rights_from_the_start() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let root = create(&sandbox);
    let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        mode(&root),
        0o1700,
        "the directory of all containers is its owner's only, and not to be tidied up"
    );
    let container = root.join(sandbox.id("a"));
    assert_eq!(mode(&container), 0o700, "the directory of a container is its owner's only");
    let mut sockets = 0;
    for entry in fs::read_dir(container).unwrap().flatten() {
        assert_eq!(mode(&entry.path()), 0o600, "{} is its owner's only", entry.path().display());
        sockets += usize::from(entry.file_type().unwrap().is_socket());
    }
    assert_eq!(sockets, 1, "the gate is among them");
}

/// Needs the above. Another user can neither start nor see the container.
#[test]
fn another_user_cannot_reach_the_gate() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let root = create(&sandbox);
    let gate = root.join(sandbox.id("a")).join("gate");
    for attempt in ["cat $0", "ls ${0%/*}", "test -e $0", "echo start > $0"] {
        let run = sandbox.command("sh").args(["-c", attempt]).arg(&gate).as_user(65534, 65534);
        let output = run.output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{attempt} is refused\n{output}");
    }
    // Even if the directories were opened, the socket is its owner's.
    for directory in [&root, &root.join(sandbox.id("a"))] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let connect =
        "use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); connect(S, sockaddr_un($ARGV[0])) and print 'in'";
    if let Some(perl) = bulkhead_testkit::find_program("perl") {
        let run = sandbox.command(perl).args(["-e", connect]).arg(&gate).as_user(65534, 65534);
        run.output().prints("");
    }
}

/// A link that somebody put where a container's files will be, in a state directory that others may write, leads to no
/// file of the host. Needs O_NOFOLLOW, and mkdir(2) to refuse what is there.
#[test]
fn a_link_in_the_state_directory_is_not_followed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = crate::outside::Outside::new(&sandbox);
    let bundle = sandbox.bundle("a");
    std::os::unix::fs::symlink(outside.path(), sandbox.state_directory().join(bundle.id())).unwrap();
    for verb in [vec!["create", "--bundle", bundle.directory().to_str().unwrap()], vec!["delete", "--force"]]
    {
        let output = sandbox.runtime().args(&verb).arg(bundle.id()).output();
        assert!(output.code() != 0, "the link is refused\n{output}");
    }
    outside.is_untouched();
    fs::remove_file(sandbox.state_directory().join(bundle.id())).unwrap();
}

/// The pid file is written beside its place first. Needs O_EXCL there. Seen to fail without it: the runtime writes
/// the pid into the file that a link of somebody else names.
#[test]
fn a_link_in_the_place_of_the_pid_file_is_not_followed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = crate::outside::Outside::new(&sandbox);
    let bundle = sandbox.bundle("a");
    let file = sandbox.directory().join("pid");
    let secret = outside.path().join("secret");
    for name in [".pid", "pid"] {
        std::os::unix::fs::symlink(&secret, sandbox.directory().join(name)).unwrap();
    }
    sandbox
        .runtime()
        .args(["run", "--pid-file"])
        .arg(&file)
        .arg("--bundle")
        .arg(bundle.directory())
        .arg(bundle.id())
        .output();
    outside.is_untouched();
}
