//! Labels of SELinux where a policy is enforced: `cargo xtask vm test --lsm selinux` runs these in a guest that has one.

use std::fs;
use std::path::Path;

use bulkhead_testkit::{is_root, requires, wait_until};

use crate::person::{RANGE, person};
use crate::shop::{IMAGE, Shop};

const NEEDED: &str = "needs root, and SELinux that enforces a policy for containers (container_t)";

const PROCESS: &str = "system_u:system_r:container_t:";
const FILE: &str = "system_u:object_r:container_file_t:";

fn has_selinux() -> bool {
    let enforces = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|mode| mode.trim() == "1");
    // Writing a label asks whether the policy knows it.
    is_root() && enforces && fs::write("/sys/fs/selinux/context", format!("{PROCESS}s0:c1,c2")).is_ok()
}

/// Says which label it has.
const WHO: &str = "cat /proc/self/attr/current; echo";

/// What a container says: it writes it to a file, since a policy takes the descriptors of tests away.
struct Told {
    code: i32,
    text: String,
}

/// Runs a script in a container that is removed, or by `exec` in one that is there and has [`outbox`] as its own.
fn tell(shop: &Shop, exec: Option<&str>, options: &[&str], script: &str) -> Told {
    let script = format!("exec >/out/text 2>&1; {script}");
    let command = ["sh", "-c", &script];
    let output = match exec {
        Some(name) => shop.bulkhead(&[&["exec", name], &command[..]].concat()).output(),
        None => {
            let out = outbox(shop);
            shop.with("run", &[&["--rm", "-v", &out], options].concat(), &command).output()
        }
    };
    let file = shop.path("outbox/text");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {output}"));
    fs::remove_file(file).unwrap();
    Told { code: output.code(), text }
}

/// The volume by which a container tells something.
fn outbox(shop: &Shop) -> String {
    fs::create_dir_all(shop.path("outbox")).unwrap();
    format!("{}:/out:z", shop.path("outbox").display())
}

impl Told {
    #[track_caller]
    fn is(&self, text: &str) {
        assert_eq!((self.code, said(&self.text)), (0, text));
    }

    #[track_caller]
    fn is_denied(&self) {
        assert!(self.code != 0 && self.text.contains("Permission denied"), "{}", self.text);
    }
}

/// What a file or directory is labelled as.
#[track_caller]
fn label_of(shop: &Shop, path: &Path) -> String {
    shop.sandbox.command("stat").args(["-c", "%C"]).arg(path).output().succeeds().stdout.trim().to_owned()
}

/// What the first process of a container is labelled as, seen from the host.
#[track_caller]
fn label_of_process(shop: &Shop, name: &str) -> String {
    let pid = shop.inspect(name)["State"]["Pid"].as_u64().unwrap();
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// The sensitivity and categories of a label.
fn level(label: &str) -> &str {
    label.splitn(4, ':').nth(3).unwrap_or_default()
}

fn said(text: &str) -> &str {
    text.trim_end_matches(['\0', '\n'])
}

/// A directory of the host with a file, labelled as the host's own are.
fn directory(shop: &Shop, name: &str) -> std::path::PathBuf {
    let directory = shop.path(name);
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("below/file"), "told\n").unwrap();
    directory
}

fn bind(directory: &Path, option: &str) -> String {
    format!("{}:/x{option}", directory.display())
}

#[test]
fn containers_have_labels_of_their_own() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    let script = "echo x > /file; echo x > /dev/shm/file; sleep 1000";
    let run = shop.with("run", &["-d", "--name", "web", "-v", &outbox(&shop)], &["sh", "-c", script]);
    run.output().succeeds();
    shop.service("other", "sleep 1000");
    let label = label_of_process(&shop, "web");
    let own = level(&label);
    assert!(label.starts_with(PROCESS) && own.starts_with("s0:c"), "{label}");
    assert_ne!(level(&label_of_process(&shop, "other")), own, "another container has other categories");
    tell(&shop, Some("web"), &[], WHO).is(&label);
    let pid = shop.inspect("web")["State"]["Pid"].as_u64().unwrap();
    for name in ["/file", "/dev/shm/file", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/bin/busybox"]
    {
        let path = format!("/proc/{pid}/root{name}");
        assert_eq!(label_of(&shop, Path::new(&path)), format!("{FILE}{own}"), "{name}");
    }
    tell(&shop, Some("web"), &[], "cat /etc/hosts /etc/hostname /etc/resolv.conf >/dev/null && echo read")
        .is("read");
    shop.said(&["restart", "web"]);
    assert_eq!(label_of_process(&shop, "web"), label, "it is the same for as long as it is there");
}

