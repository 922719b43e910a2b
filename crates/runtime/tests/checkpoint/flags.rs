//! What a program may have that CRIU leaves alone unless it is told.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use bulkhead_testkit::{Bundle, Sandbox, requires, wait_until};
use rustix::fs::{FlockOperation, flock};

use crate::{
    COUNTER, MISSING, checkpoint, come_back, count, end, has_python, images, is_possible, python, restore,
    runtime, sandbox, says, unconfigured,
};

/// A checkpoint without a flag is to fail and to say why, while the container runs on; with it it succeeds.
#[track_caller]
fn needs_flags(sandbox: &Sandbox, bundle: &Bundle, flags: &[&str], why: &str) {
    let failed = checkpoint(sandbox, bundle).output().exits_with(1);
    failed.complains("criu failed: type DUMP").complains(why);
    assert_eq!(sandbox.status(bundle), "running", "nothing has changed");
    checkpoint(sandbox, bundle).args(flags).output().succeeds();
}

/// A program that repeats a step, then says how often it was taken.
fn steps(begin: &str, step: &str) -> String {
    format!(
        "import fcntl, os, socket, time\n{begin}\nn = 0\nwhile True:\n    {step}\n    n += 1\n    print(n)\n    \
         time.sleep(0.05)\n"
    )
}

/// Waits for some more steps than have been taken.
#[track_caller]
fn goes_on(bundle: &Bundle) {
    let said = fs::read_to_string(bundle.rootfs().join("tmp/said")).unwrap_or_default();
    let last: u64 = said.lines().last().unwrap_or("0").parse().unwrap();
    says(bundle, &(last + 3).to_string());
}

#[test]
fn locks_of_files_are_held_again() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let begin = "flock, record = open('/tmp/flock', 'w'), open('/tmp/record', 'w')\n\
        fcntl.flock(flock, fcntl.LOCK_EX)\nfcntl.lockf(record, fcntl.LOCK_EX)";
    let bundle = python(unconfigured(&sandbox, "c"), &steps(begin, "pass"));
    sandbox.launch(&bundle);
    goes_on(&bundle);
    needs_flags(&sandbox, &bundle, &["--file-locks"], "try --file-locks");
    let file = File::open(bundle.rootfs().join("tmp/flock")).unwrap();
    let try_lock = || flock(&file, FlockOperation::NonBlockingLockExclusive);
    try_lock().unwrap();
    flock(&file, FlockOperation::Unlock).unwrap();
    come_back(&sandbox, &bundle, &["--file-locks"]);
    goes_on(&bundle);
    assert_eq!(try_lock(), Err(rustix::io::Errno::WOULDBLOCK), "the restored program holds it");
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let holds = |kind: &str| {
        let is_his =
            |line: &&str| line.contains(kind) && line.contains(&format!(" {} ", sandbox.pid(&bundle)));
        locks.lines().any(|line| is_his(&line))
    };
    assert!(holds("POSIX") && holds("FLOCK"), "both are his:\n{locks}");
    end(&sandbox, &bundle);
}

/// Connected to itself, with one message on the way at any time.
const CONNECTED: &str = "server = socket.create_server(('127.0.0.1', 7000))\n\
    client = socket.create_connection(('127.0.0.1', 7000))\naccepted, _ = server.accept()\n\
    client.sendall(b'%9d' % 0)";
const EXCHANGE: &str = "client.sendall(b'%9d' % (n + 1)); assert int(accepted.recv(9)) == n";

#[test]
fn connections_go_on_with_all_that_was_on_the_way() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let bundle = python(unconfigured(&sandbox, "c"), &steps(CONNECTED, EXCHANGE));
    sandbox.launch(&bundle);
    goes_on(&bundle);
    needs_flags(&sandbox, &bundle, &["--tcp-established"], "consider using --tcp-established");
    come_back(&sandbox, &bundle, &["--tcp-established"]);
    goes_on(&bundle);
    end(&sandbox, &bundle);
}

#[test]
fn a_file_of_criu_can_say_what_a_flag_would() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let file = sandbox.directory().join("criu.conf");
    fs::write(&file, "tcp-established\n").unwrap();
    let bundle = sandbox.bundle("c").annotation("org.criu.config", file.to_str().unwrap());
    let bundle = python(bundle, &steps(CONNECTED, EXCHANGE));
    sandbox.launch(&bundle);
    goes_on(&bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    come_back(&sandbox, &bundle, &[]);
    goes_on(&bundle);
    end(&sandbox, &bundle);
}

