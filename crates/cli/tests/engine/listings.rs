//! What is listed, and how.

use std::fs;

use bulkhead_testkit::{find_program, requires, wait_until};
use serde_json::Value;

use crate::shop::{IMAGE, shop};

#[test]
fn containers_are_listed_as_docker_lists_them() {
    let shop = shop!();
    let id = shop.service("web", "sleep 1000");
    let table = shop.said(&["ps"]);
    let (title, row) = table.trim_end().split_once('\n').unwrap();
    assert_eq!(
        Vec::from_iter(title.split("  ").map(str::trim).filter(|word| !word.is_empty())),
        ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    );
    assert!(
        row.starts_with(&id[..12]) && row.ends_with("web") && row.contains("\"sh -c 'sleep 1000'\"")
            || row.contains("\"sh -c sleep 1000\""),
        "{row}"
    );
    let json: Value = serde_json::from_str(&shop.said(&["ps", "--format", "json"])).unwrap();
    for (field, expected) in
        [("ID", &id[..12]), ("Names", "web"), ("State", "running"), ("Image", IMAGE), ("Networks", "bridge")]
    {
        assert_eq!(json[field], expected, "{field}");
    }
    assert!(json["Status"].as_str().unwrap().starts_with("Up "), "{json}");
    assert_eq!(shop.said(&["ps", "--no-trunc", "-q"]).trim(), id);
}

#[test]
fn listing_containers_reads_no_images() {
    requires!(find_program("strace").is_some(), "needs strace");
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let trace = shop.path("trace");
    for words in [&["ps", "--all"][..], &["ps", "--all", "--filter", "ancestor=busybox:test"]] {
        let strace = shop.sandbox.command("strace").args(["--trace=openat", "-o"]).arg(&trace);
        let output = shop.bulkhead_by(strace, words).output().succeeds();
        assert!(output.stdout.contains(IMAGE), "{}", output.stdout);
        let trace = fs::read_to_string(&trace).unwrap();
        assert!(trace.contains("bulkhead.db") && !trace.contains("blobs/sha256/"), "{trace}");
    }
}

#[test]
fn filters_choose() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    shop.with("run", &["--name", "job", "--label", "team=a"], &["sh", "-c", "exit 2"]).output().exits_with(2);
    for (filter, expected) in [
        ("status=exited", "job\n"),
        ("exited=2", "job\n"),
        ("name=w.b", "web\n"),
        ("name=^/web$", "web\n"),
        ("status=dead", ""),
        ("label=team=a", "job\n"),
        ("label=org.example.made-by", "job\nweb\n"),
        ("ancestor=busybox:test", "job\nweb\n"),
    ] {
        assert_eq!(
            shop.said(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]),
            expected,
            "{filter}"
        );
    }
    // What is made of the image counts, too, and not the other way round.
    shop.with("run", &["--name", "writer"], &["touch", "/new"]).output().succeeds();
    for (container, image) in [("job", "busybox:more"), ("writer", "busybox:file")] {
        shop.said(&["commit", container, image]);
        shop.of("create", &["--name", &image[8..]], image, &[]).output().succeeds();
    }
    shop.said(&["rm", "writer"]);
    for (image, expected) in
        [(IMAGE, "file\nmore\njob\nweb\n"), ("busybox:file", "file\n"), ("nothing:1", "")]
    {
        let filter = format!("ancestor={image}");
        assert_eq!(
            shop.said(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]),
            expected,
            "{image}"
        );
    }
    shop.said(&["rm", "more", "file"]);
    let unknown = shop.bulkhead(&["ps", "--filter", "colour=red"]).output().exits_with(1);
    assert!(unknown.stderr.contains("colour") && unknown.stderr.contains("status"), "{}", unknown.stderr);
    assert_eq!(shop.said(&["ps", "-n", "0", "--format", "{{.Names}}"]), "web\n", "0 is no limit");
    assert_eq!(shop.said(&["ps", "-l", "--format", "{{.Names}}"]), "job\n");
    let labels = ["ps", "-a", "--format", "{{.Names}}={{.Label \"team\"}}", "-n", "1"];
    assert_eq!(shop.said(&labels), "job=a\n");
}

