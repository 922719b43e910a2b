//! The front end: from a profile to a [`Policy`] that holds no contradiction within one rule.
//!
//! It resolves actions to the kernel's return values, splits rules whose conditions name one argument twice, brings
//! conditions into a normal form, and checks everything that does not depend on an architecture.

use bulkhead_spec::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompFlag, SeccompSyscall};

use crate::abi::abi;
use crate::bpf;
use crate::{Error, FilterFlags, Warning};

/// EPERM, the errno of an action that gives none.
const EPERM: u32 = 1;

/// The largest errno that a system call can return (`MAX_ERRNO`); the kernel cuts larger ones down to it.
const MAX_ERRNO: u32 = 4095;

/// The largest number that a tracer can be told.
const MAX_TRACE: u32 = 0xffff;

/// A profile, validated.
#[derive(Debug)]
pub(crate) struct Policy<'a> {
    /// What the kernel is told when no rule matches.
    pub(crate) default: u32,
    /// Whether numbers above the newest known call fail with ENOSYS; see [`crate::ir`].
    pub(crate) enosys: bool,
    /// The architectures, the native one first, each once.
    pub(crate) architectures: Vec<Arch>,
    /// The rules in their order.
    pub(crate) rules: Vec<PolicyRule<'a>>,
}

/// A rule of a profile.
#[derive(Debug)]
pub(crate) struct PolicyRule<'a> {
    /// The calls.
    pub(crate) names: &'a [String],
    /// What the kernel is told.
    pub(crate) action: u32,
    /// Each is a set of conditions that must all hold, in the order of the arguments; one of the sets is enough.
    /// No set at all: the rule always matches.
    pub(crate) alternatives: Vec<Vec<Condition>>,
}

/// A test of one argument, in normal form: `(argument & mask) OP value`, perhaps negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which argument, 0 to 5.
    pub(crate) argument: u8,
    /// The comparison.
    pub(crate) test: Test,
    /// Whether the comparison must fail.
    pub(crate) negated: bool,
    /// The bits that are compared; all of them except for [`Test::Equal`].
    pub(crate) mask: u64,
    /// What the argument is compared with; no bits outside the mask.
    pub(crate) value: u64,
}

/// A comparison that BPF has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// The masked argument equals the value.
    Equal,
    /// The argument is greater than the value.
    Greater,
    /// The argument is the value or greater.
    GreaterOrEqual,
}

/// What [`validate`] finds besides the policy.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The flags for seccomp(2).
    pub(crate) flags: FilterFlags,
    /// Whether some rule asks a listener.
    pub(crate) uses_notify: bool,
    /// What has no effect.
    pub(crate) warnings: Vec<Warning>,
}

/// Validates `profile` for a machine whose own architecture is `native`.
pub(crate) fn validate(profile: &Seccomp, native: Arch) -> Result<(Policy<'_>, Settings), Error> {
    if profile.default_action == Action::Notify {
        return Err(Error::NotifyByDefault);
    }
    let default =
        return_value(profile.default_action, profile.default_errno_ret, || "/defaultErrnoRet".into())?;
    let mut warnings = Vec::new();
    let mut rules = Vec::with_capacity(profile.syscalls.len());
    for (index, rule) in profile.syscalls.iter().enumerate() {
        rules.push(validate_rule(index, rule, &mut warnings)?);
    }
    let uses_notify = listener(profile)?;
    let policy = Policy {
        default,
        // A permissive default already lets new calls reach the kernel, which knows best. A tracer counts as
        // permissive: it must be able to emulate calls that are newer than the profile.
        enosys: !matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace),
        architectures: architectures(&profile.architectures, native)?,
        rules,
    };
    let flags = flags(profile.flags.as_deref(), uses_notify, &mut warnings);
    Ok((policy, Settings { flags, uses_notify, warnings }))
}

/// The calls by which a runtime hands the filter's descriptor over: runc refuses the first, ours makes the others.
const HAND_OVER: [&str; 3] = ["write", "sendmsg", "recvmsg"];

