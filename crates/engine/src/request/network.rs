//! With which networks a container is connected, and which of its ports are the host's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use bulkhead_net::device::Mac;
pub use bulkhead_net::rules::Protocol;
use bulkhead_store::NetworkRecord;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Malformed;
use super::csv::fields;

/// The network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// What a container has for which nothing is said: the network `bridge`, or what an ordinary user may have.
    #[default]
    Default,
    /// Its own, with a loopback interface and nothing else.
    None,
    /// The host's.
    Host,
    /// That of a container, by name or id.
    Container(String),
    /// Its pod's, if that has one for all its containers; else its own.
    Pod,
    /// Its own, connected with networks of the engine's, in this order.
    Networks(Vec<Connection>),
    /// Its own, whose packets a program of the user's own carries: an ordinary user's.
    Carried(Carrier),
}

/// A program that carries the packets of an ordinary user's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// pasta(1).
    Pasta,
    /// slirp4netns(1).
    Slirp4netns,
}

impl Carrier {
    /// Returns its program's name, which is the word of `--network`, too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }
}

/// A connection of a container with a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// The network's name; as it is typed, its name or the beginning of its id.
    pub network: String,
    /// Its id, once it was found: another one of that name is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Further names of the container there (`--network-alias`).
    pub aliases: Vec<String>,
    /// `--ip`; without it one that is free.
    pub ipv4: Option<Ipv4Addr>,
    /// `--ip6`; without it one that is free.
    pub ipv6: Option<Ipv6Addr>,
    /// `--mac-address`; without it one that is made of the address.
    pub mac: Option<MacAddress>,
    /// The name of the device in the container (docker's option `com.docker.network.endpoint.ifname`); without it `eth` and
    /// its number.
    pub device: Option<String>,
    /// By that of the highest one packets go that go nowhere else (docker's `gw-priority`).
    pub gateway_priority: i32,
}

impl Connection {
    /// Tells whether it is one with this network.
    pub(crate) fn is(&self, network: &NetworkRecord) -> bool {
        match &self.id {
            Some(id) => *id == network.id,
            None => self.network == network.name || self.network == network.id,
        }
    }
}

impl Network {
    /// Tells whether a program of its user's carries a container's packets.
    pub(crate) fn is_carried(&self) -> bool {
        matches!(self, Self::Carried(_))
    }

    /// Takes one more `--network` in.
    ///
    /// # Errors
    /// One that does not go together with those before.
    pub fn add(&mut self, other: Self) -> Result<(), Malformed> {
        let word = other.to_string();
        let wrong = |reason: &str| Err(Malformed::new("network", &word, reason));
        match (&mut *self, other) {
            (Self::Default, other) => *self = other,
            (Self::Networks(before), Self::Networks(more)) => {
                for connection in more {
                    if before.iter().any(|known| known.network == connection.network) {
                        return wrong("the container is connected with it already");
                    }
                    before.push(connection);
                }
            }
            _ => {
                return wrong(
                    "none, host, container:NAME, pasta and slirp4netns stand alone; several networks have names",
                );
            }
        }
        Ok(())
    }

    /// Returns the connections, if it has some.
    #[must_use]
    pub fn connections(&self) -> &[Connection] {
        match self {
            Self::Networks(connections) => connections,
            _ => &[],
        }
    }
}

/// Docker's word.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Pod => f.write_str("pod"),
            Self::Networks(connections) => {
                f.write_str(connections.first().map_or("none", |connection| &connection.network))
            }
            Self::Carried(carrier) => f.write_str(carrier.name()),
        }
    }
}

impl FromStr for Network {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "" => Err(Malformed::new("network", text, "expected the name of a network")),
            "default" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            "pasta" => Ok(Self::Carried(Carrier::Pasta)),
            "slirp4netns" => Ok(Self::Carried(Carrier::Slirp4netns)),
            _ if text.starts_with("pasta:") || text.starts_with("slirp4netns:") => {
                let reason = "these programs get no options of yours: ports are those of --publish, names those of --dns and \
                    --add-host, and the host is NAME:host-gateway there";
                Err(Malformed::new("network", text, reason))
            }
            _ => {
                if let Some(container) = super::namespace::container("network", text)? {
                    return Ok(Self::Container(container));
                }
                Ok(Self::Networks(vec![text.parse()?]))
            }
        }
    }
}

