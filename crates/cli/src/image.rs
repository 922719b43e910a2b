//! Verbs of images.

pub(crate) mod archive;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod make;
pub(crate) mod name;
