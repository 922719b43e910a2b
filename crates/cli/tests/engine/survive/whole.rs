//! Verbs of the whole: what they find and what they tell.

use std::fs;

use bulkhead_testkit::{in_fresh_namespaces, is_root, requires};
use serde_json::Value;

use super::{WELL, is_whole};
use crate::shop::{IMAGE, Shop, shop};

#[test]
fn a_check_tells_before_it_mends() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    shop.service("busy", "sleep 1000");
    assert_eq!(shop.said(&["system", "check", "--dry-run", "--contents"]), WELL, "nothing is wrong");
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let nobody = "0".repeat(64);
    for place in ["engine/containers", "engine-run/containers"] {
        fs::create_dir(shop.path(place).join(&nobody)).unwrap();
    }
    fs::write(shop.path("engine/containers").join(&nobody).join("file"), "x").unwrap();
    fs::create_dir(shop.path("engine/containers/stranger")).unwrap();
    fs::remove_dir_all(shop.path("engine/containers").join(&id)).unwrap();
    fs::write(shop.path("engine/ingest/half-made"), "x").unwrap();
    let told = shop.bulkhead(&["system", "check", "--dry-run"]).output().exits_with(1).stdout;
    for expected in [
        "container web: its directories are not there (not mended: a check that mends has it made anew, empty)",
        &format!(
            "{}: no container and no pod has this directory",
            shop.path("engine-run/containers").join(&nobody).display()
        ),
        &format!("{}: it is not the engine's", shop.path("engine/containers/stranger").display()),
        "1 files: they are half made, or have no record",
    ] {
        assert!(told.contains(expected), "{expected} is not told:\n{told}");
    }
    let again =
        shop.bulkhead(&["system", "check", "--dry-run", "--format", "json"]).output().exits_with(1).stdout;
    assert_eq!(again.lines().count(), told.lines().count(), "nothing was mended");
    let first: Value = serde_json::from_str(again.lines().next().unwrap()).unwrap();
    assert!(first["Subject"].is_string() && first["Mended"] == false, "{first}");
    let mended = shop.bulkhead(&["system", "check"]).output().exits_with(1).stdout;
    assert_eq!(mended.matches("(mended: ").count(), told.lines().count() - 1, "{mended}");
    assert!(
        mended.contains("stranger: it is not the engine's (not mended: "),
        "what nobody knows stays: {mended}"
    );
    fs::remove_dir(shop.path("engine/containers/stranger")).unwrap();
    is_whole(&shop, "that");
    assert_eq!(shop.said(&["start", "-a", "web"]), "");
    assert_eq!(shop.inspect("busy")["State"]["Status"], "running");
}

#[test]
fn what_a_dead_runtime_left_is_taken_away() {
    let shop = shop!();
    let id = shop.service("web", "sleep 1000");
    shop.said(&["stop", "web"]);
    let cgroup = format!("/{}/{id}", shop.sandbox.name());
    for hierarchy in bulkhead_testkit::cgroups::hierarchies() {
        fs::create_dir_all(hierarchy.join(shop.sandbox.name()).join(&id)).unwrap();
    }
    let told = shop.said(&["system", "check"]);
    assert!(
        told.contains("container web: it has ended, and its cgroups are there: ")
            && told.contains("(mended: removed)"),
        "{told}"
    );
    assert!(shop.sandbox.cgroups(&cgroup).is_empty(), "they are gone");
    // The runtime's state of a container that nobody has.
    let state = shop.path("engine-run/runtime/bulkrun").join("1".repeat(64));
    fs::create_dir(&state).unwrap();
    let told = shop.said(&["system", "check"]);
    assert!(told.contains("no container has the id 111111111111 (mended: removed)"), "{told}");
    is_whole(&shop, "that");
}

#[test]
fn a_volume_that_was_half_filled_is_filled_anew_and_nothing_else_of_it_is_lost() {
    let shop = shop!();
    let volume = shop.path("engine/volumes/data");
    let half = || {
        fs::write(volume.join("filling"), "").unwrap();
        fs::write(volume.join("data/half"), "of it").unwrap();
    };
    shop.said(&["volume", "create", "data"]);
    half();
    let told = shop.said(&["system", "check"]);
    assert!(
        told.contains("volume data: ") && told.contains("(mended: emptied, to be filled again)"),
        "{told}"
    );
    half();
    // Who wants no copy begins with nothing, and what he writes stays.
    shop.script(&["-v", "data:/home:nocopy"], "ls /home; echo mine > /home/mine")
        .output()
        .succeeds()
        .prints("");
    shop.script(&["-v", "data:/home"], "cat /home/mine").output().succeeds().prints("mine\n");
    shop.said(&["volume", "rm", "data"]);
    shop.said(&["volume", "create", "data"]);
    half();
    shop.script(&["-v", "data:/home"], "ls /home").output().succeeds().prints("user\n");
    is_whole(&shop, "that");
}