#[test]
fn inspect_has_docker_s_fields() {
    let shop = shop!();
    shop.with("create", &["--name", "job", "-m", "64m", "--restart", "on-failure:3", "-e", "A=b"], &["true"])
        .output()
        .succeeds();
    let document = shop.inspect("job");
    for (pointer, expected) in [
        ("/Name", Value::from("/job")),
        ("/State/Status", Value::from("created")),
        ("/State/Running", Value::from(false)),
        ("/State/StartedAt", Value::from("0001-01-01T00:00:00Z")),
        ("/Config/Image", Value::from(IMAGE)),
        ("/Config/Labels/org.example.made-by", Value::from("a test")),
        ("/HostConfig/Memory", Value::from(64 << 20)),
        ("/HostConfig/RestartPolicy/Name", Value::from("on-failure")),
        ("/HostConfig/RestartPolicy/MaximumRetryCount", Value::from(3)),
        ("/HostConfig/NetworkMode", Value::from("bridge")),
        ("/Path", Value::from("true")),
    ] {
        assert_eq!(document.pointer(pointer), Some(&expected), "{pointer}");
    }
    for (template, expected) in [
        ("{{.State.Status}} {{.HostConfig.Memory}}", "created 67108864\n"),
        ("{{index .Config.Labels \"org.example.made-by\"}}", "a test\n"),
        (
            "{{.State.Health}} {{.Config.ExposedPorts}} {{.ExecIDs}} {{.Config.StopSignal}}.",
            "<nil> map[] [] .\n",
        ),
        ("{{.HostConfig.PidsLimit}} {{.HostConfig.Binds}} {{.HostConfig.Mounts}}", "<nil> [] []\n"),
        ("{{index .HostConfig.MaskedPaths 0}} {{len .HostConfig.ReadonlyPaths}}", "/proc/acpi 5\n"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none\n"),
        ("{{json .State.ExitCode}}", "0\n"),
        (
            "{{range .Config.Env}}{{println .}}{{end}}",
            "A=b\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nFROM=image\n\n",
        ),
        ("{{json .Config.Cmd}} {{json .Config.Entrypoint}}", "[\"true\"] null\n"),
    ] {
        assert_eq!(shop.said(&["inspect", "--format", template, "job"]), expected, "{template}");
    }
    assert!(document["State"].get("Health").is_none(), "what nothing tells is left out");
    let mount = format!("type=bind,source={},target=/there,readonly", shop.path("").display());
    shop.with("create", &["--name", "all", "--privileged", "--mount", &mount], &["true"]).output().succeeds();
    let config = shop.inspect("all")["HostConfig"].clone();
    assert_eq!((&config["MaskedPaths"], &config["ReadonlyPaths"]), (&Value::Null, &Value::Null));
    assert_eq!(config["Mounts"][0]["Target"], "/there", "{config}");
    assert_eq!(config["Mounts"][0]["ReadOnly"], true, "{config}");
    let id = shop.said(&["info", "--format", "{{.ID}} {{.Swarm.LocalNodeState}}"]);
    assert_eq!(id, shop.said(&["info", "--format", "{{.ID}} inactive"]));
    shop.said(&["volume", "create", "data"]);
    let listed =
        shop.said(&["volume", "ls", "--format", "{{.Name}} {{.Status}} {{.Availability}} {{.Group}}"]);
    assert_eq!(listed, "data N/A N/A N/A\n");
    assert_eq!(shop.said(&["volume", "inspect", "-f", "{{.Status}}{{.UsageData}}", "data"]), "map[]<nil>\n");
    assert!(shop.inspect("data").get("Status").is_none());
}

#[test]
fn inspect_finds_anything_and_tells_what_it_does_not_find() {
    let shop = shop!();
    shop.said(&["volume", "create", "data"]);
    assert_eq!(shop.inspect("data")["Driver"], "local");
    assert_eq!(shop.inspect(IMAGE)["RepoTags"][0], IMAGE);
    let output = shop.bulkhead(&["inspect", "data", "nothing"]).output().exits_with(1);
    assert_eq!(serde_json::from_str::<Value>(&output.stdout).unwrap().as_array().unwrap().len(), 1);
    assert!(
        output.stderr.contains("no container, image, network or volume is called \"nothing\""),
        "{}",
        output.stderr
    );
    shop.bulkhead(&["inspect", "--type", "container", "data"]).output().exits_with(1);
}

#[test]
fn processes_and_what_they_use_are_shown() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    wait_until("it sleeps", || shop.said(&["top", "web"]).contains("sleep 1000"));
    let table = shop.said(&["top", "web"]);
    let words = |line: &str| Vec::from_iter(line.split_whitespace().map(str::to_owned));
    let lines = Vec::from_iter(table.lines().map(words));
    assert_eq!(lines[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(lines[1][0], "root", "users have names");
    let chosen = shop.said(&["top", "web", "-o", "pid,comm"]);
    assert!(chosen.starts_with("PID") && chosen.contains("sleep"), "{chosen}");
    shop.said(&["exec", "-d", "-u", "33", "web", "sleep", "77"]);
    wait_until("other users' processes are shown, too", || {
        shop.said(&["top", "web", "-o", "pid,args"]).contains("sleep 77")
    });
    shop.bulkhead(&["top", "web", "-o", "comm"]).output().exits_with(1).complains("PID");
    let table = shop.said(&["stats", "--no-stream"]);
    assert!(table.starts_with("CONTAINER ID") && table.contains("web"), "{table}");
    let json: Value =
        serde_json::from_str(&shop.said(&["stats", "--no-stream", "--format", "json", "web"])).unwrap();
    assert!(json["CPUPerc"].as_str().unwrap().ends_with('%'), "{json}");
}

#[test]
fn a_stop_is_told_after_the_end() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    shop.said(&["restart", "-t", "0", "web"]);
    shop.said(&["kill", "-s", "KILL", "web"]);
    shop.said(&["wait", "web"]);
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "container=web", "--format"];
    let told = shop.said(&[&words[..], &["{{.Action}}"]].concat());
    let told = Vec::from_iter(told.lines());
    assert_eq!(told[..7], ["create", "start", "kill", "die", "stop", "start", "restart"], "{told:?}");
    let signals = [&words[..], &["{{.Actor.Attributes.signal}}", "--filter", "event=kill"]].concat();
    assert_eq!(shop.said(&signals), "9\n9\n");
    let image =
        [&words[..], &["{{.Action}}", "--filter", "event=create", "--filter", "image=busybox"]].concat();
    assert_eq!(shop.said(&image), "create\n");
}

