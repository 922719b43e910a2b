//! Networks in real use: nginx, Redis and resolvers of a Debian in containers, asked from these and from other hosts.
//!
//! What needs the Debian takes it from the cache, where `cargo xtask debian` puts it, and never writes to it: each container has
//! a layer of its own over it.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::network::Network;
use bulkhead_testkit::{Output, cached, find_program, is_root, requires, skip, wait_until};

use crate::shop::Shop;

/// Why tests skip themselves without it.
const MISSING: &str = "no Debian with nginx in the cache: `cargo xtask debian` makes it";

/// What nginx serves.
const PAGE: &str = "a page of the shop";

/// The cached tree, where it has all that is run here.
fn debian() -> Option<PathBuf> {
    let root = cached("debian/rootfs")?;
    // Trees of older recipes lack it.
    root.join("usr/sbin/nginx").exists().then_some(root)
}

/// A shop with servers of a Debian.
struct Served {
    shop: Shop,
    /// What is given as `--rootfs`.
    root: String,
}

impl Served {
    fn new(debian: &Path) -> Self {
        Self { shop: Shop::empty(), root: format!("{}:O", debian.display()) }
    }

    /// Runs a program of the Debian in a new container.
    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let parent = self.shop.parent();
        let verb = ["run", "--cgroup-parent", &parent, "--stop-timeout", "1"];
        self.shop.bulkhead(&[&verb[..], options, &["--rootfs", &self.root], command].concat()).output()
    }

    /// Runs nginx, whose port 80 is published as 8080.
    fn nginx(&self) {
        let pages = self.shop.path("pages");
        fs::create_dir(&pages).unwrap();
        fs::write(pages.join("index.html"), PAGE).unwrap();
        let pages = format!("{}:/var/www/html:ro", pages.display());
        let options = ["-d", "--name", "web", "-p", "8080:80", "-v", &pages];
        self.run(&options, &["nginx", "-g", "daemon off;"]).succeeds();
    }

    /// Runs Redis in a network of its own, where it is called `cache`, and also `memory`.
    fn redis(&self) {
        self.shop.said(&["network", "create", "--ipv6", "back"]);
        let options =
            ["-d", "--name", "cache", "--network", "back", "--network-alias", "memory", "--user", "redis"];
        let server = ["redis-server", "--bind", "*", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
        self.run(&options, &server).succeeds();
        wait_until("Redis answers", || self.redis_cli("back", &["PING"]).stdout == "PONG\n");
    }

    /// What a client says that is a container of a network.
    fn redis_cli(&self, network: &str, command: &[&str]) -> Output {
        let client = ["timeout", "3", "redis-cli", "-h", "cache"];
        self.run(&["--rm", "--network", network], &[&client[..], command].concat())
    }

    fn address(&self, name: &str, network: &str, field: &str) -> String {
        let of_it = self.shop.inspect(name)["NetworkSettings"]["Networks"][network][field].clone();
        of_it.as_str().unwrap().to_owned()
    }
}

/// Another host, with a cable of its own to this one, by which it sends everything.
struct Elsewhere<'a> {
    shop: &'a Shop,
    network: Network,
    /// This host's address on the cable.
    here: String,
}

impl<'a> Elsewhere<'a> {
    /// Plugs it in; this host's device is called `cable`, and its addresses begin with these three numbers.
    fn new(shop: &'a Shop, cable: &str, prefix: &str) -> Self {
        let network = Network::new(&shop.sandbox);
        let pid = network.path().components().nth(2).unwrap().as_os_str().to_str().unwrap().to_owned();
        let [here, there] = [1, 2].map(|number| format!("{prefix}.{number}"));
        let elsewhere = Self { shop, network, here };
        let own = |words: &[&str]| drop(shop.sandbox.command(words[0]).args(&words[1..]).output().succeeds());
        own(&["ip", "link", "add", cable, "type", "veth", "peer", "name", "far", "netns", &pid]);
        own(&["ip", "addr", "add", &format!("{}/24", elsewhere.here), "dev", cable]);
        own(&["ip", "link", "set", cable, "up"]);
        for words in [
            &["ip", "addr", "add", &format!("{there}/24"), "dev", "far"][..],
            &["ip", "link", "set", "far", "up"],
            &["ip", "route", "add", "default", "via", &elsewhere.here],
        ] {
            elsewhere.does(words).succeeds();
        }
        // This host sends to everywhere by it: only what comes by such a cable is forwarded.
        own(&["ip", "route", "append", "default", "via", &there]);
        elsewhere
    }

