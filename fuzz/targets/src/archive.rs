//! The documents of archives of images and of registries.
//!
//! The input is one of them.

use bulkhead_store::Platform;
use bulkhead_store::manifest::{Document, Packed, parse_configuration};

/// Runs the target.
pub fn run(input: &[u8]) {
    match Document::parse("it", input) {
        Ok(Document::Manifest(manifest)) => {
            let written = serde_json::to_vec(&manifest).unwrap_or_default();
            let again = Document::parse("it", &written);
            assert_eq!(
                again.ok(),
                Some(Document::Manifest(manifest)),
                "a manifest is written and read the same"
            );
        }
        Ok(Document::Index(index)) => {
            let host = Platform::host();
            let is_for = |descriptor: &bulkhead_store::manifest::Descriptor| {
                descriptor.platform.as_ref().is_none_or(|platform| host.runs(platform))
            };
            assert!(index.choose(&host).is_none_or(is_for), "what is chosen runs here");
            let written = serde_json::to_vec(&index).unwrap_or_default();
            assert_eq!(
                Document::parse("it", &written).ok(),
                Some(Document::Index(index)),
                "an index is written and read the same"
            );
        }
        Err(error) => super::check_sentence(&error.to_string()),
    }
    match Packed::parse(input) {
        Ok(packed) => {
            let written = serde_json::to_vec(&packed).unwrap_or_default();
            assert_eq!(
                Packed::parse(&written).ok(),
                Some(packed),
                "docker's list is written and read the same"
            );
        }
        Err(error) => super::check_sentence(&error.to_string()),
    }
    match parse_configuration("it", input) {
        Ok(configuration) => {
            let written = serde_json::to_vec(&configuration).unwrap_or_default();
            let again = parse_configuration("it", &written);
            assert_eq!(again.ok(), Some(configuration), "a configuration is written and read the same");
        }
        Err(error) => super::check_sentence(&error.to_string()),
    }
}
