//! What the configuration asks for as a whole, and cannot have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulkhead_spec::Config;
use bulkhead_sys::namespace::Kind;

use super::namespaces::Namespaces;
use crate::error::{Error, Result};

/// A version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// What comes after the first point.
    pub minor: u32,
}

/// Accepts the versions of the specification that this runtime implements: every 1.x.
///
/// # Errors
/// Another major version, or something that is no version.
pub fn version(text: &str) -> Result<Version> {
    let numbers: Vec<&str> = text.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let numbers: Option<Vec<u32>> = numbers.iter().map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([1, minor, _]) => Ok(Version { minor: *minor }),
        Some([_, _, _]) => {
            Err(Error::invalid("/ociVersion", format!("version {text} is not supported; 1.x is")))
        }
        _ => Err(Error::invalid("/ociVersion", format!("{text:?} is not a version such as \"1.3.0\""))),
    }
}

/// Refuses requests that need a namespace the container does not have.
///
/// # Errors
/// The first such request.
pub fn requests(config: &Config, namespaces: &Namespaces) -> Result<()> {
    let uts = namespaces.has(Kind::Uts);
    for (value, name) in [(&config.hostname, "hostname"), (&config.domainname, "domainname")] {
        if value.is_some() && !uts {
            let reason = format!("setting the {name} needs a namespace of type \"uts\"");
            return Err(Error::invalid(format!("/{name}"), reason));
        }
        if value.as_ref().is_some_and(|value| value.len() > 64) {
            return Err(Error::invalid(format!("/{name}"), "it is longer than 64 bytes"));
        }
        if value.as_ref().is_some_and(|value| value.contains('\0')) {
            return Err(Error::invalid(format!("/{name}"), "it contains a NUL byte"));
        }
    }
    let parameters = config.linux.as_ref().map(|linux| &linux.sysctl);
    for (key, value) in parameters.into_iter().flatten() {
        if path(key) == "kernel/domainname" && config.domainname.as_ref().is_some_and(|name| name != value) {
            let reason = format!("it is {value:?}, but /domainname is another");
            return Err(Error::invalid(sysctl_pointer(key), reason));
        }
    }
    Ok(())
}

/// Kernel parameters of an IPC namespace, ipc_namespaces(7).
const IPC_KEYS: [&str; 9] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
    "kernel/msg_next_id",
];

/// A kernel parameter to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its place in the configuration, a JSON pointer.
    pub pointer: String,
    /// The namespace to which it belongs, and which must not be the host's.
    pub kind: Kind,
    /// Its file below `/proc/sys`.
    pub path: PathBuf,
    /// What is written there.
    pub value: String,
}

/// Decides the kernel parameters.
///
/// # Errors
/// A key that does not belong to a namespace of the container: it would change the host.
pub fn sysctl(parameters: &BTreeMap<String, String>, namespaces: &Namespaces) -> Result<Vec<Parameter>> {
    parameters.iter().map(|(key, value)| parameter(key, value, namespaces)).collect()
}

fn parameter(key: &str, value: &str, namespaces: &Namespaces) -> Result<Parameter> {
    let pointer = sysctl_pointer(key);
    let path = path(key);
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::invalid(pointer, format!("{key:?} is not the name of a kernel parameter")));
    }
    let kind = match path.as_str() {
        ipc if IPC_KEYS.contains(&ipc) || ipc.starts_with("fs/mqueue/") => Kind::Ipc,
        net if net.starts_with("net/") => Kind::Network,
        "kernel/domainname" => Kind::Uts,
        "kernel/hostname" => {
            return Err(Error::invalid(pointer, "set the field \"hostname\" of the configuration instead"));
        }
        user if user.starts_with("user/") => Kind::User,
        _ => {
            let reason = format!("{key:?} is not a parameter of a namespace: it would change the host");
            return Err(Error::invalid(pointer, reason));
        }
    };
    if !namespaces.has(kind) {
        return Err(shared_with_host(pointer, kind));
    }
    Ok(Parameter { pointer, kind, path: path.into(), value: value.to_owned() })
}

fn sysctl_pointer(key: &str) -> String {
    format!("/linux/sysctl/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The error that something of a namespace was to be changed which is the host's.
pub fn shared_with_host(pointer: impl Into<String>, kind: Kind) -> Error {
    let reason =
        format!("belongs to the {} namespace, which the container shares with the host", kind.link());
    Error::invalid(pointer, reason)
}

/// Turns `net.ipv4.conf.eth0/100.forwarding` into `net/ipv4/conf/eth0.100/forwarding`, see sysctl.d(5).
fn path(key: &str) -> String {
    let first = key.find(['.', '/']).map(|at| &key[at..=at]);
    if first == Some("/") {
        return key.to_owned();
    }
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_spec::Linux;

    use super::*;

    fn namespaces(kinds: &str) -> Namespaces {
        let list: Vec<String> = kinds.split(',').map(|kind| format!(r#"{{"type":"{kind}"}}"#)).collect();
        let linux: Linux =
            serde_json::from_str(&format!(r#"{{"namespaces":[{}]}}"#, list.join(","))).unwrap();
        Namespaces::plan(&linux, &|| unreachable!("it is not asked for"), &mut Vec::new()).unwrap()
    }

    fn refusal(key: &str, kinds: &str) -> String {
        parameter(key, "1", &namespaces(kinds)).unwrap_err().to_string()
    }

    #[test]
    fn any_minor_version_is_accepted() {
        assert_eq!(version("1.0.2-dev").unwrap(), Version { minor: 0 });
        assert_eq!(version("1.3.0").unwrap(), Version { minor: 3 });
        assert!(version("2.0.0").is_err());
        assert!(version("latest").is_err());
    }

    #[test]
    fn dots_and_slashes_change_places() {
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
    }

    #[test]
    fn a_parameter_of_the_host_is_refused() {
        assert!(refusal("vm.swappiness", "mount").contains("would change the host"));
        assert!(refusal("net.core.somaxconn", "mount").contains("shares with the host"));
        assert!(refusal("kernel.hostname", "mount,uts").contains("\"hostname\""));
        assert!(refusal("net.../etc/passwd", "mount,network").contains("not the name"));
    }

    #[test]
    fn a_parameter_of_an_own_namespace_is_accepted() {
        let parameter = parameter("net.core.somaxconn", "5", &namespaces("mount,network")).unwrap();
        assert_eq!(parameter.path, PathBuf::from("net/core/somaxconn"));
        assert_eq!((parameter.kind, parameter.value.as_str()), (Kind::Network, "5"));
    }
}
