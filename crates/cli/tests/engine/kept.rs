//! What is kept of containers: logs, by their drivers and options, and sizes.

use std::os::unix::net::UnixDatagram;

use bulkhead_testkit::{in_fresh_namespaces, wait_until};
use serde_json::Value;

use crate::shop::{Shop, shop};

#[test]
fn a_log_has_a_size_and_a_number_of_files() {
    let shop = shop!();
    let options = ["--name", "job", "--log-opt", "max-size=2k", "--log-opt", "max-file=3"];
    let script = "i=0; while [ $i -lt 200 ]; do echo line-$i; i=$((i+1)); done";
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    let path = shop.inspect("job")["LogPath"].as_str().unwrap().to_owned();
    let exists = |suffix: &str| std::path::Path::new(&format!("{path}{suffix}")).exists();
    assert_eq!(["", ".1", ".2", ".3"].map(exists), [true, true, true, false]);
    let said = shop.said(&["logs", "job"]);
    assert!(said.ends_with("line-199\n") && !said.contains("line-0\n"), "{said}");
    let numbers = Vec::from_iter(said.lines().map(|line| line[5..].parse::<u32>().unwrap()));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line between is missing");
}

#[test]
fn lines_of_a_log_say_what_they_are_to_say() {
    let shop = shop!();
    let options = [
        "--name",
        "job",
        "-l",
        "app=web site",
        "-e",
        "STAGE=test",
        "--log-opt",
        "labels=app",
        "--log-opt",
        "env=STAGE",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
    ];
    shop.with("run", &options, &["echo", "hello"]).output().succeeds();
    let path = shop.inspect("job")["LogPath"].as_str().unwrap().to_owned();
    let line: Value = serde_json::from_str(std::fs::read_to_string(path).unwrap().trim_end()).unwrap();
    let expected = serde_json::json!({ "STAGE": "test", "app": "web site", "tag": "job/busybox:test" });
    assert_eq!((&line["log"], &line["attrs"]), (&Value::from("hello\n"), &expected));
    assert_eq!(
        shop.said(&["logs", "--details", "job"]),
        "STAGE=test,app=web+site,tag=job%2Fbusybox%3Atest hello\n"
    );
    let config = &shop.inspect("job")["HostConfig"]["LogConfig"];
    assert_eq!(
        (&config["Type"], &config["Config"]["labels"]),
        (&Value::from("json-file"), &Value::from("app"))
    );
}

#[test]
fn drivers_and_options_that_are_not_there_are_refused() {
    let shop = shop!();
    for (options, words) in [
        (&["--log-driver", "syslog"][..], "json-file, journald, none"),
        (&["--log-opt", "compress=true"], "not compressed"),
        (&["--log-opt", "mode=non-blocking"], "json-file has the options"),
        (&["--log-opt", "max-size=0"], "at least one byte"),
        (&["--log-driver", "none", "--log-opt", "tag=x"], "no options"),
        (&["--log-driver", "journald", "--log-opt", "max-size=1m"], "journald has the options"),
        (&["--log-opt", "tag={{.Nothing}}"], "a tag may have"),
    ] {
        let output = shop.with("run", &[&["--rm"], options].concat(), &["true"]).output().exits_with(125);
        assert!(output.stderr.contains(words), "{options:?}: {}", output.stderr);
    }
    shop.with("run", &["--name", "mute", "--log-driver", "none"], &["echo", "hello"])
        .output()
        .succeeds()
        .prints("hello\n");
    shop.bulkhead(&["logs", "mute"]).output().exits_with(1).complains("it keeps none");
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "mute\n");
}