/// Fails when a start is told by whoever waited for it alone, when that comes to it.
#[test]
fn a_start_is_told_with_its_time_whoever_saw_it() {
    let shop = shop!();
    let told = |name: &str| {
        let filter = format!("container={name}");
        let words =
            ["events", "--since", "1h", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"];
        Vec::from_iter(shop.said(&words).lines().map(str::to_owned))
    };
    for name in ["one", "two", "three", "four"] {
        shop.with("run", &["-d", "--name", name], &["true"]).output().succeeds();
        shop.said(&["wait", name]);
        assert_eq!(told(name), ["create", "start", "die"], "{name}");
    }
    shop.with("run", &["-d", "--name", "web", "--restart", "always"], &["sleep", "1000"]).output().succeeds();
    let pid = || shop.inspect("web")["State"]["Pid"].as_i64().unwrap();
    let before = pid();
    shop.sandbox.command("kill").args(["-9", &before.to_string()]).output().succeeds();
    wait_until("its policy has started it again", || ![0, before].contains(&pid()));
    assert_eq!(told("web"), ["create", "start", "die", "start"]);
    let words =
        ["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--filter", "container=web"];
    let code = shop.said(&[&words[..], &["--format", "{{.Actor.Attributes.exitCode}}"]].concat());
    assert_eq!(code, "137\n");
}

#[test]
fn events_are_told() {
    let shop = shop!();
    shop.with("run", &["--name", "job"], &["true"]).output().succeeds();
    shop.said(&["rm", "job"]);
    let told = shop.said(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "type=container",
        "--format",
        "{{.Action}}",
    ]);
    for action in ["create", "start", "die", "destroy"] {
        assert!(told.lines().any(|line| line == action), "{action} is not among {told}");
    }
    let line = shop.said(&["events", "--since", "1h", "--until", "0s", "--filter", "event=create"]);
    assert!(line.contains(" container create ") && line.contains("name=job"), "{line}");
}

