//! Images that are pulled for a container, from Debian's docker-registry on loopback.

use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Output, requires};

use crate::shop::{IMAGE, Shop, shop};

/// Puts [`IMAGE`] into a new registry and takes it away from here; returns its name there.
fn published(shop: &Shop) -> (Registry, String) {
    let registry = Registry::start(&shop.path("registry"), &Guard::Nobody, None);
    let name = format!("{}/{IMAGE}", registry.host());
    shop.said(&["tag", IMAGE, &name]);
    shop.said(&["push", "-q", &name]);
    shop.said(&["rmi", IMAGE, &name]);
    (registry, name)
}

macro_rules! published {
    ($shop:expr) => {{
        requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
        published(&$shop)
    }};
}

fn run(shop: &Shop, options: &[&str], image: &str) -> Output {
    shop.of("run", &[&["--rm"], options].concat(), image, &[]).output()
}

#[test]
fn an_image_that_is_not_here_is_pulled_and_then_it_is_here() {
    let shop = shop!();
    let (_registry, name) = published!(shop);
    let refused = run(&shop, &["--pull", "never"], &name).exits_with(125);
    assert!(
        refused.stderr.contains("no such image") && refused.stderr.contains("bulkhead pull"),
        "{}",
        refused.stderr
    );
    let pulled = run(&shop, &[], &name).succeeds();
    assert_eq!(pulled.stdout, "from the image\n", "the output is the container's alone");
    let lines = Vec::from_iter(pulled.stderr.lines());
    assert_eq!(lines[0], format!("Unable to find image '{name}' locally"));
    assert!(lines[1].starts_with("Digest: sha256:"), "{lines:?}");
    assert_eq!(lines[2..], [format!("Status: Downloaded newer image for {name}")]);
    let again = run(&shop, &[], &name).succeeds();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("from the image\n", ""));
    let always = run(&shop, &["--pull=always"], &name).succeeds();
    assert!(always.stderr.contains(&format!("Status: Image is up to date for {name}")), "{}", always.stderr);
    assert!(!always.stderr.contains("Unable"), "{}", always.stderr);
    shop.said(&["rmi", &name]);
    let quiet = run(&shop, &["-q"], &name).succeeds();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("from the image\n", ""));
    shop.said(&["rmi", &name]);
    let file = shop.path("id");
    let created = shop.of("create", &["--cidfile", file.to_str().unwrap()], &name, &[]).output().succeeds();
    assert_eq!(std::fs::read_to_string(file).unwrap(), created.stdout.trim());
    assert!(created.stderr.contains("Unable to find image"), "{}", created.stderr);
}

#[test]
fn what_cannot_be_pulled_is_said_and_leaves_nothing() {
    let shop = shop!();
    let (registry, name) = published!(shop);
    let nothing = format!("{}/nothing:1", registry.host());
    let failed = run(&shop, &[], &nothing).exits_with(125);
    assert!(failed.stderr.starts_with("Unable to find image"), "{}", failed.stderr);
    assert!(failed.stderr.contains("is unknown to its registry"), "{}", failed.stderr);
    shop.of("create", &[], &nothing, &[]).output().exits_with(1);
    shop.said(&["pull", "-q", &name]);
    let mistyped = name.replace("busybox", "busybx");
    let failed = run(&shop, &[], &mistyped).exits_with(125);
    assert!(
        failed.stderr.contains(&format!("hint: did you mean {name}, which is here?")),
        "{}",
        failed.stderr
    );
    // What is no name is nothing that a registry could have.
    let failed = run(&shop, &[], "Not/A/Name").exits_with(125);
    assert!(!failed.stderr.contains("Unable to find image"), "{}", failed.stderr);
    let word = run(&shop, &["--pull", "sometimes"], &name).exits_with(125);
    assert!(word.stderr.contains("always, missing, never"), "{}", word.stderr);
    let file = shop.path("id");
    let words = ["--cidfile", file.to_str().unwrap()];
    run(&shop, &words, &nothing).exits_with(125);
    assert!(!file.exists(), "there is no container that the file could name");
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn an_image_is_of_the_platform_that_is_asked_for() {
    let shop = shop!();
    let (_registry, name) = published!(shop);
    let (own, other) = match cfg!(target_arch = "x86_64") {
        true => ("linux/amd64", "linux/arm64"),
        false => ("linux/arm64", "linux/amd64"),
    };
    run(&shop, &["--platform", own, "--quiet"], &name).succeeds().prints("from the image\n");
    let again = run(&shop, &["--platform", own], &name).succeeds();
    assert_eq!(again.stderr, "", "the one that is here will do");
    let expected = format!("is for {own}, and {other} is wanted");
    for policy in ["never", "missing", "always"] {
        let failed = run(&shop, &["--platform", other, "--pull", policy], &name).exits_with(125);
        assert!(failed.stderr.contains(&expected), "{policy}: {}", failed.stderr);
    }
    // What is here is no proposal for itself.
    let failed = run(&shop, &["--platform", other, "--pull", "missing"], &name).exits_with(125);
    assert!(!failed.stderr.contains("did you mean"), "{}", failed.stderr);
    for (typed, words) in [
        ("linux/foo", "there is no processor \"foo\": there are amd64,"),
        ("linus/amd64", "there is no operating system"),
    ] {
        let wrong = run(&shop, &["--platform", typed], &name).exits_with(125);
        assert!(wrong.stderr.contains(words) && !wrong.stderr.contains("Unable to find"), "{}", wrong.stderr);
        shop.bulkhead(&["pull", "--platform", typed, &name]).output().exits_with(1).complains(words);
    }
    let wrong = run(&shop, &["--platform", "a b"], &name).exits_with(125);
    assert!(wrong.stderr.contains("not of the form linux/arm64/v8"), "{}", wrong.stderr);
}
