//! Where systemd and the buses listen.

use std::path::PathBuf;

use super::Manager;

/// Who is at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// systemd itself: there is nobody to introduce oneself to, and all signals come unasked.
    Manager,
    /// A bus, which wants a greeting and to know which signals to pass on.
    Bus,
}

/// A socket to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) peer: Peer,
    pub(crate) socket: Socket,
}

/// The name of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Socket {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// What the environment says.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// DBUS_SYSTEM_BUS_ADDRESS
    pub(crate) system_bus: Option<String>,
    /// DBUS_SESSION_BUS_ADDRESS
    pub(crate) session_bus: Option<String>,
    /// XDG_RUNTIME_DIR
    pub(crate) runtime_directory: Option<PathBuf>,
    /// The caller's user id.
    pub(crate) uid: u32,
}

impl Surroundings {
    /// Looks at those of this process.
    pub(crate) fn own() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            system_bus: text("DBUS_SYSTEM_BUS_ADDRESS"),
            session_bus: text("DBUS_SESSION_BUS_ADDRESS"),
            runtime_directory: text("XDG_RUNTIME_DIR").map(PathBuf::from),
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Lists the sockets at which a manager can be reached, the shortest way first. systemd's own needs no bus daemon,
    /// neither running nor in between.
    pub(crate) fn addresses(&self, manager: Manager) -> Vec<Address> {
        let (directory, named, usual) = match manager {
            Manager::System => {
                let usual = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];
                (PathBuf::from("/run"), &self.system_bus, usual.map(PathBuf::from).to_vec())
            }
            Manager::User => {
                let directory = self.runtime_directory.clone();
                let directory = directory.unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", self.uid)));
                let usual = vec![directory.join("bus")];
                (directory, &self.session_bus, usual)
            }
        };
        let private = Socket::Path(directory.join("systemd/private"));
        let bus = match named.as_deref().map(sockets) {
            Some(sockets) if !sockets.is_empty() => sockets,
            _ => usual.into_iter().map(Socket::Path).collect(),
        };
        let bus = bus.into_iter().map(|socket| Address { peer: Peer::Bus, socket });
        [Address { peer: Peer::Manager, socket: private }].into_iter().chain(bus).collect()
    }
}

/// Reads the unix sockets of a list like `unix:path=/run/bus,guid=1;tcp:…` (D-Bus Specification, "Server Addresses").
fn sockets(list: &str) -> Vec<Socket> {
    let unix = list.split(';').filter_map(|address| address.strip_prefix("unix:"));
    let named = unix.filter_map(|address| {
        address.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => Some(Socket::Path(PathBuf::from(String::from_utf8(unescape(path)?).ok()?))),
            ("abstract", name) => unescape(name).map(Socket::Abstract),
            _ => None,
        })
    });
    named.collect()
}

/// Replaces `%2f` and the like.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut plain = parts.next()?.as_bytes().to_vec();
    for part in parts {
        plain.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        plain.extend(&part.as_bytes()[2..]);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(surroundings: &Surroundings, manager: Manager) -> Vec<String> {
        let addresses = surroundings.addresses(manager);
        let shown = addresses.iter().map(|address| match &address.socket {
            Socket::Path(path) => format!("{:?} {}", address.peer, path.display()),
            Socket::Abstract(name) => format!("{:?} @{}", address.peer, String::from_utf8_lossy(name)),
        });
        shown.collect()
    }

    #[test]
    fn systemd_itself_is_asked_before_a_bus() {
        let surroundings = Surroundings { uid: 7, ..Surroundings::default() };
        assert_eq!(
            shown(&surroundings, Manager::System),
            [
                "Manager /run/systemd/private",
                "Bus /run/dbus/system_bus_socket",
                "Bus /var/run/dbus/system_bus_socket"
            ]
        );
        assert_eq!(
            shown(&surroundings, Manager::User),
            ["Manager /run/user/7/systemd/private", "Bus /run/user/7/bus"]
        );
    }

    #[test]
    fn the_environment_names_other_places() {
        let surroundings = Surroundings {
            session_bus: Some("tcp:host=x;unix:guid=1,path=/a%20b;unix:abstract=x%2fy".into()),
            runtime_directory: Some("/r".into()),
            ..Surroundings::default()
        };
        assert_eq!(
            shown(&surroundings, Manager::User),
            ["Manager /r/systemd/private", "Bus /a b", "Bus @x/y"]
        );
        let useless = Surroundings { session_bus: Some("unix:path=/a%zz".into()), ..surroundings };
        assert_eq!(shown(&useless, Manager::User), ["Manager /r/systemd/private", "Bus /r/bus"]);
    }
}
