//! Images, layers and records of one host: content-addressed blobs, unpacked layers, and a database of names.
//!
//! `docs/engine.md` has the vocabulary, the places on disk, and the order in which files and rows come and go.
