//! Networks that are shared with containers which are none of their owner: where they are found, and what becomes of them with its end.

use bulkhead_testkit::{Running, wait_until};

use rustix::process::{Pid, Signal, kill_process};

use crate::networks::{greeter, heard};
use crate::shop::{Shop, shop};

impl Shop {
    /// Starts one that sleeps.
    fn sleeper(&self, name: &str, options: &[&str]) {
        self.with("run", &[&["-d", "--name", name], options].concat(), &["sleep", "1000"])
            .output()
            .succeeds();
    }

    fn within(&self, name: &str, script: &str) -> String {
        self.bulkhead(&["exec", name, "sh", "-c", script]).output().succeeds().stdout
    }

    /// How many devices of the host belong to a container.
    fn ends_of(&self, name: &str) -> usize {
        let id = self.inspect(name)["Id"].as_str().unwrap()[..6].to_owned();
        self.ends(&id)
    }

    fn ends(&self, id: &str) -> usize {
        let listed = self.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
        listed.matches(&format!(": bv-{id}")).count()
    }

    /// Puts a process of the host into a container's network, for as long as what is returned is there.
    fn enter_network(&self, name: &str) -> Running {
        let pid = self.inspect(name)["State"]["Pid"].to_string();
        self.sandbox.command("nsenter").args(["-t", &pid, "-n", "sleep", "1000"]).spawn()
    }
}

/// The container's only device but for the loopback.
const DEVICES: &str = "ls /sys/class/net | grep -v lo; true";

#[test]
fn who_shares_a_network_that_has_ended_keeps_none_of_its_addresses() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    shop.sleeper("own", &["--network", "front", "-p", "8080:80"]);
    shop.sleeper("shr", &["--network", "container:own"]);
    // Of one that shares it through another, too.
    shop.sleeper("third", &["--network", "container:shr"]);
    assert_eq!(shop.within("third", DEVICES), "eth0\n");
    let address = shop.inspect("own")["NetworkSettings"]["Networks"]["front"]["IPAddress"].clone();
    let address = address.as_str().unwrap();

    shop.said(&["restart", "-t", "0", "own"]);
    assert_eq!(shop.ends_of("own"), 1, "no two devices have one address");
    assert_eq!((shop.within("shr", DEVICES), shop.within("third", DEVICES)), (String::new(), String::new()));
    shop.bulkhead(&["exec", "-d", "own", "sh", "-c", &greeter(80, "own")]).output().succeeds();
    wait_until("its port leads to itself", || heard("127.0.0.1:8080").as_deref() == Some("hello own"));

    shop.sleeper("late", &["--network", "container:own"]);
    // Its policy brings it into the network that the other one has by then.
    shop.said(&["restart", "-t", "0", "own"]);
    shop.said(&["update", "--restart", "always", "late"]);
    kill_process(
        Pid::from_raw(i32::try_from(shop.inspect("late")["State"]["Pid"].as_i64().unwrap()).unwrap())
            .unwrap(),
        Signal::KILL,
    )
    .unwrap();
    wait_until("it is in the network again", || {
        let found = shop.bulkhead(&["exec", "late", "sh", "-c", DEVICES]).output();
        found.code() == 0 && found.stdout == "eth0\n"
    });
    let id = shop.inspect("own")["Id"].as_str().unwrap()[..6].to_owned();
    shop.said(&["rm", "-f", "own"]);
    assert_eq!(shop.ends(&id), 0, "its address is free for others");
    assert_eq!(shop.within("late", DEVICES), "");
    shop.sleeper("next", &["--network", "front", "--ip", address]);
    shop.bulkhead(&["exec", "-d", "next", "sh", "-c", &greeter(80, "next")]).output().succeeds();
    wait_until("the address is another's", || {
        heard(&format!("{address}:80")).as_deref() == Some("hello next")
    });
    assert_eq!(shop.said(&["system", "check"]), "all is as it should be\n");
}

#[test]
fn a_process_of_the_host_in_a_network_does_not_keep_its_address() {
    let shop = shop!();
    shop.sleeper("web", &[]);
    let inside = shop.enter_network("web");
    shop.said(&["restart", "-t", "0", "web"]);
    assert_eq!(shop.ends_of("web"), 1);
    drop(inside);
    let _inside = shop.enter_network("web");
    shop.said(&["stop", "-t", "0", "web"]);
    let id = shop.inspect("web")["Id"].as_str().unwrap()[..6].to_owned();
    assert_eq!(shop.ends(&id), 1, "nobody looks for it where nothing is shared");
    let said = shop.said(&["system", "check"]);
    assert!(
        said.contains("it has ended, and somebody is in it with its addresses (mended: disconnected)"),
        "{said}"
    );
    assert_eq!(shop.ends(&id), 0);
    assert_eq!(shop.said(&["system", "check"]), "all is as it should be\n");
}

#[test]
fn a_network_is_shared_with_the_files_of_whose_it_is() {
    let shop = shop!();
    shop.pod("pair", &["--add-host", "db:10.0.0.7"]);
    shop.member("pair", "member", "sleep 1000");
    let look = "cat /etc/hosts; hostname";
    let run = |of: &str| {
        let network = format!("container:{of}");
        shop.script(&["--network", &network], look).output().succeeds().stdout
    };
    let said = run("member");
    assert!(said.contains("10.0.0.7\tdb") && said.ends_with("\npair\n"), "{said}");
    shop.sleeper("own", &["--add-host", "cache:10.0.0.8", "--hostname", "box"]);
    shop.sleeper("shr", &["--network", "container:own"]);
    for of in ["own", "shr"] {
        let said = run(of);
        assert!(said.contains("10.0.0.8\tcache") && said.ends_with("\nbox\n"), "{of}: {said}");
    }
}
