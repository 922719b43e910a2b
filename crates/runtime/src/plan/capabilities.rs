//! Names of capabilities, capabilities(7).

use bulkhead_sys::credentials::Capabilities;

pub use bulkhead_sys::capability::{NAMES, number};

/// Collects names into a set. Names nobody knows are put into `unknown`: the specification wants a warning for them.
pub fn set(names: &[String], unknown: &mut Vec<String>) -> Capabilities {
    let mut bits = 0;
    for name in names {
        match number(name) {
            Some(number) => bits |= 1 << number,
            None if unknown.contains(name) => {}
            None => unknown.push(name.clone()),
        }
    }
    Capabilities(bits)
}
