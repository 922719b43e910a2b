//! Rules of others, as far as they are understood: those that accept whatever comes or goes by some devices, and those that end a chain.

use bulkhead_sys::netlink::message::{attribute, attributes, text};

use super::ITEM;
use super::expression::{DATA, NAME, VALUE, VERDICT, Verdict};

/// NFTA_META_KEY, NFT_META_IIFNAME and NFT_META_OIFNAME.
const KEY: u16 = 2;
const INPUT: u32 = 6;
const OUTPUT: u32 = 7;
/// NFTA_CMP_OP, NFT_CMP_EQ, NFTA_CMP_DATA.
const OPERATION: u16 = 2;
const EQUAL: u32 = 0;
const COMPARED: u16 = 3;
/// NFTA_IMMEDIATE_DATA and NFTA_VERDICT_CODE.
const IMMEDIATE: u16 = 2;
const CODE: u16 = 1;
/// NFT_RETURN, -5.
const RETURN: u32 = 0xffff_fffb;

/// What passes a chain, of devices whose names begin with something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passing {
    /// What comes in by them.
    pub is_let_in: bool,
    /// What goes out by them.
    pub is_let_out: bool,
}

impl Passing {
    /// Adds what a rule lets pass, which has the attributes of a list of expressions.
    pub(super) fn add(&mut self, rule: &[u8], prefix: &str) {
        let expressions = expressions(rule);
        let [(meta, device), (compared, with), (ends, by)] = &expressions[..] else { return };
        if [meta.as_str(), compared, ends] != ["meta", "cmp", "immediate"] {
            return;
        }
        let is_prefix = number(with, OPERATION) == Some(EQUAL)
            && attribute(with, COMPARED).and_then(|data| attribute(data, VALUE)) == Some(prefix.as_bytes());
        let accepts = verdict(by) == Some(Verdict::Accept.code());
        if is_prefix && accepts {
            self.is_let_in |= number(device, KEY) == Some(INPUT);
            self.is_let_out |= number(device, KEY) == Some(OUTPUT);
        }
    }

    /// Whether all does.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.is_let_in && self.is_let_out
    }
}

/// Tells whether a rule does nothing but to send everything back to where its chain was called.
pub(super) fn returns(rule: &[u8]) -> bool {
    let expressions = expressions(rule);
    matches!(&expressions[..], [(name, data)] if name == "immediate" && verdict(data) == Some(RETURN))
}

/// The names of a rule's expressions, and what they have, but for those that count.
fn expressions(rule: &[u8]) -> Vec<(String, &[u8])> {
    let items = attributes(rule).filter(|(kind, _)| *kind == ITEM);
    let named = items.filter_map(|(_, item)| {
        Some((text(attribute(item, NAME)?), attribute(item, DATA).unwrap_or_default()))
    });
    named.filter(|(name, _)| name != "counter").collect()
}

fn verdict(immediate: &[u8]) -> Option<u32> {
    number(attribute(attribute(immediate, IMMEDIATE)?, VERDICT)?, CODE)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(attribute(attributes, kind)?.try_into().ok()?))
}
