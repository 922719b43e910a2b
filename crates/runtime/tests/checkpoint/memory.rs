//! How memory goes into images, and out of them.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_testkit::{Bundle, Run, Sandbox, find_criu, requires, skip, wait_until};

use crate::{
    COUNTER, MISSING, checkpoint, come_back, count, end, has_python, images, is_possible, python, runtime,
    sandbox, says, unconfigured,
};

/// Fills 16 MiB, and looks when it is told whether they are still there.
const KEEPER: &str = "\
import os, time
memory = bytearray(b'bulkhead' * (2 << 20))
print('filled')
while not os.path.exists('/tmp/look'): time.sleep(0.05)
print('whole' if memory == b'bulkhead' * (2 << 20) else 'lost')
while True: time.sleep(1)
";

/// Bytes of [`KEEPER`]'s memory.
const KEPT: u64 = 16 << 20;

/// Another verb of CRIU's own command line.
fn criu(sandbox: &Sandbox, verb: &str) -> Run {
    let mut path = std::env::var("PATH").unwrap_or_default();
    path += ":/usr/sbin:/sbin";
    sandbox.command(find_criu().unwrap()).arg(verb).env("PATH", path)
}

/// A port of the loopback interface that nobody has just now.
fn port() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// The files with pages in a directory.
fn pages(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("pages-")).collect()
}

/// Bytes that the pages in a directory take on the disk; holes take none.
fn size(directory: &Path) -> u64 {
    pages(directory).iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum()
}

#[track_caller]
fn launch_keeper(sandbox: &Sandbox) -> Bundle {
    let bundle = python(unconfigured(sandbox, "c"), KEEPER);
    sandbox.launch(&bundle);
    says(&bundle, "filled");
    bundle
}

#[track_caller]
fn is_whole(bundle: &Bundle) {
    fs::write(bundle.rootfs().join("tmp/look"), "").unwrap();
    says(bundle, "whole");
}

#[test]
fn pages_that_are_restored_can_leave_the_images() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let bundle = launch_keeper(&sandbox);
    checkpoint(&sandbox, &bundle).output().succeeds();
    let before = size(&images(&sandbox));
    assert!(before >= KEPT, "{before} bytes hold the memory");
    come_back(&sandbox, &bundle, &["--auto-dedup"]);
    let after = size(&images(&sandbox));
    assert!(after < KEPT / 2, "holes are where {before} bytes were, but for {after}");
    is_whole(&bundle);
    end(&sandbox, &bundle);
}

#[test]
fn only_what_changed_is_written_again_where_the_kernel_tracks_it() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let bundle = launch_keeper(&sandbox);
    let ahead = |name: &str| sandbox.directory().join(name);
    let pre_dump = |name: &str, more: &[&str]| {
        let run = runtime(&sandbox).args(["checkpoint", "--pre-dump", "--image-path"]).arg(ahead(name));
        run.args(more).arg(bundle.id()).output()
    };
    let first = pre_dump("first", &[]);
    if first.code() != 0 {
        // CRIU itself must be of the same opinion.
        let check = criu(&sandbox, "check").args(["--feature", "mem_dirty_track"]).output();
        assert_ne!(check.code(), 0, "CRIU says that the kernel can: {check}");
        first
            .exits_with(1)
            .complains("criu is missing features: [MemTrack] (the kernel needs CONFIG_MEM_SOFT_DIRTY)");
        end(&sandbox, &bundle);
        skip!("needs a kernel with CONFIG_MEM_SOFT_DIRTY, which this one has not, as criu check says");
    }
    first.succeeds();
    let full = size(&ahead("first"));
    assert!(full >= KEPT, "the first has everything: {full} bytes");
    pre_dump("second", &["--parent-path", "../first"]).succeeds();
    let changed = size(&ahead("second"));
    assert!(changed < KEPT / 2, "the second has what changed: {changed} bytes");
    checkpoint(&sandbox, &bundle).args(["--parent-path", "../second", "--auto-dedup"]).output().succeeds();
    assert!(size(&images(&sandbox)) < KEPT / 2, "the last, too");
    let left = size(&ahead("second"));
    assert!(left <= changed, "what was written again has left the second: {changed} then {left} bytes");
    come_back(&sandbox, &bundle, &[]);
    is_whole(&bundle);
    end(&sandbox, &bundle);
}

