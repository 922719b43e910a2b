//! Users of a container that are not the host's, and files that change hands without a change on the disk.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Run, idmap, requires, wait_until};

use crate::shop::{IMAGE, Shop, shop};

/// Why these tests skip themselves: the kernel says so, not the engine.
const NEEDED: &str = "needs a file system of the temporary directory that can be idmapped";

/// Makes a shop where files can be shown as another's.
macro_rules! mapping_shop {
    () => {{
        let shop = shop!();
        requires!(idmap::is_possible_at(shop.sandbox.directory()), "{NEEDED}");
        shop
    }};
}

#[test]
fn the_hosts_processes_are_there_for_users_of_its_own() {
    let shop = mapping_shop!();
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let options = ["--userns", "auto", "--pid", "host", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7"];
    let script = "readlink /proc/self/ns/pid; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                  tr -s ' ' </proc/self/uid_map | grep -c ' 0 0 4294967295'";
    shop.script(&options, script).output().exits_with(1).prints(&format!("{}\n7\n0\n", own.display()));
    let options = ["-d", "--name", "web", "--userns", "auto", "--pid", "host"];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    assert_eq!(shop.said(&["exec", "web", "readlink", "/proc/self/ns/pid"]), format!("{}\n", own.display()));
}

/// Starts a container with users of its own, and returns its process.
fn own_users(shop: &Shop, name: &str, options: &[&str], script: &str) -> u64 {
    let options = [&["-d", "--name", name, "--userns", "auto"], options].concat();
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    pid(shop, name)
}

fn pid(shop: &Shop, name: &str) -> u64 {
    shop.inspect(name)["State"]["Pid"].as_u64().unwrap()
}

/// The first id on the host, and the number of ids, of a process's user namespace.
fn range(pid: u64, map: &str) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/{map}")).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((numbers.len(), numbers[0]), (3, 0), "one range from 0 on: {text}");
    (numbers[1], numbers[2])
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

/// The writable layer of a container.
fn upper(shop: &Shop, name: &str) -> PathBuf {
    let id = shop.inspect(name)["Id"].as_str().unwrap().to_owned();
    shop.path("engine").join("containers").join(id).join("upper")
}

#[test]
fn root_inside_is_not_root_outside() {
    let shop = mapping_shop!();
    let secret = shop.path("secret");
    fs::write(&secret, "of the host").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let bind = format!("{}:/secret", secret.display());
    let script = "id -u; stat -c %u:%g / /bin/busybox /etc/hosts /secret; cat /secret || echo closed; \
                  chown 0 /secret || echo kept; touch /new && stat -c %u /new; exec sleep 1000";
    let pid = own_users(&shop, "job", &["-v", &bind], script);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let (first, size) = range(pid, "uid_map");
    assert!(first >= 65_536 && size >= 65_536, "nobody of the host is in {first}+{size}");
    assert_eq!(line("Uid:"), [first; 4].map(|id| id.to_string()).join("\t"), "the host sees somebody else");
    assert_eq!(line("Gid:"), [range(pid, "gid_map").0; 4].map(|id| id.to_string()).join("\t"));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let said = loop {
        let said = shop.said(&["logs", "job"]);
        if said.lines().count() >= 8 || std::time::Instant::now() > end {
            break said;
        }
    };
    assert_eq!(said, "0\n0:0\n0:0\n0:0\n65534:65534\nclosed\nkept\n0\n");
    assert_eq!(owner(&secret), (0, 0), "the file is whose it was");
    assert_eq!(owner(&upper(&shop, "job").join("new")), (0, 0), "on disk it is as it is inside");
    shop.said(&["exec", "job", "sh", "-c", "echo more >> /new && test $(id -u) = 0"]);
}

/// Fails where it is the host's own node, whose owner nobody is inside.
#[test]
fn a_device_of_root_is_of_root_inside_under_any_name() {
    let shop = mapping_shop!();
    let node = shop.path("node");
    let place = node.to_str().unwrap();
    shop.sandbox.command("mknod").args(["-m", "600", place, "c", "1", "5"]).output().succeeds();
    let device = format!("{place}:/dev/renamed");
    let script = "stat -c '%u:%g %a' /dev/renamed; head -c 3 /dev/renamed | wc -c";
    let output = shop.script(&["--userns", "auto", "--device", &device], script).output().succeeds();
    assert_eq!(output.stdout, "0:0 600\n3\n");
}

#[test]
fn containers_at_once_have_different_users() {
    let shop = mapping_shop!();
    let names = ["c0", "c1", "c2", "c3", "c4", "c5"];
    let start = |name: &str| {
        let options = ["-d", "--name", name, "--userns", "auto"];
        shop.with("run", &options, &["sleep", "1000"]).spawn()
    };
    let started: Vec<_> = names.iter().map(|name| start(name)).collect();
    started.into_iter().for_each(|running| drop(running.wait().succeeds()));
    let mut ranges: Vec<(u64, u64)> = names.iter().map(|name| range(pid(&shop, name), "uid_map")).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:?} do not overlap");
    let restarted = range(pid(&shop, "c3"), "uid_map");
    shop.said(&["stop", "c3"]);
    shop.said(&["start", "c3"]);
    assert_eq!(range(pid(&shop, "c3"), "uid_map"), restarted, "its users are its own as long as it is there");
    shop.said(&["rm", "-f", "c3"]);
    own_users(&shop, "c6", &[], "exec sleep 1000");
    assert_eq!(range(pid(&shop, "c6"), "uid_map"), restarted, "and another's afterwards");
}

