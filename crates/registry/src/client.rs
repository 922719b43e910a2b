//! The client: requests to registries, with their authentication, tried again when they fail for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use bulkhead_image::DOCKER;
use ureq::http::{Method, Uri, header};

use crate::configuration::{Configuration, Patience};
use crate::credentials::{Keeper, Login};
use crate::error::{Error, Result};
use crate::http::{self, Http, Payload, Request, Response};
use crate::keys::{Door, Keys, Scopes};
use crate::registries::{Endpoint, Kind, Registries, Wall};
use crate::trust::Trust;

/// Where the interface of docker's registry is.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// The longest pause that a registry may ask for; beyond it, it is an error.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A client of registries. A copy shares connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registries: Registries,
    patience: Patience,
    http: Http,
    keys: Keys,
    /// How hosts that may be insecure are talked to, and who has ever answered.
    schemes: Mutex<HashMap<String, &'static str>>,
}

/// One kind of request to one repository.
pub(crate) struct Call<'a> {
    pub(crate) place: &'a Endpoint,
    pub(crate) scopes: &'a Scopes,
    pub(crate) method: Method,
    /// Behind `/v2/`, or a whole address.
    pub(crate) target: Target<'a>,
    pub(crate) headers: &'a [(header::HeaderName, String)],
}

/// Where a request goes.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// What stands behind `/v2/`.
    Path(&'a str),
    /// Where the registry sent us.
    Address(&'a Uri),
}

impl Client {
    /// Makes a client; nothing is asked yet.
    #[must_use]
    pub fn new(configuration: Configuration) -> Self {
        let Configuration { registries, credentials, certificates, proxies, patience } = configuration;
        let http = Http::new(Trust::new(certificates), proxies, patience);
        let keys = Keys::new(credentials);
        Self { inner: Arc::new(Inner { registries, patience, http, keys, schemes: Mutex::default() }) }
    }

    /// What is configured of registries.
    #[must_use]
    pub fn registries(&self) -> &Registries {
        &self.inner.registries
    }

    pub(crate) fn http(&self) -> &Http {
        &self.inner.http
    }

    /// Asks a registry whether it takes a login, and keeps the login if it does.
    ///
    /// # Errors
    /// [`Error::Password`] when it does not, and those of the network and of the files.
    pub fn login(&self, host: &str, login: &Login) -> Result<Keeper> {
        self.inner.keys.take(host, login);
        let place = self.door(host)?;
        let call = Call {
            place: &place,
            scopes: &Vec::new(),
            method: Method::GET,
            target: Target::Path(""),
            headers: &[],
        };
        let response = self.patiently(|| self.call(&call, &mut || Payload::None))?;
        match response.status {
            200 => self.inner.keys.credentials().store(host, login),
            401 | 403 => Err(Error::Password { host: host.to_owned(), message: response.said() }),
            _ => Err(failed(response, &format!("log in at {host}"))),
        }
    }

    /// Forgets the login at a registry; tells where one was kept.
    ///
    /// # Errors
    /// Those of the files and of helpers.
    pub fn logout(&self, host: &str) -> Result<Vec<Keeper>> {
        self.inner.keys.credentials().erase(host)
    }

    /// Makes a request as whom we are, once: a challenge is answered, and a token that ran out is renewed.
    pub(crate) fn call<'p>(
        &self,
        call: &Call<'_>,
        payload: &mut dyn FnMut() -> Payload<'p>,
    ) -> Result<Response> {
        let Inner { http, keys, .. } = &*self.inner;
        let Call { place, scopes, method, target, headers } = call;
        let wall = http.wall(&place.host, place.wall)?;
        let base = self.base(&place.host, wall)?;
        let url = match *target {
            Target::Path(path) => http::uri(&format!("{base}{path}"))?,
            Target::Address(url) => url.clone(),
        };
        // What proves who we are is for the registry, not for where it sends us.
        let base = http::uri(&base)?;
        let is_of_registry =
            |url: &Uri| http::authority(url) == http::authority(&base) && url.scheme() == base.scheme();
        let is_registry = is_of_registry(&url);
        let wall = if is_registry { wall } else { http.wall(&http::authority(&url), Wall::Trusted)? };
        let door = Door { host: &place.host, repository: &place.repository, scopes, wall };
        let mut send = |key: Option<String>| {
            let mut headers = headers.to_vec();
            headers.extend(key.filter(|_| is_registry).map(|key| (header::AUTHORIZATION, key)));
            http.send(Request { method: method.clone(), url: url.clone(), headers, payload: payload(), wall })
        };
        let response = send(keys.known(&door))?;
        self.remember(&place.host, &base);
        if response.status != 401 {
            return Ok(response);
        }
        // Who asks for a name and a password has to be the registry itself: whoever it sends us to could name a token
        // service of his own (CVE-2020-15157).
        if !is_of_registry(&response.url) {
            let reason = format!("it sends us to {}, which wants to know who asks", response.host);
            return Err(Error::Protocol { host: place.host.clone(), reason });
        }
        match keys.answer(http, &door, &response)? {
            Some(key) => {
                // The body is read so that the connection serves the next request, too.
                response.said();
                send(Some(key))
            }
            None => Ok(response),
        }
    }

    /// Tries again what fails for a while, with longer and longer pauses, unless nobody ever answered at that address.
    pub(crate) fn patiently<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut failures = 0;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) => failures = self.pause(error, failures)?,
            }
        }
    }

    /// Waits after an error that may pass, and counts it; gives back one that will not, and the last one.
    pub(crate) fn pause(&self, error: Error, failures: u32) -> Result<u32> {
        let Patience { attempts, pause, longest, .. } = self.inner.patience;
        let wait = match &error {
            Error::Busy { wait, .. } => *wait,
            _ => pause.saturating_mul(1 << failures.min(16)).min(longest),
        };
        let is_last = failures + 1 >= attempts.get() || wait > LONGEST_WAIT;
        if is_last || !error.is_passing() || self.is_refused_by_a_stranger(&error) {
            return Err(error);
        }
        thread::sleep(wait + jitter(wait));
        Ok(failures + 1)
    }

    /// Nobody listens there: that will hardly pass, unless somebody did a moment ago.
    fn is_refused_by_a_stranger(&self, error: &Error) -> bool {
        let Error::Network { host, source } = error else { return false };
        let schemes = self.inner.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        source.kind() == std::io::ErrorKind::ConnectionRefused && !schemes.contains_key(host)
    }

    /// What is asked for access to a registry as such.
    fn door(&self, host: &str) -> Result<Endpoint> {
        if !bulkhead_image::name::is_host(host) {
            return Err(Error::Host { host: host.to_owned() });
        }
        let wall = self.inner.registries.wall(host);
        Ok(Endpoint { host: host.to_owned(), repository: String::new(), wall, kind: Kind::Registry })
    }

    /// The beginning of all addresses of a registry. One that may be insecure is asked whether it speaks TLS.
    fn base(&self, host: &str, wall: Wall) -> Result<String> {
        let known = self.inner.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        let real = if host == DOCKER { DOCKER_HOST } else { host };
        let of = |scheme: &str| format!("{scheme}://{real}/v2/");
        match (wall, known) {
            (Wall::Trusted, _) => Ok(of("https")),
            (Wall::Insecure, Some(scheme)) => Ok(of(scheme)),
            (Wall::Insecure, None) => {
                let ask = |scheme| {
                    let url = http::uri(&of(scheme))?;
                    let payload = Payload::None;
                    self.inner.http.send(Request {
                        method: Method::GET,
                        url,
                        headers: Vec::new(),
                        payload,
                        wall,
                    })
                };
                let scheme = match ask("https") {
                    Ok(response) => {
                        response.said();
                        "https"
                    }
                    Err(error) => {
                        let Ok(response) = ask("http") else { return Err(without_plain(error, host)) };
                        response.said();
                        "http"
                    }
                };
                self.inner
                    .schemes
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(host.to_owned(), scheme);
                Ok(of(scheme))
            }
        }
    }

    fn remember(&self, host: &str, base: &Uri) {
        let scheme = if base.scheme_str() == Some("http") { "http" } else { "https" };
        self.inner.schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), scheme);
    }
}

