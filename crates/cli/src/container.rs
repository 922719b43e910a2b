//! Verbs of containers.

pub(crate) mod attach;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod life;
pub(crate) mod list;
pub(crate) mod look;
pub(crate) mod options;
pub(crate) mod port;
pub(crate) mod root;
pub(crate) mod stats;
pub(crate) mod update;
