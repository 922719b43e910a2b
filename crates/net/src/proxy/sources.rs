//! Which ports connections are made from where the kernel finds none: a few of those that it has for that, different ones for each
//! helper, chosen while files can still be read. What an administrator has reserved is not among them.

use std::ops::RangeInclusive;

/// How many they are: one is used again as soon as its connection has ended, and each is a rule of landlock.
const MANY: usize = 64;
/// The kernel's ports, unless somebody has chosen others (`net.ipv4.ip_local_port_range`).
const USUAL: RangeInclusive<u16> = 32768..=60999;

/// Chooses them for the helper of this name.
pub(super) fn choose(name: &str) -> Vec<u16> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    choose_from(name, &read("ip_local_port_range"), &read("ip_local_reserved_ports"))
}

fn choose_from(name: &str, range: &str, reserved: &str) -> Vec<u16> {
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse().ok());
    let range = bounds.next().zip(bounds.next()).map_or(USUAL, |(first, last)| first..=last);
    let reserved = Vec::from_iter(reserved.split([',', '\n']).filter_map(read_range));
    let free = Vec::from_iter(range.filter(|port| !reserved.iter().any(|range| range.contains(port))));
    // FNV-1a.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let step = (free.len() / MANY).max(1);
    free.iter()
        .copied()
        .cycle()
        .skip(hash as usize % free.len().max(1))
        .step_by(step)
        .take(MANY.min(free.len()))
        .collect()
}

/// Reads one port, or two and those between them.
fn read_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn they_are_some_of_the_kernel_s_that_nobody_has_reserved() {
        let cases = [
            ("32768\t60999\n", "\n", MANY, 32768, 60999),
            ("", "", MANY, 32768, 60999),
            ("1024 1087", "", 64, 1024, 1087),
            ("1024 1033", "1026,1030-1031\n", 7, 1024, 1033),
            ("5000 5000", "", 1, 5000, 5000),
            ("5000 5000", "5000", 0, 5000, 5000),
            ("5001 5000", "", 0, 5000, 5000),
        ];
        for (range, reserved, many, first, last) in cases {
            for name in ["4f", "5a", ""] {
                let chosen = choose_from(name, range, reserved);
                let different = BTreeSet::from_iter(&chosen);
                assert_eq!((chosen.len(), different.len()), (many, many), "{range:?} {reserved:?}");
                assert!(chosen.iter().all(|port| (first..=last).contains(port)), "{chosen:?}");
                assert!(
                    !reserved.contains("1026")
                        || !chosen.iter().any(|port| [1026, 1030, 1031].contains(port))
                );
            }
        }
        let [a, b] = ["4f", "5a"].map(|name| choose_from(name, "", ""));
        assert_ne!(a, b, "each helper has its own");
        assert_eq!(a, choose_from("4f", "", ""));
    }
}
