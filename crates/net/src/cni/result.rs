//! What plugins say that they have made.
//!
//! Up to version 0.2.0 an answer has one address of each family (`ip4`, `ip6`), from 0.3.0 on lists of devices, addresses and
//! routes; a plugin that knows several versions tells which it means, but the members tell it, too.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What an attachment is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// The devices, the host's and the container's.
    pub interfaces: Vec<Interface>,
    /// The container's addresses.
    pub addresses: Vec<Address>,
    /// The container's routes.
    pub routes: Vec<Route>,
    /// How names are found there.
    pub dns: Dns,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name where it is.
    pub name: String,
    /// Its hardware address, as the plugin writes it; often empty.
    pub mac: String,
    /// Bytes in a packet at most.
    pub mtu: Option<u32>,
    /// The namespace that it is in, as the path which the plugin was given, whose meaning ends with the process that gave it; nothing
    /// on the host.
    pub sandbox: Option<String>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// With the length of its subnet.
    pub net: IpNet,
    /// The router of that.
    pub gateway: Option<IpAddr>,
    /// Which of [`Attached::interfaces`] has it, if the plugin says it.
    pub interface: Option<usize>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// By which router; the address's own where there is none.
    pub gateway: Option<IpAddr>,
    /// Bytes in a packet at most.
    pub mtu: Option<u32>,
    /// Bytes of a TCP segment that are asked of the other side.
    pub segment: Option<u32>,
    /// The least is taken first.
    pub priority: Option<i64>,
    /// The table, see `ip-route`(8).
    pub table: Option<i64>,
    /// RT_SCOPE_*.
    pub scope: Option<i64>,
}

/// How names are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Who is asked.
    #[serde(deserialize_with = "or_default")]
    pub nameservers: Vec<String>,
    /// The own domain; often empty.
    #[serde(deserialize_with = "or_default")]
    pub domain: String,
    /// What is appended to short names.
    #[serde(deserialize_with = "or_default")]
    pub search: Vec<String>,
    /// As in resolv.conf(5).
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<String>,
}

impl Attached {
    /// Reads an answer of any version.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn read(document: &Map<String, Value>) -> Result<Self, String> {
        let written = serde_json::from_value(Value::Object(document.clone()));
        let Written { interfaces, ips, ip4, ip6, routes, dns } =
            written.map_err(|error| error.to_string())?;
        let mut attached = Self {
            interfaces: interfaces.into_iter().map(WrittenInterface::read).collect(),
            dns,
            ..Self::default()
        };
        for (index, written) in ips.into_iter().enumerate() {
            let address = written.read(attached.interfaces.len());
            attached.addresses.push(address.map_err(|reason| format!("ips[{index}].{reason}"))?);
        }
        for (index, written) in routes.into_iter().enumerate() {
            attached.routes.push(written.read().map_err(|reason| format!("routes[{index}].{reason}"))?);
        }
        for (name, old) in [("ip4", ip4), ("ip6", ip6)] {
            let Some(old) = old else { continue };
            let (address, routes) = old.read().map_err(|reason| format!("{name}.{reason}"))?;
            attached.addresses.push(address);
            attached.routes.extend(routes);
        }
        Ok(attached)
    }

    /// The container's devices.
    pub fn inside(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.sandbox.is_some())
    }
}

/// Writes the path by which a namespace is reached now into an answer that has another one. Without a namespace it is a path that
/// leads nowhere, since that of a process which has ended may lead to anything.
pub(super) fn move_sandbox(document: &mut Map<String, Value>, then: &str, now: Option<&str>) {
    // No process is called 0.
    const NOWHERE: &str = "/proc/0/ns/net";
    let Some(Value::Array(interfaces)) = document.get_mut("interfaces") else { return };
    for interface in interfaces {
        if let Some(sandbox) = interface.get_mut("sandbox")
            && sandbox.as_str() == Some(then)
        {
            *sandbox = Value::String(now.unwrap_or(NOWHERE).to_owned());
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Written {
    #[serde(deserialize_with = "or_default")]
    interfaces: Vec<WrittenInterface>,
    #[serde(deserialize_with = "or_default")]
    ips: Vec<WrittenAddress>,
    ip4: Option<Old>,
    ip6: Option<Old>,
    #[serde(deserialize_with = "or_default")]
    routes: Vec<WrittenRoute>,
    #[serde(deserialize_with = "or_default")]
    dns: Dns,
}

#[derive(Deserialize)]
struct WrittenInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mac: String,
    mtu: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    sandbox: String,
}

#[derive(Deserialize)]
struct WrittenAddress {
    address: String,
    gateway: Option<String>,
    interface: Option<i64>,
}

#[derive(Deserialize)]
struct WrittenRoute {
    dst: String,
    gw: Option<String>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<i64>,
    table: Option<i64>,
    scope: Option<i64>,
}

/// Of version 0.2.0 and before.
#[derive(Deserialize)]
struct Old {
    ip: String,
    gateway: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    routes: Vec<WrittenRoute>,
}

impl WrittenInterface {
    fn read(self) -> Interface {
        let Self { name, mac, mtu, sandbox } = self;
        let sandbox = Some(sandbox).filter(|path| !path.is_empty());
        Interface { name, mac, mtu: mtu.filter(|mtu| *mtu > 0), sandbox }
    }
}

impl WrittenAddress {
    fn read(self, interfaces: usize) -> Result<Address, String> {
        let Self { address, gateway, interface } = self;
        let interface = match interface {
            None => None,
            // Some write a number below zero where there is none.
            Some(number) if number < 0 => None,
            Some(number) => match usize::try_from(number) {
                Ok(number) if number < interfaces => Some(number),
                _ => return Err(format!("interface is {number}, and there are {interfaces}")),
            },
        };
        Ok(Address { net: net("address", &address)?, gateway: router("gateway", gateway)?, interface })
    }
}

impl WrittenRoute {
    fn read(self) -> Result<Route, String> {
        let Self { dst, gw, mtu, advmss, priority, table, scope } = self;
        let [mtu, segment] = [mtu, advmss].map(|number| number.filter(|number| *number > 0));
        Ok(Route { to: net("dst", &dst)?, gateway: router("gw", gw)?, mtu, segment, priority, table, scope })
    }
}

impl Old {
    fn read(self) -> Result<(Address, Vec<Route>), String> {
        let Self { ip, gateway, routes } = self;
        let address = Address { net: net("ip", &ip)?, gateway: router("gateway", gateway)?, interface: None };
        let routes = routes
            .into_iter()
            .enumerate()
            .map(|(index, written)| written.read().map_err(|reason| format!("routes[{index}].{reason}")));
        Ok((address, routes.collect::<Result<_, _>>()?))
    }
}

fn net(member: &str, text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| format!("{member} is {text:?}, which is no address with the length of a subnet"))
}

fn router(member: &str, text: Option<String>) -> Result<Option<IpAddr>, String> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|_| format!("{member} is {text:?}, which is no address")))
        .transpose()
}