/// Where both ways failed, the hint to allow plain HTTP would mislead.
fn without_plain(error: Error, host: &str) -> Error {
    match error {
        Error::Plain { .. } => {
            Error::Protocol { host: host.to_owned(), reason: "it speaks neither TLS nor HTTP".to_owned() }
        }
        other => other,
    }
}

/// The scopes of a repository.
pub(crate) fn scopes(repository: &str, actions: &str) -> Scopes {
    vec![format!("repository:{repository}:{actions}")]
}

/// What an answer other than the one that was hoped for means.
pub(crate) fn failed(response: Response, what: &str) -> Error {
    let (status, host) = (response.status, response.host.clone());
    let wait = response.header(header::RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    let message = response.said();
    let what = what.to_owned();
    match status {
        401 | 403 => Error::Denied { host: known_as(&host), what, message },
        404 => Error::Unknown { name: what, message },
        429 => Error::Busy { host, message, wait: Duration::from_secs(wait.unwrap_or(5)) },
        _ => Error::Status { host, what, status, message },
    }
}

/// The name under which one logs in.
fn known_as(host: &str) -> String {
    if host == DOCKER_HOST { DOCKER.to_owned() } else { host.to_owned() }
}

/// Up to a quarter more, so that many clients do not come back at once.
fn jitter(wait: Duration) -> Duration {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    wait.mul_f64(f64::from(clock.subsec_nanos() % 1000) / 4000.0)
}
