//! No datagram makes the reader of network devices and addresses panic, and nothing is read that it does not contain.
//!
//! The input is datagrams, each with its length in front as 16 bits, little-endian.

use bulkhead_sys::netlink::Answers;

/// Runs the target.
pub fn run(input: &[u8]) {
    let mut answers = Answers::default();
    let mut rest = input;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (datagram, behind) = behind.split_at(length);
        if answers.take(datagram).is_err() {
            break;
        }
        rest = behind;
    }
    for link in answers.links() {
        // A byte that is no text becomes a character of three.
        assert!(link.name.len() <= 3 * input.len() && !link.name.contains('\0'), "{link:?}");
    }
    for index in [0, 1, 7, u32::MAX] {
        let lasting = answers.addresses(index).iter().filter(|address| address.is_lasting()).count();
        assert!(lasting <= input.len() / 24, "each takes a header and a body");
    }
}
