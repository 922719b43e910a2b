//! The device program decides what the rules say, for every list of rules and every access.
//!
//! The input is six bytes a rule: verdict and kind, access, then major and minor as 16 bits, of which the top bit
//! stands for all.

use bulkhead_cgroup::devices::interpret::{self, Request};
use bulkhead_cgroup::devices::{self, Access, Kind};
use bulkhead_spec::{DeviceRule, DeviceRuleType};

/// Longer lists only make the target slow.
const MOST: usize = 64;

/// Runs the target.
pub fn run(input: &[u8]) {
    let rules =
        Vec::from_iter(input.chunks_exact(6).take(MOST).filter_map(|bytes| bytes.try_into().ok()).map(rule));
    let program = match devices::program(&rules) {
        Ok(program) => program,
        Err(error) => return super::check_sentence(&error.to_string()),
    };
    let rules = Vec::from_iter(rules.iter().chain(&devices::defaults()).cloned());
    let numbers = |pick: fn(&DeviceRule) -> Option<i64>| {
        let named = rules.iter().filter_map(pick).filter_map(|number| u32::try_from(number).ok());
        let mut numbers = Vec::from_iter(named.chain([0, 7, u32::MAX]));
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let (majors, minors) = (numbers(|rule| rule.major), numbers(|rule| rule.minor));
    for (&major, &minor) in majors.iter().flat_map(|major| minors.iter().map(move |minor| (major, minor))) {
        for kind in [Kind::Char, Kind::Block] {
            for access in [Access::MKNOD, Access::READ, Access::WRITE] {
                let request = Request { kind, access, major, minor };
                assert_eq!(
                    interpret::run(&program, request),
                    Some(allows(&rules, request)),
                    "{request:?} of {rules:?}"
                );
            }
        }
    }
}

fn rule([head, access, major, more_major, minor, more_minor]: [u8; 6]) -> DeviceRule {
    let letters = [(1, 'r'), (2, 'w'), (4, 'm')];
    let number = |low, high| {
        let value = u16::from_le_bytes([low, high]);
        (value & 0x8000 == 0).then_some(i64::from(value))
    };
    DeviceRule {
        allow: head & 1 != 0,
        kind: match head >> 1 & 7 {
            0 => Some(DeviceRuleType::All),
            1 => None,
            kind if kind & 1 == 0 => Some(DeviceRuleType::Char),
            _ => Some(DeviceRuleType::Block),
        },
        major: number(major, more_major),
        minor: number(minor, more_minor),
        access: Some(letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()),
    }
}

/// The meaning of a list: the last rule that is about one access of one device decides, and nothing is allowed else.
fn allows(rules: &[DeviceRule], Request { kind, access, major, minor }: Request) -> bool {
    let is_about = |rule: &&DeviceRule| {
        let of_kind = match rule.kind {
            None | Some(DeviceRuleType::All) => return true,
            Some(DeviceRuleType::Char) => kind == Kind::Char,
            Some(DeviceRuleType::Block) => kind == Kind::Block,
        };
        let numbered =
            |number: Option<i64>, actual: u32| number.is_none_or(|number| number == i64::from(actual));
        let letters = rule.access.as_deref().unwrap_or_default();
        of_kind
            && letters.contains(&access.to_string())
            && numbered(rule.major, major)
            && numbered(rule.minor, minor)
    };
    rules.iter().rev().find(is_about).is_some_and(|rule| rule.allow)
}
