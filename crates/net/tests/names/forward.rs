//! What is no name of a container is asked elsewhere.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bulkhead_net::names::{Member, Table};

use crate::packets::{A, Told, answered, numbered, question};
use crate::rig::{Rig, converse, exchange, member, wait_until};
use crate::upstream::Upstream;

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 54);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// An answer to any question.
fn good(question: &[u8]) -> Vec<Vec<u8>> {
    vec![answered(question, 0, &[ADDRESS])]
}

#[test]
fn other_names_are_asked_of_the_host_s_resolver_by_the_way_they_came() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let upstream = Upstream::new(FIRST, good);
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    let web = rig.container("web");
    let told = web.ask("example.org", A);
    assert_eq!((told.id, told.code, told.answers), (0x1234, 0, vec![ADDRESS.to_string()]));
    assert_eq!(upstream.connections(), 0);
    let mut stream = web.connect();
    for name in ["example.com", "web", "example.net"] {
        let told = Told::read(&converse(&mut stream, &question(name, A)).unwrap());
        assert_eq!(told.answers.len(), 1, "several questions in one connection");
    }
    assert_eq!(upstream.connections(), 2);
    assert_eq!(upstream.asked(), ["example.org", "example.com", "example.net"]);
}

#[test]
fn what_is_cut_off_or_extended_passes_as_it_is() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _upstream = Upstream::new(FIRST, |question| {
        let mut answer = answered(question, 0, &[ADDRESS; 100]);
        if question[11] == 0 {
            answer = answered(question, 0, &[]);
            answer[2] |= 2;
        }
        vec![answer]
    });
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    let web = rig.container("web");
    assert!(web.ask("example.org", A).is_cut_off);
    let mut extended = question("example.org", A);
    extended[11] = 1;
    extended.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    let told = exchange(&web.client(), &extended).unwrap();
    assert_eq!(told.answers.len(), 100, "1 600 bytes in a datagram");
}

#[test]
fn an_answer_that_somebody_else_guesses_is_not_believed() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _upstream = Upstream::new(FIRST, |question| {
        let forged = answered(question, 0, &[Ipv4Addr::new(6, 6, 6, 6)]);
        let changed = |at: usize| {
            let mut other = forged.clone();
            other[at] ^= 1;
            other
        };
        // Another number, another name, another type, no answer at all, and cut short.
        let question_only = {
            let mut other = forged.clone();
            other[2] &= 0x7f;
            other
        };
        let mut messages = vec![changed(1), changed(13), changed(question.len() - 3), question_only];
        messages.extend([Vec::new(), forged[..11].to_vec(), forged[..20].to_vec()]);
        messages.push(answered(question, 0, &[ADDRESS]));
        messages
    });
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    assert_eq!(rig.container("web").ask("example.org", A).answers, [ADDRESS.to_string()]);
}

#[test]
fn the_next_resolver_is_asked_when_one_fails_and_is_the_first_from_then_on() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let silent = Upstream::new(FIRST, |_| Vec::new());
    let second = Upstream::new(SECOND, good);
    let rig = Rig::new(&["--upstream", "127.0.0.53", "--upstream", "127.0.0.54"]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    let web = rig.container("web");
    for name in ["a.example", "b.example"] {
        assert_eq!(web.ask(name, A).answers, [ADDRESS.to_string()]);
    }
    assert_eq!(silent.asked(), ["a.example"], "who was silent is not waited for again");
    assert_eq!(second.asked(), ["a.example", "b.example"]);
}

#[test]
fn who_refuses_or_is_not_there_is_passed_over_at_once() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _refusing = Upstream::new(FIRST, |question| vec![answered(question, 5, &[])]);
    let rig = Rig::new(&["--upstream", "127.0.0.99", "--upstream", "127.0.0.53"]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    let web = rig.container("web");
    let begun = Instant::now();
    for told in [web.ask("example.org", A), web.ask_by_tcp("example.org", A)] {
        assert_eq!(told.code, 5, "what the last one has said");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn nobody_s_answer_is_a_failure_before_the_client_gives_up() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _silent = Upstream::new(FIRST, |_| Vec::new());
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    let web = rig.container("web");
    let begun = Instant::now();
    assert_eq!(web.ask("example.org", A).code, 2);
    let waited = begun.elapsed();
    assert!((4.0..5.0).contains(&waited.as_secs_f64()), "{waited:?}");
}

#[test]
fn a_changed_resolv_conf_is_followed() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _first = Upstream::new(FIRST, good);
    let _second = Upstream::new(SECOND, |question| vec![answered(question, 3, &[])]);
    let scratch = bulkhead_testkit::Scratch::new();
    std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // As systemd-resolved has it: a link into another directory.
    let (real, link) = (scratch.path().join("real/resolv.conf"), scratch.path().join("etc/resolv.conf"));
    for path in [&real, &link] {
        std::fs::create_dir(path.parent().unwrap()).unwrap();
    }
    std::fs::write(&real, "nameserver 127.0.0.53\n").unwrap();
    std::os::unix::fs::symlink("../real/resolv.conf", &link).unwrap();
    let rig = Rig::new(&["--resolv-conf", link.to_str().unwrap()]);
    rig.network("shop", &[member("web", &["10.1.0.2"])]);
    let web = rig.container("web");
    assert_eq!(web.ask("example.org", A).code, 0);
    std::fs::write(real.with_extension("new"), "nameserver 127.0.0.54\n").unwrap();
    std::fs::rename(real.with_extension("new"), &real).unwrap();
    assert_eq!(web.ask("example.org", A).code, 3);
    std::fs::remove_file(&real).unwrap();
    assert_eq!(web.ask("example.org", A).code, 3, "without a file it goes on as before");
}

