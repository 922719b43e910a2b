//! Which device nodes a container may use.
//!
//! The rules of the configuration are folded into a [`Policy`]: a default and exceptions to it, just what the v1
//! controller keeps in the kernel. Both back ends start from there, so v1 and v2 mean the same: [`v1`] writes the
//! exceptions into files, [`v2`] compiles them into a BPF program.

pub mod interpret;
pub(crate) mod v1;
pub(crate) mod v2;

use std::fmt;

use bulkhead_spec::{DeviceRule, DeviceRuleType};
use bulkhead_sys::bpf::Instruction;

use crate::error::{Error, Result};

/// The kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// What may be done with a device node, as bits in the kernel's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Making a node with mknod(2).
    pub const MKNOD: Self = Self(1);
    /// Opening for reading.
    pub const READ: Self = Self(2);
    /// Opening for writing.
    pub const WRITE: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    fn parse(text: &str) -> Option<Self> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'm' => Self::MKNOD.0,
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                // Met as "rwa" in the wild, where runc makes nothing of it.
                'a' => 0,
                _ => return None,
            };
        }
        (bits != 0).then_some(Self(bits))
    }

    /// Returns the bits as `BPF_DEVCG_ACC_*` has them.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')] {
            if self.0 & bit.0 != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// The nodes that an exception is about; `None` stands for all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) kind: Kind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
}

/// What holds for a device that no exception names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
}

/// A default and the exceptions to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(crate) default: Default,
    /// In the order of the rules (config-linux.md, "Allowed Device list"), each about other nodes.
    pub(crate) exceptions: Vec<(Nodes, Access)>,
}

/// What became of a change of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// They are in force.
    Set,
    /// Somebody has put a program of their own in the place of ours, as tools do that hand devices to a container
    /// that runs. Ours beside it would take those away again: nothing is changed.
    OfOthers,
}

/// The character devices that every container may use, as (major, minor): null, random, full, tty, zero, urandom,
/// the pseudo terminals, ptmx; see the specification's default devices.
const COMMON: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(8)),
    (1, Some(7)),
    (5, Some(0)),
    (1, Some(5)),
    (1, Some(9)),
    (136, None),
    (5, Some(2)),
];

/// Lists the rules that follow those of the configuration in every container, as under runc: any node may be made,
/// the common ones may be used.
pub fn defaults() -> Vec<DeviceRule> {
    let rule = |kind, major: Option<u32>, minor: Option<u32>, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind),
        major: major.map(i64::from),
        minor: minor.map(i64::from),
        access: Some(access.to_owned()),
    };
    let mut rules =
        vec![rule(DeviceRuleType::Char, None, None, "m"), rule(DeviceRuleType::Block, None, None, "m")];
    rules.extend(COMMON.map(|(major, minor)| rule(DeviceRuleType::Char, Some(major), minor, "rwm")));
    rules
}

/// Folds the rules of a configuration, then the [`defaults`], into a policy; without any rule all is denied.
///
/// # Errors
/// [`Error::Invalid`] for a rule without access or with numbers out of range, and for one that denies a part of what
/// a wildcard before it allowed (or the reverse), which no v1 kernel can hold.
pub(crate) fn policy(rules: &[DeviceRule]) -> Result<Policy> {
    let mut policy = Policy { default: Default::Deny, exceptions: Vec::new() };
    for (index, rule) in rules.iter().enumerate() {
        policy.apply(rule, &format!("/devices/{index}"))?;
    }
    for rule in defaults() {
        // A denied part of a default is not possible either, but it is the configuration's rule that is at fault.
        policy.apply(&rule, "/devices")?;
    }
    Ok(policy)
}

/// Compiles the rules of a configuration, and the [`defaults`] after them, as v2 has them.
///
/// # Errors
/// As for every plan with such rules.
pub fn program(rules: &[DeviceRule]) -> Result<Vec<Instruction>> {
    Ok(v2::compile(&policy(rules)?))
}

