//! Who we are for a registry: answers to its challenges, and the tokens that were handed out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{Method, header};

use crate::challenge::{self, Challenge};
use crate::credentials::{Credentials, Login};
use crate::error::{Error, Result};
use crate::http::{self, Http, Payload, Request, Response};
use crate::registries::Wall;

/// The longest answer of a token service, in bytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// What we are called by token services.
const CLIENT: &str = "bulkhead";

/// For what a token is asked: `repository:NAME:pull`.
pub(crate) type Scopes = Vec<String>;

/// What we know of ourselves.
pub(crate) struct Keys {
    credentials: Credentials,
    /// By host and repository, since a helper takes its time.
    logins: Mutex<HashMap<(String, String), Option<Login>>>,
    /// The header that worked, by host and scopes.
    headers: Mutex<HashMap<(String, Scopes), String>>,
}

/// Whom a request is for.
pub(crate) struct Door<'a> {
    pub(crate) host: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) scopes: &'a Scopes,
    pub(crate) wall: Wall,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Keys {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, logins: Mutex::default(), headers: Mutex::default() }
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Takes another login for a host than is kept.
    pub(crate) fn take(&self, host: &str, login: &Login) {
        let key = (host.to_owned(), String::new());
        self.logins.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Some(login.clone()));
    }

    /// The header that worked last time.
    pub(crate) fn known(&self, door: &Door<'_>) -> Option<String> {
        let key = (door.host.to_owned(), door.scopes.clone());
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Answers the challenges of a response; nothing if we have no answer.
    ///
    /// # Errors
    /// Those of the token service, and of the files with credentials.
    pub(crate) fn answer(&self, http: &Http, door: &Door<'_>, refused: &Response) -> Result<Option<String>> {
        let texts = refused.headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges =
            Vec::from_iter(texts.filter_map(|text| text.to_str().ok()).flat_map(challenge::parse));
        let login = self.login(door)?;
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let found = match (bearer.or(challenges.first()), login) {
            (Some(Challenge::Bearer { realm, service, scope, .. }), login) => {
                let asked = Asked { realm, service: service.as_deref(), scope: scope.as_deref() };
                Some(format!("Bearer {}", token(http, door, refused, &asked, login.as_ref())?))
            }
            (Some(Challenge::Basic), Some(Login::Password { name, secret })) => Some(basic(&name, &secret)),
            _ => None,
        };
        if let Some(found) = &found {
            let key = (door.host.to_owned(), door.scopes.clone());
            self.headers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        }
        Ok(found)
    }

    /// Tells whether we are somebody there.
    pub(crate) fn login(&self, door: &Door<'_>) -> Result<Option<Login>> {
        let key = (door.host.to_owned(), door.repository.to_owned());
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = logins.get(&key).or_else(|| logins.get(&(key.0.clone(), String::new()))) {
            return Ok(known.clone());
        }
        let found = self.credentials.find(door.host, door.repository)?;
        logins.insert(key, found.clone());
        Ok(found)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keys").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// What a registry wants from which service.
struct Asked<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: Option<&'a str>,
}

/// Gets a token, by name and password or as nobody, else by an identity token (distribution specification, "Token
/// authentication" and "OAuth2").
fn token(
    http: &Http,
    door: &Door<'_>,
    refused: &Response,
    asked: &Asked<'_>,
    login: Option<&Login>,
) -> Result<String> {
    let protocol = |reason: String| Error::Protocol { host: door.host.to_owned(), reason };
    let url = http::join(&refused.url, asked.realm)?;
    if refused.url.scheme_str() == Some("https") && url.scheme_str() != Some("https") {
        return Err(protocol(format!("it sends us to {url} for a token, without TLS")));
    }
    let scopes = match (door.scopes.as_slice(), asked.scope) {
        ([], Some(scope)) => vec![scope.to_owned()],
        (own, _) => own.to_vec(),
    };
    let host = http::authority(&url);
    let wall = if host == door.host { door.wall } else { http.wall(&host, Wall::Trusted)? };
    let service = asked.service.unwrap_or_default();
    let response = if let Some(Login::Identity(refresh)) = login {
        let form = format!(
            "grant_type=refresh_token&service={}&client_id={CLIENT}&scope={}&refresh_token={}",
            http::encoded(service),
            http::encoded(&scopes.join(" ")),
            http::encoded(refresh),
        );
        let headers = vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
        let payload = Payload::Bytes(form.as_bytes());
        http.send(Request { method: Method::POST, url, headers, payload, wall })?
    } else {
        let mut query = Vec::from_iter(asked.service.map(|name| format!("service={}", http::encoded(name))));
        query.extend(scopes.iter().map(|scope| format!("scope={}", http::encoded(scope))));
        let mut headers = Vec::new();
        if let Some(Login::Password { name, secret }) = login {
            query.push(format!("account={}", http::encoded(name)));
            headers.push((header::AUTHORIZATION, basic(name, secret)));
        }
        let joint = if url.query().is_some() { '&' } else { '?' };
        let url = http::uri(&format!("{url}{joint}{}", query.join("&")))?;
        http.send(Request { method: Method::GET, url, headers, payload: Payload::None, wall })?
    };
    match response.status {
        200 => {
            let bytes = response.bytes("a token", LONGEST_ANSWER)?;
            let Token { token, access_token } = serde_json::from_slice(&bytes)
                .map_err(|error| protocol(format!("the answer of its token service is none: {error}")))?;
            let token = token.or(access_token).filter(|token| !token.is_empty());
            let is_plain = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
            token.filter(is_plain).ok_or_else(|| protocol("its token service gives no token".to_owned()))
        }
        401 | 403 if login.is_some() => {
            Err(Error::Password { host: door.host.to_owned(), message: response.said() })
        }
        401 | 403 => Err(Error::Denied {
            host: door.host.to_owned(),
            what: door.repository.to_owned(),
            message: response.said(),
        }),
        status => {
            let what = "a request for a token".to_owned();
            Err(Error::Status { host, what, status, message: response.said() })
        }
    }
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}