#[test]
fn pages_can_go_to_a_server() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    let sandbox = sandbox();
    let bundle = launch_keeper(&sandbox);
    let remote = sandbox.directory().join("remote");
    fs::create_dir(&remote).unwrap();
    let port = port();
    let server =
        criu(&sandbox, "page-server").args(["--address", "127.0.0.1", "--port", &port, "-D"]).arg(&remote);
    let server = server.args(["--status-fd", "1"]).spawn();
    wait_until("the server is ready", || !server.stdout().is_empty());
    let address = format!("127.0.0.1:{port}");
    checkpoint(&sandbox, &bundle).args(["--page-server", &address]).output().succeeds();
    server.wait().succeeds();
    assert!(pages(&images(&sandbox)).is_empty(), "no pages are here");
    assert!(size(&remote) >= KEPT, "they are there");
    for entry in fs::read_dir(&remote).unwrap() {
        let file = entry.unwrap().path();
        fs::rename(&file, images(&sandbox).join(file.file_name().unwrap())).unwrap();
    }
    come_back(&sandbox, &bundle, &[]);
    is_whole(&bundle);
    end(&sandbox, &bundle);
}

/// Says whether CRIU may have pipes that hold large pieces of memory: `fs.pipe-max-size` is no bound for CAP_SYS_RESOURCE,
/// pipe(7).
fn may_have_large_pipes() -> bool {
    const SYS_RESOURCE: u64 = 24;
    let most = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    most.trim().parse::<u64>().unwrap() >= KEPT
        || u64::from_str_radix(set.trim(), 16).unwrap() >> SYS_RESOURCE & 1 == 1
}

#[test]
fn memory_can_follow_once_the_program_runs() {
    requires!(is_possible() && has_python(), "{MISSING}; and python3");
    requires!(
        may_have_large_pipes(),
        "needs CAP_SYS_RESOURCE or an `fs.pipe-max-size` of {KEPT}, so that CRIU's pipes hold large pieces of memory"
    );
    let sandbox = sandbox();
    let bundle = launch_keeper(&sandbox);
    // Who reads to its end may have made a pipe or, as here, sockets.
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let port = port();
    let number = writer.as_raw_fd();
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
    let server = format!("127.0.0.1:{port}");
    let serving = checkpoint(&sandbox, &bundle)
        .args(["--lazy-pages", "--page-server", &server, "--status-fd", &number.to_string()])
        .spawn();
    drop(writer);
    let mut ready = Vec::new();
    reader.read_to_end(&mut ready).unwrap();
    if ready.is_empty() {
        let failed = serving.wait().exits_with(1).complains("criu is missing features: [LazyPages]");
        let check = criu(&sandbox, "check").args(["--feature", "uffd-noncoop"]).output();
        assert_ne!(check.code(), 0, "CRIU says that the kernel can, but: {failed}");
        end(&sandbox, &bundle);
        skip!("needs a kernel with userfaultfd and all its events, which criu check does not find");
    }
    assert_eq!(ready, [0], "it says that pages are served");
    assert!(size(&images(&sandbox)) < KEPT / 2, "they are not in the images");
    let place = images(&sandbox);
    let daemon =
        criu(&sandbox, "lazy-pages").args(["--page-server", "--address", "127.0.0.1", "--port", &port, "-D"]);
    let daemon = daemon.arg(&place).arg("-W").arg(&place).args(["--status-fd", "1"]).spawn();
    wait_until("the daemon listens", || place.join("lazy-pages.socket").exists());
    // The first one is there until all its memory has gone.
    assert_eq!(sandbox.status(&bundle), "running");
    let id = sandbox.id("later");
    let path = format!("/{}/{id}", sandbox.name());
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = path.into());
    let back = runtime(&sandbox).args(["restore", "--detach", "--lazy-pages", "--image-path"]).arg(&place);
    let back = back.arg("--work-path").arg(&place).arg("--bundle").arg(bundle.directory()).arg(&id);
    back.stdout(Stdio::null()).output().succeeds();
    is_whole(&bundle);
    serving.wait().succeeds();
    daemon.wait().succeeds();
    let ids = sandbox.runtime().args(["list", "--quiet"]).output().succeeds().stdout;
    assert_eq!(ids, format!("{id}\n"), "the first one is gone");
    sandbox.runtime().args(["delete", "--force", &id]).output().succeeds();
}

#[test]
fn a_status_descriptor_must_be_one_that_can_be_written() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let lazy = |number: &str| checkpoint(&sandbox, &bundle).args(["--lazy-pages", "--status-fd", number]);
    let output = lazy("0").stdin(Stdio::null()).output().exits_with(1);
    if !output.stderr.contains("LazyPages") {
        output.complains("invalid --status-fd argument 0: not writable");
        lazy("77").output().exits_with(1).complains("invalid --status-fd argument 77: it is not open");
    }
    assert_eq!(sandbox.status(&bundle), "running");
    end(&sandbox, &bundle);
}
