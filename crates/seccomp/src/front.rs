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

/// Returns whether there is a rule for a listener, after checking that there is a listener then.
fn listener(profile: &Seccomp) -> Result<bool, Error> {
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        return Err(Error::MetadataWithoutListener);
    }
    let notify = |rule: &SeccompSyscall| rule.action == Action::Notify;
    let Some(first) = profile.syscalls.iter().position(notify) else { return Ok(false) };
    if let Some(rule) =
        profile.syscalls.iter().position(|rule| notify(rule) && rule.names.iter().any(|n| n == "write"))
    {
        return Err(Error::NotifyOnWrite { rule });
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
