//! Files of other versions of this program, and databases.

use std::fs;
use std::path::Path;

use bulkhead_testkit::{Output, wait_until};

use super::{is_whole, kill_monitor, leaves_nothing};
use crate::shop::{IMAGE, shop};

#[test]
fn a_database_from_the_future_is_refused_and_stays_as_it_is() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let path = shop.path("engine/bulkhead.db");
    let set = |version: u32| {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.pragma_update(None, "user_version", version).unwrap();
    };
    let own: u32 = {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    set(99);
    let files = |directory: &Path| {
        let list = shop.sandbox.command("find").arg(directory).args(["-type", "f", "-printf", "%p %s\n"]);
        list.output().succeeds().stdout
    };
    let before = files(&shop.path("engine/containers"));
    for words in [&["ps"][..], &["images"], &["rm", "web"], &["system", "check"], &["run", IMAGE]] {
        let refused = shop.bulkhead(words).output();
        assert_ne!(refused.code(), 0, "{words:?}");
        let expected = format!(
            "has version 99, and this program knows {own} and older: use the program that made it, or a newer one"
        );
        assert!(refused.stderr.contains(&expected), "{words:?}: {}", refused.stderr);
    }
    assert_eq!(files(&shop.path("engine/containers")), before);
    set(own);
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "web\n");
    is_whole(&shop, "that");
}

/// Writes another version into a file of ours.
fn make_later(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replace("\"version\":1", "\"version\":2")).unwrap();
}

#[test]
fn a_monitor_of_a_later_version_can_be_stopped_and_its_end_is_told() {
    let shop = shop!();
    let id = shop.service("web", "sleep 1000");
    let status = shop.path("engine/containers").join(&id).join("status.json");
    make_later(&status);
    let state = shop.inspect("web")["State"].clone();
    assert_eq!(state["Status"], "running");
    assert_eq!(state["Error"], "status lost: it is of version 2, and this program knows none after 1");
    shop.said(&["ps"]);
    is_whole(&shop, "a look at it");
    assert_eq!(shop.said(&["ps", "-q"]).trim(), &id[..12], "a check leaves it alone");
    assert_eq!(shop.said(&["stop", "web"]), "web\n");
    assert_eq!(shop.inspect("web")["State"]["Status"], "exited");
    shop.said(&["start", "web"]);
    assert_eq!(shop.inspect("web")["State"]["Error"], "", "the next monitor writes what is known here");

    make_later(&status);
    kill_monitor(&shop, &id);
    let told = shop.said(&["ps", "-a", "--format", "{{.Status}}"]);
    assert!(told.starts_with("Exited (255) (status lost: "), "{told}");
    is_whole(&shop, "its monitor's death");
    shop.said(&["rm", "web"]);
    leaves_nothing(&shop, "its removal");
}

#[test]
fn half_a_status_is_no_obstacle() {
    let shop = shop!();
    let id = shop.with("run", &["-d", "--name", "web", "--restart", "always"], &["sleep", "1000"]);
    let id = id.output().succeeds().stdout.trim().to_owned();
    kill_monitor(&shop, &id);
    // As a power loss may leave it.
    fs::write(shop.path("engine/containers").join(&id).join("status.json"), "").unwrap();
    is_whole(&shop, "that");
    assert_eq!(shop.inspect("web")["State"]["Status"], "exited");
    shop.said(&["system", "restart-all"]);
    assert_eq!(shop.inspect("web")["State"]["Status"], "running");
}

/// Fails when a monitor that knows no word for waiting, as none did before, is taken for one that could not start anything.
#[test]
fn a_monitor_that_waits_for_nothing_starts_containers() {
    let shop = shop!();
    let programs = shop.path("programs");
    fs::create_dir(&programs).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_bulkhead")).parent().unwrap();
    for name in ["bulkhead", "bulkrun"] {
        shop.sandbox.command("cp").arg(built.join(name)).arg(programs.join(name)).output().succeeds();
    }
    let script =
        format!("#!/bin/sh\n[ $# = 1 ] || exit 2\nexec {} \"$1\"\n", built.join("bulkmon").display());
    shop.script_file(&programs.join("bulkmon"), &script);
    let parent = shop.parent();
    let words = ["run", "-d", "--name", "web", "--cgroup-parent", &parent, IMAGE, "sleep", "1000"];
    shop.bulkhead_from(&programs, &words).output().succeeds();
    assert_eq!(shop.inspect("web")["State"]["Running"], true);
    let words = ["run", "--rm", "--cgroup-parent", &parent, IMAGE, "echo", "here"];
    shop.bulkhead_from(&programs, &words).output().succeeds().prints("here\n");
}

#[test]
fn an_old_monitor_refuses_an_order_that_it_does_not_understand() {
    let shop = shop!();
    let programs = shop.path("programs");
    fs::create_dir(&programs).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_bulkhead")).parent().unwrap();
    for name in ["bulkhead", "bulkrun"] {
        shop.sandbox.command("cp").arg(built.join(name)).arg(programs.join(name)).output().succeeds();
    }
    // What a later bulkhead would have written for it.
    let script = format!(
        "#!/bin/sh\n[ $# = 1 ] || exit 2\nsed -i 's/\"version\":[0-9],/\"version\":7,/' \"$1/order.json\"\nexec {} \"$@\"\n",
        built.join("bulkmon").display()
    );
    shop.script_file(&programs.join("bulkmon"), &script);
    let parent = shop.parent();
    let run = |options: &[&str]| -> Output {
        let words = [&["run"], options, &["--cgroup-parent", &parent, IMAGE, "sleep", "1000"]].concat();
        shop.bulkhead_from(&programs, &words).output()
    };
    let refused = run(&["--rm"]).exits_with(125);
    assert!(
        refused.stderr.contains("it is of version 7, and this program knows none after 6"),
        "{}",
        refused.stderr
    );
    is_whole(&shop, "that");
    assert_eq!(shop.said(&["ps", "-aq"]), "", "nothing of it stays");
    run(&["-d", "--name", "web"]).exits_with(125);
    assert_eq!(shop.inspect("web")["State"]["Status"], "created");
    shop.said(&["start", "web"]);
    wait_until("it runs by a monitor of this version", || shop.inspect("web")["State"]["Running"] == true);
}
