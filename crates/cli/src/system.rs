//! Verbs of the whole.

pub(crate) mod events;
pub(crate) mod whole;