#[test]
fn what_happens_to_images_is_told() {
    let shop = shop!();
    shop.said(&["tag", IMAGE, "busybox:again"]);
    shop.said(&["rmi", "busybox:again"]);
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "image=busybox:again", "--format"];
    let told = shop.said(&[&words[..], &["{{.Type}} {{.Action}}"]].concat());
    // Docker does not tell which name was taken away.
    assert_eq!(told, "image tag\n");
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "event=untag", "--format"];
    let told = shop.said(&[&words[..], &["{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"]].concat());
    let id = shop.said(&["images", "--quiet", "--no-trunc", IMAGE]);
    assert_eq!(told, format!("image untag {id}"));
}

/// Fails where events keep whole scripts, or tell of what was never started.
#[test]
fn events_of_exec_are_short_and_of_what_was_started() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web"], &["sleep", "1000"]).output().succeeds();
    let script = format!("echo ran # {}", "x".repeat(100_000));
    shop.bulkhead(&["exec", "web", "sh", "-c", &script]).output().succeeds().prints("ran\n");
    shop.bulkhead(&["exec", "-d", "web", "/absent"]).output().exits_with(127);
    shop.bulkhead(&["exec", "web", "/absent"]).output().exits_with(127);
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "container=web", "--format"];
    let told = shop.said(&[&words[..], &["{{.Action}} {{.Actor.Attributes.exitCode}}"]].concat());
    let (long, others): (Vec<&str>, Vec<&str>) = told.lines().partition(|line| line.contains("xxx"));
    assert!(long.len() == 2 && long.iter().all(|line| line.len() < 1100), "{told}");
    let others = Vec::from_iter(others.iter().map(|line| line.trim_end().trim_end_matches(" <no value>")));
    let expected =
        ["create", "start", "exec_die 0", "exec_create: /absent", "exec_start: /absent", "exec_die 127"];
    assert_eq!(others, expected);
}

/// Fails where the fields of docker's manual have no value, or what docker tells is told by nobody.
#[test]
fn events_have_docker_s_fields_and_docker_s_actions() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web", "-v", "data:/data"], &["sleep", "1000"]).output().succeeds();
    shop.bulkhead(&["exec", "web", "sh", "-c", "exit 7"]).output().exits_with(7);
    shop.said(&["kill", "web"]);
    shop.with("run", &["--name", "job"], &["true"]).output().succeeds();
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    for (name, words) in
        [("stopped", &["stop", "-t", "1"][..]), ("asked", &["stop", "-s", "USR1"]), ("forced", &["rm", "-f"])]
    {
        shop.with("run", &["-d", "--name", name], &["sh", "-c", stubborn]).output().succeeds();
        wait_until("it is deaf", || shop.said(&["logs", name]) == "ready\n");
        shop.said(&[words, &[name]].concat());
    }
    let events = |more: &[&str]| {
        let words = ["events", "--since", "1h", "--until", "0s"];
        shop.said(&[&words[..], more].concat())
    };
    let told = events(&["--filter", "container=web", "--format", "{{.Status}}"]);
    let expected = [
        "create",
        "start",
        "exec_create: sh -c exit 7",
        "exec_start: sh -c exit 7",
        "exec_die",
        "kill",
        "die",
    ];
    assert_eq!(Vec::from_iter(told.lines()), expected);
    let line = "{{.Type}} {{.Action}} {{.From}} {{.Scope}} {{.Actor.Attributes.exitCode}}";
    let told = events(&["--filter", "event=exec_die", "--format", line]);
    assert_eq!(told, format!("container exec_die {IMAGE} local 7\n"));
    assert_eq!(
        events(&["--filter", "event=exec_start", "--format", "{{.Action}}"]),
        "exec_start: sh -c exit 7\n"
    );
    let told = events(&["--filter", "volume=data", "--format", "{{.ID}} {{.Action}}"]);
    assert_eq!(told, "data mount\ndata unmount\n");
    for (name, expected) in [
        ("web", "kill 9,die ,"),
        ("stopped", "kill 15,kill 9,die ,stop ,"),
        ("asked", "kill 10,kill 9,die ,stop ,"),
        ("forced", "kill 9,die ,destroy ,"),
    ] {
        let words = [
            "--filter",
            &format!("container={name}"),
            "--format",
            "{{.Action}} {{.Actor.Attributes.signal}},",
        ];
        let told = events(&words).replace("<no value>", "").replace('\n', "");
        assert!(told.ends_with(expected), "{name}: {told}");
    }
    let told = events(&["--filter", "container=job", "--format", "{{.Action}}"]);
    assert_eq!(told, "create\nattach\nstart\ndie\n");
    let json = events(&["--filter", "event=attach", "--format", "{{json .}}"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["status"], &json["from"], &json["Type"]),
        (&"attach".into(), &IMAGE.into(), &"container".into())
    );
    assert!(json["timeNano"].as_i64().unwrap() / 1_000_000_000 == json["time"].as_i64().unwrap(), "{json}");
    let words = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Colour}}"];
    shop.bulkhead(&words).output().exits_with(125).complains("Colour");
}

