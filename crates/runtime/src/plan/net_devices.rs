//! The network devices that a container gets from the host.

use bulkhead_spec::Linux;
use bulkhead_sys::namespace::Kind;

use super::namespaces::Namespaces;
use crate::error::{Error, Result};

/// The longest name of a device, in bytes.
const LONGEST: usize = 15;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container, in which `%d` stands for a number of the kernel's choice.
    pub inside: String,
}

impl NetDevice {
    /// Returns its place in the configuration, a JSON pointer.
    pub fn pointer(&self) -> String {
        pointer(&self.host)
    }

    /// Tells whether the kernel completes its name in the container.
    pub fn is_template(&self) -> bool {
        self.inside.contains('%')
    }
}

/// Decides which devices are moved, in the order of their names.
///
/// # Errors
/// A name that no device can have or that two would have, and a container in the host's network namespace.
pub fn plan(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    if !linux.net_devices.is_empty() && !namespaces.has(Kind::Network) {
        let reason = "moving network devices needs a namespace of type \"network\"";
        return Err(Error::invalid("/linux/netDevices", reason));
    }
    let mut planned: Vec<NetDevice> = Vec::new();
    for (host, device) in &linux.net_devices {
        if let Some(reason) = fault(host) {
            return Err(Error::invalid(pointer(host), format!("{host:?} {reason}")));
        }
        let inside = device.name.clone().unwrap_or_else(|| host.clone());
        let place = || pointer(host) + "/name";
        // What comes after a percent sign is for the kernel, which knows nothing but one number.
        let fixed = inside.replacen("%d", "", 1);
        let fault = if fixed.contains('%') { Some("can have one %d and no other %") } else { fault(&inside) };
        if let Some(reason) = fault {
            return Err(Error::invalid(place(), format!("{inside:?} {reason}")));
        }
        let planned_one = NetDevice { host: host.clone(), inside };
        if planned.iter().any(|other| other.inside == planned_one.inside && !other.is_template()) {
            return Err(Error::invalid(place(), format!("two devices would be {:?}", planned_one.inside)));
        }
        planned.push(planned_one);
    }
    Ok(planned)
}

/// Says why the kernel would refuse a name.
fn fault(name: &str) -> Option<&'static str> {
    let is_forbidden = |byte: u8| matches!(byte, b'/' | b':' | b'\0' | b'\x0b') || byte.is_ascii_whitespace();
    match name {
        "" | "." | ".." => Some("is not the name of a network device"),
        _ if name.len() > LONGEST => Some("is longer than 15 bytes"),
        _ if name.bytes().any(is_forbidden) => Some("contains a character that no name of a device has"),
        _ => None,
    }
}

fn pointer(host: &str) -> String {
    format!("/linux/netDevices/{}", host.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(devices: &str, kinds: &str) -> std::result::Result<Vec<(String, String)>, String> {
        let text = format!(r#"{{"netDevices": {devices}, "namespaces": [{kinds}]}}"#);
        let linux: Linux = serde_json::from_str(&text).unwrap();
        let nothing = || unreachable!("no user namespace is asked for");
        let namespaces = Namespaces::plan(&linux, &nothing, &mut Vec::new()).unwrap();
        let devices = plan(&linux, &namespaces).map_err(|error| error.to_string())?;
        Ok(devices.into_iter().map(|device| (device.host, device.inside)).collect())
    }

    const NETWORK: &str = r#"{"type": "network"}"#;

    #[test]
    fn a_device_keeps_its_name_unless_it_gets_another() {
        let devices = planned(r#"{"eth1": {"name": "lan%d"}, "eth0": {}}"#, NETWORK).unwrap();
        let expected = [("eth0", "eth0"), ("eth1", "lan%d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(devices, expected);
    }

    #[test]
    fn two_templates_may_be_the_same_but_two_names_may_not() {
        assert!(planned(r#"{"a": {"name": "e%d"}, "b": {"name": "e%d"}}"#, NETWORK).is_ok());
        let error = planned(r#"{"a": {"name": "b"}, "b": {}}"#, NETWORK).unwrap_err();
        assert_eq!(error, "config.json: /linux/netDevices/b/name: two devices would be \"b\"");
    }

    #[test]
    fn a_name_that_no_device_has_is_refused_with_its_place() {
        for (host, inside) in [("", "a"), (".", "a"), ("a/b", "a"), ("sixteen-bytes-xx", "a"), ("a b", "a")] {
            let error = planned(&format!(r#"{{"{host}": {{"name": "{inside}"}}}}"#), NETWORK).unwrap_err();
            let place = pointer(host);
            assert!(error.starts_with(&format!("config.json: {place}: ")), "{error}");
        }
        for inside in ["..", "a:b", "a\\tb", "a\\u0000b", "%s", "%d%d", "a%", "sixteen-bytes-%d"] {
            let error = planned(&format!(r#"{{"a": {{"name": "{inside}"}}}}"#), NETWORK).unwrap_err();
            assert!(error.starts_with("config.json: /linux/netDevices/a/name: "), "{error}");
        }
    }

    #[test]
    fn the_hosts_network_namespace_gets_no_device_from_itself() {
        let error = planned(r#"{"eth0": {}}"#, "").unwrap_err();
        assert!(error.contains("/linux/netDevices: ") && error.contains("\"network\""), "{error}");
    }
}