/// Returns whether there is a rule for a listener, after checking that there is a listener then.
fn listener(profile: &Seccomp) -> Result<bool, Error> {
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        return Err(Error::MetadataWithoutListener);
    }
    let notify = |rule: &SeccompSyscall| rule.action == Action::Notify;
    let Some(first) = profile.syscalls.iter().position(notify) else { return Ok(false) };
    for (index, rule) in profile.syscalls.iter().enumerate().filter(|(_, rule)| notify(rule)) {
        let own = HAND_OVER.into_iter().find(|own| rule.names.iter().any(|name| name == own));
        if let Some(name) = own {
            return Err(Error::NotifyOnHandOver { rule: index, name });
        }
    }
    match profile.listener_path {
        Some(_) => Ok(true),
        None => Err(Error::NoListener { rule: first }),
    }
}

/// Puts the native architecture first: a filter always has it, as under libseccomp.
fn architectures(listed: &[Arch], native: Arch) -> Result<Vec<Arch>, Error> {
    let mut architectures = vec![native];
    for (index, &arch) in listed.iter().enumerate() {
        if abi(arch).order != abi(native).order {
            return Err(Error::ByteOrder { index, arch, native });
        }
        if !architectures.contains(&arch) {
            architectures.push(arch);
        }
    }
    Ok(architectures)
}

fn flags(listed: Option<&[SeccompFlag]>, uses_notify: bool, warnings: &mut Vec<Warning>) -> FilterFlags {
    let mut flags = FilterFlags::empty();
    if uses_notify {
        flags |= FilterFlags::NEW_LISTENER;
    }
    for flag in listed.unwrap_or(&[SeccompFlag::SpecAllow]) {
        flags |= match flag {
            // The process that loads the filter has one thread, and the kernel refuses the flag beside a listener.
            SeccompFlag::Tsync => FilterFlags::empty(),
            SeccompFlag::Log => FilterFlags::LOG,
            SeccompFlag::SpecAllow => FilterFlags::SPEC_ALLOW,
            SeccompFlag::WaitKillableRecv if uses_notify => FilterFlags::WAIT_KILLABLE_RECV,
            SeccompFlag::WaitKillableRecv => {
                warnings.push(Warning::WaitWithoutListener);
                FilterFlags::empty()
            }
        };
    }
    flags
}

fn validate_rule<'a>(
    index: usize,
    rule: &'a SeccompSyscall,
    warnings: &mut Vec<Warning>,
) -> Result<PolicyRule<'a>, Error> {
    if rule.names.is_empty() {
        warnings.push(Warning::NoNames { rule: index });
    }
    if let Some(name) = rule.names.iter().position(String::is_empty) {
        return Err(Error::EmptyName { rule: index, name });
    }
    let action = return_value(rule.action, rule.errno_ret, || format!("/syscalls/{index}/errnoRet"))?;
    let mut conditions = Vec::with_capacity(rule.args.len());
    for (argument, arg) in rule.args.iter().enumerate() {
        let out_of_range = || Error::NoSuchArgument { rule: index, argument, index: arg.index };
        conditions.push(Condition::new(arg).ok_or_else(out_of_range)?);
    }
    Ok(PolicyRule { names: &rule.names, action, alternatives: alternatives(conditions) })
}

/// Conditions must all hold, unless two of them are about the same argument: then each is a rule of its own, which
/// runc keeps up for profiles that were written when conditions were alternatives.
fn alternatives(mut conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let mut seen = 0_u8;
    let mut repeated = false;
    for condition in &conditions {
        repeated |= seen & 1 << condition.argument != 0;
        seen |= 1 << condition.argument;
    }
    if repeated {
        return conditions.into_iter().map(|condition| vec![condition]).collect();
    }
    if conditions.is_empty() {
        return Vec::new();
    }
    conditions.sort_by_key(|condition| condition.argument);
    vec![conditions]
}

