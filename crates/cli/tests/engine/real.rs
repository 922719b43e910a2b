//! A real image: Python on Alpine as docker's library has it, which `cargo xtask images` brings.

use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{cached, is_root, requires, skip};

use crate::shop::Shop;

/// What the image does is what it does under docker.
const LOOK: &str = "import ssl, sqlite3, os, pwd, platform\n\
    sqlite3.connect(':memory:').execute('create table a (b)')\n\
    ssl.create_default_context()\n\
    print(platform.python_version(), pwd.getpwuid(os.getuid()).pw_name, os.getcwd(), os.environ['PYTHON_VERSION'])\n\
    print(open('/etc/alpine-release').read().strip(), os.path.realpath('/usr/local/bin/python3'))\n";

#[test]
fn python_of_dockers_library_is_loaded_run_pushed_and_pulled() {
    requires!(is_root(), "needs root");
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let Some(layout) = cached("image-python").map(|directory| directory.join("layout")) else {
        skip!("no real image in the cache: `cargo xtask images` brings it");
    };
    let shop = Shop::empty();
    let run = |image: &str| {
        let run = shop.of("run", &["--rm", "--network=none"], image, &["python3", "-c", LOOK]);
        run.output().succeeds().stdout
    };
    shop.said(&["load", "--quiet", "-i", layout.to_str().unwrap()]);
    let image = "localhost/python-basic";
    let id = shop.inspect(image)["Id"].clone();
    let said = run(image);
    assert_eq!(said, "3.12.11 appuser /app 3.12.11\n3.22.1 /usr/local/bin/python3.12\n");

    let registry = Registry::start(&shop.path("registry"), &Guard::Nobody, None);
    let name = format!("{}/python:1", registry.host());
    shop.said(&["tag", image, &name]);
    shop.said(&["push", "--quiet", &name]);
    shop.said(&["rmi", image, &name]);
    assert_eq!(shop.said(&["images", "--quiet"]), "", "the image is still there");
    shop.said(&["pull", "--quiet", &name]);
    assert_eq!(shop.inspect(&name)["Id"], id, "another image was pulled");
    // The manifest came in the layout, and goes as it came.
    let digest = shop.inspect(&name)["RepoDigests"][0].clone();
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let expected = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(digest.as_str().unwrap(), format!("{}/python@{expected}", registry.host()));
    assert_eq!(run(&name), said, "it does something else than before");
}
