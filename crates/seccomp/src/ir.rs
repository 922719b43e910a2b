//! The intermediate representation: for each architecture what happens at each number, after all rules are merged.
//!
//! Names become numbers here, so everything that differs between architectures is decided here: which calls exist,
//! how much of an argument is compared, which calls are also reached through `socketcall` and `ipc`.
//!
//! # Which rule decides
//! As under libseccomp, so that a profile means the same thing everywhere:
//! 1. The first rule without conditions decides for its call, wherever it stands. Rules with conditions for the same
//!    call are then dead.
//! 2. Otherwise rules with conditions are tried in an order that does not depend on the profile's: those whose first
//!    condition is on a later argument first; then equality before "less" before "greater"; then the larger value
//!    first, for "less" the smaller.
//! 3. A rule whose conditions begin with all conditions of another one is dead. The same conditions with two
//!    actions, or a longer rule followed by a shorter one with another action, are an error.
//! 4. The default action decides the rest.
//!
//! libseccomp keeps conditions in a tree whose nodes share comparisons of halves of an argument, and the word that was
//! loaded last. Its tests cover rules with one condition. With several conditions in several rules for one call, or
//! 64-bit inequalities with different upper halves, the tree decides otherwise than any of the rules says; with
//! inequalities or masks of different actions on one argument, the shared halves choose the action. There the four
//! rules above hold here, and the tree's decisions are not imitated. `tests/property.rs` draws the line.
//!
//! # New calls
//! A profile with a default such as EPERM would tell programs that a call which is newer than the profile is
//! forbidden, and they give up instead of using the older call. So numbers above the newest call that the profile
//! names get ENOSYS, as under runc. It counts numbers and not kernel versions, on each architecture by itself.

use std::cmp::Ordering;

use bulkhead_spec::Arch;

use crate::abi::{Abi, abi};
use crate::bpf::MAX_INSTRUCTIONS;
use crate::front::{Condition, Policy, Test};
use crate::tables::{Call, Operation, find, number_of, operation};
use crate::{Error, Warning};

/// All that the filter decides.
#[derive(Debug)]
pub(crate) struct Filter {
    /// What the kernel is told when nothing matches.
    pub(crate) default: u32,
    /// The checks of arguments, each once.
    pub(crate) checks: Vec<Check>,
    /// The architectures, the native one first.
    pub(crate) abis: Vec<AbiFilter>,
}

/// What happens to the calls of one architecture.
#[derive(Debug)]
pub(crate) struct AbiFilter {
    /// The architecture.
    pub(crate) arch: Arch,
    /// What happens at a number, in ascending order, where it is not the default action.
    pub(crate) calls: Vec<(u32, Verdict)>,
    /// The newest call that the profile names; larger numbers get ENOSYS. Nothing if they get the default action.
    pub(crate) newest: Option<u32>,
}

/// What happens at a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel is told this.
    Return(u32),
    /// The arguments decide: the index of a [`Check`].
    Check(u32),
}

/// A decision by arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Whether arguments have 64 bits.
    pub(crate) wide: bool,
    /// The rules; the first one that matches decides, and the default action if none does.
    pub(crate) rules: Vec<Rule>,
}

/// Some conditions on arguments that must all hold, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The conditions, in the order of the arguments, each argument at most once.
    pub(crate) conditions: Vec<Condition>,
    /// What the kernel is told.
    pub(crate) action: u32,
}

/// Lowers `policy` for all its architectures; names that are unknown to all of them are added to `warnings`.
pub(crate) fn lower(policy: &Policy<'_>, warnings: &mut Vec<Warning>) -> Result<Filter, Error> {
    let named = resolve_names(policy, warnings);
    let mut filter = Filter { default: policy.default, checks: Vec::new(), abis: Vec::new() };
    for &arch in &policy.architectures {
        let abi = abi(arch);
        let calls = Lowering { policy, arch, abi: &abi, checks: &mut filter.checks }.calls(&named)?;
        let newest = if policy.enosys { newest(&abi, &named) } else { None };
        filter.abis.push(AbiFilter { arch, calls, newest });
    }
    Ok(filter)
}

/// A name in a rule.
struct Named {
    call: Call,
    operation: Option<Operation>,
    rule: u32,
}