impl FromStr for Connection {
    type Err = Malformed;

    /// A network's name, or docker's `name=NAME,alias=…,ip=…,ip6=…,mac-address=…,gw-priority=…,driver-opt=…`.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("network", text, reason);
        if !text.contains('=') {
            if text.contains(',') {
                return Err(wrong("with options it is name=NAME,…"));
            }
            return Ok(Self { network: text.to_owned(), ..Self::default() });
        }
        let mut connection = Self::default();
        for field in fields("network", text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| wrong("expected KEY=VALUE,KEY=VALUE"))?;
            match key.trim().to_ascii_lowercase().as_str() {
                "name" => connection.network = value.to_owned(),
                "alias" => connection.aliases.push(name_of_host(value).ok_or_else(|| {
                    wrong("an alias is a name of letters, digits, dots, `-` and `_`, at most 253 bytes")
                })?),
                "ip" => {
                    connection.ipv4 = Some(value.parse().map_err(|_| wrong("ip is an address of IPv4"))?);
                }
                "ip6" => {
                    connection.ipv6 = Some(value.parse().map_err(|_| wrong("ip6 is an address of IPv6"))?);
                }
                "mac-address" => connection.mac = Some(value.parse()?),
                "gw-priority" => {
                    connection.gateway_priority =
                        value.parse().map_err(|_| wrong("gw-priority is a whole number"))?;
                }
                "driver-opt" => match value.split_once('=') {
                    Some(("com.docker.network.endpoint.ifname", name)) => {
                        connection.device = Some(device_name(name).ok_or_else(|| {
                            wrong("a device's name has 1 to 15 bytes, and no blank, slash or colon")
                        })?);
                    }
                    _ => {
                        return Err(wrong("the only driver-opt is com.docker.network.endpoint.ifname=NAME"));
                    }
                },
                "link-local-ip" => {
                    return Err(wrong("link-local-ip is not there: the kernel gives a device its own"));
                }
                _ => {
                    return Err(wrong(
                        "the keys are name, alias, ip, ip6, mac-address, gw-priority and driver-opt",
                    ));
                }
            }
        }
        if connection.network.is_empty() {
            return Err(wrong("name=NAME is missing"));
        }
        Ok(connection)
    }
}

/// Reads the name of a host (RFC 1123, section 2.1, and `_`, which docker has); nothing of what is none.
#[must_use]
pub fn name_of_host(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then(|| text.to_owned())
}

/// Reads the name of a network device, as the kernel takes one.
fn device_name(text: &str) -> Option<String> {
    let is_wrong = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b':' | 0);
    let is_name = (1..=15).contains(&text.len())
        && !matches!(text, "." | ".." | "lo")
        && !text.contains('%')
        && !text.bytes().any(is_wrong);
    is_name.then(|| text.to_owned())
}

/// A hardware address of a container's device: `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub Mac);

impl FromStr for MacAddress {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason| Malformed::new("MAC address", text, reason);
        let form = "expected six bytes in hexadecimal, as 02:42:ac:11:00:02";
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(|| wrong(form))?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong(form))?;
        }
        if parts.next().is_some() {
            return Err(wrong(form));
        }
        // IEEE 802: the lowest bit of the first byte is a group's.
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(wrong("it is that of a group, or nobody's; the first byte is even"));
        }
        Ok(Self(Mac(bytes)))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What of a container is reached by the host's ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Publishing {
    /// `--publish`.
    pub ports: Vec<PublishedPorts>,
    /// `--publish-all`: each port that is exposed gets one of the host.
    pub all: bool,
    /// `--expose`: ports that programs listen at, besides those that the image names.
    pub exposed: Vec<ExposedPorts>,
    /// `--publish-mode`.
    #[serde(skip_serializing_if = "PublishMode::is_usual")]
    pub mode: PublishMode,
}

impl Publishing {
    /// Tells whether any port is to be published, as far as that is known without the image.
    pub(crate) fn is_any(&self) -> bool {
        self.all || !self.ports.is_empty()
    }
}

/// In which way ports of the host lead to a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishMode {
    /// The packet filter changes where packets go, and nothing else of them.
    #[default]
    Dnat,
    /// A program listens at them, and carries what comes.
    Proxy,
}

