//! Compares every decision with libseccomp's and runc's.

#[expect(dead_code, reason = "each test binary uses a part of it")]
#[cfg(test)]
mod oracle;

use bulkhead_seccomp::interpret::{Data, Interpreter};
use bulkhead_seccomp::{Action, Arch, NATIVE, Operator, Seccomp, compile, default_profile, names, number};
use bulkhead_spec::{SeccompArg, SeccompSyscall};
use oracle::Oracle;

/// Argument values around every constant of docker's profile.
const EDGES: [u64; 29] = [
    0,
    1,
    7,
    8,
    9,
    37,
    38,
    39,
    40,
    41,
    45,
    46,
    0x1_ffff,
    0x2_0000,
    0x2_0008,
    0x2_0009,
    0x0200_0000,
    0x0400_0000,
    0x1000_0000,
    0x4000_0000,
    0x7e02_0000,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0026,
    0x2_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

/// Docker's own profile: ours with its rule for large socket families.
fn docker() -> Seccomp {
    let mut profile = default_profile();
    profile.syscalls.retain(|rule| {
        rule.names != ["socket"] || rule.args[0].op != Operator::Eq || rule.args[0].value <= 40
    });
    profile.syscalls.push(SeccompSyscall {
        names: vec!["socket".into()],
        action: Action::Allow,
        errno_ret: None,
        args: vec![SeccompArg { index: 0, value: 40, value_two: 0, op: Operator::Gt }],
    });
    profile
}

/// Removes the names whose numbers libseccomp does not know yet: an older library decides differently on them.
fn without_news(profile: &Seccomp, architectures: &[Arch]) -> Seccomp {
    let agreed =
        |name: &String| oracle::knows(name) && architectures.iter().all(|&arch| oracle::agrees(arch, name));
    let mut profile = profile.clone();
    for rule in &mut profile.syscalls {
        rule.names.retain(agreed);
    }
    profile
}

#[test]
fn tables_agree_with_libseccomp() {
    let mut compared = 0;
    for name in names() {
        for &arch in Arch::ALL {
            if let Some(resolved) = oracle::resolve(arch, name) {
                // libseccomp 2.5 gives 64-bit PA-RISC a call that only the 32-bit one has.
                let slip = (arch, name) == (Arch::Parisc64, "_llseek");
                assert!(slip || number(arch, name) == Some(resolved), "{name} on {arch} is {resolved}");
                compared += 1;
            }
        }
    }
    assert!(compared > 5000, "only {compared} numbers were compared");
}

#[test]
fn dockers_profile_decides_like_libseccomp_on_every_number() {
    for profile in [docker(), default_profile()] {
        let architectures = [Arch::X86_64, Arch::X86, Arch::X32];
        let profile = without_news(&profile, &architectures);
        let ours = compile(&profile, Arch::X86_64).unwrap();
        let ours_filter = Interpreter::new(&ours.instructions).unwrap();
        let theirs = Oracle::new(&profile, Arch::X86_64).unwrap();
        println!("{} instructions, libseccomp {}", ours.instructions.len(), theirs.len());
        for arch in architectures {
            let base = number(arch, "read").unwrap() & oracle::X32_BIT;
            for number in (0..=600).chain([1023, 0x3fff_ffff, 0x7fff_ffff]).map(|n| n | base) {
                for argument in EDGES {
                    for index in 0..3 {
                        let mut call = Data::new(arch, number);
                        call.arguments[index] = argument;
                        let decided = ours_filter.run(&call).value;
                        assert_eq!(
                            decided,
                            theirs.decide(&call),
                            "{arch} {number:#x} {index}: {argument:#x}"
                        );
                    }
                }
            }
        }
    }
}

/// Two rules that match the same call with different actions: libseccomp's order decides, not the profile's.
#[test]
fn the_order_of_rules_is_libseccomps() {
    let condition = |index, op, value| vec![SeccompArg { index, value, value_two: 0, op }];
    let conditions = [
        condition(0, Operator::Eq, 5),
        condition(0, Operator::Eq, 0x1_0000_0005),
        condition(0, Operator::Ne, 5),
        condition(0, Operator::Lt, 5),
        condition(0, Operator::Lt, 9),
        condition(0, Operator::Le, 9),
        condition(0, Operator::Gt, 5),
        condition(0, Operator::Gt, 3),
        condition(0, Operator::Ge, 3),
        condition(1, Operator::Eq, 5),
        condition(1, Operator::Gt, 5),
        [condition(0, Operator::Eq, 5), condition(1, Operator::Eq, 5)].concat(),
        Vec::new(),
    ];
    let rule = |args: &Vec<SeccompArg>, errno| SeccompSyscall {
        names: vec!["read".into()],
        action: Action::Errno,
        errno_ret: Some(errno),
        args: args.clone(),
    };
    let mut compared = 0;
    for first in &conditions {
        for second in &conditions {
            let mut profile = Seccomp { syscalls: vec![rule(first, 2), rule(second, 3)], ..docker() };
            profile.syscalls.push(SeccompSyscall { names: vec!["getpid".into()], ..rule(&Vec::new(), 4) });
            profile.architectures = vec![Arch::X86];
            let (ours, theirs) = match (compile(&profile, Arch::X86_64), Oracle::new(&profile, Arch::X86_64))
            {
                (Ok(ours), Ok(theirs)) => (ours, theirs),
                (Err(_), Err(_)) => continue,
                (ours, theirs) => {
                    panic!("{first:?} {second:?}: ours {:?}, theirs {:?}", ours.err(), theirs.err())
                }
            };
            let filter = Interpreter::new(&ours.instructions).unwrap();
            for (arch, number) in [(Arch::X86_64, 0), (Arch::X86, 3)] {
                for a in [0, 2, 3, 4, 5, 6, 8, 9, 10, 0xff, 0x100, 0x1_0000_0005, u64::MAX] {
                    for b in [0, 5, 6] {
                        let call = Data { arguments: [a, b, 0, 0, 0, 0], ..Data::new(arch, number) };
                        let (ours, theirs) = (filter.run(&call).value, theirs.decide(&call));
                        assert_eq!(ours, theirs, "{arch} ({a:#x}, {b}): {first:x?}, {second:x?}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 10_000, "only {compared} decisions were compared");
}

#[test]
fn the_default_profile_names_no_call_that_nobody_knows() {
    assert_eq!(compile(&default_profile(), NATIVE).unwrap().warnings.len(), 0);
}