impl Condition {
    /// Returns nothing when there is no such argument.
    fn new(arg: &SeccompArg) -> Option<Self> {
        let argument = u8::try_from(arg.index).ok().filter(|&index| index < 6)?;
        let (test, negated) = match arg.op {
            Operator::Eq | Operator::MaskedEq => (Test::Equal, false),
            Operator::Ne => (Test::Equal, true),
            Operator::Gt => (Test::Greater, false),
            Operator::Le => (Test::Greater, true),
            Operator::Ge => (Test::GreaterOrEqual, false),
            Operator::Lt => (Test::GreaterOrEqual, true),
        };
        let (mask, value) = match arg.op {
            Operator::MaskedEq => (arg.value, arg.value & arg.value_two),
            _ => (u64::MAX, arg.value),
        };
        Some(Self { argument, test, negated, mask, value })
    }

    /// Says whether an argument meets the condition.
    pub(crate) fn holds(&self, argument: u64) -> bool {
        let masked = argument & self.mask;
        let holds = match self.test {
            Test::Equal => masked == self.value,
            Test::Greater => masked > self.value,
            Test::GreaterOrEqual => masked >= self.value,
        };
        holds != self.negated
    }
}

/// Returns what the kernel is told for an action; `pointer` is where its errno stands.
fn return_value(action: Action, errno: Option<u32>, pointer: impl FnOnce() -> String) -> Result<u32, Error> {
    let (base, largest) = match action {
        Action::Kill | Action::KillThread => (bpf::RET_KILL_THREAD, None),
        Action::KillProcess => (bpf::RET_KILL_PROCESS, None),
        Action::Trap => (bpf::RET_TRAP, None),
        Action::Errno => (bpf::RET_ERRNO, Some(MAX_ERRNO)),
        Action::Trace => (bpf::RET_TRACE, Some(MAX_TRACE)),
        Action::Allow => (bpf::RET_ALLOW, None),
        Action::Log => (bpf::RET_LOG, None),
        Action::Notify => (bpf::RET_USER_NOTIF, None),
    };
    match (largest, errno) {
        (None, None) => Ok(base),
        (None, Some(_)) => Err(Error::ErrnoWithoutUse { pointer: pointer(), action }),
        (Some(largest), Some(errno)) if errno > largest => {
            Err(Error::ErrnoTooLarge { pointer: pointer(), action, errno, largest })
        }
        (Some(_), errno) => Ok(base | errno.unwrap_or(EPERM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: &str) -> Seccomp {
        serde_json::from_str(json).unwrap()
    }

    /// A profile with one rule, `{rule}` without its braces.
    fn with_rule(rule: &str) -> Seccomp {
        profile(&format!(r#"{{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ {{ {rule} }} ] }}"#))
    }

    #[test]
    fn a_refused_profile_gets_one_sentence_with_the_place() {
        let cases = [
            (
                profile(r#"{ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }"#),
                "/defaultErrnoRet: SCMP_ACT_ALLOW takes no errno",
            ),
            (
                profile(r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096 }"#),
                "/defaultErrnoRet: 4096 is larger than 4095, the largest value of SCMP_ACT_ERRNO",
            ),
            (
                profile(r#"{ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/a" }"#),
                "/defaultAction: SCMP_ACT_NOTIFY cannot be the default action",
            ),
            (
                profile(
                    r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_S390X"] }"#,
                ),
                "/architectures/1: SCMP_ARCH_S390X has another byte order than SCMP_ARCH_X86_64",
            ),
            (
                profile(r#"{ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }"#),
                "/listenerMetadata: there is no listenerPath to send it to",
            ),
            (
                with_rule(r#""names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1"#),
                "/syscalls/0/errnoRet: SCMP_ACT_KILL takes no errno",
            ),
            (
                with_rule(r#""names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536"#),
                "/syscalls/0/errnoRet: 65536 is larger than 65535, the largest value of SCMP_ACT_TRACE",
            ),
            (
                with_rule(r#""names": ["read", ""], "action": "SCMP_ACT_KILL""#),
                "/syscalls/0/names/1: a system call has a name",
            ),
            (
                with_rule(r#""names": ["read"], "action": "SCMP_ACT_NOTIFY""#),
                "/syscalls/0/action: SCMP_ACT_NOTIFY needs a listenerPath",
            ),
            (
                with_rule(r#""names": ["read", "write"], "action": "SCMP_ACT_NOTIFY""#),
                "/syscalls/0/action: SCMP_ACT_NOTIFY cannot be used for the write syscall, by which the listener is reached",
            ),
            (
                with_rule(
                    r#""names": ["read"], "action": "SCMP_ACT_KILL",
                       "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }]"#,
                ),
                "/syscalls/0/args/0/index: 6 is not one of the arguments 0 to 5",
            ),
        ];
        for (profile, sentence) in cases {
            let error = validate(&profile, Arch::X86_64).unwrap_err();
            assert_eq!(error.to_string(), sentence);
            assert!(sentence.starts_with(&format!("{}: ", error.pointer())), "{sentence}");
        }
    }

    #[test]
    fn an_action_without_errno_returns_eperm() {
        let cases = [
            (Action::Errno, None, 0x0005_0001),
            (Action::Errno, Some(0), 0x0005_0000),
            (Action::Errno, Some(4095), 0x0005_0fff),
            (Action::Trace, None, 0x7ff0_0001),
            (Action::Trace, Some(0xffff), 0x7ff0_ffff),
            (Action::Kill, None, 0),
            (Action::KillThread, None, 0),
            (Action::KillProcess, None, 0x8000_0000),
            (Action::Trap, None, 0x0003_0000),
            (Action::Allow, None, 0x7fff_0000),
            (Action::Log, None, 0x7ffc_0000),
            (Action::Notify, None, 0x7fc0_0000),
        ];
        for (action, errno, expected) in cases {
            assert_eq!(return_value(action, errno, String::new), Ok(expected), "{action} {errno:?}");
        }
    }

    #[test]
    fn flags_are_those_that_runc_sets() {
        let notify =
            r#""listenerPath": "/a", "syscalls": [{ "names": ["getpid"], "action": "SCMP_ACT_NOTIFY" }]"#;
        let all = r#""flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                    "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
        let cases = [
            (String::new(), 4),
            (r#", "flags": []"#.into(), 0),
            (r#", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]"#.into(), 0),
            (r#", "flags": ["SECCOMP_FILTER_FLAG_LOG"]"#.into(), 2),
            (format!(", {all}"), 6),
            (format!(", {notify}"), 12),
            (format!(", {notify}, {all}"), 46),
        ];
        for (rest, bits) in cases {
            let profile = profile(&format!(r#"{{ "defaultAction": "SCMP_ACT_ALLOW"{rest} }}"#));
            let (_, settings) = validate(&profile, Arch::X86_64).unwrap();
            assert_eq!(settings.flags.bits(), bits, "{rest}");
            let waits_for_nobody = rest.contains("WAIT_KILLABLE") && !settings.uses_notify;
            assert_eq!(settings.warnings, [Warning::WaitWithoutListener][..usize::from(waits_for_nobody)]);
        }
    }

    #[test]
    fn the_native_architecture_is_first_and_each_is_there_once() {
        let listed = [Arch::X32, Arch::X86, Arch::X86_64, Arch::X86];
        assert_eq!(architectures(&listed, Arch::X86_64), Ok(vec![Arch::X86_64, Arch::X32, Arch::X86]));
        assert_eq!(architectures(&[], Arch::Aarch64), Ok(vec![Arch::Aarch64]));
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let arg = |index, value| {
            Condition::new(&SeccompArg { index, value, value_two: 0, op: Operator::Eq }).unwrap()
        };
        let (a, b, c) = (arg(0, 1), arg(1, 2), arg(0, 3));
        assert_eq!(alternatives(vec![b, a]), [vec![a, b]], "all must hold, in the order of arguments");
        assert_eq!(alternatives(vec![a, b, c]), [vec![a], vec![b], vec![c]]);
        assert!(alternatives(Vec::new()).is_empty());
    }
}