#[test]
fn a_connection_that_nobody_has_accepted_can_be_left_behind() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let begin = "server = socket.create_server(('127.0.0.1', 7000))\n\
        early = socket.create_connection(('127.0.0.1', 7000))\nearly.setblocking(False)";
    // Once the queue is empty, what comes then is accepted.
    let step = "\n    if os.path.exists('/tmp/accept'):\n        late = socket.create_connection(('127.0.0.1', 7000))\n        \
        accepted, _ = server.accept(); late.sendall(b'late'); assert accepted.recv(9) == b'late'";
    let bundle = python(unconfigured(&sandbox, "c"), &steps(begin, step));
    sandbox.launch(&bundle);
    goes_on(&bundle);
    let flags = ["--tcp-established", "--tcp-skip-in-flight"];
    checkpoint(&sandbox, &bundle).arg(flags[0]).output().exits_with(1).complains("In-flight connection");
    needs_flags(&sandbox, &bundle, &flags, "criu failed");
    fs::write(bundle.rootfs().join("tmp/accept"), "").unwrap();
    come_back(&sandbox, &bundle, &["--tcp-established"]);
    goes_on(&bundle);
    end(&sandbox, &bundle);
}

#[test]
fn a_file_whose_name_is_gone_but_not_its_other_one_is_kept() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let begin =
        "file = open('/tmp/first', 'w')\nos.link('/tmp/first', '/tmp/second')\nos.unlink('/tmp/first')";
    let bundle = python(unconfigured(&sandbox, "c"), &steps(begin, "file.write('%d\\n' % n); file.flush()"));
    sandbox.launch(&bundle);
    goes_on(&bundle);
    needs_flags(&sandbox, &bundle, &["--link-remap"], "link-remap");
    come_back(&sandbox, &bundle, &[]);
    goes_on(&bundle);
    let written = fs::read_to_string(bundle.rootfs().join("tmp/second")).unwrap();
    let numbers = Vec::from_iter(written.lines().map(|line| line.parse::<usize>().unwrap()));
    assert_eq!(numbers, Vec::from_iter(0..numbers.len()), "none is missing");
    let names = fs::read_dir(bundle.rootfs().join("tmp")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = Vec::from_iter(names.filter(|name| name != "second" && name != "said"));
    assert!(names.is_empty(), "CRIU's own name for it is gone: {names:?}");
    end(&sandbox, &bundle);
}

#[test]
fn a_socket_of_the_host_is_found_again_by_its_path() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let path = sandbox.directory().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // Its path is the same on both sides: that is what the kernel knows it by.
    let begin = format!(
        "log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nlog.connect('{}')\nlog.setblocking(False)",
        path.display()
    );
    let step = "\n    try: log.send(b'%d' % n)\n    except BlockingIOError: pass";
    // CRIU sees a socket's peer only in its own network.
    let bundle = unconfigured(&sandbox, "c").without_namespace("network");
    let bundle = bundle.mount("bind", &path, path.to_str().unwrap(), &["bind"]);
    let bundle = python(bundle, &steps(&begin, step));
    sandbox.launch(&bundle);
    goes_on(&bundle);
    needs_flags(&sandbox, &bundle, &["--ext-unix-sk"], "--ext-unix-sk");
    let hear = || {
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer)?;
        Ok::<u64, io::Error>(String::from_utf8_lossy(&buffer[..count]).parse().unwrap())
    };
    let mut last = 0;
    while let Ok(number) = hear() {
        last = number;
    }
    come_back(&sandbox, &bundle, &["--ext-unix-sk"]);
    wait_until("the socket hears of it", || hear().is_ok_and(|number| number > last));
    end(&sandbox, &bundle);
}

#[test]
fn a_network_is_restored_without_its_interfaces() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").namespace("network").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let network = format!("--net=/proc/{}/ns/net", sandbox.pid(&bundle));
    let add = ["ip", "link", "add", "pair0", "type", "veth", "peer", "pair1"];
    sandbox.command("nsenter").arg(&network).args(add).output().succeeds();
    checkpoint(&sandbox, &bundle).args(["--empty-ns", "network"]).output().succeeds();
    come_back(&sandbox, &bundle, &["--empty-ns", "network"]);
    sandbox.exec(&bundle, ["ls", "/sys/class/net"]).output().succeeds().prints("lo\n");
    checkpoint(&sandbox, &bundle).args(["--empty-ns", "pid"]).output().exits_with(1).complains("pid");
    end(&sandbox, &bundle);
}

#[test]
fn a_log_is_where_work_files_are() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let work = sandbox.directory().join("work");
    let work = work.to_str().unwrap();
    checkpoint(&sandbox, &bundle).args(["--work-path", work]).output().succeeds();
    come_back(&sandbox, &bundle, &["--work-path", work]);
    let names = |place: &std::path::Path| {
        let names = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names = Vec::from_iter(names.filter(|name| name.to_str().unwrap().ends_with(".log")));
        names.sort();
        names
    };
    assert_eq!(names(work.as_ref()), ["dump.log", "restore.log"]);
    assert!(names(&images(&sandbox)).is_empty(), "and not with the images");
    // A failure quotes the log that is there.
    let again = runtime(&sandbox).args(["restore", "--image-path"]).arg(work).args(["--work-path", work]);
    let bundle_argument = bundle.directory().to_str().unwrap();
    again
        .args(["--bundle", bundle_argument, &sandbox.id("other")])
        .output()
        .exits_with(1)
        .complains("descriptors.json");
    end(&sandbox, &bundle);
    drop(restore(&sandbox, &bundle, &[]));
}
