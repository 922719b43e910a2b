//! System calls that are a command's last, or fail, and signals at any moment: nothing may be left behind.
//!
//! These tests take a sample; `cargo xtask faults` tries every call with every fault. Which sample it is, each test
//! prints: `BULKHEAD_FAULTS_OFFSET=N` repeats it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_testkit::run::Running;
use bulkhead_testkit::sweep::{Fault, Ground, Outcome, Place, Sweep, Verb};
use bulkhead_testkit::{Bundle, Sandbox, is_root, requires, wait_until};
use rustix::process::Signal;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// How many faults a sample has.
const SAMPLE: usize = 30;

/// Where samples begin: another place each time, unless it was chosen.
fn offset() -> usize {
    let chosen = std::env::var("BULKHEAD_FAULTS_OFFSET").ok().and_then(|offset| offset.parse().ok());
    let clock =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_micros() as usize);
    chosen.unwrap_or_else(clock)
}

/// Chooses what to try from the calls of a verb, beginning somewhere.
type Choice = fn(&[Place], usize) -> Vec<(Place, Fault)>;

/// Tries some faults of a verb and tells all that broke a promise.
fn check(verb: Verb, ground: Ground, choose: Choice) {
    requires!(cfg!(target_arch = "x86_64"), "the tracer that lets calls fail knows x86-64 only");
    let offset = offset();
    println!("BULKHEAD_FAULTS_OFFSET={offset}");
    let sweep = Sweep::new(Path::new(BULKRUN), verb, ground);
    let calls = sweep.calls().unwrap_or_else(|reason| panic!("with no fault at all: {reason}"));
    let mut violations = Vec::new();
    for (place, fault) in choose(&calls, offset) {
        if let Outcome::Violated(reason) = sweep.inject(place, fault) {
            let Place { process, call, .. } = place;
            violations.push(format!(
                "{fault} at {place}: {reason}\nagain: cargo xtask faults --runtime {BULKRUN} --verb {} --ground {} \
                 --process {process} --from {call} --to {call} --errors {fault}",
                verb.name(),
                ground.name()
            ));
        }
    }
    assert!(violations.is_empty(), "promises were broken:\n{}", violations.join("\n\n"));
}

/// Spreads a sample over all calls and faults.
fn sample(calls: &[Place], offset: usize) -> Vec<(Place, Fault)> {
    let all = calls.iter().flat_map(|&place| Fault::ALL.iter().map(move |&(_, fault)| (place, fault)));
    let step = (calls.len() * Fault::ALL.len()).div_ceil(SAMPLE);
    all.skip(offset % step).step_by(step).collect()
}

/// Makes every call the last, and lets some fail. Before the container is locked nothing can have been changed.
fn every_call(calls: &[Place], offset: usize) -> Vec<(Place, Fault)> {
    let lock = calls.iter().position(|place| place.name() == Some("flock")).unwrap_or(0);
    let deaths = calls[lock..].iter().map(|&place| (place, Fault::Kill));
    deaths.chain(sample(calls, offset)).collect()
}

#[test]
fn a_create_that_goes_wrong_leaves_nothing() {
    requires!(is_root(), "needs root");
    check(Verb::Create, Ground::Root, sample);
}

#[test]
fn a_create_without_rights_to_cgroups_that_goes_wrong_leaves_nothing() {
    requires!(is_root(), "needs root, to become another user");
    check(Verb::Create, Ground::Rootless, sample);
}

#[test]
fn a_start_that_goes_wrong_leaves_what_can_be_deleted() {
    requires!(is_root(), "needs root");
    check(Verb::Start, Ground::Root, sample);
}

#[test]
fn a_run_that_goes_wrong_leaves_nothing() {
    requires!(is_root(), "needs root");
    check(Verb::Run, Ground::Root, sample);
}

#[test]
fn a_run_without_rights_to_cgroups_that_goes_wrong_leaves_nothing() {
    requires!(is_root(), "needs root, to become another user");
    check(Verb::Run, Ground::Rootless, sample);
}

#[test]
fn an_exec_that_goes_wrong_leaves_the_container_as_it_was() {
    requires!(is_root(), "needs root");
    check(Verb::Exec, Ground::Root, sample);
}

#[test]
fn an_exec_without_rights_to_cgroups_that_goes_wrong_leaves_the_container_as_it_was() {
    requires!(is_root(), "needs root, to become another user");
    check(Verb::Exec, Ground::Rootless, sample);
}

#[test]
fn a_delete_that_goes_wrong_at_any_call_can_be_repeated() {
    requires!(is_root(), "needs root");
    check(Verb::Delete, Ground::Root, every_call);
}

#[test]
fn a_delete_without_rights_to_cgroups_that_goes_wrong_at_any_call_can_be_repeated() {
    requires!(is_root(), "needs root, to become another user");
    check(Verb::Delete, Ground::Rootless, every_call);
}

#[test]
fn a_forced_delete_that_goes_wrong_at_any_call_can_be_repeated() {
    requires!(is_root(), "needs root");
    check(Verb::ForcedDelete, Ground::Root, every_call);
}

/// Here the cgroup does not help: what cannot be asked about must not be taken for dead.
#[test]
fn a_forced_delete_without_rights_to_cgroups_that_goes_wrong_at_any_call_can_be_repeated() {
    requires!(is_root(), "needs root, to become another user");
    check(Verb::ForcedDelete, Ground::Rootless, every_call);
}

/// A program that ends with 7 when it is asked to.
fn obedient(sandbox: &Sandbox) -> Bundle {
    sandbox.bundle("obedient").script("trap 'exit 7' TERM INT HUP; echo up; sleep 1000 & wait")
}

#[test]
fn run_passes_the_signals_of_an_end_on_and_removes_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = obedient(&sandbox);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let running = sandbox.run(&bundle).spawn();
        wait_until("the program is up", || running.stdout() == "up\n");
        running.signal(signal);
        running.wait().exits_with(7);
        let leaks = sandbox.leaks();
        assert!(leaks.is_empty(), "after {signal:?} there is left: {leaks:?}");
    }
}

fn has_ended(running: &mut Running) -> bool {
    running.child().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
}

#[test]
fn a_signal_at_any_moment_of_run_leaves_only_what_delete_removes() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = obedient(&sandbox);
    let delete = || sandbox.runtime().args(["delete", "--force"]).arg(bundle.id()).output().succeeds();
    for moment in 0..30_u64 {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let mut running = sandbox.run(&bundle).spawn();
            let pause = Duration::from_micros(moment * 500 + offset() as u64 % 500);
            thread::sleep(pause);
            running.signal(signal);
            // A first process without a handler yet ignores it, pid_namespaces(7).
            let patience = Instant::now() + Duration::from_millis(100);
            while !has_ended(&mut running) && Instant::now() < patience {
                thread::sleep(Duration::from_millis(2));
            }
            delete();
            wait_until("the deletion ends run", || {
                has_ended(&mut running) || {
                    delete();
                    false
                }
            });
            drop(running.wait());
            delete();
            let leaks = sandbox.leaks();
            assert!(leaks.is_empty(), "{signal:?} after {pause:?} leaves {leaks:?}");
        }
    }
}
