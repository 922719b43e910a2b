//! Where reports are written, and what every file of them must be.

use std::path::{Path, PathBuf};

pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bh-report-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Parses a file as XML and returns its text.
pub(super) fn sound(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let xml = text.strip_prefix("<!DOCTYPE html>\n").unwrap_or(&text);
    let document =
        roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for node in document.descendants() {
        let name = node.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "object"].contains(&name),
            "{name} in {}",
            path.display()
        );
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!value.contains("NaN") && !value.contains("inf"), "{value} in {}", path.display());
            assert!(!attribute.name().starts_with("on"), "{} is a script", attribute.name());
            let leads_out = ["href", "src"].contains(&attribute.name()) && !value.starts_with('#');
            assert!(!leads_out, "{value} leads out of {}", path.display());
        }
    }
    text
}
