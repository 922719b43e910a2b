//! Verbs of registries: `pull`, `push`, `login`, `logout`.

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

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Failure {
        let failure = Failure::new(chain(&error));
        match error {
            Refusal::Password { host, .. } => {
                failure.hint(format!("`bulkhead login {host}` asks for both again"))
            }
            Refusal::Network { .. } | Refusal::Silent { .. } => failure.hint(
                "is the registry's name right, and the network there? What has arrived whole is kept: the same command goes on from there",
            ),
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
