//! HTTP, as registries speak it: requests with their answers, redirections, and errors that say what is wrong.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::net::ToSocketAddrs as _;
use std::sync::Mutex;

use ureq::config::AutoHeaderValue;
use ureq::http::{self, HeaderMap, Method, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy, SendBody};

use crate::configuration::Patience;
use crate::error::{Error, Result};
use crate::message;
use crate::proxy::Proxies;
use crate::registries::Wall;
use crate::trust::Trust;

const USER_AGENT: &str = concat!("bulkhead/", env!("CARGO_PKG_VERSION"));

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// What is read of the body of an error, in bytes.
const LONGEST_ERROR: u64 = 64 << 10;

/// How often an answer may send us elsewhere.
const MOST_HOPS: usize = 5;

/// Bytes that a connection buffers of what it receives.
const BUFFER: usize = 128 << 10;

/// The connections to all hosts.
pub(crate) struct Http {
    trust: Trust,
    proxies: Proxies,
    patience: Patience,
    /// By scheme, host with port, and wall: connections are kept for the next request.
    agents: Mutex<HashMap<(String, Wall), Agent>>,
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: Vec<(header::HeaderName, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) wall: Wall,
}

/// What a request brings along.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    Stream { reader: &'a mut dyn Read, length: u64 },
}

/// The answer to a request.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Who answered, after all redirections.
    pub(crate) host: String,
    pub(crate) url: Uri,
    body: Body,
}

impl Http {
    pub(crate) fn new(trust: Trust, proxies: Proxies, patience: Patience) -> Self {
        Self { trust, proxies, patience, agents: Mutex::default() }
    }

    /// How a host is talked to: with this machine itself any certificate will do, or none, as with docker, unless there
    /// is an authority for it.
    pub(crate) fn wall(&self, host: &str, configured: Wall) -> Result<Wall> {
        let url = uri(&format!("https://{host}/"))?;
        let is_own = crate::proxy::is_loopback(url.host().unwrap_or_default());
        Ok(if is_own && !self.trust.has_own(host)? { Wall::Insecure } else { configured })
    }

    /// Makes a request and follows where the answer sends it, but for requests with a body. What proves who we are goes
    /// to no other host, and nothing that began with TLS goes on without.
    pub(crate) fn send(&self, mut request: Request<'_>) -> Result<Response> {
        let follows = matches!(request.payload, Payload::None);
        for _ in 0..=MOST_HOPS {
            let (url, method, wall) = (request.url.clone(), request.method.clone(), request.wall);
            let headers = request.headers.clone();
            let response = self.send_once(request)?;
            let is_redirection = matches!(response.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.header(header::LOCATION).filter(|_| is_redirection && follows)
            else {
                return Ok(response);
            };
            let next = join(&url, location)?;
            if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                let reason = format!("it sends us to {next}, without TLS");
                return Err(Error::Protocol { host: authority(&url), reason });
            }
            let stays = authority(&url) == authority(&next) && url.scheme() == next.scheme();
            let mut headers = headers;
            headers.retain(|(name, _)| stays || *name != header::AUTHORIZATION);
            let wall = if stays { wall } else { self.wall(&authority(&next), Wall::Trusted)? };
            request = Request { method, url: next, headers, payload: Payload::None, wall };
        }
        let host = authority(&request.url);
        Err(Error::Protocol { host, reason: format!("it sends us elsewhere more than {MOST_HOPS} times") })
    }

