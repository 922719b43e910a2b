//! Prints what the default profile costs: time to compile, instructions, and instructions executed for a call.
//!
//! `cargo run --release -p bulkhead-seccomp --example measure [PROFILE.json]`

use std::time::{Duration, Instant};

use bulkhead_seccomp::interpret::{Data, Interpreter};
use bulkhead_seccomp::{Arch, NATIVE, Seccomp, bpf, compile, default_profile, name, names, number};

/// How often the profile is compiled.
const ROUNDS: usize = 2000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let profile: Seccomp = match std::env::args_os().nth(1) {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => default_profile(),
    };
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        std::hint::black_box(compile(std::hint::black_box(&profile), NATIVE)?);
        times.push(start.elapsed());
    }
    let first = times[0];
    times.sort_unstable();
    let program = compile(&profile, NATIVE)?;
    for warning in &program.warnings {
        println!("warning: {warning}");
    }
    println!("compile: first {first:?}, least {:?}, median {:?}", times[0], times[ROUNDS / 2]);
    println!("instructions: {}, flags {:#x}", program.instructions.len(), program.flags.bits());

    let filter = Interpreter::new(&program.instructions)?;
    report(&filter, NATIVE);
    for &arch in profile.architectures.iter().filter(|&&arch| arch != NATIVE) {
        report(&filter, arch);
    }
    Ok(())
}

fn report(filter: &Interpreter<'_>, arch: Arch) {
    let known: Vec<u32> = names().filter_map(|name| number(arch, name)).collect();
    let (first, last) = (known.iter().min().copied().unwrap_or(0), known.iter().max().copied().unwrap_or(0));
    let steps: Vec<usize> = (first..=last).map(|number| filter.run(&Data::new(arch, number)).steps).collect();
    let mean = steps.iter().sum::<usize>() as f64 / steps.len() as f64;
    let deepest = steps.iter().max().copied().unwrap_or(0);
    let allowed =
        known.iter().filter(|&&number| filter.constant(arch, number) == Some(bpf::RET_ALLOW)).count();
    let checked: Vec<&str> = (first..=last)
        .filter(|&number| filter.constant(arch, number).is_none())
        .map(|number| name(arch, number).unwrap_or("?"))
        .collect();
    println!("{arch}: {} calls, {allowed} always allowed, arguments decide on {checked:?}", known.len());
    println!("  instructions executed for numbers {first} to {last}: mean {mean:.2}, most {deepest}");
}
