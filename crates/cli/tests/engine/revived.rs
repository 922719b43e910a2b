//! Carriers that die alone, where it is not plain that another one may take their place.

use std::fs;
use std::os::unix::fs::chown;
use std::time::Duration;

use bulkhead_testkit::wait_until;

use crate::carriers::{SLIRP, carrier, carrier_now, carriers, kill, on_a_cable, runs, send};
use crate::companions::Yesterday;
use crate::person::{Person, USER};
use crate::shop::IMAGE;

const WAITS: &str = "sleep 1000";

impl Person {
    /// Exchanges what is recorded of a container, and returns what was.
    fn record(&self, name: &str, document: &str) -> String {
        let file = self.root().join("bulkhead.db");
        let store = rusqlite::Connection::open(&file).unwrap();
        let read = "SELECT document FROM containers WHERE name = ?";
        let before: String = store.query_row(read, [name], |row| row.get(0)).unwrap();
        let write = "UPDATE containers SET document = ?2 WHERE name = ?1";
        assert_eq!(store.execute(write, [name, document]).unwrap(), 1);
        drop(store);
        // Whatever this has made is the user's.
        for entry in fs::read_dir(self.root()).unwrap().flatten() {
            if entry.file_name().to_str().unwrap().starts_with("bulkhead.db") {
                chown(entry.path(), Some(USER), Some(USER)).unwrap();
            }
        }
        before
    }

    /// Waits until the first process of a container has gone into a network of its own, and tells which it is.
    fn gone_elsewhere(&self, name: &str, shared: &str) {
        let pid = self.pid(name);
        let is_elsewhere = || {
            let own = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
            own.to_str().unwrap() != shared
        };
        wait_until("it has gone into a network of its own", is_elsewhere);
    }
}

#[test]
fn a_record_that_nobody_can_read_keeps_no_carrier_of_others_from_coming_again() {
    let (person, _cable) = on_a_cable!(SLIRP);
    person.run(&["-d", "--name", "web"], WAITS).output().succeeds();
    person.said(&["create", "--name", "other", "--network", "none", IMAGE, "sh", "-c", WAITS]);
    let document = person.record("other", "{");
    let [first] = carriers(&person)[..] else { panic!("one: {:?}", carriers(&person)) };
    kill(&person, &first.into());
    wait_until("another one carries", || matches!(carriers(&person)[..], [pid] if pid != first));
    let check = || person.bulkhead(&["system", "check"]).output();
    let told = check().exits_with(1);
    assert!(told.stdout.starts_with("container other: ") && told.stdout.lines().count() == 1, "{told}");
    person.said(&["pod", "create", "shop"]);
    person.member("shop", "one", &[], WAITS);
    assert_eq!(carriers(&person).len(), 2);
    person.said(&["pod", "rm", "-f", "shop"]);
    // One that runs may see the host's processes.
    person.record("other", &document);
    person.said(&["start", "other"]);
    person.record("other", "{");
    let [second] = carriers(&person)[..] else { panic!("one: {:?}", carriers(&person)) };
    kill(&person, &second.into());
    wait_until("it has ended", || carriers(&person).is_empty());
    let told = check().exits_with(1);
    let said = "container other: nobody can tell whether it sees its host's processes, and so a carrier before that hides: \
                `bulkhead restart web`";
    assert!(told.stdout.contains(said), "{told}");
    assert_eq!(carriers(&person), [0; 0]);
    person.said(&["restart", "-t", "0", "web"]);
    assert_eq!(carriers(&person).len(), 1);
    person.record("other", &document);
    person.said(&["rm", "-f", "web", "other"]);
}

/// As a program does that wants to be alone. Must fail when a carrier enters by a process without a look at where that is.
#[test]
fn a_carrier_does_not_come_again_in_another_network() {
    let (person, _cable) = on_a_cable!(SLIRP);
    let alone = ["-d", "--cap-add", "SYS_ADMIN", "--name", "web"];
    let leaves = "read go < /go; exec unshare -n sleep 1000";
    let check = || person.bulkhead(&["system", "check"]).output();
    let leave = |name: &str| {
        let shared = fs::read_link(format!("/proc/{}/ns/net", person.pid(name))).unwrap();
        person.said(&["exec", name, "sh", "-c", "echo go > /go"]);
        person.gone_elsewhere(name, shared.to_str().unwrap());
    };
    person.run(&alone, &format!("mkfifo /go; {leaves}")).output().succeeds();
    leave("web");
    let before = carrier(&person);
    kill(&person, &before.into());
    wait_until("it has ended", || !runs(before));
    let told = check().exits_with(1);
    let said = "its monitor does not get slirp4netns started again: `bulkhead restart web`";
    assert!(told.stdout.contains(said), "{told}");
    assert_eq!(carrier_now(&person), None);
    person.said(&["rm", "-f", "web"]);
    // That of a pod comes again by another one of its containers.
    person.said(&["pod", "create", "shop"]);
    person.member("shop", "one", &alone[1..3], &format!("mkfifo /go; {leaves}"));
    person.member("shop", "two", &[], WAITS);
    leave("one");
    for _ in 0..2 {
        let [before] = carriers(&person)[..] else { panic!("one: {:?}", carriers(&person)) };
        kill(&person, &before.into());
        wait_until("another one carries", || matches!(carriers(&person)[..], [pid] if pid != before));
        wait_until("it reaches the neighbour", || person.reaches_far("two"));
    }
    // Where there is none, with the whole pod.
    person.said(&["rm", "-f", "two"]);
    let [before] = carriers(&person)[..] else { panic!("one: {:?}", carriers(&person)) };
    kill(&person, &before.into());
    wait_until("it has ended", || !runs(before));
    let told = check().exits_with(1);
    let said = "its monitor does not get slirp4netns started again: `bulkhead pod restart ";
    assert!(told.stdout.contains(said), "{told}");
    assert_eq!(carriers(&person), [0; 0]);
    person.said(&["pod", "rm", "-f", "shop"]);
}

#[test]
fn a_carrier_of_a_monitor_of_yesterday_comes_again_with_a_restart() {
    let (person, _cable) = on_a_cable!(SLIRP);
    let id = person.run(&["-d", "--name", "web"], WAITS).output().succeeds().stdout;
    let monitor = person.monitor("web").into();
    send(&person, "-STOP", &monitor);
    let before = carrier(&person);
    kill(&person, &before.into());
    wait_until("it has ended", || !runs(before));
    let yesterday = Yesterday::begin(&person.xdg.join("bulkhead/containers").join(id.trim()));
    let told = person.bulkhead(&["system", "check"]).output();
    yesterday.end();
    send(&person, "-CONT", &monitor);
    let said = "its monitor does not get slirp4netns started again: `bulkhead restart web`";
    let told = told.exits_with(1);
    assert!(told.stdout.contains(said), "{told}");
    person.said(&["restart", "-t", "0", "web"]);
    assert!(carrier_now(&person).is_some());
    std::thread::sleep(Duration::from_secs(1));
    assert!(person.said(&["system", "check"]).contains("as it should be"));
    person.said(&["rm", "-f", "web"]);
}