#[test]
fn what_is_written_belongs_to_the_same_users_everywhere() {
    let shop = mapping_shop!();
    let script =
        "echo own > /own; chown 1000:33 /own; chmod 640 /own; echo more >> /etc/passwd; rm /etc/group";
    shop.with("run", &["--name", "job", "--userns", "auto"], &["sh", "-c", script]).output().succeeds();
    let upper = upper(&shop, "job");
    assert_eq!(owner(&upper.join("own")), (1000, 33));
    assert_eq!(owner(&upper.join("etc/passwd")), (0, 0));
    let changes = shop.said(&["diff", "job"]);
    for change in ["A /own", "C /etc/passwd", "D /etc/group"] {
        assert!(changes.lines().any(|line| line == change), "{changes}");
    }
    let archive = shop.path("export.tar");
    shop.said(&["export", "-o", archive.to_str().unwrap(), "job"]);
    let tar = shop.sandbox.command("tar").args(["--numeric-owner", "-tvf"]).arg(&archive).output().succeeds();
    let owners = |name: &str| {
        let line = tar.stdout.lines().find(|line| line.trim_start_matches("./").ends_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((owners("own"), owners("bin/busybox")), ("1000/33".to_owned(), "0/0".to_owned()));
    shop.said(&["start", "job"]);
    shop.said(&["wait", "job"]);
    assert_eq!(owner(&upper.join("own")), (1000, 33), "the second start finds its own file");
}

#[test]
fn a_volume_is_the_same_for_containers_with_different_users() {
    let shop = mapping_shop!();
    let script = "echo one > /data/file; chown 1000:33 /data/file; chmod 600 /data/file; chown 1000 /data";
    shop.script(&["--userns", "auto", "-v", "data:/data"], script).output().succeeds();
    let file = shop.path("engine/volumes/data/data/file");
    assert_eq!(owner(&file), (1000, 33), "on disk it is as it is inside");
    own_users(&shop, "holds-the-first-ids", &[], "exec sleep 1000");
    let script = "stat -c %u:%g /data/file; cat /data/file; echo two >> /data/file";
    let other = ["--userns", "auto", "--user", "1000:33", "-v", "data:/data"];
    shop.script(&other, script).output().succeeds().prints("1000:33\none\n");
    shop.script(&["-v", "data:/data"], "cat /data/file").output().succeeds().prints("one\ntwo\n");
}

#[test]
fn users_are_shared_with_a_container() {
    let shop = mapping_shop!();
    own_users(&shop, "holds-the-first-ids", &[], "exec sleep 1000");
    let first = own_users(&shop, "one", &[], "exec sleep 1000");
    let script = "id -u; stat -c %u /bin/busybox; echo x > /new; chown 7 /new; exec sleep 1000";
    let options = ["-d", "--name", "two", "--userns", "container:one"];
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    let namespace = |pid: u64| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(namespace(first), namespace(pid(&shop, "two")));
    assert_ne!(namespace(first), fs::read_link("/proc/self/ns/user").unwrap());
    let new = upper(&shop, "two").join("new");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !(new.exists() && owner(&new).0 == 7) && std::time::Instant::now() < end {}
    assert_eq!(owner(&new), (7, 0));
    assert_eq!(shop.said(&["logs", "two"]), "0\n0\n");
    shop.service("hosts", "exec sleep 1000");
    let options = ["--userns", "container:hosts"];
    shop.script(&options, "id -u").output().succeeds().prints("0\n");
}

/// Runs a command where the files of subordinate ids say this.
fn with_ranges(shop: &Shop, ranges: &str, words: &[&str]) -> Run {
    let file = shop.path("ranges");
    fs::write(&file, ranges).unwrap();
    let script = "for f in subuid subgid; do mount --bind $0 /etc/$f || exit 9; done; exec \"$@\"";
    let run = shop.sandbox.command("unshare").args(["-m", "--propagation", "private", "sh", "-c", script]);
    let run = run.arg(&file).arg(env!("CARGO_BIN_EXE_bulkhead"));
    run.arg("--root").arg(shop.path("engine")).arg("--run").arg(shop.path("engine-run")).args(words)
}

fn has_ranges() -> bool {
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists())
}

#[test]
fn ids_are_those_that_the_host_sets_aside() {
    let shop = mapping_shop!();
    requires!(has_ranges(), "needs /etc/subuid and /etc/subgid");
    let parent = shop.parent();
    let words = ["run", "--rm", "--cgroup-parent", &parent, "--userns", "auto", IMAGE];
    let script = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map";
    let run = |ranges: &str| with_ranges(&shop, ranges, &[&words[..], &["sh", "-c", script]].concat());
    let ranges = "person:100000:65536\ncontainers:2000000:70000\nothers:5000000:65536\n";
    run(ranges).output().succeeds().prints(" 0 2000000 65536\n 0 2000000 65536\n");
    let chosen = run(ranges).env("BULKHEAD_SUBID_OWNER", "others").output().succeeds();
    chosen.prints(" 0 5000000 65536\n 0 5000000 65536\n");
    let missing = run(ranges).env("BULKHEAD_SUBID_OWNER", "nobody-has-it").output().exits_with(125);
    missing.complains("BULKHEAD_SUBID_OWNER=nobody-has-it").complains("must both have a line for this owner");
    let few = run("containers:2000000:1000\n").output().exits_with(125);
    few.complains("there are not 65536 ids left").complains("/etc/subuid");
    assert_eq!(shop.said(&["ps", "-aq"]), "", "nothing is left of what could not be");
}

#[test]
fn an_owner_of_this_machine_is_a_user_of_the_container() {
    let shop = mapping_shop!();
    let directory = shop.path("mine");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("old"), "old\n").unwrap();
    for path in [&directory, &directory.join("old")] {
        chown(path, Some(54_321), Some(54_322)).unwrap();
    }
    fs::set_permissions(directory.join("old"), fs::Permissions::from_mode(0o600)).unwrap();
    let script = "stat -c %u:%g /x /x/old; echo more >> /x/old; echo new > /x/new; stat -c %u:%g /x/new";
    let bind = |option: &str| format!("{}:/x:{option}", directory.display());
    let mount = |option: &str| format!("type=bind,source={},target=/x,{option}", directory.display());
    let (plain, typed) = (bind("owner=1000:33"), mount("owner=7:8"));
    for (number, (options, inside)) in [
        (&["--user", "1000:33", "-v", &plain][..], "1000:33"),
        (&["--mount", &mount("owner")], "0:0"),
        (&["--user", "7:8", "--mount", &typed], "7:8"),
        (&["--user", "7:8", "--userns", "auto", "--mount", &typed], "7:8"),
        (&["--userns", "auto", "-v", &bind("owner")], "0:0"),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = format!("{inside}\n{inside}\n{inside}\n");
        shop.script(options, script).output().succeeds().prints(&shown);
        assert_eq!(owner(&directory.join("new")), (54_321, 54_322), "what {inside} makes is the owner's");
        let lines = fs::read_to_string(directory.join("old")).unwrap().lines().count();
        assert_eq!(lines, number + 2, "{inside} may write what is the owner's");
        fs::remove_file(directory.join("new")).unwrap();
    }
    // Root of a container that maps to somebody else goes on as without the option.
    shop.script(&["-v", &bind("owner=7:8")], "echo root > /x/root; stat -c %u /x/root").output().succeeds();
    assert_eq!(owner(&directory.join("root")), (0, 0));
    let missing = bind("owner").replace("mine", "not-there");
    let refused = shop.script(&["-v", &missing], "true").output().exits_with(125);
    refused.complains("its source is not there, so that nobody owns it");
}