fn resolve_names(policy: &Policy<'_>, warnings: &mut Vec<Warning>) -> Vec<Named> {
    let mut named = Vec::with_capacity(policy.rules.iter().map(|rule| rule.names.len()).sum());
    for (index, rule) in policy.rules.iter().enumerate() {
        for name in rule.names {
            match find(name) {
                Some(call) => named.push(Named { call, operation: operation(call), rule: index as u32 }),
                None => warnings.push(Warning::UnknownCall { rule: index, name: name.clone() }),
            }
        }
    }
    named
}

/// Returns the largest number that the profile names, by runc's count: rules that only repeat the default action
/// take part; calls that are also reached through `socketcall` and `ipc` do not, nor does number 0 by itself.
fn newest(abi: &Abi, named: &[Named]) -> Option<u32> {
    let counts = |named: &&Named| !(abi.multiplexed && named.operation.is_some());
    named
        .iter()
        .filter(counts)
        .filter_map(|named| number_of(abi, named.call))
        .max()
        .filter(|&number| number != 0)
}

/// A rule at a number.
struct Placed {
    number: u32,
    /// The order in the profile.
    turn: u32,
    /// The index of the rule.
    rule: u32,
    /// The operation that the first argument must choose, if the number is that of `socketcall` or `ipc` and the
    /// rule names what is behind it.
    operation: Option<u32>,
}

/// The lowering for one architecture.
struct Lowering<'a> {
    policy: &'a Policy<'a>,
    arch: Arch,
    abi: &'a Abi,
    checks: &'a mut Vec<Check>,
}

impl Lowering<'_> {
    fn calls(&mut self, named: &[Named]) -> Result<Vec<(u32, Verdict)>, Error> {
        let placed = self.place(named);
        let mut calls = Vec::with_capacity(placed.len());
        for group in placed.chunk_by(|a, b| a.number == b.number) {
            let verdict = self.merge(group)?;
            if verdict != Verdict::Return(self.policy.default) {
                calls.push((group[0].number, verdict));
            }
        }
        Ok(calls)
    }

    /// Puts each rule at its numbers, in ascending order and for each number in the order of the profile. Rules that
    /// repeat the default action are left out, as runc does it.
    fn place(&self, named: &[Named]) -> Vec<Placed> {
        let mut placed = Vec::with_capacity(named.len() + 32);
        let mut put = |number, rule, operation| {
            placed.push(Placed { number, turn: placed.len() as u32, rule, operation });
        };
        for &Named { call, operation, rule } in named {
            if self.policy.rules[rule as usize].action == self.policy.default {
                continue;
            }
            if let Some(Operation { through, number }) = operation.filter(|_| self.abi.multiplexed)
                && let Some(multiplexer) = find(through).and_then(|call| number_of(self.abi, call))
            {
                put(multiplexer, rule, Some(number));
            }
            if let Some(number) = number_of(self.abi, call) {
                put(number, rule, None);
            }
        }
        placed.sort_unstable_by_key(|placed| (placed.number, placed.turn));
        placed
    }

    /// Merges the rules of one number.
    fn merge(&mut self, group: &[Placed]) -> Result<Verdict, Error> {
        let mut merged = Merged::default();
        for placed in group {
            let rule = &self.policy.rules[placed.rule as usize];
            if rule.alternatives.is_empty() && placed.operation.is_none() {
                return Ok(Verdict::Return(rule.action));
            }
            let always = [Vec::new()];
            let alternatives = if rule.alternatives.is_empty() { &always[..] } else { &rule.alternatives };
            for conditions in alternatives {
                let conditions = self.specialise(conditions, placed.operation);
                if conditions.is_empty() {
                    return Ok(Verdict::Return(rule.action));
                }
                let added = merged.add(Rule { conditions, action: rule.action }, placed.rule);
                added.map_err(|other| self.contradiction(placed, other))?;
            }
        }
        if self.checks.len() + merged.rules.len() > MAX_INSTRUCTIONS {
            return Err(Error::TooLong { instructions: self.checks.len() + merged.rules.len() });
        }
        Ok(self.check(merged.rules.into_iter().map(|(rule, _)| rule).collect()))
    }

    /// Fits conditions to the width of arguments, leaves out those that always hold, and adds the one that chooses
    /// the operation of a multiplexer. It takes the place of a condition on the first argument: what the rule calls
    /// its first argument lies in memory then, where no filter can look.
    fn specialise(&self, conditions: &[Condition], operation: Option<u32>) -> Vec<Condition> {
        let mut fitted: Vec<Condition> = conditions.to_vec();
        if let Some(number) = operation {
            fitted.retain(|condition| condition.argument != 0);
            let (test, mask) = (Test::Equal, u64::MAX);
            fitted.insert(0, Condition { argument: 0, test, negated: false, mask, value: number.into() });
        }
        if !self.abi.wide {
            for condition in &mut fitted {
                condition.mask &= u64::from(u32::MAX);
                condition.value &= u64::from(u32::MAX);
            }
        }
        fitted.retain(|condition| condition.mask != 0);
        fitted
    }

    /// Returns the verdict of these rules, sharing the check with other numbers and architectures.
    fn check(&mut self, rules: Vec<Rule>) -> Verdict {
        let check = Check { wide: self.abi.wide, rules };
        let index = self.checks.iter().position(|known| *known == check).unwrap_or_else(|| {
            self.checks.push(check);
            self.checks.len() - 1
        });
        Verdict::Check(index as u32)
    }

    fn contradiction(&self, placed: &Placed, other: u32) -> Error {
        Error::Contradiction {
            rule: placed.rule as usize,
            other: other as usize,
            name: crate::tables::name(self.arch, placed.number).unwrap_or_default().to_owned(),
            arch: self.arch,
        }
    }
}