impl PublishMode {
    /// Tells whether it is what is meant where nothing is said.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for PublishMode {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "dnat" => Ok(Self::Dnat),
            "proxy" => Ok(Self::Proxy),
            _ => Err(Malformed::new("publish mode", text, "the modes are dnat and proxy")),
        }
    }
}

/// Ports of a container that are ports of the host, too: `[ADDRESS:][HOST:]CONTAINER[/PROTOCOL]` with ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPorts {
    /// The address of the host; without one, all of them.
    pub address: Option<IpAddr>,
    /// Its first port; without it any that is free.
    pub host: Option<u16>,
    /// How many of the host's there are to choose from, more than `count` for one port of the container.
    pub choices: u16,
    /// The first port of the container.
    pub container: u16,
    /// How many there are.
    pub count: u16,
    /// The protocol above IP.
    pub protocol: Protocol,
}

impl Publishing {
    /// Lists the ports of the container at which somebody is expected to listen: those that are exposed or published.
    pub fn expected(&self) -> impl Iterator<Item = (u16, Protocol)> {
        let published = self.ports.iter().map(|ports| ExposedPorts {
            first: ports.container,
            count: ports.count,
            protocol: ports.protocol,
        });
        self.exposed.iter().copied().chain(published).flat_map(ExposedPorts::each)
    }
}

/// Ports of a container: `PORT[-PORT][/PROTOCOL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPorts {
    /// The first.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// The protocol above IP.
    pub protocol: Protocol,
}

impl ExposedPorts {
    /// Lists them.
    pub fn each(self) -> impl Iterator<Item = (u16, Protocol)> {
        (self.first..=self.first.saturating_add(self.count - 1)).map(move |port| (port, self.protocol))
    }
}

impl FromStr for ExposedPorts {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason| Malformed::new("port", text, reason);
        let (ports, protocol) = with_protocol(text).map_err(wrong)?;
        let (first, count) = range(ports).ok_or_else(|| wrong(FORM_EXPOSED))?;
        Ok(Self { first, count, protocol })
    }
}

const FORM_EXPOSED: &str = "expected PORT or FIRST-LAST of 1 to 65535, and perhaps /tcp, /udp or /sctp";
const FORM: &str = "expected [ADDRESS:][HOST:]CONTAINER[/PROTOCOL], as 8080:80 or 127.0.0.1:5353:53/udp, ports of 1 to 65535 or FIRST-LAST";

impl FromStr for PublishedPorts {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason| Malformed::new("port", text, reason);
        let (rest, protocol) = with_protocol(text).map_err(wrong)?;
        let (address, ports) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (address, ports) = rest.split_once("]:").ok_or_else(|| wrong(FORM))?;
                let address = address.parse().map_err(|_| wrong("in brackets stands an address of IPv6"))?;
                (Some(IpAddr::V6(address)), ports)
            }
            None => match rest.split(':').count() {
                1 | 2 => (None, rest),
                3 => {
                    let (address, ports) = rest.split_once(':').ok_or_else(|| wrong(FORM))?;
                    let address: Ipv4Addr = address.parse().map_err(|_| {
                        wrong("the host's address is one of IPv4, or one of IPv6 in brackets; names are not looked up")
                    })?;
                    (Some(IpAddr::V4(address)), ports)
                }
                _ => return Err(wrong(FORM)),
            },
        };
        let (host, container) = match ports.split_once(':') {
            None => ("", ports),
            Some((host, container)) => (host, container),
        };
        let (container, count) = range(container).ok_or_else(|| wrong(FORM))?;
        let (host, choices) = match host {
            "" | "0" => (None, count),
            host => {
                let (host, choices) = range(host).ok_or_else(|| wrong(FORM))?;
                (Some(host), choices)
            }
        };
        // One port of a container may get any of a range, as docker has it.
        if choices != count && count != 1 {
            return Err(wrong("the two ranges have different lengths"));
        }
        Ok(Self { address, host, choices, container, count, protocol })
    }
}

fn with_protocol(text: &str) -> Result<(&str, Protocol), &'static str> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((ports, protocol)) => {
            Ok((ports, protocol.parse().map_err(|()| "the protocols are tcp, udp and sctp")?))
        }
    }
}

