//! Verbs of the whole.

pub(crate) mod check;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod whole;
