//! No header of a registry makes the reader of challenges panic, loop, or find what is not there.

use bulkhead_registry::challenge::{Challenge, parse};

/// Runs the target.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let found = parse(&text);
    assert!(found.len() <= text.len(), "more challenges than bytes");
    for challenge in &found {
        let Challenge::Bearer { realm, service, scope, error } = challenge else { continue };
        let parts = [Some(realm), service.as_ref(), scope.as_ref(), error.as_ref()];
        for part in parts.into_iter().flatten() {
            // A backslash may stand before any of its characters.
            let plain = text.replace('\\', "");
            assert!(plain.contains(&part.replace('\\', "")), "{part:?} does not stand there");
        }
    }
}
