//! Random profiles, on every number near an edge, with every argument near an edge.
//!
//! Two properties. Rules that libseccomp can handle decide as they do under libseccomp with runc's ENOSYS rule in front
//! of it. And any rules at all decide as their words say, wherever those leave no doubt: where all rules that match
//! have one action. The second one is checked without libseccomp, because it decides against the words, refuses or
//! hangs when rules for one call have several conditions each, or inequalities with different upper halves.

#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod oracle;

use bulkhead_seccomp::interpret::{Data, Interpreter};
use bulkhead_seccomp::{Action, Arch, Error, Operator, Seccomp, bpf, compile, number};
use bulkhead_spec::{SeccompArg, SeccompSyscall};
use oracle::{Oracle, Refusal};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Machines and the architectures that a profile may name beside theirs.
const MACHINES: [(Arch, &[Arch]); 10] = [
    (Arch::X86_64, &[Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Riscv64]),
    (Arch::X86_64, &[Arch::X86, Arch::X32]),
    (Arch::Aarch64, &[Arch::Arm]),
    (Arch::Riscv64, &[]),
    (Arch::Ppc64le, &[Arch::Ppc64le]),
    (Arch::Ppc64, &[Arch::Ppc]),
    (Arch::S390x, &[Arch::S390, Arch::S390x]),
    (Arch::Mips64, &[Arch::Mips, Arch::Mips64N32]),
    (Arch::Mipsel, &[Arch::Mipsel64, Arch::Mipsel64N32]),
    (Arch::X86, &[Arch::X86_64, Arch::X32]),
];

/// Calls at both ends of the tables, next to each other, behind multiplexers, and missing somewhere.
const NAMES: [&str; 35] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "exit",
    "fork",
    "mmap",
    "mmap2",
    "ioctl",
    "socket",
    "socketpair",
    "bind",
    "accept",
    "accept4",
    "recvmmsg",
    "send",
    "semop",
    "semget",
    "shmat",
    "msgctl",
    "semtimedop",
    "clone",
    "clone3",
    "personality",
    "_llseek",
    "socketcall",
    "ipc",
    "openat2",
    "pidfd_getfd",
    "faccessat2",
    "futex_waitv",
    "cacheflush",
    "arch_prctl",
    "no_such_call",
];

