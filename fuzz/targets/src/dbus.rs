//! No bytes from the other end of systemd's socket make the reader of messages panic or take much memory.

use bulkhead_cgroup::systemd::message::{FIXED, Message};

/// Runs the target.
pub fn run(input: &[u8]) {
    if let Some(fixed) = input.first_chunk::<FIXED>()
        && let Ok(length) = Message::length(fixed)
    {
        assert!(length <= 3 << 20, "{length} bytes would be read");
    }
    let Ok(message) = Message::parse(input) else { return };
    let _ = message.sentence();
    for types in ["o", "v", "uoss"] {
        let Ok(mut reader) = message.arguments(types) else { continue };
        // More than there is: the end is an error, too.
        while match types {
            "o" => reader.string().is_ok(),
            "v" => reader.variant_string().is_ok(),
            _ => reader.u32().is_ok() && reader.string().is_ok(),
        } {}
    }
}
