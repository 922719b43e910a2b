//! Gives libFuzzer's inputs to the target of this name.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bulkhead_targets::question::run(input));