    fn does(&self, words: &[&str]) -> Output {
        self.network.command(&self.shop.sandbox, words[0]).args(&words[1..]).output()
    }

    /// The page at an address, or nothing.
    fn page(&self, at: &str) -> String {
        self.does(&["curl", "--silent", "--max-time", "2", &format!("http://{at}/")]).stdout
    }

    /// Whether somebody accepts a connection.
    fn reaches(&self, at: &str, port: &str) -> bool {
        let connect = format!("exec 3<>/dev/tcp/{at}/{port}");
        self.does(&["timeout", "2", "bash", "-c", &connect]).code() == 0
    }
}

#[test]
fn another_host_reaches_nginx_and_one_that_the_firewall_drops_does_not() {
    requires!(is_root(), "needs root");
    requires!(find_program("curl").is_some(), "curl is missing");
    let Some(nft) = find_program("nft") else { skip!("nft is missing, by which the firewall is made") };
    let Some(debian) = debian() else { skip!("{MISSING}") };
    let served = Served::new(&debian);
    let neighbour = Elsewhere::new(&served.shop, "near", "192.0.2");
    let shut_out = Elsewhere::new(&served.shop, "astray", "198.51.100");
    served.nginx();
    wait_until("nginx answers", || neighbour.page("192.0.2.1:8080") == PAGE);
    assert_eq!(shut_out.page("198.51.100.1:8080"), PAGE, "before it is dropped");
    // It sees who asks.
    let log = served.shop.said(&["exec", "web", "cat", "/var/log/nginx/access.log"]);
    for asker in ["192.0.2.2 ", "198.51.100.2 "] {
        assert!(log.lines().any(|line| line.starts_with(asker)), "{asker}: {log}");
    }
    // As an administrator does it, behind the back of everybody.
    let rule = "add table inet admin\n\
        add chain inet admin forward { type filter hook forward priority 0; policy accept; }\n\
        add rule inet admin forward iifname astray drop\n";
    served.shop.sandbox.command(nft).args(["-f", "-"]).input(rule).output().succeeds();
    for port in ["8080", "80"] {
        assert_eq!(shut_out.page(&format!("{}:{port}", shut_out.here)), "", "port {port}");
    }
    // Nor by the way of the other host's address, nor past the port.
    assert_eq!(shut_out.page("192.0.2.1:8080"), "");
    let inside = served.address("web", "bridge", "IPAddress");
    for host in [&shut_out, &neighbour] {
        assert_eq!(host.page(&inside), "", "nobody reaches {inside} itself");
    }
    assert_eq!(neighbour.page("192.0.2.1:8080"), PAGE, "the neighbour still does");
    served.shop.said(&["restart", "web"]);
    wait_until("it answers after a restart", || neighbour.page("192.0.2.1:8080") == PAGE);
    assert_eq!(shut_out.page("198.51.100.1:8080"), "", "what is blocked stays blocked");
}

#[test]
fn redis_is_reached_by_its_name_in_its_network_and_by_nobody_else() {
    requires!(is_root(), "needs root");
    let Some(debian) = debian() else { skip!("{MISSING}") };
    let served = Served::new(&debian);
    let neighbour = Elsewhere::new(&served.shop, "near", "192.0.2");
    served.redis();
    served.nginx();
    wait_until("what is published is reached", || neighbour.reaches(&neighbour.here, "8080"));
    assert_eq!(served.redis_cli("back", &["SET", "key", "value"]).stdout, "OK\n");
    assert_eq!(served.redis_cli("back", &["GET", "key"]).stdout, "value\n");
    let inside = served.address("cache", "back", "IPAddress");
    for at in [neighbour.here.as_str(), &inside] {
        assert!(!neighbour.reaches(at, "6379"), "{at}");
    }
    served.shop.said(&["network", "create", "front"]);
    let stranger = served.redis_cli("front", &["PING"]);
    assert_ne!(stranger.code(), 0, "{}", stranger.stdout);
    let by_number = served.run(&["--rm"], &["timeout", "3", "redis-cli", "-h", &inside, "PING"]);
    assert!(!by_number.stdout.contains("PONG"), "{}", by_number.stdout);
}