    fn send_once(&self, request: Request<'_>) -> Result<Response> {
        let Request { method, url, headers, payload, wall } = request;
        let host = authority(&url);
        let agent = self.agent(&url, wall)?;
        let mut head = http::Request::builder().method(method).uri(url.clone());
        for (name, value) in headers {
            head = head.header(name, value);
        }
        let answer = match payload {
            Payload::None => run(&agent, &host, head, SendBody::none()),
            Payload::Bytes(mut content) => {
                let head = head.header(header::CONTENT_LENGTH, content.len());
                run(&agent, &host, head, SendBody::from_reader(&mut content))
            }
            Payload::Stream { reader, length } => {
                let head = head.header(header::CONTENT_LENGTH, length);
                run(&agent, &host, head, SendBody::from_reader(reader))
            }
        };
        let (parts, body) = answer?.into_parts();
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, host, url, body })
    }

    fn agent(&self, url: &Uri, wall: Wall) -> Result<Agent> {
        let scheme = url.scheme_str().unwrap_or_default();
        let host = authority(url);
        let key = (format!("{scheme}://{host}"), wall);
        let mut agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let proxy = self.proxies.before(scheme, url.host().unwrap_or_default(), port);
        let proxy = proxy.map(Proxy::new).transpose().map_err(|_| {
            let reason = "the proxy that the environment names before it is no http://HOST:PORT";
            Error::Protocol { host: host.clone(), reason: reason.to_owned() }
        })?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(AutoHeaderValue::Provided(USER_AGENT.to_owned().into()))
            .accept_encoding(AutoHeaderValue::None)
            .max_response_header_size(LONGEST_HEAD)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections_per_host(16)
            .timeout_connect(Some(self.patience.connect))
            .timeout_per_read(Some(self.patience.silence))
            .timeout_per_write(Some(self.patience.silence))
            .proxy(proxy);
        if scheme == "https" {
            config = config.tls_config(self.trust.tls(&host, wall)?);
        }
        let agent = Agent::with_parts(config.build(), DefaultConnector::default(), Names);
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Http").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Response {
    /// A header that has only visible characters.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The length that the body is said to have.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// Reads the body, if it has at most `limit` bytes.
    pub(crate) fn bytes(self, what: &str, limit: u64) -> Result<Vec<u8>> {
        let Self { host, body, .. } = self;
        let mut bytes = Vec::new();
        let read = body.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| of_io(&host, error))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: what.to_owned(), host, limit });
        }
        Ok(bytes)
    }

    /// The body as it comes.
    pub(crate) fn into_reader(self) -> impl Read + Send + Sync + use<> {
        self.body.into_reader()
    }

    /// What a registry says of its error; empties the connection for the next request.
    pub(crate) fn said(self) -> String {
        let mut bytes = Vec::new();
        // An error whose explanation breaks off is still that error.
        let _ = self.body.into_reader().take(LONGEST_ERROR).read_to_end(&mut bytes);
        message::of_body(&bytes)
    }
}

fn run(
    agent: &Agent,
    host: &str,
    head: http::request::Builder,
    body: SendBody<'_>,
) -> Result<http::Response<Body>> {
    let request = head.body(body).map_err(|error| protocol(host, &error))?;
    agent.run(request).map_err(|error| of_ureq(host, error))
}

/// Resolves names, and says which has no address.
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(scheme), Some(name)) = (uri.scheme(), uri.authority()) else {
            return Err(ureq::Error::HostNotFound);
        };
        let place = DefaultResolver::host_and_port(scheme, name).ok_or(ureq::Error::HostNotFound)?;
        let failed = |reason: String| {
            let host = uri.host().unwrap_or_default().to_owned();
            ureq::Error::Other(Box::new(Error::Address { host, reason }))
        };
        let found = place.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        let mut addresses = self.empty();
        found.take(16).for_each(|address| addresses.push(address));
        if addresses.is_empty() {
            return Err(failed("it has none".to_owned()));
        }
        Ok(addresses)
    }
}