/// Rules with conditions in the order in which they are tried, each with its index in the profile.
#[derive(Default)]
struct Merged {
    rules: Vec<(Rule, u32)>,
}

impl Merged {
    /// Adds a rule, unless another one makes it dead; fails with the index of a rule that contradicts it.
    fn add(&mut self, new: Rule, index: u32) -> Result<(), u32> {
        for (known, other) in &self.rules {
            if new.conditions.starts_with(&known.conditions) {
                let contradiction =
                    new.conditions.len() == known.conditions.len() && new.action != known.action;
                return if contradiction { Err(*other) } else { Ok(()) };
            }
            if known.conditions.starts_with(&new.conditions) && known.action != new.action {
                return Err(*other);
            }
        }
        self.rules.retain(|(known, _)| !known.conditions.starts_with(&new.conditions));
        let later =
            |(known, _): &(Rule, u32)| precedence(&known.conditions, &new.conditions) == Ordering::Greater;
        let place = self.rules.iter().position(later).unwrap_or(self.rules.len());
        self.rules.insert(place, (new, index));
        Ok(())
    }
}

/// Compares two sets of conditions: the lesser one is tried first. Equal ones are tried in the order of the profile.
fn precedence(a: &[Condition], b: &[Condition]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let values = match class(a) {
            Class::Less => a.value.cmp(&b.value),
            Class::Equality | Class::Greater => b.value.cmp(&a.value),
        };
        let order = b.argument.cmp(&a.argument).then(class(a).cmp(&class(b))).then(values);
        if order != Ordering::Equal || a != b {
            return order;
        }
    }
    Ordering::Equal
}

/// The kinds of conditions, in the order in which they are tried.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Equality,
    Less,
    Greater,
}

