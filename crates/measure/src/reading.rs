//! What reads bytes that this program did not write, for who tries it with any: each reads as a measurement does.

use std::path::PathBuf;

use crate::guest;
use crate::isolation::{kernel, ring, stacks};
pub use crate::sources::scan::{Wanted, definitions};

/// The events of a page of the tracer's buffer: which, of which task, and how many bytes of the page they are.
pub fn events(page: &[u8]) -> Vec<(u16, u32, usize)> {
    let mut events = Vec::new();
    ring::events(page, |event| events.push((event.id, event.task, event.bytes.len())));
    events
}

/// Where an event's field is, by a file `format`: the event's number, and bytes from its beginning.
pub fn field(text: &str, name: &str) -> Option<(u16, usize)> {
    ring::Format::read(text, name).map(|format| (format.id, format.field))
}

/// The stacks among the records of sampling, each with its task.
pub fn samples(records: &[u8]) -> Vec<(u32, Box<[u64]>)> {
    let mut samples = Vec::new();
    stacks::records(records, |record| match record {
        stacks::Record::Stack(task, stack) => samples.push((task, stack)),
        stacks::Record::Lost(_) => {}
    });
    samples
}

/// The functions of a text like /proc/kallsyms: address, size in bytes, name.
pub fn functions(text: &str) -> Vec<(u64, u64, String)> {
    kernel::Functions::of(text).all()
}

/// The loader that a program names.
pub fn loader(program: &[u8]) -> Option<PathBuf> {
    guest::loader(program)
}

/// The release that a compressed kernel names.
pub fn release(kernel: &[u8]) -> Option<String> {
    guest::said_release(kernel)
}
