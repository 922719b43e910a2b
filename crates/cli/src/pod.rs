//! Verbs of pods, as podman's users type them.

pub(crate) mod create;
pub(crate) mod life;
pub(crate) mod list;
pub(crate) mod look;
