//! Images that are made of containers and of archives.

use std::fs::{self, File};

use bulkhead_testkit::wait_until;
use serde_json::{Value, json};

use crate::shop::{IMAGE, Shop, shop};

fn image(shop: &Shop, name: &str) -> Value {
    let document: Value = serde_json::from_str(&shop.said(&["image", "inspect", name])).unwrap();
    document[0].clone()
}

fn run(shop: &Shop, image: &str, words: &[&str]) -> String {
    let parent = shop.parent();
    shop.said(&[&["run", "--rm", "--cgroup-parent", &parent, image], words].concat())
}

#[test]
fn a_container_becomes_an_image() {
    let shop = shop!();
    let script = "echo new > /made; rm /bin/cat; mkdir /opened; ln /made /again; rm -r /home; mkdir /home; touch /home/x";
    let options =
        ["--name", "job", "-e", "ADDED=1", "-e", "FROM=typed", "-w", "/tmp", "-l", "k=v", "-v", "/anonymous"];
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    let id = shop.said(&["commit", "-m", "what was done", "-a", "Somebody <s@example.org>", "job", "made:1"]);
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    let said = run(
        &shop,
        "made:1",
        &["sh", "-c", "ls /made /again /home; test -e /bin/cat || echo gone; stat -c %h /made"],
    );
    assert_eq!(said, "/again\n/made\n\n/home:\nx\ngone\n2\n");
    let made = image(&shop, "made:1");
    assert_eq!(made["Id"], id.trim());
    assert_eq!(
        (&made["Author"], &made["Comment"]),
        (&json!("Somebody <s@example.org>"), &json!("what was done"))
    );
    let config = &made["Config"];
    assert_eq!(config["Env"], json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "FROM=typed", "ADDED=1"]));
    assert_eq!(config["Cmd"], json!(["sh", "-c", script]), "the container's command is the image's");
    assert_eq!((&config["WorkingDir"], &config["Labels"]["k"]), (&json!("/tmp"), &json!("v")));
    assert_eq!(config["Labels"]["org.example.made-by"], "a test", "the old image's stay");
    assert_eq!(config["Volumes"], json!({ "/anonymous": {} }));
    assert_eq!(made["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let history = shop.said(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1"]);
    let first = history.lines().next().unwrap();
    assert_eq!(first, format!("sh -c {script}|what was done"));
    assert_eq!(history.lines().count(), 3, "{history}");
    // It outlives the container and its image.
    shop.said(&["rm", "-v", "job"]);
    shop.said(&["rmi", IMAGE]);
    assert_eq!(run(&shop, "made:1", &["ls", "/made"]), "/made\n");
}