impl Nodes {
    /// Tells whether each of `others` is one of these.
    fn contain(self, others: Self) -> bool {
        let holds = |wide: Option<u32>, narrow| wide.is_none() || wide == narrow;
        self.kind == others.kind && holds(self.major, others.major) && holds(self.minor, others.minor)
    }

    /// Tells whether some node is one of both.
    fn overlap(self, others: Self) -> bool {
        let meet = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        self.kind == others.kind && meet(self.major, others.major) && meet(self.minor, others.minor)
    }
}

impl Policy {
    fn apply(&mut self, rule: &DeviceRule, place: &str) -> Result<()> {
        let access = rule.access.as_deref().and_then(Access::parse).ok_or_else(|| {
            let given = rule.access.as_deref().unwrap_or_default();
            Error::invalid(format!("{place}/access"), format!("{given:?} is not a composition of r, w and m"))
        })?;
        let verdict = if rule.allow { Default::Allow } else { Default::Deny };
        let kind = match rule.kind {
            None | Some(DeviceRuleType::All) => {
                // The kernel's "a" is about every device and every access, whatever else the rule says.
                *self = Self { default: verdict, exceptions: Vec::new() };
                return Ok(());
            }
            Some(DeviceRuleType::Char) => Kind::Char,
            Some(DeviceRuleType::Block) => Kind::Block,
        };
        let nodes = Nodes {
            kind,
            major: number(rule.major, &format!("{place}/major"))?,
            minor: number(rule.minor, &format!("{place}/minor"))?,
        };
        if verdict == self.default {
            self.remove(nodes, access, place)
        } else {
            match self.exceptions.iter_mut().find(|(known, _)| *known == nodes) {
                Some((_, known)) => known.0 |= access.0,
                None => self.exceptions.push((nodes, access)),
            }
            Ok(())
        }
    }

    /// Takes exceptions back: that of these nodes and those of some of them. The kernel of v1 silently ignores a hole in a
    /// wildcard, and narrower exceptions than the one it takes back; either would be a false sense of safety.
    fn remove(&mut self, nodes: Nodes, access: Access, place: &str) -> Result<()> {
        let has_more = |(wide, known): &(Nodes, Access)| {
            *wide != nodes && wide.overlap(nodes) && !nodes.contain(*wide) && known.0 & access.0 != 0
        };
        if self.exceptions.iter().any(has_more) {
            return Err(Error::invalid(place, "cannot punch a hole into the wildcard rule before it"));
        }
        self.exceptions.retain_mut(|(known, exception)| {
            if nodes.contain(*known) {
                exception.0 &= !access.0;
            }
            exception.0 != 0
        });
        Ok(())
    }
}

