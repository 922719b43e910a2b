//! Sandboxes, bundles and leak checks for tests.