#[test]
fn changes_of_a_commit_are_instructions() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let words = [
        "commit",
        "-c",
        r#"ENTRYPOINT ["echo", "hello"]"#,
        "--change",
        "ENV A=$FROM B='c d'",
        "-c",
        "EXPOSE 80 53/udp",
        "-c",
        "USER user",
        "-c",
        "WORKDIR /home",
        "-c",
        "LABEL a=b",
        "job",
        "changed",
    ];
    shop.said(&words);
    let config = &image(&shop, "changed")["Config"];
    assert_eq!(config["Entrypoint"], json!(["echo", "hello"]));
    assert_eq!(config["Cmd"], json!(null), "a new entrypoint takes the old command away");
    assert_eq!(
        config["Env"],
        json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "FROM=image", "A=image", "B=c d"])
    );
    assert_eq!(config["ExposedPorts"], json!({ "53/udp": {}, "80/tcp": {} }));
    assert_eq!(run(&shop, "changed", &["you"]), "hello you\n");
    // Nothing was written, so there is no layer for it, but a step.
    let made = image(&shop, "changed");
    assert_eq!(made["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(shop.said(&["history", "-q", "changed"]).lines().count(), 3);
    let refused = shop.bulkhead(&["commit", "-c", "RUN x", "job"]).output().exits_with(1);
    assert!(refused.stderr.contains("expected an instruction of a Dockerfile"), "{}", refused.stderr);
    shop.bulkhead(&["commit", "job", "Bad Name"]).output().exits_with(125).complains("Bad Name");
    shop.bulkhead(&["commit", "nobody"]).output().exits_with(1).complains("nobody");
}

#[test]
fn a_commit_has_the_ports_that_were_asked_for() {
    let shop = shop!();
    let options = ["--name", "job", "--network", "none", "--expose", "81-82", "--expose", "53/udp"];
    shop.said(&[&["create"], &options[..], &[IMAGE, "true"]].concat());
    shop.said(&["commit", "job", "made:1"]);
    let ports = shop.said(&["image", "inspect", "-f", "{{json .Config.ExposedPorts}}", "made:1"]);
    assert_eq!(ports.trim(), r#"{"53/udp":{},"81/tcp":{},"82/tcp":{}}"#);
    let digest = format!("other@sha256:{}", "a".repeat(64));
    shop.bulkhead(&["tag", "made:1", &digest]).output().exits_with(1).complains("give a tag");
}

#[test]
fn a_container_that_runs_stands_still_for_a_commit() {
    let shop = shop!();
    shop.service("web", "echo ready; while :; do date > /one; cp /one /two; done");
    wait_until("it is ready", || shop.said(&["logs", "web"]) == "ready\n");
    let id = shop.said(&["commit", "web"]);
    let frozen = |since: &str| {
        let events = shop.said(&["events", "--since", since, "--until", "0s", "--format", "{{.Action}}"]);
        events
            .lines()
            .filter(|action| matches!(*action, "pause" | "unpause" | "commit"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(frozen("10m"), ["pause", "unpause", "commit"]);
    shop.said(&["commit", "--pause=false", "web"]);
    assert_eq!(frozen("10m"), ["pause", "unpause", "commit", "commit"]);
    assert_eq!(shop.inspect("web")["State"]["Status"], "running");
    assert!(shop.said(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]).contains(id.trim()));
}

#[test]
fn an_archive_becomes_an_image() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let file = shop.path("root.tar");
    shop.said(&["export", "-o", file.to_str().unwrap(), "job"]);
    let words =
        ["import", "-m", "from afar", "-c", "CMD [\"echo\", \"imported\"]", file.to_str().unwrap(), "afar:1"];
    let id = shop.said(&words);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(run(&shop, "afar:1", &[]), "imported\n");
    let made = image(&shop, "afar:1");
    assert_eq!((&made["Comment"], &made["Os"]), (&json!("from afar"), &json!("linux")));
    assert_eq!(made["Config"]["Env"], json!([]));
    let piped =
        shop.bulkhead(&["import", "--platform", "linux/arm64/v8", "-"]).stdin(File::open(&file).unwrap());
    let id = piped.output().succeeds().stdout;
    let made = image(&shop, id.trim());
    assert_eq!((&made["Architecture"], &made["Variant"]), (&json!("arm64"), &json!("v8")));
    assert_eq!(made["Comment"], "Imported from -");
    assert_eq!(made["RepoTags"], json!([]));
    fs::write(shop.path("no.tar"), "no archive").unwrap();
    let refused = shop.bulkhead(&["import", shop.path("no.tar").to_str().unwrap()]).output().exits_with(1);
    assert!(refused.stderr.contains("no.tar"), "{}", refused.stderr);
    shop.bulkhead(&["import", "--platform", "windows/amd64", file.to_str().unwrap()])
        .output()
        .exits_with(1)
        .complains("linux");
    shop.bulkhead(&["import", "/no/such"]).output().exits_with(1).complains("/no/such");
}

#[test]
fn an_archive_can_come_from_a_server() {
    use std::io::{Read as _, Write as _};

    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let file = shop.path("root.tar");
    shop.said(&["export", "-o", file.to_str().unwrap(), "job"]);
    let archive = fs::read(&file).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::Builder::new().spawn(move || {
        for body in [Some(archive), None] {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            match body {
                Some(body) => {
                    write!(
                        client,
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    )
                    .unwrap();
                    client.write_all(&body).unwrap();
                }
                None => client
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .unwrap(),
            }
        }
    });
    shop.said(&["import", &format!("http://{address}/root.tar"), "served"]);
    assert_eq!(image(&shop, "served")["Comment"], format!("Imported from http://{address}/root.tar"));
    let missing = shop.bulkhead(&["import", &format!("http://{address}/none.tar")]).output().exits_with(1);
    assert!(missing.stderr.contains("none.tar"), "{}", missing.stderr);
    server.unwrap().join().unwrap();
}