#[test]
fn who_has_no_way_out_has_nothing_asked_but_of_members() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let upstream = Upstream::new(FIRST, good);
    // An address of a member that the host reaches, as those of a bridge.
    let inside = Ipv4Addr::new(127, 1, 0, 9);
    let own = Upstream::new(inside, good);
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    let members = [member("web", &["10.1.0.2"]), member("dns", &["10.1.0.9"])];
    let mut table = Table { name: "back".to_owned(), is_internal: true, members: members.to_vec() };
    table.write(&rig.tables(), "back").unwrap();
    let web = rig.container_with("web", &["10.1.0.9".parse().unwrap()]);
    let plain = rig.container("dns");
    assert_eq!(plain.ask("example.org", A).code, 2);
    assert_eq!(plain.ask_by_tcp("example.org", A).code, 2);
    assert_eq!(upstream.asked(), [""; 0]);
    // The address is one of the host's here.
    crate::rig::give_loopback("10.1.0.9");
    let _member = Upstream::new(Ipv4Addr::new(10, 1, 0, 9), good);
    assert_eq!(web.ask("example.org", A).answers, [ADDRESS.to_string()]);
    table.members.pop();
    table.write(&rig.tables(), "back").unwrap();
    assert_eq!(web.ask("example.org", A).code, 2, "it is no member any more");
    drop(own);
}

#[test]
fn a_container_has_resolvers_of_its_own() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let upstream = Upstream::new(FIRST, good);
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    crate::rig::give_loopback("192.0.2.53");
    let own = Upstream::new(Ipv4Addr::new(192, 0, 2, 53), good);
    rig.network("shop", &[member("web", &["10.1.0.2"]), member("db", &["10.1.0.3"])]);
    let (web, db) = (rig.container_with("web", &["192.0.2.53".parse().unwrap()]), rig.container("db"));
    assert_eq!(web.ask("a.example", A).code, 0);
    assert_eq!(web.ask("db", A).answers, ["10.1.0.3"]);
    assert_eq!(db.ask("b.example", A).code, 0);
    assert_eq!((own.asked(), upstream.asked()), (vec!["a.example".to_owned()], vec!["b.example".to_owned()]));
}

#[test]
fn a_container_that_asks_without_end_starves_nobody() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _upstream = Upstream::new(FIRST, |question| {
        if crate::packets::asked_name(question).starts_with("slow") { Vec::new() } else { good(question) }
    });
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    let names = ["flood", "web"];
    rig.network("shop", &names.map(|name| member(name, &["10.1.0.2"])));
    let [flood, web] = names.map(|name| rig.container(name));
    let client = flood.client();
    for number in 0..3000_u16 {
        client.send(&numbered(number, &format!("slow{number}.example"), A)).unwrap();
        if number % 100 == 0 {
            assert_eq!(web.ask("a.example", A).answers, [ADDRESS.to_string()], "after {number}");
            assert_eq!(web.ask("web", A).answers, ["10.1.0.2"]);
        }
    }
    // All but the last 256 have failed, as far as they were heard. What comes faster than it is read is lost, and who gets no answer
    // asks again.
    wait_until("who asked without end is answered", || {
        let client = flood.client();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let told = exchange(&client, &question("b.example", A));
        told.is_ok_and(|told| told.answers == [ADDRESS.to_string()])
    });
    let streams = Vec::from_iter((0..100).map(|_| flood.connect()));
    assert_eq!(web.ask_by_tcp("a.example", A).answers, [ADDRESS.to_string()]);
    let pid = rig.ensure().process().unwrap();
    wait_until("all but its share of connections are closed", || {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        open < 16 + 256 + 30
    });
    drop(streams);
}

#[test]
fn an_order_of_networks_is_kept_when_one_is_internal() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let upstream = Upstream::new(FIRST, good);
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    let back =
        Table { name: "back".to_owned(), is_internal: true, members: vec![member("web", &["10.2.0.2"])] };
    back.write(&rig.tables(), "back").unwrap();
    rig.network("front", &[Member { order: 1, ..member("web", &["10.1.0.2"]) }]);
    let web = rig.container("web");
    assert_eq!(web.ask("web", A).answers, ["10.2.0.2"]);
    assert_eq!(web.ask("example.org", A).code, 0, "it has one way out");
    assert_eq!(upstream.asked(), ["example.org"]);
}

#[test]
fn a_network_without_names_is_a_way_out() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let upstream = Upstream::new(FIRST, good);
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    let members = ["web", "db"].map(|name| member(name, &["10.2.0.2"]));
    let mut back = Table { name: "back".to_owned(), is_internal: true, members: members.to_vec() };
    back.write(&rig.tables(), "back").unwrap();
    // As docker's default network, in which nobody is found by name.
    let nameless = Member { order: 1, names: Vec::new(), ..member("web", &["10.1.0.2"]) };
    rig.network("bridge", std::slice::from_ref(&nameless));
    let (web, db) = (rig.container("web"), rig.container("db"));
    assert_eq!(web.ask("a.example", A).code, 0);
    assert_eq!(web.ask("web", A).answers, ["10.2.0.2"], "it is found in the other one alone");
    assert_eq!(web.ask("web.bridge", A).answers, [ADDRESS.to_string()], "nobody is called so");
    assert_eq!(db.ask("b.example", A).code, 2, "who is not in it has none");
    // It leaves the one with names.
    back.members.remove(0);
    back.write(&rig.tables(), "back").unwrap();
    assert_eq!(web.ask("c.example", A).code, 0);
    rig.network("bridge", &[]);
    assert_eq!(web.ask("d.example", A).code, 2, "who is in no network any more has nothing asked outside");
    assert_eq!(upstream.asked(), ["a.example", "web.bridge", "c.example"]);
}