/// Reads a device number; -1, which older callers write, stands for all as absence does.
fn number(value: Option<i64>, place: &str) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Error::invalid(place, format!("{value} is not a device number"))),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Folds rules written as `allow c 1:3 rwm`, without the defaults.
    pub(crate) fn fold(rules: &[&str]) -> Result<Policy> {
        let mut policy = Policy { default: Default::Deny, exceptions: Vec::new() };
        for (index, text) in rules.iter().enumerate() {
            policy.apply(&rule(text), &format!("/devices/{index}"))?;
        }
        Ok(policy)
    }

    pub(crate) fn rule(text: &str) -> DeviceRule {
        let words: Vec<&str> = text.split(' ').collect();
        let [verdict, kind, numbers, access] = words[..] else { panic!("four words: {text}") };
        let (major, minor) = numbers.split_once(':').unwrap();
        DeviceRule {
            allow: verdict == "allow",
            kind: Some(kind.parse().unwrap()),
            major: major.parse().ok(),
            minor: minor.parse().ok(),
            access: Some(access.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn without_rules_only_the_common_devices_are_allowed() {
        let policy = policy(&[]).unwrap();
        assert_eq!(policy.default, Default::Deny);
        assert_eq!(policy.exceptions.len(), 10);
    }

    #[test]
    fn accesses_to_the_same_nodes_are_joined_and_taken_back() {
        let policy = fold(&["allow c 1:3 r", "allow c 1:3 w", "allow b 8:* rwm", "deny b 8:* m"]).unwrap();
        let exceptions: Vec<_> = policy
            .exceptions
            .iter()
            .map(|(nodes, access)| (nodes.kind, nodes.minor, access.to_string()))
            .collect();
        assert_eq!(
            exceptions,
            [(Kind::Char, Some(3), "rw".to_owned()), (Kind::Block, None, "rw".to_owned())]
        );
    }

    #[test]
    fn a_wildcard_takes_back_what_is_narrower() {
        let rules = ["allow c 1:3 rwm", "allow c 1:5 r", "allow b 1:3 r", "deny c 1:* rw"];
        let left = fold(&rules).unwrap().exceptions;
        let left = Vec::from_iter(left.iter().map(|(nodes, access)| (nodes.kind, access.to_string())));
        assert_eq!(left, [(Kind::Char, "m".to_owned()), (Kind::Block, "r".to_owned())]);
        assert_eq!(fold(&["allow c 1:3 rwm", "deny c *:* rwm"]).unwrap(), fold(&[]).unwrap());
    }

    #[test]
    fn a_rule_for_all_begins_anew() {
        assert_eq!(fold(&["allow c 1:3 r", "deny a *:* rwm"]).unwrap(), fold(&[]).unwrap());
        let policy = fold(&["deny c 1:3 r", "allow a *:* rwm", "deny c 10:200 rwm"]).unwrap();
        assert_eq!(policy.default, Default::Allow);
        assert_eq!(policy.exceptions.len(), 1);
    }

    #[test]
    fn a_hole_in_a_wildcard_is_refused() {
        for rules in [
            ["allow c 1:* rwm", "deny c 1:3 r"],
            ["allow c *:* m", "deny c 1:3 m"],
            ["allow c *:3 w", "deny c 1:3 rw"],
            ["allow c *:3 w", "deny c 1:* w"],
        ] {
            assert!(
                fold(&rules).unwrap_err().to_string().starts_with("/devices/1: cannot punch a hole"),
                "{rules:?}"
            );
        }
        assert!(fold(&["allow c *:* m", "deny c 1:3 rw"]).is_ok(), "other accesses do not meet");
        assert!(fold(&["allow c *:* rwm", "deny b 8:0 rw"]).is_ok(), "other kinds do not meet");
    }

    #[test]
    fn bad_rules_are_refused_with_their_place() {
        let with = |access: Option<&str>, major| DeviceRule {
            allow: true,
            kind: Some(DeviceRuleType::Char),
            major: Some(major),
            minor: None,
            access: access.map(str::to_owned),
        };
        for (rule, message) in [
            (with(None, 1), "/devices/0/access: \"\" is not a composition of r, w and m"),
            (with(Some("rx"), 1), "/devices/0/access: \"rx\" is not a composition of r, w and m"),
            (with(Some("r\n"), 1), "/devices/0/access: \"r\\n\" is not a composition of r, w and m"),
            (with(Some("r"), -2), "/devices/0/major: -2 is not a device number"),
            (with(Some("r"), 1 << 32), "/devices/0/major: 4294967296 is not a device number"),
        ] {
            assert_eq!(policy(&[rule]).unwrap_err().to_string(), message);
        }
        assert!(policy(&[with(Some("a"), 1)]).is_err(), "an \"a\" alone is no access");
        assert_eq!(policy(&[with(Some("rwa"), 1)]).unwrap(), policy(&[with(Some("rw"), 1)]).unwrap());
        assert!(policy(&[with(Some("r"), -1)]).is_ok(), "-1 stands for all numbers");
    }
}
