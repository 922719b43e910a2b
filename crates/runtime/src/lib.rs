//! The OCI runtime: library and the program bulkrun.
