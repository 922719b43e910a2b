//! The name of a container, and the files by which it finds others.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use bulkhead_net::names::is_asking_itself;

use super::{Facts, Resolvers, Scene, invalid};
use crate::error::Result;
use crate::host::is_on_loopback;
use crate::request::{HostAddress, Hosts, Network, Request, Uts};

/// Decides the host name that the container's programs see.
pub(super) fn hostname(scene: &Scene<'_>) -> Result<String> {
    let Scene { request, facts, id, .. } = *scene;
    let shares = request.namespaces.uts != Uts::Private;
    if let Some(domain) = domain(request).filter(|domain| !is_word(domain)) {
        return Err(invalid(
            format!("--domainname {domain:?}"),
            "a domain has at most 64 bytes and no blanks",
        ));
    }
    if let (Uts::Pod, Some(pod)) = (&request.namespaces.uts, scene.pod) {
        return match &request.hostname {
            Some(name) => {
                let reason = "the containers of its pod share a name: give it to `bulkhead pod create`";
                Err(invalid(format!("--hostname {name}"), reason))
            }
            None => Ok(pod.hostname.to_owned()),
        };
    }
    match &request.hostname {
        Some(name) if shares => {
            let reason = "the container shares its name with another: leave --uts or --hostname out";
            Err(invalid(format!("--hostname {name}"), reason))
        }
        Some(name) if matches!(request.namespaces.network, Network::Container(_) | Network::Pod) => {
            let reason =
                "the files with names are those of the container whose network is shared: leave it out";
            Err(invalid(format!("--hostname {name}"), reason))
        }
        Some(name) => {
            if is_word(name) {
                Ok(name.clone())
            } else {
                Err(invalid(format!("--hostname {name:?}"), "a name has 1 to 64 bytes and no blanks"))
            }
        }
        None if shares || request.namespaces.network == Network::Host => Ok(facts.hostname.clone()),
        // By the files with names it is found under that of whose network it has.
        None => Ok(match &request.namespaces.network {
            Network::Container(peer) => scene.peers.get(peer).map(|peer| peer.hostname.clone()),
            _ => None,
        }
        .unwrap_or_else(|| crate::id::short(id).to_owned())),
    }
}

/// Tells whether the kernel takes it (uname(2)) and files with names have it as one word.
fn is_word(name: &str) -> bool {
    (1..=64).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c.is_whitespace())
}

fn domain(request: &Request) -> Option<&str> {
    request.domainname.as_deref().filter(|domain| !domain.is_empty())
}

/// Returns what is written for the container; nothing where it has the files of another.
pub(super) fn files(scene: &Scene<'_>, hostname: &str, facts: &Facts) -> Result<Vec<(&'static str, String)>> {
    let request = scene.request;
    let of_another = match &request.namespaces.network {
        Network::Container(peer) => {
            let name = scene.peers.get(peer).map_or(peer, |peer| &peer.name);
            Some(format!("container {name}: give it there"))
        }
        Network::Pod => Some("the pod: give it to `bulkhead pod create`".to_owned()),
        Network::Default | Network::None | Network::Host | Network::Networks(_) | Network::Carried(_) => None,
    };
    if let Some(owner) = of_another {
        let hosts = &request.hosts;
        let asked = [
            ("--dns", hosts.servers.is_empty()),
            ("--dns-search", hosts.search.is_empty()),
            ("--dns-option", hosts.options.is_empty()),
            ("--add-host", hosts.entries.is_empty()),
        ];
        if let Some((flag, _)) = asked.iter().find(|(_, empty)| !empty) {
            let reason = format!("the files with names are those of {owner}");
            return Err(invalid(*flag, reason));
        }
        return Ok(Vec::new());
    }
    let is_own = |server: &&IpAddr| is_asking_itself(**server);
    if let Some(server) = request.hosts.servers.iter().find(is_own).filter(|_| scene.wiring.has_names) {
        let reason = "the name server of the container's networks asks it from the host, whose own loopback that is; give another address of it";
        return Err(invalid(format!("--dns {server}"), reason));
    }
    Ok(vec![
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts(scene, hostname, facts)?),
        ("resolv.conf", resolv_conf(scene, facts)),
    ])
}

