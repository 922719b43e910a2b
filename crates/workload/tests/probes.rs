//! Every probe, without a wall: it reaches what a witness has laid out, and a refusal names the call.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use bulkhead_sys as sys;
use bulkhead_testkit::{Sandbox, is_root, requires};
use serde_json::Value;

const BULKLOAD: &str = env!("CARGO_BIN_EXE_bulkload");

const SECRET: &[u8] = b"a secret of the host";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes an attempt, checks what holds for every line, and returns it.
#[track_caller]
fn probe(sandbox: &Sandbox, words: &[&str]) -> Value {
    let output = sandbox.command(BULKLOAD).arg("probe").args(words).output().succeeds();
    assert_eq!(output.stdout.lines().count(), 1, "not one line:\n{output}");
    let line = output.json();
    assert_eq!(line["probe"], words[0], "{output}");
    match line["result"].as_str() {
        Some("done") => assert!(line["errno"].is_null() && line["call"].is_null(), "{output}"),
        Some("refused") => {
            assert!(line["errno"].as_i64().is_some_and(|errno| errno > 0), "{output}");
            assert!(line["call"].as_str().is_some_and(|call| call.contains(": ")), "{output}");
            assert_eq!(line["read"], "", "{output}");
        }
        _ => panic!("no result\n{output}"),
    }
    line
}

#[track_caller]
fn reads(sandbox: &Sandbox, words: &[&str], expected: &[u8]) {
    let line = probe(sandbox, words);
    assert_eq!(
        (line["result"].as_str(), line["read"].as_str()),
        (Some("done"), Some(&*hexadecimal(expected)))
    );
}

#[track_caller]
fn is_refused(sandbox: &Sandbox, words: &[&str], errno: i32) {
    let line = probe(sandbox, words);
    assert_eq!(line["errno"], errno, "{line}");
}

/// A path in the sandbox's directory.
fn path(sandbox: &Sandbox, name: &str) -> String {
    sandbox.directory().join("output").join(name).display().to_string()
}

#[test]
fn files_are_read_and_written() {
    let sandbox = Sandbox::new(BULKLOAD);
    let file = path(&sandbox, "secret");
    is_refused(&sandbox, &["file-read", &file], errno::NOENT);
    is_refused(&sandbox, &["file-write", &file, "marker"], errno::NOENT);
    fs::write(&file, SECRET).unwrap();
    reads(&sandbox, &["file-read", &file], SECRET);
    reads(&sandbox, &["file-write", &file, "marker"], b"");
    assert!(fs::read(&file).unwrap().starts_with(b"marker"), "the file is as it was");
    let directory = path(&sandbox, "directory");
    reads(&sandbox, &["directory-make", &directory], b"");
    assert!(fs::metadata(&directory).unwrap().is_dir(), "{directory} is something else");
    is_refused(&sandbox, &["directory-make", &directory], errno::EXIST);
}

#[test]
fn a_file_is_read_by_its_handle() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKLOAD);
    let file = path(&sandbox, "secret");
    fs::write(&file, SECRET).unwrap();
    let handle = match sys::handle::of(file.as_ref()) {
        Ok(handle) => handle,
        Err(error) => bulkhead_testkit::skip!("this file system has no handles: {error}"),
    };
    let (kind, bytes) = (handle.kind.to_string(), hexadecimal(&handle.bytes));
    let directory = sandbox.directory().display().to_string();
    reads(&sandbox, &["handle-read", &directory, &kind, &bytes], SECRET);
}

#[test]
fn a_device_is_read() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKLOAD);
    let node = path(&sandbox, "zero");
    reads(&sandbox, &["device-read", &node, "char", "1", "5"], &[0; 4096]);
    assert!(fs::metadata(&node).is_err(), "the node is still there");
}

#[test]
fn a_file_system_is_mounted_out_of_sight() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKLOAD);
    let place = path(&sandbox, "place");
    fs::create_dir(&place).unwrap();
    let version = fs::read("/proc/version").unwrap();
    reads(&sandbox, &["mount-read", "proc", "proc", &place, "version"], &version);
    is_refused(&sandbox, &["mount-read", "nosuchfs", "none", &place, "x"], errno::NODEV);
    // That no mount is left is checked by the sandbox.
}

#[test]
fn memory_of_another_is_read_and_written() {
    static MEMORY: [AtomicU8; 8] = [const { AtomicU8::new(b'x') }; 8];
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKLOAD);
    // The other is this process.
    let (pid, address) = (std::process::id().to_string(), format!("{:#x}", MEMORY.as_ptr().addr()));
    reads(&sandbox, &["memory-read", &pid, &address, "8"], b"xxxxxxxx");
    reads(&sandbox, &["memory-write", &pid, &address, "marker"], b"");
    let now = MEMORY.each_ref().map(|byte| byte.load(Ordering::SeqCst));
    assert_eq!(&now, b"markerxx");
    reads(&sandbox, &["ptrace", &pid, &address], b"markerxx");
    is_refused(&sandbox, &["ptrace", &pid, "0x10"], errno::IO);
    is_refused(&sandbox, &["memory-read", "4194305", &address, "8"], errno::NOENT);
}

