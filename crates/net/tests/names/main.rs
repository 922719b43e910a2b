//! Names of containers: a helper that answers those in network namespaces.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod attack;
mod forward;
mod life;
mod packets;
mod real;
mod rig;
mod upstream;

use bulkhead_net::names::{self, Member, Table};
use packets::{A, AAAA, MX, PTR};
use rig::{Rig, member};

#[test]
fn a_container_finds_others_by_name_and_by_address() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let mut db = member("db", &["10.1.0.2", "fd00:1::2"]);
    db.names.push("Data.Base".to_owned());
    rig.network("Shop", &[db, member("web", &["10.1.0.3"])]);
    let web = rig.container("web");
    for (name, kind, answers) in [
        ("db", A, &["10.1.0.2"][..]),
        ("DB", A, &["10.1.0.2"]),
        ("db.", AAAA, &["fd00:1::2"]),
        ("db.shop", A, &["10.1.0.2"]),
        ("data.base", A, &["10.1.0.2"]),
        ("data.base.SHOP", A, &["10.1.0.2"]),
        ("web", A, &["10.1.0.3"]),
        ("web", AAAA, &[]),
        ("db", MX, &[]),
        ("2.0.1.10.in-addr.arpa", PTR, &["db.shop"]),
        ("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa", PTR, &["db.shop"]),
    ] {
        for told in [web.ask(name, kind), web.ask_by_tcp(name, kind)] {
            assert_eq!((told.id, told.code, told.is_cut_off), (0x1234, 0, false), "{name}");
            assert_eq!(told.answers, answers, "{name}");
            assert!(told.seconds.iter().all(|seconds| *seconds == 600), "{name}");
        }
    }
}

#[test]
fn a_container_keeps_port_53_of_all_its_addresses_for_itself() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    rig.network("shop", &[member("db", &["10.1.0.2"])]);
    let db = rig.container("db");
    let (udp, tcp) = db.listen(53);
    assert_eq!(db.ask("db", A).answers, ["10.1.0.2"]);
    assert_eq!(db.ask_by_tcp("db", A).answers, ["10.1.0.2"]);
    // What asks its own server comes there.
    let client = db.inside(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    client.send_to(b"ping", "127.0.0.1:53").unwrap();
    let mut room = [0; 16];
    let (length, peer) = udp.recv_from(&mut room).unwrap();
    assert_eq!(&room[..length], b"ping");
    udp.send_to(b"pong", peer).unwrap();
    let (length, from) = client.recv_from(&mut room).unwrap();
    assert_eq!((&room[..length], from.to_string().as_str()), (&b"pong"[..], "127.0.0.1:53"));
    let connected = db.inside(|| std::net::TcpStream::connect("127.0.0.1:53").unwrap());
    assert_eq!(tcp.accept().unwrap().1, connected.local_addr().unwrap());
}

#[test]
fn the_sockets_of_a_container_can_be_made_anew() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    rig.network("shop", &[member("db", &["10.1.0.2"])]);
    let db = rig.container("db");
    for _ in 0..3 {
        rig.ensure().serve("db", &db.open(), &[], names::Until::SomebodyStays).unwrap();
        assert_eq!(db.ask("db", A).answers, ["10.1.0.2"]);
        assert_eq!(db.ask_by_tcp("db", A).answers, ["10.1.0.2"]);
    }
    assert_eq!(rig.ensure().look().unwrap(), ["db"]);
}

#[test]
fn whoever_has_connected_a_container_finds_it_at_once() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&["--upstream", "127.0.0.1"]);
    let mut members = vec![member("web", &["10.1.0.1"])];
    rig.network("shop", &members);
    let web = rig.container("web");
    for number in 2..200 {
        let name = format!("c{number}");
        members.push(member(&name, &[&format!("10.1.0.{number}")]));
        rig.network("shop", &members);
        assert_eq!(web.ask(&name, A).answers, [format!("10.1.0.{number}")]);
        if number % 2 == 0 {
            members.pop();
            rig.network("shop", &members);
            assert_eq!(web.ask(&name, A).code, 2, "it is gone, and nobody else knows it");
        }
    }
    Table::remove(&rig.tables(), "shop").unwrap();
    assert_eq!(web.ask("web", A).code, 2);
}

#[test]
fn who_is_in_several_networks_finds_what_is_in_each() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let second = Member { order: 1, ..member("web", &["10.2.0.2"]) };
    rig.network("front", &[member("web", &["10.1.0.2"]), member("proxy", &["10.1.0.3"])]);
    rig.network("back", &[second, member("db", &["10.2.0.3"])]);
    let (web, db) = (rig.container("web"), rig.container("db"));
    assert_eq!(web.ask("proxy", A).answers, ["10.1.0.3"]);
    assert_eq!(web.ask("db", A).answers, ["10.2.0.3"]);
    assert_eq!(web.ask("web", A).answers, ["10.1.0.2"], "its first network's");
    assert_eq!(web.ask("web.back", A).answers, ["10.2.0.2"]);
    assert_eq!(db.ask("web", A).answers, ["10.2.0.2"]);
    assert_eq!(db.ask("proxy", A).answers, [""; 0], "not of its networks");
}
