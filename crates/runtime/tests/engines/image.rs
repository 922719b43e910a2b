//! An image of busybox, made here since there is no registry to pull from.

use std::fs;

use bulkhead_testkit::{Machine, Sandbox, rootfs};
use serde_json::json;

/// An image whose command is a shell.
pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:latest";
/// The same files, with a command that does nothing for long: what holds the namespaces of a pod.
pub(crate) const PAUSE: &str = "docker.io/library/pause:latest";
/// Where the machine finds both, in the format of `docker save`, which every engine reads.
pub(crate) const ARCHIVE: &str = "/run/shared/images.tar";

/// Puts the archive where the machine finds it.
#[track_caller]
pub(crate) fn archive(sandbox: &Sandbox, machine: &Machine<'_>) {
    let parts = sandbox.directory().join("image");
    fs::create_dir(&parts).unwrap();
    rootfs::create(&parts.join("root"));
    let tar = |arguments: &[&str]| {
        sandbox.command("tar").current_dir(&parts).args(arguments).output().succeeds();
    };
    tar(&["--owner=0", "--group=0", "--create", "--file=layer.tar", "--directory=root", "."]);
    let sum = sandbox.command("sha256sum").arg(parts.join("layer.tar")).output().succeeds().stdout;
    let layer = format!("sha256:{}", sum.split_whitespace().next().unwrap());
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut manifest = Vec::new();
    for (file, name, command, end) in
        [("busybox.json", BUSYBOX, "sh", "SIGTERM"), ("pause.json", PAUSE, "sleep 1000000", "SIGKILL")]
    {
        let command = Vec::from_iter(command.split(' '));
        let created = "2026-01-01T00:00:00Z";
        let config = json!({
            "architecture": architecture, "os": "linux", "created": created,
            "config": { "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": command, "StopSignal": end },
            "rootfs": { "type": "layers", "diff_ids": [layer] },
            "history": [{ "created": created, "created_by": "a test" }],
        });
        fs::write(parts.join(file), config.to_string()).unwrap();
        manifest.push(json!({ "Config": file, "RepoTags": [name], "Layers": ["layer.tar"] }));
    }
    fs::write(parts.join("manifest.json"), json!(manifest).to_string()).unwrap();
    let archive = machine.shared().join("images.tar");
    let files = ["manifest.json", "busybox.json", "pause.json", "layer.tar"];
    tar(&[&["--create", "--file", archive.to_str().unwrap()], &files[..]].concat());
}