/// Values where halves, signs and neighbours change.
const VALUES: [u64; 16] = [
    0,
    1,
    2,
    5,
    6,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x2_0000_0000,
    0x2_ffff_ffff,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

fn action() -> impl Strategy<Value = (Action, Option<u32>)> {
    prop_oneof![
        4 => Just((Action::Allow, None)),
        4 => prop_oneof![Just(None), Just(Some(0)), Just(Some(38)), Just(Some(4094))].prop_map(|e| (Action::Errno, e)),
        1 => prop_oneof![Just(None), Just(Some(7)), Just(Some(65535))].prop_map(|e| (Action::Trace, e)),
        2 => select(&[Action::Kill, Action::KillProcess, Action::KillThread, Action::Trap, Action::Log][..])
            .prop_map(|action| (action, None)),
    ]
}

fn argument() -> impl Strategy<Value = SeccompArg> {
    (0..6_u32, select(Operator::ALL), select(&VALUES[..]), select(&VALUES[..]))
        .prop_map(|(index, op, value, value_two)| SeccompArg { index, value, value_two, op })
}

/// Any rule, many of them impossible for libseccomp.
fn wild_rule() -> impl Strategy<Value = SeccompSyscall> {
    let names = proptest::collection::vec(select(&NAMES[..]), 1..4);
    (names, action(), proptest::collection::vec(argument(), 0..4))
        .prop_map(|(names, action, args)| made(&names, action, args))
}

fn made(names: &[&str], (action, errno_ret): (Action, Option<u32>), args: Vec<SeccompArg>) -> SeccompSyscall {
    SeccompSyscall { names: names.iter().map(|&name| name.to_owned()).collect(), action, errno_ret, args }
}

/// Rules for some calls that libseccomp gets right.
///
/// It keeps all rules of a call in one tree of comparisons, where they share nodes and the word that was loaded last.
/// A set of two conditions beside another set, or two inequalities of 64 bits with different upper halves, make it
/// decide against the words of both rules, refuse them, or (2.5.4) never return. So each call gets one of these:
fn tame_rules(names: Vec<&'static str>) -> impl Strategy<Value = Vec<SeccompSyscall>> {
    const EQUALITY: [Operator; 2] = [Operator::Eq, Operator::MaskedEq];
    const INEQUALITY: &[Operator] = &[Operator::Lt, Operator::Le, Operator::Gt, Operator::Ge];
    let small = || select(&[0, 1, 2, 5, 6, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff][..]);
    let one_set = proptest::collection::vec(argument(), 1..4).prop_map(|mut args| {
        args.sort_by_key(|arg| arg.index);
        args.dedup_by_key(|arg| arg.index);
        vec![args]
    });
    let equalities = (
        0..6_u32,
        select(&EQUALITY[..]),
        select(&VALUES[..]),
        proptest::collection::vec(select(&VALUES[..]), 1..6),
    )
        .prop_map(|(index, op, mask, values)| {
            let arg = |value| match op {
                Operator::MaskedEq => SeccompArg { index, value: mask, value_two: value, op },
                _ => SeccompArg { index, value, value_two: 0, op },
            };
            values.into_iter().map(|value| vec![arg(value)]).collect()
        });
    let inequalities = (0..6_u32, proptest::collection::vec((select(INEQUALITY), small()), 1..6)).prop_map(
        |(index, all)| {
            all.into_iter().map(|(op, value)| vec![SeccompArg { index, value, value_two: 0, op }]).collect()
        },
    );
    let different_arguments = subsequence(vec![0_u32, 1, 2, 3, 4, 5], 2..4).prop_flat_map(|indices| {
        let arg = |index| argument().prop_map(move |arg| vec![SeccompArg { index, ..arg }]);
        indices.into_iter().map(arg).collect::<Vec<_>>()
    });
    // With inequalities in both directions the upper half of one decides for the other.
    // Inequalities share the comparison of the upper half, and with it one of their actions.
    let sets = prop_oneof![
        (one_set, any::<bool>()),
        (equalities, any::<bool>()),
        (inequalities, Just(true)),
        (different_arguments, any::<bool>()),
    ];
    let unconditional =
        (Just(names.clone()), proptest::collection::vec(action(), 1..3)).prop_map(|(names, actions)| {
            actions.into_iter().map(|action| made(&names, action, Vec::new())).collect()
        });
    let conditional = (Just(names), sets, proptest::collection::vec(action(), 6)).prop_map(
        |(names, (sets, one_action), actions): (_, (Vec<Vec<SeccompArg>>, bool), _)| {
            let action = |at: usize| if one_action { actions[0] } else { actions[at % actions.len()] };
            sets.into_iter().enumerate().map(|(at, args)| made(&names, action(at), args)).collect()
        },
    );
    prop_oneof![1 => unconditional, 3 => conditional]
}

/// Cuts some names into groups, so that no call has rules of two kinds. Of calls behind one multiplexer there is one,
/// since there its rules would meet.
fn groups() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    let names = (subsequence(NAMES.to_vec(), 1..12), 1..4_usize);
    names.prop_map(|(mut names, size)| {
        let mut seen = Vec::new();
        names.retain(|&name| {
            let through = oracle::multiplexed(name).map_or(name, |multiplexed| multiplexed.0);
            let first = !seen.contains(&through);
            seen.push(through);
            first
        });
        names.chunks(size).map(<[_]>::to_vec).collect()
    })
}

/// A rule without conditions for a call that every architecture has. Where the only rule without conditions is for
/// a call that an architecture lacks, libseccomp (2.5.4, 2.6.1) forgets to load the number there.
fn anchor(default: Action) -> SeccompSyscall {
    let action = if default == Action::Trap { Action::Allow } else { Action::Trap };
    made(&["getpid"], (action, None), Vec::new())
}

/// A machine, and architectures that a profile names.
fn machine() -> impl Strategy<Value = (Arch, Vec<Arch>)> {
    select(&MACHINES[..])
        .prop_flat_map(|(native, others)| (Just(native), subsequence(others, 0..=others.len())))
}

/// A profile with these rules, and the machine that it is for.
fn profile(rules: impl Strategy<Value = Vec<SeccompSyscall>>) -> impl Strategy<Value = (Arch, Seccomp)> {
    (machine(), action(), rules).prop_map(|((native, architectures), default, mut syscalls)| {
        syscalls.push(anchor(default.0));
        let profile = Seccomp {
            default_action: default.0,
            default_errno_ret: default.1,
            architectures,
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls,
        };
        (native, profile)
    })
}

