//! Proxies, as the environment names them.

use std::ffi::OsString;
use std::net::IpAddr;

/// The proxies of the environment. Loopback is never behind one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For HTTP without TLS.
    pub http: Option<String>,
    /// For HTTPS.
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached without.
    pub without: Vec<String>,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in small letters, too.
    pub(crate) fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            let found = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
            found.and_then(|value| value.into_string().ok()).filter(|value| !value.trim().is_empty())
        };
        let without = text("NO_PROXY").unwrap_or_default();
        let without = without.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Self {
            http: text("HTTP_PROXY").or_else(|| text("ALL_PROXY")),
            https: text("HTTPS_PROXY").or_else(|| text("ALL_PROXY")),
            without: without.map(str::to_owned).collect(),
        }
    }

    /// The proxy before a host, by the scheme of the request.
    pub(crate) fn before(&self, scheme: &str, host: &str, port: u16) -> Option<&str> {
        let proxy = if scheme == "https" { &self.https } else { &self.http };
        let proxy = proxy.as_deref()?;
        let excepted = is_loopback(host) || self.without.iter().any(|entry| covers(entry, host, port));
        (!excepted).then_some(proxy)
    }
}

/// Tells whether a host is this machine, by its name or address alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn covers(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let (Some((network, bits)), Ok(address)) = (entry.split_once('/'), host.parse::<IpAddr>()) {
        return within(network, bits, address);
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') => (name, digits.parse::<u16>().ok()),
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let domain = name.trim_start_matches('*');
    let bare = domain.trim_start_matches('.');
    let is_below = || host.strip_suffix(bare).is_some_and(|rest| rest.ends_with('.'));
    let is_exact = !domain.starts_with('.') && host.eq_ignore_ascii_case(bare);
    !bare.is_empty() && (is_exact || is_below())
}

fn within(network: &str, bits: &str, address: IpAddr) -> bool {
    let shift = |width: u32| bits.parse::<u32>().ok().filter(|bits| *bits <= width).map(|bits| width - bits);
    match (network.parse::<IpAddr>(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) => shift(32).is_some_and(|shift| {
            u64::from(u32::from(network)) >> shift == u64::from(u32::from(address)) >> shift
        }),
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) => shift(128).is_some_and(|shift| {
            u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        let pairs = [("https_proxy", "http://p:1"), ("HTTP_PROXY", "http://p:2"), ("NO_PROXY", no_proxy)];
        Proxies::of_environment(|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn each_scheme_has_its_proxy_and_loopback_none() {
        let all = proxies("");
        for (scheme, host, expected) in [
            ("https", "h.example", Some("http://p:1")),
            ("http", "h.example", Some("http://p:2")),
            ("http", "localhost", None),
            ("https", "127.0.0.2", None),
            ("https", "[::1]", None),
        ] {
            assert_eq!(all.before(scheme, host, 5000), expected, "{scheme} {host}");
        }
    }

    #[test]
    fn exceptions_are_hosts_domains_ports_and_networks() {
        for (entry, host, excepted) in [
            ("h.example", "h.example", true),
            ("h.example", "a.h.example", true),
            ("h.example", "ah.example", false),
            (".example", "h.example", true),
            (".h.example", "h.example", false),
            ("*.example", "h.example", true),
            ("h.example:5000", "h.example", true),
            ("h.example:5001", "h.example", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("fd00::/8", "[fd12::1]", true),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("::/0", "fd12::1", true),
            ("10.0.0.0/99", "10.1.2.3", false),
            ("*", "h.example", true),
            ("", "h.example", false),
        ] {
            let proxies = proxies(entry);
            let found = proxies.before("https", host, 5000);
            assert_eq!(found.is_none(), excepted, "{host} with NO_PROXY={entry}");
        }
    }
}