/// `null` is nothing, as Go writes an empty list.
fn or_default<'d, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'d>,
    T: Deserialize<'d> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: Value) -> Result<Attached, String> {
        let Value::Object(document) = document else { panic!("{document} is an object") };
        Attached::read(&document)
    }

    #[test]
    fn answers_of_all_versions_are_read() {
        let new = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1400, "sandbox": "/proc/1/fd/3", "pciID": ""},
            ],
            "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.2.0.0/16", "gw": "10.1.0.9", "table": 7, "mtu": 1300, "scope": 0}],
            "dns": {"nameservers": ["10.1.0.1"], "search": ["a.example"], "x": 1},
            "of the plugin": true,
        });
        let attached = read(new).unwrap();
        assert_eq!(attached.inside().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(attached.interfaces[1].mtu, Some(1400));
        assert_eq!(attached.addresses[0].net, "10.1.0.2/24".parse().unwrap());
        assert_eq!(attached.addresses[0].gateway, Some(IpAddr::from([10, 1, 0, 1])));
        assert_eq!((attached.addresses[0].interface, attached.addresses[1].interface), (Some(1), None));
        assert_eq!(attached.routes[1].gateway, Some(IpAddr::from([10, 1, 0, 9])));
        assert_eq!((attached.routes[1].table, attached.routes[1].mtu), (Some(7), Some(1300)));
        assert_eq!(attached.dns.nameservers, ["10.1.0.1"]);

        let middle = json!({
            "cniVersion": "0.3.1", "interfaces": null, "routes": null, "dns": {"nameservers": null},
            "ips": [{"version": "4", "address": "10.1.0.2/24", "interface": -1}],
        });
        assert_eq!(read(middle).unwrap().addresses[0].interface, None);

        let old = json!({
            "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::2/64"},
            "dns": {},
        });
        let attached = read(old).unwrap();
        assert_eq!((attached.addresses.len(), attached.routes.len()), (2, 1));
        assert_eq!(read(json!({})).unwrap(), Attached::default());
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_named() {
        for (document, wrong) in [
            (
                json!({"ips": [{"address": "10.1.0.2"}]}),
                "ips[0].address is \"10.1.0.2\", which is no address with",
            ),
            (
                json!({"ips": [{"address": "10.1.0.2/24", "interface": 0}]}),
                "ips[0].interface is 0, and there are 0",
            ),
            (json!({"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "x"}]}), "routes[1].gw is \"x\""),
            (json!({"ip4": {"ip": ""}}), "ip4.ip is \"\""),
            (json!({"interfaces": 1}), "invalid type: integer"),
        ] {
            let error = read(document).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_namespace_is_found_by_its_path_of_now() {
        let before = json!({"interfaces": [{"name": "a", "sandbox": "/proc/1/fd/3"}, {"name": "b", "sandbox": "/run/x"}, {}]});
        let moved = |now| {
            let Value::Object(mut document) = before.clone() else { panic!("{before}") };
            move_sandbox(&mut document, "/proc/1/fd/3", now);
            Value::Object(document)
        };
        let interfaces = |path| json!({"interfaces": [{"name": "a", "sandbox": path}, {"name": "b", "sandbox": "/run/x"}, {}]});
        assert_eq!(moved(Some("/proc/7/fd/4")), interfaces("/proc/7/fd/4"));
        assert_eq!(moved(None), interfaces("/proc/0/ns/net"));
    }
}
