//! What the fuzzers found interesting, replayed: `fuzz/seeds/TARGET` holds an input a file.

use std::path::Path;

use bulkhead_targets::TARGETS;

#[test]
fn every_input_of_the_seeds_keeps_every_promise() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    for (name, run) in TARGETS {
        let directory = seeds.join(name);
        let inputs =
            std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display()); // Shown when it fails.
            run(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} has no input", directory.display());
    }
}

#[test]
fn every_target_has_a_program() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    let programs = std::fs::read_dir(programs).unwrap().map(|entry| entry.unwrap().path());
    let mut programs =
        Vec::from_iter(programs.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()));
    programs.sort();
    assert_eq!(programs, Vec::from_iter(TARGETS.iter().map(|(name, _)| *name)));
}

#[test]
fn every_target_has_a_row_of_its_promises() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fuzzing.md");
    let page = std::fs::read_to_string(page).unwrap();
    let missing = TARGETS.iter().filter(|(name, _)| !page.contains(&format!("\n| {name} | ")));
    assert_eq!(Vec::from_iter(missing.map(|(name, _)| *name)), [""; 0]);
}
