//! By which of its networks a container's packets go out, and by which ports of the host lead in, also while these change. The test is a
//! host of its own.

use bulkhead_testkit::wait_until;

use crate::networks::heard;
use crate::shop::{Shop, shop};

/// The routes of a container by which packets go that go nowhere else, of a family (`-4`, `-6`).
fn ways_out(shop: &Shop, name: &str, family: &str) -> String {
    let routes = shop.said(&["exec", name, "ip", family, "route"]);
    Vec::from_iter(routes.lines().filter(|route| route.starts_with("default"))).join("\n")
}

#[test]
fn each_family_has_a_way_out_and_one_in_whichever_network_has_it() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.84.0.0/24", "four"]);
    shop.said(&["network", "create", "--ipv4=false", "--subnet", "fd00:84::/64", "six"]);
    let serve = "while :; do echo hello both | nc -l -p 80; done";
    for networks in [["four", "six"], ["six", "four"]] {
        // The second is connected by a hook.
        for users in [&[][..], &["--uidmap", "0:100000:65536"]] {
            let networks = networks.map(|name| ["--network", name]).concat();
            let options = [&["-d", "--name", "web", "-p", "8190:80"], &networks[..], users].concat();
            shop.with("run", &options, &["sh", "-c", serve]).output().succeeds();
            let (v4, v6) = (ways_out(&shop, "web", "-4"), ways_out(&shop, "web", "-6"));
            assert!(v4.starts_with("default via 10.84.0.1 dev eth"), "{options:?}: {v4}");
            assert!(v6.starts_with("default via fd00:84::1 dev eth"), "{options:?}: {v6}");
            assert_eq!((v4.lines().count(), v6.lines().count()), (1, 1), "{options:?}");
            assert_eq!(shop.said(&["port", "web", "80"]), "0.0.0.0:8190\n[::]:8190\n", "{options:?}");
            for at in ["127.0.0.1:8190", "[fd00:84::1]:8190"] {
                wait_until("it answers", || heard(at).as_deref() == Some("hello both"));
            }
            shop.said(&["rm", "-f", "web"]);
        }
    }
}