/// Numbers around every call that the profile names, and around the borders of ABIs.
fn numbers(profile: &Seccomp, arch: Arch) -> Vec<u32> {
    let named = profile.syscalls.iter().flat_map(|rule| &rule.names).filter_map(|name| number(arch, name));
    let multiplexers = ["socketcall", "ipc"].into_iter().filter_map(|name| number(arch, name));
    let borders =
        [0, 600, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000, u32::MAX];
    let mut numbers: Vec<u32> = named
        .chain(multiplexers)
        .chain(borders)
        .flat_map(|n| [n.wrapping_sub(1), n, n.wrapping_add(1)])
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Arguments around every value that the profile compares with, each alone and all together.
fn arguments(profile: &Seccomp) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    all.extend((1..25).map(|operation| [operation, 0, 0, 0, 0, 0]));
    for rule in &profile.syscalls {
        for spread in [u64::MAX, 0, 1, 1 << 32, 0xffff_ffff_ffff] {
            let mut together = [5; 6];
            for arg in &rule.args {
                let value = if arg.op == Operator::MaskedEq { arg.value_two } else { arg.value };
                let near = value.wrapping_add(spread);
                together[arg.index as usize] = near;
                let mut alone = [0; 6];
                alone[arg.index as usize] = near;
                all.push(alone);
            }
            all.push(together);
        }
    }
    all
}

/// A set of conditions for a call, and what happens if all hold.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    conditions: Vec<SeccompArg>,
    action: (Action, Option<u32>),
}

/// Reads a profile by the words of the specification, without any compiler: all that it says of one number.
fn read(profile: &Seccomp, arch: Arch, at: u32) -> Vec<Reading> {
    let mut readings = Vec::new();
    for rule in &profile.syscalls {
        let action = (rule.action, rule.errno_ret);
        if value(action) == value((profile.default_action, profile.default_errno_ret)) {
            continue;
        }
        let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
        let sets: Vec<Vec<SeccompArg>> = if repeated {
            rule.args.iter().map(|arg| vec![arg.clone()]).collect()
        } else {
            vec![rule.args.clone()]
        };
        for name in &rule.names {
            let mut put = |conditions| readings.push(Reading { conditions, action });
            if let Some((multiplexer, operation)) = oracle::multiplexed(name)
                && !matches!(arch, Arch::X86_64 | Arch::X32)
                && number(arch, multiplexer) == Some(at)
            {
                for set in &sets {
                    let mut set: Vec<SeccompArg> = set.iter().filter(|arg| arg.index != 0).cloned().collect();
                    set.insert(0, SeccompArg { index: 0, value: operation, value_two: 0, op: Operator::Eq });
                    put(set);
                }
            }
            if number(arch, name) == Some(at) {
                sets.iter().cloned().for_each(put);
            }
        }
    }
    readings
}

fn wide(arch: Arch) -> bool {
    use Arch::{Aarch64, Mips64, Mipsel64, Ppc64, Ppc64le, Riscv64, S390x, X86_64};
    matches!(arch, X86_64 | Aarch64 | Riscv64 | Ppc64le | Ppc64 | S390x | Mips64 | Mipsel64)
}

fn holds(arg: &SeccompArg, arch: Arch, arguments: &[u64; 6]) -> bool {
    let cut = |value: u64| if wide(arch) { value } else { value & 0xffff_ffff };
    let (argument, value) = (cut(arguments[arg.index as usize]), cut(arg.value));
    match arg.op {
        Operator::Ne => argument != value,
        Operator::Lt => argument < value,
        Operator::Le => argument <= value,
        Operator::Eq => argument == value,
        Operator::Ge => argument >= value,
        Operator::Gt => argument > value,
        Operator::MaskedEq => argument & value == cut(arg.value_two) & value,
    }
}

/// Returns what a call gets if the rules leave no doubt: all that match have one action, or none matches.
fn clear(readings: &[Reading], profile: &Seccomp, arch: Arch, arguments: &[u64; 6]) -> Option<u32> {
    let matching =
        readings.iter().filter(|reading| reading.conditions.iter().all(|arg| holds(arg, arch, arguments)));
    let mut values = matching.map(|reading| value(reading.action));
    let Some(first) = values.next() else {
        return Some(value((profile.default_action, profile.default_errno_ret)));
    };
    values.all(|value| value == first).then_some(first)
}

