//! What people and scripts read: tables, templates, sizes, ages, and text that cannot take over a terminal.

pub(crate) mod escape;
pub(crate) mod listing;
pub(crate) mod progress;
pub(crate) mod quantity;
pub(crate) mod table;