#[test]
fn a_check_tells_of_a_firewall_that_shuts_containers_in() {
    requires!(is_root(), "needs root");
    let Some(nft) = find_program("nft") else { skip!("nft is missing, by which the firewall is made") };
    let shop = Shop::new();
    let rules = |text: &str| {
        shop.sandbox.command(&nft).args(["-f", "-"]).input(text).output().succeeds();
    };
    let check = |options: &[&str]| shop.bulkhead(&[&["system", "check"], options].concat()).output();
    let drops = "add chain ip TABLE FORWARD { type filter hook forward priority 0; policy drop; }\n";
    let table = |name: &str| format!("add table ip {name}\n{}", drops.replace("TABLE", name));
    rules(&table("office"));
    check(&[]).succeeds();
    shop.service("web", "sleep 1000");
    let told = check(&[]).exits_with(1).stdout;
    let effect = "the host's firewall: it drops what containers send to other hosts";
    assert!(told.contains(effect), "{told}");
    let open = "insert rule ip office FORWARD iifname \"bh-*\" accept";
    assert!(told.contains(&format!("`nft {open}")), "{told}");
    rules(&format!("{open}\n{}\n", open.replace("iifname", "oifname")));
    check(&[]).succeeds();
    // Where docker is started afterwards, or again.
    rules(&(table("filter") + "add chain ip filter DOCKER-USER\n"));
    let told = check(&["--dry-run"]).exits_with(1).stdout;
    assert!(told.contains(effect) && told.contains("told to let them through"), "{told}");
    check(&[]).succeeds();
    let listed = shop.sandbox.command(&nft).args(["list", "table", "ip", "filter"]).output().succeeds();
    assert!(listed.stdout.contains("oifname != \"bh-*\""), "{}", listed.stdout);
    assert!(check(&["--dry-run"]).succeeds().stdout.contains("as it should be"));
}

/// Asks 127.0.0.11 as RFC 1035 has it, by a datagram and by a connection, and prints the answers.
const RESOLVER: &str = r#"
import ipaddress, socket, struct, sys

def name(message, at):
    labels, end = [], None
    while message[at]:
        if message[at] >= 192:
            end = end or at + 2
            at = (message[at] & 63) << 8 | message[at + 1]
        else:
            labels.append(message[at + 1:at + 1 + message[at]].decode())
            at += 1 + message[at]
    return ".".join(labels), end or at + 1

def exchange(query, by_connection):
    if not by_connection:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.connect(("127.0.0.11", 53))
            asking.send(query)
            return asking.recv(4096)
    with socket.create_connection(("127.0.0.11", 53), 5) as asking, asking.makefile("rb") as answers:
        asking.sendall(struct.pack(">H", len(query)) + query)
        return answers.read(struct.unpack(">H", answers.read(2))[0])

def ask(wanted, kind, by_connection):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in wanted.split("."))
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, kind, 1)
    answer = exchange(query, by_connection)
    number, flags, _, count, _, _ = struct.unpack(">6H", answer[:12])
    assert number == 7 and flags & 0x8000, answer
    at, found = name(answer, 12)[1] + 4, [str(flags & 15)]
    for _ in range(count):
        at = name(answer, at)[1]
        length = struct.unpack(">H", answer[at + 8:at + 10])[0]
        at += 10
        found.append(name(answer, at)[0] if kind == 12 else str(ipaddress.ip_address(answer[at:at + length])))
        at += length
    return " ".join(found)

for by_connection in (False, True):
    for called in ("cache", "memory", "CACHE.back"):
        print(ask(called, 1, by_connection), ask(called, 28, by_connection))
    for address in sys.argv[1:]:
        print(ask(ipaddress.ip_address(address).reverse_pointer, 12, by_connection))
"#;

#[test]
fn resolvers_find_addresses_names_and_aliases_by_datagrams_and_connections() {
    requires!(is_root(), "needs root");
    let Some(debian) = debian() else { skip!("{MISSING}") };
    let served = Served::new(&debian);
    served.redis();
    let addresses = ["IPAddress", "GlobalIPv6Address"].map(|field| served.address("cache", "back", field));
    let [v4, v6] = &addresses;
    let in_back = |command: &[&str]| served.run(&["--rm", "--network", "back"], command).succeeds().stdout;
    let both = format!("0 {v4} 0 {v6}\n").repeat(3) + &"0 cache.back\n".repeat(2);
    assert_eq!(in_back(&["python3", "-c", RESOLVER, v4, v6]), both.repeat(2));
    // As programs ask, by the C library.
    let columns = |text: &str| Vec::from_iter(text.split_whitespace().map(str::to_owned));
    for (database, called, address) in
        [("ahostsv4", "cache", v4), ("ahostsv4", "memory", v4), ("ahostsv6", "cache", v6)]
    {
        let found = columns(&in_back(&["getent", database, called]));
        assert_eq!(found[..2], [address.as_str(), "STREAM"], "{database} {called}: {found:?}");
    }
    for address in [v4, v6] {
        assert_eq!(columns(&in_back(&["getent", "hosts", address])), [address.as_str(), "cache.back"]);
    }
}
