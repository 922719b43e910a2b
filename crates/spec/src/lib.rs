//! The documents of the OCI runtime specification as plain types.
