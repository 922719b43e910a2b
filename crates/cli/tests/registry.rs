//! `bulkhead pull`, `push`, `login` and `logout` with Debian's docker-registry on loopback.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use std::io::{Cursor, Read, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bulkhead_registry::{Client, Configuration, Credentials, Descriptor, Digest, Login, Name, media_type};
use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Scratch, requires};

/// Runs `bulkhead` with places and a home of its own.
fn bulkhead(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory.join("home"))
        .env("BULKHEAD_ROOT", directory.join("root"))
        .env("BULKHEAD_RUN", directory.join("run"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn complains(output: &Output, of: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(of), "{text}");
}

/// Puts an image without layers into a registry.
fn put(directory: &Path, host: &str, name: &str, architecture: &str) -> Digest {
    let file = directory.join("mine.json");
    let credentials = Credentials { files: vec![file.clone()], written: file, helpers: Vec::new() };
    let client = Client::new(Configuration { credentials, ..Configuration::default() });
    let login = Login::Password { name: "user".into(), secret: "secret".into() };
    client.login(host, &login).unwrap();
    let configuration = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    let descriptor = Descriptor {
        media_type: media_type::CONFIGURATION.to_owned(),
        digest: Digest::of(configuration.as_bytes()),
        size: configuration.len() as u64,
        urls: Vec::new(),
        platform: None,
    };
    let push = client.push(&Name::parse(&format!("{host}/{name}")).unwrap()).unwrap();
    let bytes = configuration.into_bytes();
    let open = |_| Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>);
    push.blob(&descriptor, &[], &open).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[]}}"#,
        media_type::MANIFEST,
        descriptor.media_type,
        descriptor.digest,
        descriptor.size
    );
    push.manifest(manifest.as_bytes(), media_type::MANIFEST).unwrap()
}

#[test]
fn who_logs_in_pulls_and_pushes_until_he_logs_out() {
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let scratch = Scratch::new();
    let directory = scratch.path();
    let registry = Registry::start(&directory.join("registry"), &Guard::Password, None);
    let host = registry.host();
    let digest = put(directory, &host, "team/x:1", "amd64");
    let image = format!("{host}/team/x:1");
    let run = |arguments: &[&str], input: &str| bulkhead(directory, arguments, input);

    complains(&run(&["pull", &image], ""), &format!("log in with `bulkhead login {host}`"));
    let login = ["login", "-u", "user", "--password-stdin", &host];
    complains(&run(&login, "wrong\n"), "does not take this name and password");
    complains(&run(&["login", &host], ""), "no terminal");
    let output = run(&login, "secret\n");
    assert_eq!(succeeds(&output), "Login Succeeded\n");
    complains_not(&output, "secret");

    let pulled = succeeds(&run(&["pull", "--platform", "linux/amd64", &image], ""));
    let expected = format!("Digest: {digest}\nStatus: Downloaded newer image for {image}\n{image}\n");
    assert_eq!(pulled, expected);
    let again = succeeds(&run(&["pull", "--platform", "linux/amd64", &image], ""));
    assert!(again.contains(&format!("Status: Image is up to date for {image}")), "{again}");
    assert_eq!(succeeds(&run(&["pull", "-q", &image], "")), format!("{image}\n"));
    let pushed = succeeds(&run(&["push", &image], ""));
    assert!(pushed.starts_with(&format!("1: digest: {digest} size: ")), "{pushed}");
    let run_new = |arguments: &[&str]| succeeds(&run(arguments, ""));
    run_new(&["tag", &image, &format!("{host}/team/y:2")]);
    run_new(&["push", "-q", &format!("{host}/team/y:2")]);
    let digests = run_new(&["inspect", "--format", "{{json .RepoDigests}}", &image]);
    assert!(
        digests.contains(&format!("\"{host}/team/y@{digest}\"")),
        "what was pushed is found again: {digests}"
    );
    let all = succeeds(&run(&["push", "--all-tags", &format!("{host}/team/x")], ""));
    assert!(all.starts_with("1: digest: "), "{all}");

    assert!(succeeds(&run(&["logout", &host], "")).contains("Removed the login"));
    assert_eq!(succeeds(&run(&["logout", &host], "")), format!("Not logged in to {host}\n"));
    complains(&run(&["pull", &image], ""), "denies access");
}

#[track_caller]
fn complains_not(output: &Output, of: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(of), "{text}");
}

#[test]
fn what_cannot_be_pulled_is_said_with_a_reason() {
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let scratch = Scratch::new();
    let directory = scratch.path();
    let registry = Registry::start(&directory.join("registry"), &Guard::Nobody, None);
    let host = registry.host();
    let run = |arguments: &[&str]| bulkhead(directory, arguments, "");
    complains(&run(&["pull", &format!("{host}/nothing:1")]), "is unknown to its registry");
    complains(&run(&["pull", &format!("{host}/Nothing")]), "must be in lower case");
    complains(&run(&["pull", "--platform", "a b", &format!("{host}/x")]), "not of the form linux/arm64/v8");
    complains(&run(&["pull", "no-such-host.invalid/x"]), "find the address of no-such-host.invalid");
    complains(
        &run(&["pull", "no-such-host.invalid/x"]),
        "hint: is no-such-host.invalid written as it is called",
    );
    // Nobody may listen there (port 1, tcpmux).
    let closed = "127.0.0.1:1";
    complains(&run(&["pull", &format!("{closed}/x")]), "hint: nothing listens at 127.0.0.1:1");
    let login = bulkhead(directory, &["login", "-u", "user", "--password-stdin", closed], "secret\n");
    complains(&login, "Nothing was changed");
    complains_not(&login, "arrived whole");
    let import = run(&["import", &format!("http://{closed}/root.tar")]);
    complains(&import, "the same command begins anew");
    let tree = directory.join("tree");
    std::fs::create_dir(&tree).unwrap();
    let import = run(&["import", tree.to_str().unwrap()]);
    complains(&import, "is a directory, and no archive");
    complains(&import, "| bulkhead import -");
    complains(&run(&["push", &format!("{host}/x:1")]), "x:1");
}