#[test]
fn an_owner_of_this_machine_is_a_user_by_name_also_of_a_volume() {
    let shop = mapping_shop!();
    let script = "echo x > /data/file; chown 54321:54321 /data";
    shop.script(&["-v", "data:/data"], script).output().succeeds();
    let directory = shop.path("mine");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(54_321), Some(54_321)).unwrap();
    let bind = format!("{}:/x:owner=user", directory.display());
    let script = "stat -c %U:%G /x; stat -c %U:%G /data";
    let options = ["-v", &bind, "-v", "data:/data:owner=user:extra"];
    shop.script(&options, script).output().succeeds().prints("user:user\nuser:extra\n");
    let unknown = format!("{}:/x:owner=no-such", directory.display());
    shop.script(&["-v", &unknown], "true").output().exits_with(125).complains("no such user");
}

#[test]
fn files_of_a_bind_mount_are_mapped_by_the_containers_users() {
    let shop = mapping_shop!();
    let directory = shop.path("shared");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("roots"), "").unwrap();
    let bind = |option: &str| format!("{}:/x{option}", directory.display());
    let script = "stat -c %u /x/roots; touch /x/new && chown 5:6 /x/new";
    shop.script(&["--userns", "auto", "-v", &bind(":idmap")], script).output().succeeds().prints("0\n");
    assert_eq!(owner(&directory.join("new")), (5, 6));
    let script = "stat -c %u /x/roots; touch /x/other || echo closed";
    let plain = shop.script(&["--userns", "auto", "-v", &bind("")], script).output().succeeds();
    assert_eq!(plain.stdout, "65534\nclosed\n", "without it they are the host's, who is nobody there");
    shop.script(&["-v", &bind(":idmap")], "true").output().exits_with(125).complains("use owner");
    let range = bind(":idmap=uids=0-54321-10;gids=0-54321-10");
    shop.script(&["-v", &range], "stat -c %u:%g /x/new").output().succeeds().prints("54326:54327\n");
}