/// Reads a port, or the first and the last of several: the first, and how many.
fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last): (u16, u16) = match text.split_once('-') {
        None => (port(text)?, port(text)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    (first > 0 && first <= last).then(|| (first, last - first + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_docker_s_words() {
        let named = |name: &str| Connection { network: name.to_owned(), ..Connection::default() };
        for (text, expected) in [
            ("none", Network::None),
            ("host", Network::Host),
            ("default", Network::Default),
            ("container:db", Network::Container("db".to_owned())),
            ("pasta", Network::Carried(Carrier::Pasta)),
            ("bridge", Network::Networks(vec![named("bridge")])),
            ("name=front", Network::Networks(vec![named("front")])),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let all = "name=front,alias=web,alias=www,ip=10.0.0.7,ip6=fd00::7,mac-address=02:42:0a:00:00:07,gw-priority=-1,driver-opt=com.docker.network.endpoint.ifname=lan0";
        let connection: Connection = all.parse().unwrap();
        assert_eq!(connection.aliases, ["web", "www"]);
        assert_eq!(connection.ipv4, Some([10, 0, 0, 7].into()));
        assert_eq!(connection.mac.map(|mac| mac.to_string()).as_deref(), Some("02:42:0a:00:00:07"));
        assert_eq!((connection.gateway_priority, connection.device.as_deref()), (-1, Some("lan0")));
        for text in [
            "",
            "container:",
            "pasta:--map-gw",
            "slirp4netns:",
            "a,b",
            "alias=web",
            "name=a,ip=fd00::1",
            "name=a,what=b",
            "name=a,alias=two words",
            "name=a,driver-opt=x=y",
            "name=a,driver-opt=com.docker.network.endpoint.ifname=a/b",
            "name=a,mac-address=03:00:00:00:00:01",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn several_networks_have_names_and_what_stands_alone_does() {
        let mut network = Network::Default;
        network.add("front".parse().unwrap()).unwrap();
        network.add("name=back,alias=db".parse().unwrap()).unwrap();
        assert_eq!(network.connections().len(), 2);
        assert_eq!(network.to_string(), "front");
        for other in ["front", "none", "host", "container:x", "pasta"] {
            assert!(network.add(other.parse().unwrap()).is_err(), "{other}");
        }
    }

    #[test]
    fn ports_are_typed_as_in_docker() {
        let port = |address: Option<&str>, host, choices, container, count, protocol| PublishedPorts {
            address: address.map(|address| address.parse().unwrap()),
            host,
            choices,
            container,
            count,
            protocol,
        };
        for (text, expected) in [
            ("80", port(None, None, 1, 80, 1, Protocol::Tcp)),
            ("8080:80", port(None, Some(8080), 1, 80, 1, Protocol::Tcp)),
            ("0:80", port(None, None, 1, 80, 1, Protocol::Tcp)),
            ("127.0.0.1:8080:80/tcp", port(Some("127.0.0.1"), Some(8080), 1, 80, 1, Protocol::Tcp)),
            ("127.0.0.1::80", port(Some("127.0.0.1"), None, 1, 80, 1, Protocol::Tcp)),
            ("[::1]:5353:53/udp", port(Some("::1"), Some(5353), 1, 53, 1, Protocol::Udp)),
            ("8000-8002:80-82", port(None, Some(8000), 3, 80, 3, Protocol::Tcp)),
            ("8000-8009:80", port(None, Some(8000), 10, 80, 1, Protocol::Tcp)),
            ("80-81/sctp", port(None, None, 2, 80, 2, Protocol::Sctp)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "x",
            "80:",
            ":",
            "65536",
            "80-79",
            "8000-8001:80-82",
            "80/icmp",
            "1:2:3:4",
            "::1:80:80",
            "host:80:80",
            "[127.0.0.1]:80:80",
            "+80",
            "80 ",
        ] {
            assert!(text.parse::<PublishedPorts>().is_err(), "{text}");
        }
        assert_eq!(
            Vec::from_iter("1-2/udp".parse::<ExposedPorts>().unwrap().each()),
            [(1, Protocol::Udp), (2, Protocol::Udp)]
        );
    }
}