fn hosts(scene: &Scene<'_>, hostname: &str, facts: &Facts) -> Result<String> {
    let request = scene.request;
    let on_host = request.namespaces.network == Network::Host;
    let mut text = match on_host {
        true => facts.hosts.clone(),
        false => LOOPBACK.to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !on_host {
        let domain = domain(request).map(|domain| format!("{hostname}.{domain} ")).unwrap_or_default();
        // Without others there is no address but the loopback's by which it could be found.
        let alone = [IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1))];
        let own = if scene.wiring.addresses.is_empty() { &alone[..] } else { &scene.wiring.addresses };
        for address in own {
            let _ = writeln!(text, "{address}\t{domain}{hostname}");
        }
    }
    for entry in &request.hosts.entries {
        let address = match entry.address {
            HostAddress::Address(address) => address.to_string(),
            HostAddress::Gateway if on_host => "127.0.0.1".to_owned(),
            HostAddress::Gateway => match scene.wiring.host {
                Some(address) => address.to_string(),
                None if matches!(request.namespaces.network, Network::Carried(_)) => {
                    let reason =
                        "only pasta of August 2024 and later leads to the host; --network host has it, too";
                    return Err(invalid(format!("--add-host {}:host-gateway", entry.name), reason));
                }
                None => {
                    let reason = "without a network there is no way to the host; --network host has one";
                    return Err(invalid(format!("--add-host {}:host-gateway", entry.name), reason));
                }
            },
        };
        let _ = writeln!(text, "{address}\t{}", entry.name);
    }
    Ok(text)
}

/// Where the name server of a container's networks is asked: docker's address.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What every container finds itself by.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The host's file, in which what was asked for takes the place of its lines. Servers on the host's loopback are out of reach
/// for all who do not share its network.
fn resolv_conf(scene: &Scene<'_>, facts: &Facts) -> String {
    let asked = &scene.request.hosts;
    let on_host = scene.request.namespaces.network == Network::Host;
    if on_host && asked.servers.is_empty() && asked.search.is_empty() && asked.options.is_empty() {
        return facts.resolv_conf.clone();
    }
    let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for line in facts.resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            Some("options") => options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    if scene.wiring.has_names {
        return of_name_server(asked, search, options);
    }
    if let Network::Carried(carrier) = scene.request.namespaces.network {
        servers = vec![carrier.name_server().to_string()];
    } else if !on_host {
        let is_loopback =
            |server: &String| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        servers.retain(|server| !is_loopback(server));
    }
    if let Some(Resolvers { servers: told, search: domains, options: more }) = &scene.wiring.told {
        (servers, search, options) = (told.clone(), domains.clone(), more.clone());
    }
    if !asked.servers.is_empty() {
        servers = asked.servers.iter().map(ToString::to_string).collect();
    }
    if !asked.search.is_empty() {
        search = asked.search.iter().filter(|domain| *domain != ".").cloned().collect();
    }
    if !asked.options.is_empty() {
        options.clone_from(&asked.options);
    }
    text_of(&servers, &search, &options)
}

/// Says that nobody answers a container's questions: those whom the host asks are on its loopback, and systemd-resolved(8)
/// does not say whom they ask.
pub(super) fn without_servers(scene: &Scene<'_>, facts: &Facts) -> Option<String> {
    let is_connected = !scene.request.namespaces.network.connections().is_empty();
    let is_without = is_connected
        && !scene.wiring.has_names
        && scene.wiring.told.is_none()
        && scene.request.hosts.servers.is_empty()
        && is_on_loopback(&facts.resolv_conf);
    is_without.then(|| {
        "the container finds no names: the servers of the host's /etc/resolv.conf are on its loopback; name others by --dns".to_owned()
    })
}

/// The file of a container whose questions the name server of its networks answers, or passes on. As docker it has every name
/// asked as it is before a domain is put behind it.
fn of_name_server(asked: &Hosts, mut search: Vec<String>, mut options: Vec<String>) -> String {
    if !asked.search.is_empty() {
        search = asked.search.iter().filter(|domain| *domain != ".").cloned().collect();
    }
    if !asked.options.is_empty() {
        options.clone_from(&asked.options);
    }
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    text_of(&[NAME_SERVER.to_string()], &search, &options)
}

fn text_of(servers: &[String], search: &[String], options: &[String]) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (keyword, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    text
}
