//! Verbs of images.

pub(crate) mod archive;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod make;
pub(crate) mod name;

use bulkhead_engine::name::similar_image;
use bulkhead_engine::store::{Error, Name, Noun, Store};

use crate::failure::Failure;

/// Says why an image is not had; of a name that is nearly that of one, what was probably meant.
pub(crate) fn not_had(store: &Store, error: Error) -> Failure {
    // What is no name is not fetched either.
    if let Error::NotFound { noun: Noun::Image, wanted } = &error
        && !wanted.bytes().all(|byte| byte.is_ascii_hexdigit())
        && let Err(wrong) = Name::parse(wanted)
    {
        return Failure::new(wrong.to_string());
    }
    let near = match &error {
        Error::NotFound { noun: Noun::Image, wanted } => similar_image(store, wanted),
        _ => None,
    };
    let failure = Failure::from(error);
    match near {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure,
    }
}
