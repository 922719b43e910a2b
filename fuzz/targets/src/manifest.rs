//! A manifest is one thing only, whatever its bytes and its header say, and an index gives what runs on the platform.

use bulkhead_registry::{Digest, Document, Platform, index, media_type};

/// Runs the target: the media type on the first line, and the document.
pub fn run(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, bytes) = (String::from_utf8_lossy(&input[..end]), &input[(end + 1).min(input.len())..]);
    let header = Some(header.as_ref()).filter(|header| !header.is_empty());
    match Document::parse(bytes.to_vec(), header) {
        Err(error) => crate::check_sentence(&error.to_string()),
        Ok(Document::Manifest(manifest)) => {
            assert_eq!((&manifest.bytes[..], &manifest.digest), (bytes, &Digest::of(bytes)));
            let kinds = [media_type::MANIFEST, media_type::DOCKER_MANIFEST];
            assert!(kinds.contains(&manifest.media_type.as_str()), "{} is no manifest", manifest.media_type);
            let again = Document::parse(manifest.bytes.clone(), Some(&manifest.media_type));
            assert_eq!(
                again.ok(),
                Some(Document::Manifest(manifest)),
                "its own type makes it something else"
            );
        }
        Ok(Document::Index(read)) => {
            let wanted = Platform::host();
            if let Some(chosen) = read.choose(&wanted)
                && let Some(platform) = &chosen.platform
            {
                assert_eq!((&platform.os, &platform.architecture), (&wanted.os, &wanted.architecture));
            }
            let written = index(&read.manifests).map(|written| Document::parse(written.bytes, None));
            let Ok(Ok(Document::Index(again))) = written else {
                panic!("an index is written as something else")
            };
            let promises = |index: &bulkhead_registry::Index| {
                Vec::from_iter(
                    index.manifests.iter().map(|part| (part.digest, part.size, part.media_type.clone())),
                )
            };
            assert_eq!(promises(&again), promises(&read));
        }
    }
}
