//! Whether the image that a container is to be made of is pulled first (`--pull`, `--platform`).

use bulkhead_registry::Platform;
use bulkhead_store::{Image, Kind, Name, Noun, Store};

use super::error::{Error, Result};

/// When an image that a container is made of is pulled (`--pull`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// When it is not there.
    #[default]
    Pull,
    /// Also when it is there.
    Always,
    /// Never.
    Refuse,
}

/// Where the image of a new container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// When it is pulled.
    pub policy: Missing,
    /// What it is to run on; without it any image of the name does, and one that has to be pulled is this machine's.
    pub platform: Option<Platform>,
}

/// What to do before a container is made of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: whoever makes the container finds out whether the image is there, and it need not be looked for twice.
    Make,
    /// It is pulled, since it is not there, or not for the platform that is wanted.
    PullMissing,
    /// It is pulled, whether it is there or not.
    PullAgain,
}

impl Source {
    /// Decides what comes before a container of this image.
    ///
    /// # Errors
    /// [`Error::Store`] when it is not there for the platform and is not to be pulled.
    pub fn first(&self, store: &Store, wanted: &str) -> Result<Step> {
        let Self { policy, platform } = self;
        if *policy == Missing::Always {
            return Ok(Step::PullAgain);
        }
        let Some(platform) = platform else { return Ok(Step::Make) };
        let missing = match store.image(wanted) {
            Ok(image) if runs_on(&image, platform) => return Ok(Step::Make),
            Ok(image) => Error::Invalid {
                what: format!("image {wanted}"),
                reason: format!("is for {}, and {platform} is wanted", platform_of(&image)),
            },
            Err(error) => error.into(),
        };
        if self.pulls(wanted, &missing) { Ok(Step::PullMissing) } else { Err(missing) }
    }

    /// Tells whether an image is pulled now that making a container of it has failed so.
    pub fn after(&self, wanted: &str, error: &crate::Error) -> bool {
        let is_missing =
            matches!(error, crate::Error::Store(bulkhead_store::Error::NotFound { noun: Noun::Image, .. }));
        is_missing && self.policy != Missing::Refuse && Name::parse(wanted).is_ok()
    }

    /// Tells whether it is pulled for that reason: what is no name has no registry.
    fn pulls(&self, wanted: &str, missing: &Error) -> bool {
        let is_missing = match missing {
            Error::Store(error) => error.kind() == Kind::NotFound,
            _ => true,
        };
        is_missing && self.policy != Missing::Refuse && Name::parse(wanted).is_ok()
    }
}

fn platform_of(image: &Image) -> Platform {
    let configuration = &image.configuration;
    Platform {
        os: configuration.os.clone(),
        architecture: configuration.architecture.clone(),
        variant: configuration.variant.clone(),
    }
}

fn runs_on(image: &Image, wanted: &Platform) -> bool {
    let offered = platform_of(image);
    // An image that names no processor fits as well as it can.
    offered.architecture.is_empty() || wanted.runs(&offered)
}
