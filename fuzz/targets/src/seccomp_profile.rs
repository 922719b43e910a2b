//! No seccomp profile makes the compiler panic, and what it accepts is a program that the kernel takes.
//!
//! The first byte chooses the machine, the rest is the profile as JSON.

use bulkhead_seccomp::interpret::{Data, Interpreter};
use bulkhead_seccomp::{Arch, Seccomp, bpf, compile};

/// Runs the target.
pub fn run(input: &[u8]) {
    let [machine, json @ ..] = input else { return };
    let Ok(profile) = serde_json::from_slice::<Seccomp>(json) else { return };
    let native = Arch::ALL[usize::from(*machine) % Arch::ALL.len()];
    let program = match compile(&profile, native) {
        Ok(program) => program,
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.starts_with('/'), "{sentence:?} names no place");
            assert!(!sentence.chars().any(char::is_control), "{sentence:?} could move a cursor");
            return;
        }
    };
    let filter = Interpreter::new(&program.instructions).unwrap_or_else(|invalid| panic!("{invalid}"));
    for number in [0, 1, 102, 117, 435, 999, 0x4000_0000, u32::MAX] {
        for argument in [0, 1, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let mut call = Data::new(native, number);
            call.arguments = [argument; 6];
            let outcome = filter.run(&call);
            if let Some(constant) = filter.constant(native, number) {
                assert_eq!(outcome.value, constant, "arguments matter to {number}");
            }
        }
    }
    let foreign = Data { arch: 0x1234, ..Data::new(native, 0) };
    assert_eq!(filter.run(&foreign).value, bpf::RET_KILL_THREAD);
}
