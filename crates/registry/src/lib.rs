//! A client of the OCI distribution API: it resolves names, and pulls and pushes blobs as streams.
//!
//! It knows nothing of how images are kept: whoever calls it takes the bytes.