fn class(condition: &Condition) -> Class {
    match (condition.test, condition.negated) {
        (Test::Equal, _) => Class::Equality,
        (_, true) => Class::Less,
        (_, false) => Class::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::validate;

    /// Lowers a profile whose default is ERRNO(1) and whose rules are given.
    fn lowered(native: Arch, architectures: &str, rules: &str) -> Result<Filter, Error> {
        let json = format!(
            r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "architectures": [{architectures}], "syscalls": [{rules}] }}"#
        );
        let profile = serde_json::from_str(&json).unwrap();
        let (policy, mut settings) = validate(&profile, native)?;
        lower(&policy, &mut settings.warnings)
    }

    fn allow(names: &str, args: &str) -> String {
        format!(r#"{{ "names": [{names}], "action": "SCMP_ACT_ALLOW", "args": [{args}] }}"#)
    }

    fn kill(names: &str, args: &str) -> String {
        format!(r#"{{ "names": [{names}], "action": "SCMP_ACT_KILL", "args": [{args}] }}"#)
    }

    const FIRST_IS_5: &str = r#"{ "index": 0, "value": 5, "op": "SCMP_CMP_EQ" }"#;
    const SECOND_IS_5: &str = r#"{ "index": 1, "value": 5, "op": "SCMP_CMP_EQ" }"#;
    const ALLOW: Verdict = Verdict::Return(0x7fff_0000);
    const KILL: Verdict = Verdict::Return(0);

    #[test]
    fn names_become_the_numbers_of_each_architecture() {
        let filter =
            lowered(Arch::X86_64, r#""SCMP_ARCH_X86", "SCMP_ARCH_X32""#, &allow(r#""open", "execve""#, ""));
        let abis = filter.unwrap().abis;
        assert_eq!(abis[0].calls, [(2, ALLOW), (59, ALLOW)]);
        assert_eq!(abis[1].calls, [(5, ALLOW), (11, ALLOW)]);
        assert_eq!(abis[2].calls, [(0x4000_0002, ALLOW), (0x4000_0208, ALLOW)]);
        assert_eq!(
            abis.iter().map(|abi| abi.newest).collect::<Vec<_>>(),
            [Some(59), Some(11), Some(0x4000_0208)]
        );
    }

    #[test]
    fn a_rule_without_conditions_decides_wherever_it_stands() {
        for rules in [
            [kill(r#""close""#, ""), allow(r#""close""#, FIRST_IS_5), allow(r#""close""#, "")],
            [allow(r#""close""#, FIRST_IS_5), kill(r#""close""#, ""), allow(r#""close""#, "")],
        ] {
            let filter = lowered(Arch::X86_64, "", &rules.join(",")).unwrap();
            assert_eq!(filter.abis[0].calls, [(3, KILL)]);
        }
    }

    #[test]
    fn rules_that_repeat_the_default_count_for_the_newest_call_only() {
        let rules = r#"{ "names": ["openat2"], "action": "SCMP_ACT_ERRNO" }"#;
        let filter = lowered(Arch::X86_64, "", rules).unwrap();
        assert_eq!((&filter.abis[0].calls[..], filter.abis[0].newest), (&[][..], Some(437)));
        let only_read = lowered(Arch::X86_64, "", &allow(r#""read""#, "")).unwrap();
        assert_eq!(only_read.abis[0].newest, None, "number 0 alone is no knowledge");
    }

    #[test]
    fn sockets_are_also_reached_through_socketcall() {
        let filter = lowered(Arch::X86, "", &allow(r#""bind", "send""#, SECOND_IS_5)).unwrap();
        let [(socketcall, Verdict::Check(through)), (bind, Verdict::Check(direct))] =
            filter.abis[0].calls[..]
        else {
            panic!("{:?}", filter.abis[0].calls);
        };
        assert_eq!((socketcall, bind), (102, 361));
        let operations: Vec<u64> =
            filter.checks[through as usize].rules.iter().map(|rule| rule.conditions[0].value).collect();
        assert_eq!(operations, [9, 2], "the larger value is tried first");
        assert_eq!(filter.checks[direct as usize].rules[0].conditions.len(), 1);
        assert_eq!(filter.abis[0].newest, None, "calls behind a multiplexer do not count");
    }

    #[test]
    fn checks_are_shared_between_numbers_and_architectures() {
        let rules = allow(r#""close", "ioctl""#, FIRST_IS_5);
        let filter = lowered(Arch::X86_64, r#""SCMP_ARCH_X86", "SCMP_ARCH_X32""#, &rules).unwrap();
        assert_eq!(filter.checks.len(), 2, "one for 64 bits, one for 32");
    }

    #[test]
    fn a_mask_without_bits_always_holds() {
        let upper = r#"{ "index": 0, "value": 4294967296, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }"#;
        let rules = allow(r#""close""#, upper);
        let filter = lowered(Arch::X86_64, r#""SCMP_ARCH_X86""#, &rules).unwrap();
        assert_eq!(filter.abis[0].calls, [(3, Verdict::Check(0))]);
        assert_eq!(filter.abis[1].calls, [(6, ALLOW)], "32-bit arguments have no upper half");
    }

    #[test]
    fn the_same_conditions_with_two_actions_are_a_contradiction() {
        let both = format!("{FIRST_IS_5}, {SECOND_IS_5}");
        let cases = [
            ([allow(r#""close""#, FIRST_IS_5), kill(r#""read", "close""#, FIRST_IS_5)], true),
            ([allow(r#""close""#, FIRST_IS_5), allow(r#""close""#, FIRST_IS_5)], false),
            ([allow(r#""close""#, &both), kill(r#""close""#, FIRST_IS_5)], true),
            ([allow(r#""close""#, FIRST_IS_5), kill(r#""close""#, &both)], false),
        ];
        for (rules, contradiction) in cases {
            let error = lowered(Arch::X86_64, "", &rules.join(",")).err().map(|error| error.to_string());
            let expected = "/syscalls/1: it contradicts /syscalls/0 for close on SCMP_ARCH_X86_64".to_owned();
            assert_eq!(error, contradiction.then_some(expected), "{rules:?}");
        }
    }
}
