//! Names of images, as people type them.

use bulkhead_store::{Digest, Name};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Name::parse(text) {
        Ok(name) => check(&name),
        Err(error) => super::check_sentence(&error.to_string()),
    }
    match Digest::parse(text) {
        Ok(digest) => assert_eq!(digest.to_string(), text, "a digest has one form"),
        Err(error) => super::check_sentence(&error.to_string()),
    }
}

fn check(name: &Name) {
    let forms =
        [name.to_string(), name.familiar(), name.tagged().to_string(), name.at(Digest::of(b"")).to_string()];
    for form in &forms {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'$');
        assert!(form.bytes().all(is_plain), "{form:?} has letters that no name has");
    }
    for form in &forms[..2] {
        assert_eq!(Name::parse(form).as_ref(), Ok(name), "{form:?} is another name");
    }
    assert!(name.path().split('/').all(super::is_component), "{name} leads out of a directory");
    assert!(name.tag().is_none_or(super::is_component), "{name} has a tag that leads out of a directory");
    assert!(name.tag().is_some() || name.digest().is_some(), "{name} has neither tag nor digest");
}
