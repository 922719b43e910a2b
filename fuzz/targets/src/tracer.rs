//! Nothing that the kernel's buffers hold makes their readers panic, or read what is not there.
//!
//! The input is a page of the tracer's buffer, and records of samples.

use bulkhead_measure::reading;

/// The flags, the task and the number of an event.
const EVENT: usize = 8;

/// A record of a sample before its addresses.
const SAMPLE: usize = 24;

/// Runs the target.
pub fn run(input: &[u8]) {
    let events = reading::events(input);
    assert!(events.iter().all(|(_, _, length)| *length >= EVENT), "an event without its head");
    let bytes: usize = events.iter().map(|(_, _, length)| *length).sum();
    assert!(bytes <= input.len(), "{bytes} bytes of events in {}", input.len());
    let samples = reading::samples(input);
    let bytes: usize = samples.iter().map(|(_, stack)| SAMPLE + 8 * stack.len()).sum();
    assert!(bytes <= input.len(), "{bytes} bytes of samples in {}", input.len());
    assert!(samples.iter().all(|(_, stack)| !stack.is_empty()), "a stack of nothing");
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = reading::field(text, "id");
}