#[test]
fn a_signal_arrives() {
    let sandbox = Sandbox::new(BULKLOAD);
    let sleeper = sandbox.command("sleep").arg("60").spawn();
    reads(&sandbox, &["signal", &sleeper.pid().to_string()], b"");
    sleeper.wait().exits_with(128 + 10);
    is_refused(&sandbox, &["signal", "4194305"], errno::SRCH);
}

#[test]
fn keys_are_read_and_written() {
    let sandbox = Sandbox::new(BULKLOAD);
    let name = sandbox.name();
    let key = std::ffi::CString::new(name).unwrap();
    if let Err(error) = sys::keyring::add(&key, SECRET) {
        bulkhead_testkit::skip!("no keyrings here: {error}");
    }
    reads(&sandbox, &["keyring-read", name], SECRET);
    reads(&sandbox, &["keyring-write", name, "marker"], b"");
    let now = sys::keyring::read(&key);
    sys::keyring::remove(&key).unwrap();
    assert_eq!(now.unwrap(), b"marker");
    is_refused(&sandbox, &["keyring-read", name], errno::NOKEY);
}

#[test]
fn shared_memory_is_read() {
    let sandbox = Sandbox::new(BULKLOAD);
    let key = 0x6300_0000 | std::process::id().cast_signed() & 0x00ff_ffff;
    let segment = sys::shared_memory::Segment::create(key, SECRET).unwrap();
    reads(&sandbox, &["shared-memory", &key.to_string()], SECRET);
    drop(segment);
    is_refused(&sandbox, &["shared-memory", &key.to_string()], errno::NOENT);
}

#[test]
fn a_listener_is_heard() {
    let sandbox = Sandbox::new(BULKLOAD);
    let name = sandbox.name();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let unix = UnixListener::bind_addr(&address).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().to_string();
    thread::scope(|scope| {
        scope.spawn(|| unix.accept().unwrap().0.write_all(SECRET).unwrap());
        scope.spawn(|| tcp.accept().unwrap().0.write_all(SECRET).unwrap());
        reads(&sandbox, &["abstract-socket", name], SECRET);
        reads(&sandbox, &["tcp", &port], SECRET);
    });
    drop((unix, tcp));
    is_refused(&sandbox, &["abstract-socket", name], errno::CONNREFUSED);
    is_refused(&sandbox, &["tcp", &port], errno::CONNREFUSED);
}

#[test]
fn the_machine_is_looked_at_or_refuses() {
    let sandbox = Sandbox::new(BULKLOAD);
    for (name, least) in [("kernel-log", 0), ("perf", 16), ("bpf", 0)] {
        let line = probe(&sandbox, &[name]);
        let read = line["read"].as_str().unwrap().len();
        assert!(line["result"] == "refused" || read >= least, "{name} gave little: {line}");
    }
}

#[test]
fn an_ordinary_user_does_not_set_the_clock() {
    requires!(is_root(), "needs root, to become somebody else");
    let sandbox = Sandbox::new(BULKLOAD);
    let output = sandbox.command(BULKLOAD).args(["probe", "clock"]).as_user(31_999, 31_999).output();
    let line = output.succeeds().json();
    assert_eq!((line["result"].as_str(), line["errno"].as_i64()), (Some("refused"), Some(1)), "{line}");
}

#[test]
fn every_probe_is_tested() {
    let sandbox = Sandbox::new(BULKLOAD);
    let help = sandbox.command(BULKLOAD).arg("--help").output().succeeds().stdout;
    let probes = help.split("bulkload probe").nth(1).and_then(|rest| rest.split("bulkload heavy").next());
    let lines = probes.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("    "));
    let named = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    let source = include_str!("probes.rs");
    let missing = BTreeSet::from_iter(named.filter(|name| !source.contains(&format!("\"{name}\""))));
    assert_eq!(missing, BTreeSet::new());
}

/// Error numbers of errno(3), as they are on every architecture of ours.
mod errno {
    pub(super) const NOENT: i32 = 2;
    pub(super) const SRCH: i32 = 3;
    pub(super) const IO: i32 = 5;
    pub(super) const EXIST: i32 = 17;
    pub(super) const NODEV: i32 = 19;
    pub(super) const CONNREFUSED: i32 = 111;
    pub(super) const NOKEY: i32 = 126;
}
