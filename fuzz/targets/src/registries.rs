//! Whatever registries.conf says, names become places on hosts, and errors stay on their line.

use bulkhead_image::name::is_host;
use bulkhead_registry::registries::Meaning;
use bulkhead_registry::{Name, Registries};

/// Runs the target: names to look up on the first line, and the file.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (names, file) = text.split_once('\n').unwrap_or((&text, ""));
    let mut registries = Registries::default();
    if let Err(reason) = registries.add_text(file) {
        assert!(!reason.contains('\n'), "{reason:?} has several lines");
        return crate::check_sentence(&reason);
    }
    for typed in names.split(' ').chain(["alpine", "docker.io/a/b:c", "a.example/x"]) {
        let meant = match registries.meaning(typed) {
            Ok(Meaning::One(reference)) => vec![reference],
            Ok(Meaning::FirstOf(all)) => all,
            Err(error) => {
                crate::check_sentence(&error.to_string());
                continue;
            }
        };
        meant.iter().for_each(|reference| check(&registries, reference));
    }
}

fn check(registries: &Registries, reference: &Name) {
    let again = Name::parse(&reference.to_string());
    assert_eq!(again.as_ref().ok(), Some(reference), "a name in full does not mean itself");
    match registries.endpoints(reference) {
        Ok(places) => {
            assert!(!places.is_empty(), "{reference} is nowhere");
            for place in &places {
                assert!(is_host(&place.host), "{:?} is no host", place.host);
                let is_path = place.repository.split('/').all(crate::is_component);
                assert!(is_path, "{:?} leads elsewhere", place.repository);
            }
            assert_eq!(registries.destination(reference).ok().as_ref(), places.last(), "pushed elsewhere");
        }
        Err(error) => crate::check_sentence(&error.to_string()),
    }
}