#[test]
fn what_is_bound_is_the_host_s_unless_it_is_labelled() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    let bound = directory(&shop, "bound");
    let before = label_of(&shop, &bound);
    let read = "cat /x/below/file && echo new > /x/new";
    tell(&shop, None, &["-v", &bind(&bound, "")], read).is_denied();
    assert_eq!(label_of(&shop, &bound), before, "who asks for no label changes none");
    tell(&shop, None, &["-v", &bind(&bound, ":z")], read).is("told");
    for file in ["", "below", "below/file"] {
        assert_eq!(label_of(&shop, &bound.join(file)), format!("{FILE}s0"), "{file}");
    }
    // It is for all containers.
    tell(&shop, None, &["-v", &bind(&bound, "")], "cat /x/below/file").is("told");
}

#[test]
fn what_is_labelled_for_one_container_is_no_other_s() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    let bound = directory(&shop, "bound");
    let volume = bind(&bound, ":Z");
    let read = "cat /x/below/file && echo new > /x/new";
    let out = outbox(&shop);
    let run = shop.with("run", &["-d", "--name", "one", "-v", &volume, "-v", &out], &["sleep", "1000"]);
    run.output().succeeds();
    let own = format!("{FILE}{}", level(&label_of_process(&shop, "one")));
    for file in ["", "below", "below/file"] {
        assert_eq!(label_of(&shop, &bound.join(file)), own, "{file}");
    }
    tell(&shop, Some("one"), &[], read).is("told");
    tell(&shop, None, &["-v", &bind(&bound, "")], "cat /x/below/file").is_denied();
    // Whoever takes it over has it alone.
    tell(&shop, None, &["-v", &volume], read).is("told");
    tell(&shop, Some("one"), &[], "cat /x/below/file").is_denied();
    // And its next start takes it back.
    shop.said(&["restart", "one"]);
    assert_eq!(label_of(&shop, &bound.join("below/file")), own);
    tell(&shop, Some("one"), &[], read).is("told");
}

#[test]
fn the_host_s_own_directories_keep_their_labels() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    for (of, option) in [("/etc", "z"), ("/usr", "Z"), ("/", "z"), ("/root", "Z"), ("/var/run", "z")] {
        let before = label_of(&shop, Path::new(of));
        let refused = shop.script(&["-v", &format!("{of}:/x:{option}")], "true").output();
        refused.exits_with(125).complains(&format!("label of {of}"));
        assert_eq!(label_of(&shop, Path::new(of)), before, "{of}");
    }
}

#[test]
fn volumes_are_for_all_containers() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    tell(&shop, None, &["-v", "data:/x"], "echo told > /x/file && echo done").is("done");
    let data = shop.said(&["volume", "inspect", "--format", "{{.Mountpoint}}", "data"]);
    assert_eq!(label_of(&shop, Path::new(data.trim())), format!("{FILE}s0"));
    // Whose a new file is, the policy decides.
    tell(&shop, None, &["-v", "data:/x"], "ls /x; echo more > /x/other && echo done").is("file\ndone");
}

#[test]
fn labels_are_chosen() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    let option = |value: &str| format!("--security-opt=label={value}");
    let who = |options: &[&str]| said(&tell(&shop, None, options, WHO).text).to_owned();
    let (chosen, level) = (option("level:s0:c7,c8"), format!("{PROCESS}s0:c7,c8"));
    assert_eq!(who(&[&chosen]), level);
    // What a container of these categories has labelled, another of them may use.
    let bound = directory(&shop, "bound");
    tell(&shop, None, &[&chosen, "-v", &bind(&bound, ":Z")], "cat /x/below/file").is("told");
    tell(&shop, None, &[&chosen, "-v", &bind(&bound, "")], "cat /x/below/file").is("told");

    let host = fs::read_to_string("/proc/self/attr/current").unwrap();
    for options in [&[option("disable").as_str()][..], &["--privileged"], &["--pid=host"], &["--ipc=host"]] {
        assert_eq!(who(options), said(&host), "{options:?} gives a label");
    }
    assert_eq!(who(&["--privileged", &chosen]), level, "who names one has it");
    let unknown = shop.script(&[&option("type:no_such_domain_t")], "true").output();
    assert!(unknown.code() != 0 && unknown.stderr.contains("no_such_domain_t"), "{unknown}");
}

#[test]
fn containers_that_share_processes_or_memory_share_a_label() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    let script = "echo told > /dev/shm/file; sleep 1000";
    let run = shop.with("run", &["-d", "--name", "one", "--ipc=shareable"], &["sh", "-c", script]);
    run.output().succeeds();
    let label = label_of_process(&shop, "one");
    let both = ["--pid=container:one", "--ipc=container:one"];
    for options in [&both[..1], &both[1..], &both[..]] {
        tell(&shop, None, options, WHO).is(&label);
    }
    tell(&shop, None, &both[1..], "cat /dev/shm/file").is("told");
    shop.said(&["pod", "create", "--name", "pod"]);
    let of_pod = |name: &str| {
        let run = shop.with("run", &["-d", "--name", name, "--pod", "pod"], &["sleep", "1000"]);
        run.output().succeeds();
        label_of_process(&shop, name)
    };
    assert_eq!(of_pod("first"), of_pod("second"));
}

