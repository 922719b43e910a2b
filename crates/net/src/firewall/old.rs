//! The old packet filter, whose rules the new one does not tell: those of `iptables-legacy`(8).

use bulkhead_sys::net::{OldFilter, old_filter};
use rustix::net::AddressFamily;

use super::{Firewall, POLICY, Published, UFW_USERS, USERS};
use crate::error::{Doing as _, Result};
use crate::nft::Passing;

/// The family of a table, and how its rules are laid out.
struct Layout {
    family: AddressFamily,
    program: &'static str,
    /// Bytes of addresses and their masks; behind them are the devices' names, and masks of these.
    addresses: usize,
    /// The protocol, the flags and what of all that is inverted; whatever is not zero says that not everything is meant.
    rest: usize,
    /// Where the length up to the target and that of the whole are.
    lengths: usize,
    /// The length of a rule without matches.
    bare: usize,
}

/// struct ipt_entry and ip6t_entry.
const LAYOUTS: [Layout; 2] = [
    Layout {
        family: AddressFamily::INET,
        program: "iptables-legacy",
        addresses: 16,
        rest: 4,
        lengths: 88,
        bare: 112,
    },
    Layout {
        family: AddressFamily::INET6,
        program: "ip6tables-legacy",
        addresses: 64,
        rest: 5,
        lengths: 140,
        bare: 168,
    },
];

/// IFNAMSIZ.
const NAME: usize = 16;
/// Verdicts: what is below zero ends a packet's way, otherwise it is where it goes on.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
/// The name of a target that begins a chain.
const CHAIN: &[u8] = b"ERROR";

/// What is to be known of a table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Old {
    /// Whether what is forwarded is dropped in the end.
    drops: bool,
    chains: Vec<String>,
    passing: Passing,
}

/// Finds who stands in the way there, and was not told to let bridges through whose names begin so.
pub(super) fn in_the_way(prefix: &str) -> Result<Vec<Firewall>> {
    let mut found = Vec::new();
    for layout in &LAYOUTS {
        let table = old_filter(layout.family).doing(|| "look at the old packet filter")?;
        if let Some(table) = table {
            found.extend(layout.read(&table, prefix).firewall(layout.program));
        }
    }
    Ok(found)
}

impl Old {
    fn firewall(&self, program: &'static str) -> Option<Firewall> {
        let has = |name: &str| self.chains.iter().any(|chain| chain == name);
        if has("FORWARD_direct") && !self.chains.iter().any(|chain| chain.contains(POLICY)) {
            return Some(Firewall::Firewalld(Published::LetIn));
        }
        if !self.drops || self.passing.is_all() {
            return None;
        }
        if UFW_USERS.iter().any(|name| has(name)) {
            return Some(Firewall::Ufw);
        }
        Some(Firewall::Old { program, chain: if has(USERS) { USERS } else { "FORWARD" } })
    }
}

impl Layout {
    fn read(&self, table: &OldFilter, prefix: &str) -> Old {
        let OldFilter { entries, forward_policy } = table;
        let mut old = Old::default();
        let mut at = 0;
        while let Some(entry) = entries.get(at..).and_then(|rest| self.first(rest)) {
            let Some((name, verdict)) = self.target(entry) else { break };
            match verdict {
                Some(verdict) => {
                    old.drops |= at == *forward_policy && verdict == DROP;
                    if verdict == ACCEPT {
                        self.add_passing(entry, prefix, &mut old.passing);
                    }
                }
                None => old.chains.extend(name),
            }
            at += entry.len();
        }
        old
    }

    /// The first rule of some.
    fn first<'e>(&self, rest: &'e [u8]) -> Option<&'e [u8]> {
        let length = short(rest, self.lengths + 2)?;
        rest.get(..length).filter(|entry| entry.len() >= self.bare)
    }

    /// What a rule leads to: the name of the chain that it begins, or a verdict.
    fn target(&self, entry: &[u8]) -> Option<(Option<String>, Option<i32>)> {
        let target = entry.get(short(entry, self.lengths)?..)?;
        let name = until_nul(target.get(2..31)?);
        let data = target.get(32..)?;
        Some(match name {
            b"" => (None, Some(i32::from_ne_bytes(data.get(..4)?.try_into().ok()?))),
            CHAIN => (Some(String::from_utf8_lossy(until_nul(data)).into_owned()), None),
            _ => (None, None),
        })
    }

    /// Adds what a rule that accepts lets pass, if it asks for nothing but a device.
    fn add_passing(&self, entry: &[u8], prefix: &str, passing: &mut Passing) {
        let names = self.addresses..self.addresses + 4 * NAME;
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
        let Some(devices) = entry.get(names.clone()) else { return };
        let rest = entry.get(names.end..names.end + self.rest).unwrap_or_default();
        let asks_more = short(entry, self.lengths) != Some(self.bare)
            || !is_zero(rest)
            || !is_zero(entry.get(..self.addresses).unwrap_or_default());
        if asks_more {
            return;
        }
        let [input, output, input_mask, output_mask] =
            [0, 1, 2, 3].map(|index| devices.get(index * NAME..(index + 1) * NAME).unwrap_or_default());
        let is_prefix = |name: &[u8], mask: &[u8]| {
            let length = prefix.len();
            name.get(..length) == Some(prefix.as_bytes())
                && mask.get(..length).is_some_and(|mask| mask.iter().all(|byte| *byte == 0xff))
                && mask.get(length..).is_some_and(is_zero)
        };
        passing.is_let_in |= is_prefix(input, input_mask) && is_zero(output_mask);
        passing.is_let_out |= is_prefix(output, output_mask) && is_zero(input_mask);
    }
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_read_that_are_not_there() {
        for layout in &LAYOUTS {
            for length in 0..layout.bare + 40 {
                for fill in [0, 1, 0x70, 0xff] {
                    let table = OldFilter { entries: vec![fill; length], forward_policy: 0 };
                    assert_eq!(layout.read(&table, "bh-").passing, Passing::default());
                }
            }
        }
    }
}
