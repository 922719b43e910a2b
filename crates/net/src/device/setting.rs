//! Kernel parameters of devices, below `/proc/sys/net`: those of the namespace in which the caller is (sysctl(5), and
//! `ip-sysctl` of the kernel's documentation).

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use bulkhead_sys::Call as _;

use crate::error::{Doing, Result};

/// A parameter of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Packets of IPv4 that come in by it may go out by another one.
    Forwarding,
    /// So may those of IPv6. For a device that is there it does nothing unless it is set for all, too, before Linux 6.17.
    ForwardingV6,
    /// Packets with addresses of the loopback are routed by it.
    RouteLoopback,
    /// It has no IPv6.
    NoIpv6,
    /// Routers may tell it addresses and routes: 0 never, 1 unless it forwards, 2 always.
    RouterAdvertisements,
}

impl Setting {
    /// Returns the file of a device; `all` and `default` are devices, too.
    fn file(self, device: &str) -> PathBuf {
        let (family, name) = match self {
            Self::Forwarding => ("ipv4", "forwarding"),
            Self::ForwardingV6 => ("ipv6", "forwarding"),
            Self::RouteLoopback => ("ipv4", "route_localnet"),
            Self::NoIpv6 => ("ipv6", "disable_ipv6"),
            Self::RouterAdvertisements => ("ipv6", "accept_ra"),
        };
        // A device's name has no slash and is neither `.` nor `..`.
        ["/proc/sys/net", family, "conf", device, name].iter().collect()
    }
}

/// Reads a parameter; nothing where the kernel has none, as without IPv6.
#[must_use]
pub fn get(device: &str, setting: Setting) -> Option<String> {
    fs::read_to_string(setting.file(device)).ok().map(|text| text.trim_end().to_owned())
}

/// Sets a parameter.
///
/// # Errors
/// As open(2) and write(2), above all where `/proc/sys` is read-only.
pub fn set(device: &str, setting: Setting, value: &str) -> Result<()> {
    let file = setting.file(device);
    tell(device, &file, value, fs::write(&file, value))
}

/// As [`set`], but for a kernel that has no such parameter.
///
/// # Errors
/// As [`set`].
pub fn set_if_known(device: &str, setting: Setting, value: &str) -> Result<()> {
    let file = setting.file(device);
    match fs::OpenOptions::new().write(true).open(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => tell(device, &file, value, opened.and_then(|mut open| open.write_all(value.as_bytes()))),
    }
}

fn tell(device: &str, file: &Path, value: &str, written: std::io::Result<()>) -> Result<()> {
    let written = written.call(|| format!("write({:?}, {value:?})", file.display().to_string()));
    written.doing(|| format!("set a kernel parameter of the network device {device}"))
}
