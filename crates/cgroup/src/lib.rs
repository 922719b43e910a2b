//! Control groups v1, v2 and hybrid: a pure plan of writes and an applier over directory descriptors.
