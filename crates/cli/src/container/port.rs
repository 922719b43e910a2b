//! `port`, and how published ports are written.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use bulkhead_engine::network::PublishedPort;
use bulkhead_engine::request::{ExposedPorts, Protocol};
use clap::Args;

use crate::failure::Failure;
use crate::home::Home;
use crate::verbs::Operation;

/// Tell which ports of the host lead to a container
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead port CONTAINER [PORT[/PROTOCOL]]")]
pub(crate) struct Port {
    /// The container
    container: String,
    /// Only this port of it
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<ExposedPorts>,
}

impl Operation for Port {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Port { container, port } = self;
        let engine = home.engine()?;
        let container = engine.container(&container)?;
        let mut ports = engine.ports_of(&container)?;
        ports.sort();
        let mut output = io::stdout().lock();
        let Some(wanted) = port else {
            for port in &ports {
                let at = SocketAddr::new(port.address, port.host);
                writeln!(output, "{}/{} -> {at}", port.container, port.protocol)?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        if let ExposedPorts { first, count: 2.., protocol } = wanted {
            let last = first + (wanted.count - 1);
            let text = format!("{first}-{last}/{protocol} are several ports, of which one is asked for");
            return Err(Failure::new(text).hint("`bulkhead port CONTAINER` lists all that are published"));
        }
        let is_it =
            |port: &&PublishedPort| port.container == wanted.first && port.protocol == wanted.protocol;
        let found = Vec::from_iter(ports.iter().filter(is_it));
        if found.is_empty() {
            let text = format!(
                "port {}/{} of container {} is not published",
                wanted.first, wanted.protocol, container.name
            );
            return Err(Failure::new(text).hint("`bulkhead port CONTAINER` lists those that are"));
        }
        for port in found {
            writeln!(output, "{}", SocketAddr::new(port.address, port.host))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Ports as `ps` has them: `0.0.0.0:8080-8082->80-82/tcp, 53/udp`.
pub(crate) fn line(published: &[PublishedPort], exposed: &[(u16, Protocol)]) -> String {
    let mut parts = Vec::new();
    let mut sorted = Vec::from(published);
    sorted.sort_by_key(|port| (port.container, port.protocol, port.address, port.host));
    let mut groups: Vec<(IpAddr, Protocol, u16, u16, u16)> = Vec::new();
    for port in &sorted {
        let next = groups.iter_mut().find(|(address, protocol, container, host, count)| {
            *address == port.address
                && *protocol == port.protocol
                && container.checked_add(*count) == Some(port.container)
                && host.checked_add(*count) == Some(port.host)
        });
        match next {
            Some((.., count)) => *count += 1,
            None => groups.push((port.address, port.protocol, port.container, port.host, 1)),
        }
    }
    let range = |first: u16, count: u16| match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first + (count - 1)),
    };
    for (address, protocol, container, host, count) in groups {
        let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        parts.push(format!("{address}:{}->{}/{protocol}", range(host, count), range(container, count)));
    }
    let is_published =
        |port: u16, protocol| published.iter().any(|of| of.container == port && of.protocol == protocol);
    let rest = exposed.iter().filter(|(port, protocol)| !is_published(*port, *protocol));
    parts.extend(rest.map(|(port, protocol)| format!("{port}/{protocol}")));
    parts.join(", ")
}

/// Published ports by the container's, as `inspect` has them.
pub(crate) fn by_container(published: &[PublishedPort]) -> BTreeMap<String, Vec<&PublishedPort>> {
    let mut found: BTreeMap<String, Vec<&PublishedPort>> = BTreeMap::new();
    for port in published {
        found.entry(format!("{}/{}", port.container, port.protocol)).or_default().push(port);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_are_written_as_one() {
        let port = |address: &str, host, container| PublishedPort {
            container,
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            host,
            to: "10.0.0.2:1".parse().unwrap(),
        };
        let ports = [
            port("0.0.0.0", 8080, 80),
            port("0.0.0.0", 8081, 81),
            port("::", 8080, 80),
            port("0.0.0.0", 99, 99),
        ];
        let exposed = [(53, Protocol::Udp), (80, Protocol::Tcp)];
        assert_eq!(
            line(&ports, &exposed),
            "0.0.0.0:8080-8081->80-81/tcp, [::]:8080->80/tcp, 0.0.0.0:99->99/tcp, 53/udp"
        );
        assert_eq!(line(&[], &[]), "");
    }
}