#[test]
fn what_cannot_be_mapped_is_told() {
    let shop = mapping_shop!();
    let root = shop.path("rootfs");
    bulkhead_testkit::rootfs::create(&root);
    let parent = shop.parent();
    let directory = root.to_str().unwrap();
    let over = format!("{directory}:O");
    let run = |root: &str, options: &[&str]| {
        let words = [&["run", "--rm", "--cgroup-parent", &parent], options, &["--rootfs", root, "id", "-u"]];
        shop.bulkhead(&words.concat())
    };
    let refused = run(directory, &["--userns", "auto"]).output().exits_with(125);
    refused.complains("--userns auto: the files of --rootfs").complains(":O");
    run(&over, &["--userns", "auto"]).output().succeeds().prints("0\n");
    for (userns, words) in [
        ("keep-id", "it is for ordinary users"),
        ("nomap", "auto maps nobody"),
        ("auto:size=5", "the image's files of users go up to"),
        ("container:nobody", "no such container: nobody"),
    ] {
        shop.script(&["--userns", userns], "true").output().exits_with(125).complains(words);
    }
    let far = shop.script(&["--userns", "auto", "--user", "100000"], "true").output().exits_with(125);
    far.complains("are not among those of the container's user namespace");
    shop.service("stopped", "exit 0");
    shop.said(&["wait", "stopped"]);
    let refused = shop.script(&["--userns", "container:stopped"], "true").output().exits_with(125);
    refused.complains("that container does not run");
    let foreign = ["--userns", "auto", "--runtime", "/bin/true"];
    shop.script(&foreign, "true").output().exits_with(125).complains("only bulkrun shows an image's files");
    shop.script(&["--userns", "host"], "cat /proc/self/uid_map | tr -s ' '")
        .output()
        .succeeds()
        .prints(" 0 0 4294967295\n");
}