/// The return value of an action.
fn value((action, errno): (Action, Option<u32>)) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        Action::Kill | Action::KillThread => bpf::RET_KILL_THREAD,
        Action::KillProcess => bpf::RET_KILL_PROCESS,
        Action::Trap => bpf::RET_TRAP,
        Action::Errno => bpf::RET_ERRNO | errno,
        Action::Trace => bpf::RET_TRACE | errno,
        Action::Allow => bpf::RET_ALLOW,
        Action::Log => bpf::RET_LOG,
        Action::Notify => bpf::RET_USER_NOTIF,
    }
}

/// Says whether two rules have the same conditions, on some ABI, and different actions.
fn contradicts_itself(profile: &Seccomp) -> bool {
    let conditions = |rule: &SeccompSyscall| -> Vec<_> {
        let cut =
            |arg: &SeccompArg| (arg.index, arg.op, arg.value as u32, (arg.value & arg.value_two) as u32);
        rule.args.iter().map(cut).filter(|arg| (arg.1, arg.2) != (Operator::MaskedEq, 0)).collect()
    };
    profile.syscalls.iter().enumerate().any(|(at, one)| {
        profile.syscalls[at + 1..].iter().any(|other| {
            one.names.iter().any(|name| other.names.contains(name))
                && (one.action, one.errno_ret) != (other.action, other.errno_ret)
                && conditions(one) == conditions(other)
        })
    })
}

/// Returns the ABI to which a number of this architecture belongs.
fn abi(arch: Arch, number: u32) -> Arch {
    match arch {
        Arch::X86_64 | Arch::X32 if number & oracle::X32_BIT == 0 => Arch::X86_64,
        Arch::X86_64 | Arch::X32 => Arch::X32,
        _ => arch,
    }
}

/// Calls `with` for each architecture of a profile and each call near an edge.
fn each_call(native: Arch, profile: &Seccomp, mut with: impl FnMut(Arch, &Data)) {
    let arguments = arguments(profile);
    for &arch in profile.architectures.iter().chain([&native]) {
        for number in numbers(profile, arch) {
            for &arguments in &arguments {
                with(abi(arch, number), &Data { arguments, ..Data::new(arch, number) });
            }
        }
    }
}

/// A thousand cases take ten seconds; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_profile_decides_as_its_words_say((native, profile) in profile(proptest::collection::vec(wild_rule(), 0..12))) {
        let ours = match compile(&profile, native) {
            Err(Error::Contradiction { .. }) => return Ok(()),
            ours => ours.unwrap(),
        };
        let filter = Interpreter::new(&ours.instructions).unwrap();
        let permissive = matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace);
        each_call(native, &profile, |arch, call| {
            let readings = read(&profile, arch, call.number);
            let beyond = !permissive && oracle::newest(&profile, arch).is_some_and(|newest| call.number > newest);
            let known = arch == native || profile.architectures.contains(&arch);
            if known
                && !beyond
                && !readings.is_empty()
                && let Some(clear) = clear(&readings, &profile, arch, &call.arguments)
            {
                assert_eq!(filter.run(call).value, clear, "{arch} {call:x?} {readings:x?}");
            }
        });
    }

    #[test]
    fn tame_profiles_decide_like_libseccomp_and_runc((native, profile) in profile(groups().prop_flat_map(|groups| {
        groups.into_iter().map(tame_rules).collect::<Vec<_>>().prop_map(|rules| rules.concat())
    }))) {
        let (ours, theirs) = match (compile(&profile, native), Oracle::new(&profile, native)) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(Error::Contradiction { .. }), Err(Refusal::Rule)) | (_, Err(Refusal::Architecture)) => return Ok(()),
            // libseccomp also refuses contradictions about a call that the architecture lacks.
            (Ok(_), Err(Refusal::Rule)) if contradicts_itself(&profile) => return Ok(()),
            (ours, theirs) => panic!("ours: {:?}, libseccomp: {:?}", ours.err(), theirs.err()),
        };
        let filter = Interpreter::new(&ours.instructions).unwrap();
        each_call(native, &profile, |arch, call| {
            let readings = read(&profile, arch, call.number);
            assert_eq!(filter.run(call).value, theirs.decide(call), "{arch} {call:x?} {readings:x?}");
        });
    }
}
