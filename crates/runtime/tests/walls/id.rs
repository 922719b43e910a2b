//! Container ids that are paths.

use std::fs;

use bulkhead_testkit::{is_root, requires};

use crate::sandbox;

const HOSTILE: [&str; 12] =
    ["..", ".", "../victim", "a/../../victim", "/", "/tmp", "a/b", "a\nb", "", " ", "\u{202e}a", "a*"];

/// Needs `ContainerId`. Must fail with a type that takes any text: `delete --force ..` removes what is beside the
/// state directory, and `create` makes directories there.
#[test]
fn an_id_is_no_path_for_any_verb() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("id");
    let victim = sandbox.directory().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("state.json"), "{}").unwrap();
    let long = "x".repeat(256);
    for id in HOSTILE.iter().copied().chain([long.as_str()]) {
        let directory = bundle.directory().to_str().unwrap().to_owned();
        for verb in [
            vec!["create", "--bundle", &directory, id],
            vec!["run", "--bundle", &directory, id],
            vec!["start", id],
            vec!["exec", id, "true"],
            vec!["kill", id, "KILL"],
            vec!["pause", id],
            vec!["resume", id],
            vec!["delete", "--force", id],
        ] {
            let output = sandbox.runtime().args(&verb).output();
            assert!(output.code() != 0, "{id:?} is refused\n{output}");
            assert!(output.stderr.contains("container id"), "the message is about the id\n{output}");
        }
    }
    assert_eq!(fs::read_to_string(victim.join("state.json")).unwrap(), "{}", "the neighbour is as it was");
    assert_eq!(fs::read_dir(sandbox.state_directory()).unwrap().count(), 0, "nothing was made");
}
