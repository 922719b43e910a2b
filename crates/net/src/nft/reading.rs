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
/// NFTA_VERDICT_CHAIN.
const TO: u16 = 2;
/// NFTA_TARGET_NAME.
const TARGET: u16 = 1;
/// NFT_JUMP and NFT_GOTO: -3 and -4.
const JUMP: u32 = 0xffff_fffd;
const GOTO: u32 = 0xffff_fffc;

/// Devices that a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// The one of this name.
    Exactly(&'a str),
    /// All whose names begin so.
    Prefix(&'a str),
}

/// Where a rule of a chain sends packets on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// By which device they come in; nothing where all are sent.
    input: Option<Vec<u8>>,
    /// The chain.
    pub to: String,
}

impl Named<'_> {
    /// Whether a rule compares with this: all of a name are 16 bytes, and of a beginning as many as that has.
    fn is(self, compared: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => compared == prefix.as_bytes(),
            Self::Exactly(name) => {
                let (begin, rest) = compared.split_at(name.len().min(compared.len()));
                begin == name.as_bytes() && !rest.is_empty() && rest.iter().all(|byte| *byte == 0)
            }
        }
    }
}

impl Jump {
    /// Reads a rule that does nothing else, or asks for the device besides.
    pub(super) fn read(rule: &[u8]) -> Option<Self> {
        let expressions = expressions(rule);
        let (last, rest) = expressions.split_last()?;
        let input = match rest {
            [] => None,
            [(meta, device), (compared, with)]
                if meta == "meta" && compared == "cmp" && number(device, KEY) == Some(INPUT) =>
            {
                Some(compared_with(with)?.to_vec())
            }
            _ => return None,
        };
        let (name, data) = last;
        let verdict = attribute(attribute(data, IMMEDIATE)?, VERDICT)?;
        let sends = name == "immediate" && matches!(number(verdict, CODE)?, JUMP | GOTO);
        sends.then_some(Self { input, to: text(attribute(verdict, TO)?) })
    }

    /// Whether it sends what comes in by such devices.
    #[must_use]
    pub fn is_for(&self, named: Named<'_>) -> bool {
        self.input.as_deref().is_some_and(|input| named.is(input))
    }

    /// Whether it sends whatever comes.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.input.is_none()
    }
}

/// What passes a chain, of some devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passing {
    /// What comes in by them.
    pub is_let_in: bool,
    /// What goes out by them.
    pub is_let_out: bool,
}

impl Passing {
    /// Adds what a rule lets pass, which has the attributes of a list of expressions.
    pub(super) fn add(&mut self, rule: &[u8], named: Named<'_>) {
        let expressions = expressions(rule);
        let [(meta, device), (compared, with), (ends, by)] = &expressions[..] else { return };
        if [meta.as_str(), compared, ends] != ["meta", "cmp", "immediate"] {
            return;
        }
        let accepts = verdict(by) == Some(Verdict::Accept.code());
        if compared_with(with).is_some_and(|name| named.is(name)) && accepts {
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
    matches!(&expressions[..], [(name, data)] if name == "immediate" && verdict(data) == Some(Verdict::Return.code()))
}

/// Tells whether a rule does nothing but to refuse everything: by nft(8)'s words, or by those of iptables(8).
pub(super) fn refuses(rule: &[u8]) -> bool {
    let expressions = expressions(rule);
    let [(name, data)] = &expressions[..] else { return false };
    match name.as_str() {
        "immediate" => verdict(data) == Some(Verdict::Drop.code()),
        "reject" => true,
        "target" => attribute(data, TARGET).map(text).as_deref() == Some("REJECT"),
        _ => false,
    }
}

/// The names of a rule's expressions, and what they have, but for those that count.
fn expressions(rule: &[u8]) -> Vec<(String, &[u8])> {
    let items = attributes(rule).filter(|(kind, _)| *kind == ITEM);
    let named = items.filter_map(|(_, item)| {
        Some((text(attribute(item, NAME)?), attribute(item, DATA).unwrap_or_default()))
    });
    named.filter(|(name, _)| name != "counter").collect()
}

/// What a comparison wants to be equal.
fn compared_with(comparison: &[u8]) -> Option<&[u8]> {
    let data = attribute(attribute(comparison, COMPARED)?, VALUE)?;
    (number(comparison, OPERATION)? == EQUAL).then_some(data)
}

fn verdict(immediate: &[u8]) -> Option<u32> {
    number(attribute(attribute(immediate, IMMEDIATE)?, VERDICT)?, CODE)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(attribute(attributes, kind)?.try_into().ok()?))
}