#[test]
fn what_is_said_and_typed_goes_by_files_of_the_caller() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    shop.service("web", "sleep 1000");
    fs::write(shop.path("typed"), "typed\n").unwrap();
    let parent = shop.parent();
    for words in [&["run", "--rm", "-i", "--cgroup-parent", &parent, IMAGE][..], &["exec", "-i", "web"]] {
        let words = [words, &["sh", "-c", "cat; echo said; echo told >&2"]].concat();
        let by_files = ["-c", "exec \"$@\" <typed >said 2>told", "sh"];
        let shell = shop.sandbox.command("sh").current_dir(shop.sandbox.directory()).args(by_files);
        shop.bulkhead_by(shell, &words).output().succeeds();
        let texts = ["said", "told"].map(|name| fs::read_to_string(shop.path(name)).unwrap());
        assert_eq!(texts, ["typed\nsaid\n", "told\n"], "{words:?}");
    }
}

#[test]
fn containers_of_a_pod_use_its_memory() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new();
    shop.said(&["pod", "create", "--name", "pod"]);
    let script = "echo told > /dev/shm/file; sleep 1000";
    shop.with("run", &["-d", "--name", "one", "--pod", "pod"], &["sh", "-c", script]).output().succeeds();
    let own = level(&label_of_process(&shop, "one")).to_owned();
    let pid = shop.inspect("one")["State"]["Pid"].as_u64().unwrap();
    let file = format!("/proc/{pid}/root/dev/shm/file");
    wait_until("it is written", || fs::read_to_string(&file).is_ok_and(|text| text == "told\n"));
    assert_eq!(label_of(&shop, Path::new(&file)), format!("{FILE}{own}"));
    tell(&shop, None, &["--pod", "pod"], "cat /dev/shm/file; echo more > /dev/shm/file && echo written")
        .is("told\nwritten");
}

#[test]
fn an_init_runs_with_the_label_of_its_container() {
    requires!(has_selinux(), "{NEEDED}");
    let shop = Shop::new().with_shipped_monitor();
    let out = outbox(&shop);
    let options = ["-d", "--init", "--name", "web", "-v", &out];
    let run = shop.with("run", &options, &["sh", "-c", "exec sleep 1000"]);
    run.output().succeeds();
    let line = "tr '\\0' ' ' < /proc/1/cmdline";
    let told = tell(&shop, Some("web"), &[], line).text;
    assert!(told.starts_with("/sbin/docker-init init -- sh -c "), "{told}");
    let label = label_of_process(&shop, "web");
    assert!(label.starts_with(PROCESS), "{label}");
    // It is copied anew, whatever the program is by then.
    shop.said(&["restart", "web"]);
    assert_eq!(label_of_process(&shop, "web"), label);
}

#[test]
fn files_of_a_user_s_further_ids_are_labelled_too() {
    requires!(has_selinux(), "{NEEDED}");
    let person = person!(RANGE).with_image();
    let label = |path: &Path| {
        let output = person.shop.sandbox.command("stat").args(["-c", "%C"]).arg(path).output();
        output.succeeds().stdout.trim().to_owned()
    };
    person.said(&["volume", "create", "data"]);
    let fill = "mkdir -m 700 /data/theirs; echo x > /data/theirs/file; chown -R 33:34 /data/theirs";
    // Nothing is asked of SELinux here, so that the volume has what its place gives.
    person.run(&["--rm", "--security-opt", "label=disable", "-v", "data:/data"], fill).output().succeeds();
    let options = ["-d", "--name", "web", "-v", "data:/data"];
    person.run(&options, "exec sleep 1000").output().succeeds();
    let layers = fs::read_dir(person.root().join("layers")).unwrap();
    let file = layers.map(|layer| layer.unwrap().path().join("srv/file")).find(|file| file.exists());
    let of_layer = label(&file.expect("a layer has it"));
    assert!(of_layer.starts_with("system_u:object_r:container_"), "{of_layer}");
    let of_volume = label(&person.root().join("volumes/data/data/theirs/file"));
    assert!(of_volume.starts_with(FILE), "{of_volume}");
    let read = person.bulkhead(&["exec", "--user", "33:34", "web", "cat", "/srv/file", "/data/theirs/file"]);
    drop(read.output().succeeds());
    person.said(&["rm", "--force", "web"]);
}