/// The journal's socket is at one place on a machine, so this test has a `/run` of its own.
#[test]
fn the_journal_gets_an_entry_for_each_line() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status().unwrap();
    assert!(mounted.success(), "this mount namespace is the test's own");
    let socket = std::path::Path::new("/run/systemd/journal/socket");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let shop = Shop::new();
    for (verb, code) in [("create", 1), ("run", 125)] {
        let refused = shop.with(verb, &["--log-driver", "journald"], &["true"]).output().exits_with(code);
        let told = "--log-driver journald: no journal can be reached at /run/systemd/journal/socket";
        assert!(refused.stderr.contains(told) && refused.stderr.contains("json-file"), "{}", refused.stderr);
    }
    assert_eq!(shop.said(&["ps", "-aq"]), "", "nothing was made");
    let journal = UnixDatagram::bind(socket).unwrap();
    journal.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let options = [
        "--name",
        "job",
        "--log-driver",
        "journald",
        "--log-opt",
        "tag={{.Name}}",
        "-l",
        "my.app=x",
        "--log-opt",
        "labels=my.app",
    ];
    let script = "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' y; printf '\\033[1m\\n'";
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    let id = shop.inspect("job")["Id"].as_str().unwrap().to_owned();
    let mut entries = Vec::new();
    while entries.len() < 4 {
        let mut buffer = vec![0; 1 << 20];
        let length = journal.recv(&mut buffer).unwrap();
        entries.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let id = [format!("CONTAINER_ID_FULL={id}\n"), format!("CONTAINER_ID={}\n", &id[..12])];
    let told = ["CONTAINER_NAME=job\n", "CONTAINER_TAG=job\n", "SYSLOG_IDENTIFIER=job\n", "MY_APP=x\n"];
    for entry in &entries {
        for field in
            told.iter().copied().chain(id.iter().map(String::as_str)).chain(["IMAGE_NAME=busybox:test\n"])
        {
            assert!(entry.contains(field), "{field} is not in {entry}");
        }
    }
    let of = |text: &str| entries.iter().find(|entry| entry.contains(text)).unwrap();
    assert!(of("MESSAGE=out\n").contains("PRIORITY=6\n"));
    assert!(of("MESSAGE=err\n").contains("PRIORITY=3\n"));
    let partial = entries.iter().filter(|entry| entry.contains("CONTAINER_PARTIAL_MESSAGE=true\n")).count();
    assert_eq!(partial, 1, "a long line comes in parts");
    let logs = shop.bulkhead(&["logs", "job"]).output().exits_with(1);
    assert!(logs.stderr.contains("journalctl CONTAINER_ID_FULL="), "{}", logs.stderr);
}

#[test]
fn sizes_are_those_of_the_files_that_were_written() {
    let shop = shop!();
    let script =
        "head -c 5000 /dev/zero > /one; ln /one /two; mkdir /d; rm /bin/cat; ln -s /x /link; sleep 1000";
    shop.service("web", script);
    wait_until("it is written", || {
        shop.bulkhead(&["exec", "web", "test", "-L", "/link"]).output().code() == 0
    });
    let document: Value = serde_json::from_str(&shop.said(&["inspect", "--size", "web"])).unwrap();
    let (written, whole) =
        (document[0]["SizeRw"].as_u64().unwrap(), document[0]["SizeRootFs"].as_u64().unwrap());
    assert_eq!(written, 5002, "a file with two names counts once, directories and deletions do not");
    let image: u64 =
        shop.said(&["image", "inspect", "-f", "{{.Size}}", "busybox:test"]).trim().parse().unwrap();
    assert_eq!(whole, image + written);
    assert!(shop.inspect("web")["SizeRw"].is_null(), "nobody asked");
    let table = shop.said(&["ps", "--size"]);
    let (title, row) = table.split_once('\n').unwrap();
    assert!(title.ends_with("NAMES  SIZE") || title.trim_end().ends_with("SIZE"), "{title}");
    assert!(row.contains("5kB (virtual "), "{row}");
    assert_eq!(shop.said(&["ps", "--format", "{{.Names}}"]), "web\n");
    assert!(shop.said(&["ps", "--format", "{{.Size}}"]).starts_with("5kB (virtual"));
}

#[test]
fn what_a_container_changed_is_told_as_docker_tells_it() {
    let shop = shop!();
    let script = "mkdir /old /old/sub; echo x > /old/sub/file; echo y > /old/kept; ln /old/kept /old/linked";
    shop.with("run", &["--name", "first"], &["sh", "-c", script]).output().succeeds();
    assert_eq!(
        shop.said(&["diff", "first"]),
        "A /old\nA /old/kept\nA /old/linked\nA /old/sub\nA /old/sub/file\n",
        "a file with two names is two changes"
    );
    shop.said(&["commit", "first", "second"]);
    let parent = shop.parent();
    let run = |name: &str, script: &str| {
        let words = ["run", "--name", name, "--cgroup-parent", &parent, "second", "sh", "-c", script];
        shop.bulkhead(&words).output().succeeds();
        shop.said(&["diff", name])
    };
    // A directory that went and came again hides what was in it, whatever else is there now.
    assert_eq!(
        run("opaque", "rm -r /old; mkdir /old; echo z > /old/new; echo y > /old/kept"),
        "C /old\nC /old/kept\nD /old/linked\nA /old/new\nD /old/sub\n"
    );
    assert_eq!(run("gone", "rm -r /old"), "D /old\n");
    assert_eq!(run("file", "rm -r /old; echo x > /old"), "C /old\n");
    assert_eq!(run("hard", "ln /old/kept /old/third"), "C /old\nA /old/third\n");
    assert_eq!(run("through", "echo more >> /old/linked"), "C /old\nC /old/linked\n");
    assert_eq!(run("touched", "chmod 700 /old/sub"), "C /old\nC /old/sub\n");
    assert_eq!(
        run("nothing", "ls -lR / > /dev/null; touch /tmp/x; rm /tmp/x"),
        "",
        "a directory's time is no change"
    );
}