#[test]
fn how_a_container_is_and_what_memory_it_wanted_is_told() {
    let shop = shop!();
    let options = [
        "-d",
        "--name",
        "web",
        "--health-cmd",
        "test ! -e /ill",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
    ];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    let told = || {
        let words =
            ["events", "--since", "1h", "--until", "0s", "--filter", "event=health_status", "--format"];
        shop.said(&[&words[..], &["{{.Action}}"]].concat())
    };
    wait_until("it is well", || told() == "health_status: healthy\n");
    shop.said(&["exec", "web", "touch", "/ill"]);
    wait_until("it is ill", || told() == "health_status: healthy\nhealth_status: unhealthy\n");
    shop.said(&["rm", "-f", "web"]);
    let job = shop.with(
        "run",
        &["--name", "job", "-m", "16m", "--memory-swap", "16m"],
        &["sh", "-c", "x=$(head -c 64m /dev/zero | tr '\\0' x)"],
    );
    job.output();
    if !shop.inspect("job")["State"]["OOMKilled"].as_bool().unwrap() {
        bulkhead_testkit::skip!("nothing was killed for want of memory here");
    }
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "container=job", "--format"];
    let told = shop.said(&[&words[..], &["{{.Action}}"]].concat());
    assert_eq!(told, "create\nattach\nstart\noom\ndie\n");
}

/// Fails where a script's template has no field to read, or prints `<no value>` for an address.
#[test]
fn inspect_has_what_docker_s_has() {
    let shop = shop!();
    let options = [
        "--name",
        "web",
        "-v",
        "data:/data:ro",
        "--tmpfs",
        "/scratch:size=1m",
        "--add-host",
        "db:10.0.0.1",
        "--device",
        "/dev/null:/dev/void:r",
        "-m",
        "64m",
    ];
    shop.with("create", &options, &["true"]).output().succeeds();
    let seen = |template: &str| shop.said(&["inspect", "--format", template, "web"]);
    for (template, expected) in [
        ("{{json .HostConfig.Binds}}", r#"["data:/data:ro"]"#),
        ("{{index .HostConfig.Tmpfs \"/scratch\"}}", "size=1048576"),
        ("{{.HostConfig.ExtraHosts}}", "[db:10.0.0.1]"),
        (
            "{{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}}{{end}}",
            "/dev/null /dev/void r",
        ),
        ("{{json .HostConfig.VolumesFrom}} {{json .HostConfig.PortBindings}}", "null {}"),
        ("{{.HostConfig.MemorySwap}} {{.HostConfig.CgroupnsMode}}", "134217728 private"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", ""),
        ("{{.GraphDriver.Name}}", "overlay2"),
    ] {
        assert_eq!(seen(template), format!("{expected}\n"), "{template}");
    }
    assert_eq!(seen("{{index .Config.Labels \"org.example.made-by\"}}"), "a test\n", "the image's labels");
    let part = |name: &str| seen(&format!("{{{{.GraphDriver.Data.{name}}}}}")).trim_end().to_owned();
    let lower = part("LowerDir");
    assert!(
        lower.split(':').all(|layer| fs::exists(layer).unwrap()) && lower.contains("/layers/sha256-"),
        "{lower}"
    );
    assert_eq!(part("MergedDir"), "", "it is joined nowhere");
    assert!(fs::exists(part("UpperDir")).unwrap() && fs::exists(part("WorkDir")).unwrap());
    let id = shop.service("runs", "sleep 1000");
    let merged = shop.said(&["inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", &id]);
    assert!(fs::exists(format!("{}/bin/sh", merged.trim_end())).unwrap(), "{merged}");
    let top = shop.said(&["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", IMAGE]);
    assert!(fs::exists(top.trim_end()).unwrap(), "{top}");
    assert_eq!(
        shop.said(&["version", "--format", "{{.Server.APIVersion}} {{.Client.APIVersion}}"]),
        "1.51 1.51\n"
    );
}
