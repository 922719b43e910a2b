//! What is in a container: more processes, changes, volumes.

use bulkhead_engine::Streams;
use bulkhead_engine::request::{Exec, Mount};
use bulkhead_engine::store::layer::ChangeKind;
use bulkhead_testkit::{is_root, requires};

use crate::ground::Ground;

fn exec(words: &[&str]) -> Exec {
    Exec { command: words.iter().map(|word| (*word).to_owned()).collect(), ..Exec::default() }
}

#[test]
fn a_process_that_joins_has_a_code_of_its_own_and_changes_are_told() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    ground.engine.run(&ground.named("web", "sleep 100"), None).unwrap();
    let run = |words: &[&str]| {
        let mut joined = ground.engine.exec("web", &exec(words), Streams::Output).unwrap();
        let mut code = None;
        Ground::until("the end of the process", || {
            // What keeps it from starting has a code, too.
            code = joined.code().unwrap_or_else(|error| {
                eprintln!("{words:?}: {error}");
                Some(error.exit_code())
            });
            code.is_some()
        });
        code.unwrap()
    };
    assert_eq!(run(&["sh", "-c", "echo new > /etc/new; rm /etc/group; exit 7"]), 7);
    assert_eq!(run(&["true"]), 0);
    assert_eq!(run(&["no-such-program"]), 127);
    // Who takes in orphans, as a test does, waits for what it leaves in a container, whose end waits for that.
    ground.engine.exec_detached("web", &exec(&["sleep", "77"])).unwrap();
    let table = ground.engine.top("web", &[]).unwrap();
    let is_orphan = |row: &&Vec<String>| row.last().is_some_and(|command| command.contains("sleep 77"));
    let orphan = table.rows.iter().find(is_orphan).unwrap();
    let pid = orphan.iter().find_map(|cell| cell.parse().ok()).unwrap();
    assert_eq!(run(&["sh", "-c", "kill $(pidof sleep)"]), 0);
    ground.sandbox.wait_for_exit(pid);
    let error = ground.engine.exec_detached("web", &exec(&["no-such-program"])).unwrap_err();
    assert_eq!(error.exit_code(), 127, "{error}");
    assert!(error.to_string().contains("no-such-program"), "{error}");
    let changes = ground.engine.diff("web").unwrap();
    let kind =
        |path: &str| changes.iter().find(|change| change.path.as_os_str() == path).map(|change| change.kind);
    assert_eq!(kind("/etc/new"), Some(ChangeKind::Added), "{changes:?}");
    assert_eq!(kind("/etc/group"), Some(ChangeKind::Deleted), "{changes:?}");
    assert_eq!(kind("/etc"), Some(ChangeKind::Modified), "{changes:?}");
    let mut archive = Vec::new();
    ground.engine.export("web", &mut archive).unwrap();
    let file = ground.sandbox.directory().join("export.tar");
    std::fs::write(&file, archive).unwrap();
    let names =
        ground.sandbox.command("tar").arg("--list").arg("--file").arg(&file).output().succeeds().stdout;
    let has = |name: &str| names.lines().any(|line| line == name);
    assert!(has("etc/new") && has("etc/passwd") && !has("etc/group"), "{names}");
    let table = ground.engine.top("web", &[]).unwrap();
    assert!(table.rows.iter().any(|row| row.last().is_some_and(|command| command.contains("sleep 100"))));
    assert!(ground.engine.stats("web").unwrap().tasks >= 1);
}

#[test]
fn a_new_volume_is_filled_once_and_outlives_its_containers() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let mut request = ground.script("cat /etc/passwd | head -1; echo more > /etc/more; ls /etc");
    request.remove = true;
    request.mounts.push(Mount::from_volume("data:/etc").unwrap());
    let (code, said) = ground.output(&request);
    assert_eq!(code, 0);
    assert!(said.starts_with("root:") && said.contains("group\n"), "{said}");
    let (_, said) = ground.output(&request);
    assert!(said.contains("more\n"), "{said}");
    let volume = ground.engine.volume("data").unwrap();
    assert!(volume.mountpoint.join("more").exists() && volume.used_by.is_empty());
    ground.engine.remove_volume("data", bulkhead_engine::Force::No).unwrap();
}

#[test]
fn an_anonymous_volume_goes_with_the_container_that_removes_itself() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let mut request = ground.script("ls /srv/data");
    request.remove = true;
    request.mounts.push(Mount::from_volume("/srv/data").unwrap());
    assert_eq!(ground.output(&request).0, 0);
    assert!(ground.engine.volumes(&bulkhead_engine::Filters::default()).unwrap().is_empty());
}