/// The host with its port, as it stands in an address.
pub(crate) fn authority(url: &Uri) -> String {
    url.authority()
        .map(|authority| authority.as_str())
        .unwrap_or_default()
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Reads an address.
pub(crate) fn uri(text: &str) -> Result<Uri> {
    text.parse().map_err(|error: http::uri::InvalidUri| {
        let reason = format!("{} is no address: {error}", message::cleaned(text));
        Error::Protocol { host: String::new(), reason }
    })
}

/// The address that `location` means at `base` (RFC 3986, section 5).
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri> {
    let scheme = base.scheme_str().unwrap_or("https");
    let host = authority(base);
    let location = location.split('#').next().unwrap_or_default();
    let elsewhere = location.split_once("://").map(|(scheme, _)| scheme);
    let elsewhere = elsewhere.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let nowhere = |text: &str| {
        let reason = format!("it sends us to {}, which is no http address", message::cleaned(text));
        Error::Protocol { host: host.clone(), reason }
    };
    if elsewhere.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(nowhere(location));
    }
    let text = if elsewhere.is_some() {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{host}{directory}/{location}")
    };
    let joined: Uri = text.parse().map_err(|_| nowhere(&text))?;
    if joined.host().is_none_or(str::is_empty) { Err(nowhere(&text)) } else { Ok(joined) }
}

/// Writes what may stand in a query, in percent signs where it must (RFC 3986, section 3.4).
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// What an error in the middle of a body means.
pub(crate) fn of_io(host: &str, error: io::Error) -> Error {
    let is_ureq = error.get_ref().is_some_and(|inner| inner.is::<ureq::Error>());
    if is_ureq || error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return of_ureq(host, ureq::Error::from(error));
    }
    Error::Network { host: host.to_owned(), source: error }
}

fn of_ureq(host: &str, error: ureq::Error) -> Error {
    let own = || host.to_owned();
    match error {
        ureq::Error::Io(source) => match source.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => of_tls(host, error),
            // What we were to send could not be read.
            None => source.downcast().unwrap_or_else(|source| Error::Network { host: own(), source }),
        },
        ureq::Error::Rustls(error) => of_tls(host, &error),
        ureq::Error::Timeout(phase) => Error::Silent { host: own(), phase: phase.to_string() },
        ureq::Error::HostNotFound => Error::Address { host: own(), reason: "it has none".to_owned() },
        ureq::Error::LargeResponseHeader(..) => Error::TooLarge {
            what: "the head of an answer".to_owned(),
            host: own(),
            limit: LONGEST_HEAD as u64,
        },
        ureq::Error::ConnectionFailed => {
            Error::Network { host: own(), source: io::ErrorKind::NotConnected.into() }
        }
        ureq::Error::ConnectProxyFailed(reason) => {
            let reason = format!("its proxy refuses the connection: {}", message::cleaned(&reason));
            Error::Protocol { host: own(), reason }
        }
        ureq::Error::Other(inner) => match inner.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => protocol(host, &*other),
        },
        other => protocol(host, &other),
    }
}

fn protocol(host: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Protocol { host: host.to_owned(), reason: message::cleaned(&error.to_string()) }
}

fn of_tls(host: &str, error: &rustls::Error) -> Error {
    use rustls::{CertificateError, InvalidMessage};
    let reason = match error {
        // The answer of a server that reads a greeting as a request without sense.
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return Error::Plain { host: host.to_owned() };
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "its certificate comes from an authority that is not known here; if it is yours, put it into \
             /etc/containers/certs.d/{host}/ca.crt"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate is too old".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        other => message::cleaned(&other.to_string()),
    };
    Error::Tls { host: host.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base = uri("https://h.example:5000/v2/a/blobs/uploads/").unwrap();
        for (location, expected) in [
            ("/v2/x?y=z", "https://h.example:5000/v2/x?y=z"),
            ("uuid", "https://h.example:5000/v2/a/blobs/uploads/uuid"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://cdn.example/x#part", "http://cdn.example/x"),
            ("https://user:pass@cdn.example/x", "https://user:pass@cdn.example/x"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expected, "{location}");
        }
        for location in ["ftp://h/x", "file:///etc/passwd", "https:///x", "http://"] {
            assert!(join(&base, location).is_err(), "{location} was followed");
        }
        assert_eq!(authority(&join(&base, "https://u:p@h.example/").unwrap()), "h.example");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            encoded("repository:a/b:pull,push x&y=\u{fc}"),
            "repository:a/b:pull,push%20x%26y%3D%C3%BC"
        );
    }
}