#[test]
fn a_mount_that_somebody_left_is_unmounted() {
    requires!(is_root(), "needs root to mount");
    in_fresh_namespaces!(Mount);
    let shop = Shop::new();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let place = shop.path("engine/containers").join(id).join("upper");
    shop.sandbox.command("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&place).output().succeeds();
    let told = shop.said(&["system", "check"]);
    assert!(
        told.contains(&format!("{}: something is mounted there (mended: unmounted)", place.display())),
        "{told}"
    );
    is_whole(&shop, "that");
    shop.said(&["rm", "web"]);
}

#[test]
fn room_is_told_as_docker_tells_it() {
    let shop = shop!();
    shop.script(&["-v", "data:/data"], "head -c 100000 /dev/zero > /data/file").output().succeeds();
    shop.with("run", &["--name", "job"], &["sh", "-c", "head -c 200000 /dev/zero > /file"])
        .output()
        .succeeds();
    let table = shop.said(&["system", "df"]);
    let lines = Vec::from_iter(
        table
            .lines()
            .map(|line| Vec::from_iter(line.split("  ").map(str::trim).filter(|word| !word.is_empty()))),
    );
    assert_eq!(lines[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(lines[1][..3], ["Images", "1", "1"], "{table}");
    assert_eq!(lines[2][..3], ["Containers", "1", "0"], "{table}");
    assert!(lines[2][4].ends_with("(100%)"), "{table}");
    assert_eq!(lines[3][..3], ["Local Volumes", "1", "0"], "{table}");
    assert_eq!(lines[4], ["Build Cache", "0", "0", "0B", "0B"]);
    let rows = shop.said(&["system", "df", "--format", "json"]);
    let row: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!((&row["Type"], &row["TotalCount"]), (&"Images".into(), &"1".into()));
    assert_eq!(
        shop.said(&["system", "df", "--format", "{{.Type}}"]),
        "Images\nContainers\nLocal Volumes\nBuild Cache\n"
    );
    let verbose = shop.said(&["system", "df", "-v"]);
    for expected in [
        "Images space usage:\n\nREPOSITORY",
        "\nContainers space usage:\n\nCONTAINER ID",
        "\nLocal Volumes space usage:\n\nVOLUME NAME",
    ] {
        assert!(verbose.contains(expected), "{expected:?} is not in\n{verbose}");
    }
    let whole: Value = serde_json::from_str(&shop.said(&["system", "df", "-v", "--format", "json"])).unwrap();
    assert_eq!(whole["Volumes"][0]["Name"], "data");
    assert_eq!(whole["Containers"][0]["Names"], "job");
    assert_eq!(
        shop.said(&["system", "df", "-v", "--format", "{{range .Images}}{{.Repository}}:{{.Tag}}{{end}}"]),
        format!("{IMAGE}\n")
    );
}

#[test]
fn the_engine_and_its_host_are_told_in_docker_s_fields() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    shop.said(&["pause", "web"]);
    shop.with("run", &[], &["true"]).output().succeeds();
    let info: Value = serde_json::from_str(&shop.said(&["info", "--format", "json"])).unwrap();
    assert_eq!(
        (&info["Containers"], &info["ContainersPaused"], &info["ContainersStopped"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!((&info["Images"], &info["Driver"]), (&1.into(), &"overlay2".into()));
    assert_eq!(info["DockerRootDir"], shop.path("engine").to_str().unwrap());
    assert_eq!(info["DefaultRuntime"], "bulkrun");
    assert!(info["Runtimes"]["bulkrun"]["path"].as_str().unwrap().ends_with("/bulkrun"));
    assert_eq!(info["KernelVersion"], fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    assert!(info["MemTotal"].as_u64().unwrap() > 1 << 20 && info["NCPU"].as_u64().unwrap() > 0);
    assert_eq!(
        shop.said(&["info", "-f", "{{.ServerVersion}} {{.OSType}}"]),
        format!("{} linux\n", env!("CARGO_PKG_VERSION"))
    );
    let text = shop.said(&["system", "info"]);
    assert!(text.contains("Containers: 2\n Running: 0\n Paused: 1\n Stopped: 1\nImages: 1\n"), "{text}");
    let version: Value = serde_json::from_str(&shop.said(&["version", "--format", "json"])).unwrap();
    let components = Vec::from_iter(
        version["Server"]["Components"].as_array().unwrap().iter().map(|part| part["Name"].as_str().unwrap()),
    );
    assert_eq!(components, ["Engine", "bulkmon", "bulkrun", "bulkdns", "bulkproxy"]);
    assert_eq!(version["Server"]["Components"][2]["Version"], env!("CARGO_PKG_VERSION"));
    shop.said(&["unpause", "web"]);
}
