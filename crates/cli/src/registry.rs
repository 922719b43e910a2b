//! Verbs of registries: `pull`, `push`, `login`, `logout`.

use std::io;

use bulkhead_engine::store::Store;
use bulkhead_engine::transfer::registry::{self, Client, Configuration};
use bulkhead_engine::transfer::{self, registry::Error as Refusal};

use crate::failure::{Failure, chain};
use crate::home::Home;

mod bars;
pub(crate) mod login;
pub(crate) mod pull;
pub(crate) mod push;

/// A client with what the user has configured of registries.
pub(crate) fn client() -> Result<Client, Failure> {
    Ok(Client::new(Configuration::of_user(|name| std::env::var_os(name))?))
}

/// The user's images.
fn store(home: &Home) -> Result<Store, Failure> {
    Ok(Store::open(&home.places()?)?)
}

/// What a registry, or another host, was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Pull,
    Push,
    Login,
    /// An archive from an address.
    Import,
}

impl Task {
    /// Says what went wrong with it, and what to do next.
    pub(crate) fn failed(self, error: transfer::Error) -> Failure {
        match error {
            transfer::Error::Registry(error) => {
                let hint = self.hint(&error);
                let failure = Failure::from(error);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            other => other.into(),
        }
    }

    /// What to do when the host was not reached, or the connection ended.
    fn hint(self, error: &Refusal) -> Option<String> {
        let reason = match error {
            Refusal::Address { host, .. } => format!(
                "is {host} written as it is called, and does this machine find others by their names (/etc/resolv.conf)?"
            ),
            Refusal::Network { host, source } if is_refused(source) => {
                format!("nothing listens at {host}: is the port right, and does it run?")
            }
            Refusal::Network { host, .. } | Refusal::Silent { host, .. } => {
                format!("is {host} what is meant, and does the network lead there?")
            }
            _ => return None,
        };
        let next = match self {
            Task::Pull => "What has arrived whole is kept: the same command goes on from there",
            Task::Push => "What has arrived there whole is kept: the same command goes on from there",
            Task::Login => "Nothing was changed",
            Task::Import => "Nothing was made: the same command begins anew",
        };
        Some(format!("{reason} {next}"))
    }
}

/// Tells whether a host has answered that nobody listens there.
fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Failure {
        let failure = Failure::new(chain(&error));
        match error {
            Refusal::Password { host, .. } => {
                failure.hint(format!("`bulkhead login {host}` asks for both again"))
            }
            _ => failure,
        }
    }
}

impl From<registry::PlatformError> for Failure {
    fn from(error: registry::PlatformError) -> Failure {
        Refusal::from(error).into()
    }
}

impl From<transfer::Error> for Failure {
    fn from(error: transfer::Error) -> Failure {
        match error {
            transfer::Error::Registry(error) => error.into(),
            other => Failure::new(chain(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_about_what_was_done_and_what_went_wrong() {
        let host = || "r.example:5000".to_owned();
        let refused = || Refusal::Network { host: host(), source: io::ErrorKind::ConnectionRefused.into() };
        let broken = || Refusal::Network { host: host(), source: io::ErrorKind::ConnectionReset.into() };
        let unknown = || Refusal::Address { host: host(), reason: "no such name".into() };
        for (task, error, words) in [
            (Task::Pull, refused(), ["nothing listens at r.example:5000", "goes on from there"]),
            (Task::Pull, broken(), ["does the network lead there", "arrived whole is kept"]),
            (Task::Push, broken(), ["does the network lead there", "arrived there whole"]),
            (Task::Login, unknown(), ["/etc/resolv.conf", "Nothing was changed"]),
            (Task::Import, unknown(), ["r.example:5000", "begins anew"]),
        ] {
            let hint = task.hint(&error).unwrap_or_default();
            assert!(words.iter().all(|word| hint.contains(word)), "{task:?}: {hint}");
        }
        assert_eq!(Task::Pull.hint(&Refusal::Host { host: host() }), None);
    }
}
