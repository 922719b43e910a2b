//! What people and scripts read: tables, templates, sizes, ages, and text that cannot take over a terminal.

#[cfg_attr(not(test), expect(dead_code, reason = "used by the verbs that list, which come with the engine"))]
pub(crate) mod escape;
#[expect(dead_code, reason = "used by the verbs that list, which come with the engine")]
pub(crate) mod listing;
#[expect(dead_code, reason = "used by the verbs that list, which come with the engine")]
pub(crate) mod quantity;
pub(crate) mod table;