#[test]
fn an_image_of_a_container_has_the_owners_that_it_saw() {
    let shop = mapping_shop!();
    let script = "echo own > /own; chown 1000:33 /own; chmod 4750 /own; rm /etc/group; rm -r /home; mkdir /home; \
                  echo ready; exec sleep 1000";
    own_users(&shop, "job", &[], script);
    wait_until("it is ready", || shop.said(&["logs", "job"]) == "ready\n");
    for (image, stop) in [("of-running:1", false), ("of-stopped:1", true)] {
        if stop {
            shop.said(&["stop", "-t", "0", "job"]);
        }
        shop.said(&["commit", "job", image]);
        let script = "stat -c '%u:%g %a' /own; ls /home; test -e /etc/group || echo gone; stat -c %u / /etc";
        for options in [&["--rm"][..], &["--rm", "--userns", "auto"]] {
            let run = shop.of("run", options, image, &["sh", "-c", script]);
            run.output().succeeds().prints("1000:33 4750\ngone\n0\n0\n");
        }
    }
}

#[test]
fn files_are_copied_as_the_users_of_the_container_see_them() {
    let shop = mapping_shop!();
    let here = shop.path("here");
    fs::create_dir_all(here.join("dir/sub")).unwrap();
    fs::write(here.join("file"), "one").unwrap();
    fs::write(here.join("dir/sub/x"), "x").unwrap();
    chown(here.join("file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o4640)).unwrap();
    let tar = shop.sandbox.command("tar").args(["--owner=5", "--group=6", "-cf", "a.tar", "dir"]);
    tar.current_dir(&here).output().succeeds();
    own_users(&shop, "holds-the-first-ids", &[], "exec sleep 1000");
    let copy = |words: &[&str]| {
        let archive = fs::read(here.join("a.tar")).unwrap();
        shop.bulkhead(&[&["cp"], words].concat()).current_dir(&here).input(archive).output()
    };
    for (name, users) in [("auto", ["--userns", "auto"]), ("mapped", ["--uidmap", "0:70000:100"])] {
        let options = ["--name", name, users[0], users[1], "-v", &format!("{name}:/data")];
        shop.with("create", &options, &["sleep", "1000"]).output().succeeds();
        let target = |path: &str| format!("{name}:{path}");
        for round in ["stopped", "running"] {
            let at = |directory: &str| target(&format!("{directory}/{round}"));
            copy(&["file", &at("/tmp")]).succeeds();
            copy(&["-a", "file", &at("/data")]).succeeds();
            copy(&["dir", &at("")]).succeeds();
            copy(&["-", &target("/data")]).succeeds();
            copy(&["-a", &at("/data"), "back"]).succeeds();
            assert_eq!(owner(&here.join("back")), (7, 8), "{name} {round}");
            copy(&[&at("/data"), "mine"]).succeeds();
            assert_eq!(owner(&here.join("mine")), (0, 0), "{name} {round}");
            copy(&["/etc/hostname", &target("/none/")]).exits_with(1).complains("there is no such directory");
            if round == "stopped" {
                shop.said(&["start", name]);
            }
            let script = format!(
                "cd /; stat -c '%u:%g %a' tmp/{round} data/{round}; stat -c %u:%g {round}/sub/x data/dir/sub/x; cat {round}/sub/x"
            );
            let seen = shop.said(&["exec", name, "sh", "-c", &script]);
            assert_eq!(seen, "0:0 640\n7:8 4640\n0:0\n5:6\nx", "{name} {round}");
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(shop.sandbox.name()), "nothing is mounted on the host: {mounts}");
}

#[test]
fn files_are_copied_to_where_they_are_as_on_the_host_by_its_numbers() {
    let shop = mapping_shop!();
    let here = shop.path("here");
    let layer = fs::read_dir(shop.path("engine/layers")).unwrap().next().unwrap().unwrap().path();
    for part in ["bound", "mapped", "owned"] {
        fs::create_dir_all(here.join(part)).unwrap();
        chown(here.join(part), Some(70_000), Some(70_000)).unwrap();
    }
    shop.sandbox.command("cp").arg("-a").arg(&layer).arg(here.join("root")).output().succeeds();
    shop.sandbox.command("chown").args(["-R", "70000:70000"]).arg(here.join("root")).output().succeeds();
    chown(here.join("mapped"), Some(0), Some(0)).unwrap();
    fs::write(here.join("file"), "one").unwrap();
    chown(here.join("file"), Some(7), Some(8)).unwrap();
    let at = |part: &str| here.join(part).display().to_string();
    let volumes = [
        format!("{}:/bound", at("bound")),
        format!("{}:/mapped:idmap", at("mapped")),
        format!("{}:/owned:owner=33", at("owned")),
    ];
    let users = ["--uidmap", "0:70000:100"];
    let [bound, mapped, owned] = volumes.each_ref().map(String::as_str);
    let options = [&["--name", "layers"], &users[..], &["-v", bound, "-v", mapped, "-v", owned]].concat();
    shop.with("create", &options, &["sleep", "1000"]).output().succeeds();
    let root = at("root");
    let options =
        [&["create", "--name", "rooted"], &users[..], &["--rootfs", &root, "sleep", "1000"]].concat();
    shop.bulkhead(&options).output().succeeds();
    let copy = |words: &[&str]| shop.bulkhead(&[&["cp"], words].concat()).current_dir(&here).output();
    for (target, on_disk, first) in [
        ("layers:/bound/", "bound/file", 70_000),
        ("rooted:/tmp/", "root/tmp/file", 70_000),
        ("layers:/mapped/", "mapped/file", 0),
    ] {
        copy(&["file", target]).succeeds();
        assert_eq!(owner(&here.join(on_disk)), (first, first), "{target} by the container's root");
        copy(&["-a", "file", target]).succeeds();
        assert_eq!(owner(&here.join(on_disk)), (first + 7, first + 8), "{target} by numbers");
        copy(&["-a", &format!("{target}file"), "back"]).succeeds();
        assert_eq!(owner(&here.join("back")), (7, 8), "{target}");
    }
    copy(&["file", "layers:/owned/"]).exits_with(1).complains("`bulkhead start layers` first");
    shop.said(&["start", "layers"]);
    copy(&["file", "layers:/owned/"]).succeeds();
    let seen =
        shop.said(&["exec", "layers", "stat", "-c", "%u:%g", "/bound/file", "/mapped/file", "/owned/file"]);
    assert_eq!(seen, "7:8\n7:8\n0:0\n");
}
