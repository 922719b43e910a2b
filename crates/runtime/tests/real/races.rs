//! Commands that change one container at the same time: each takes effect as a whole or is refused with a sentence,
//! and nothing is left halfway.

use bulkhead_testkit::{Bundle, Output, Run, Sandbox, is_root, requires};

use crate::{is_gone, sandbox, sleeper};

/// How often each race is run; `BULKHEAD_RACES` in the environment makes it more.
fn rounds() -> usize {
    std::env::var("BULKHEAD_RACES").ok().and_then(|number| number.parse().ok()).unwrap_or(12)
}

/// Runs commands at the same time; the output is in their order.
fn race<const N: usize>(commands: [Run; N]) -> [Output; N] {
    commands.map(Run::spawn).map(bulkhead_testkit::Running::wait)
}

fn verb(sandbox: &Sandbox, words: &[&str], bundle: &Bundle) -> Run {
    sandbox.runtime().args(words).arg(bundle.id())
}

fn creation(sandbox: &Sandbox, bundle: &Bundle) -> Run {
    sandbox.runtime().args(["create", "--bundle"]).arg(bundle.directory()).arg(bundle.id())
}

/// Checks that one command won and the others were refused, each with a sentence that has one of these phrases.
#[track_caller]
fn one_wins<const N: usize>(outputs: [Output; N], phrases: &[&str]) {
    let (winners, losers): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|output| output.code() == 0);
    assert_eq!(winners.len(), 1, "one wins: {winners:?}\n{losers:?}");
    losers.into_iter().for_each(|loser| is_refused(&loser.exits_with(1), phrases));
}

#[track_caller]
fn is_refused(output: &Output, phrases: &[&str]) {
    assert_eq!(output.stderr.lines().count(), 1, "one sentence\n{output}");
    assert!(phrases.iter().any(|phrase| output.stderr.contains(phrase)), "one of {phrases:?}\n{output}");
}

#[test]
fn of_many_creations_one_wins() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        let outputs = race([(); 4].map(|()| creation(&sandbox, &bundle)));
        one_wins(outputs, &["container with given ID already exists"]);
        assert_eq!(sandbox.status(&bundle), "created", "the winner's container is whole");
        sandbox.start(&bundle);
        verb(&sandbox, &["delete", "--force"], &bundle).output().succeeds();
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn of_many_starts_one_wins() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        sandbox.create(&bundle);
        let outputs = race([(); 4].map(|()| verb(&sandbox, &["start"], &bundle)));
        one_wins(outputs, &["cannot start a container that is running"]);
        assert_eq!(sandbox.status(&bundle), "running");
        verb(&sandbox, &["delete", "--force"], &bundle).output().succeeds();
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn of_many_deletions_one_wins() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        sandbox.launch(&bundle);
        let init = sandbox.pid(&bundle);
        sandbox.kill(&bundle, "KILL");
        sandbox.wait_for_exit(init);
        let outputs = race([(); 4].map(|()| verb(&sandbox, &["delete"], &bundle)));
        one_wins(outputs, &["container does not exist"]);
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn deletions_by_force_all_succeed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        sandbox.launch(&bundle);
        let outputs = race([(); 4].map(|()| verb(&sandbox, &["delete", "--force"], &bundle)));
        for output in outputs {
            output.succeeds().prints("");
        }
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn a_signal_and_a_deletion_do_not_disturb_each_other() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        sandbox.launch(&bundle);
        let kill = || verb(&sandbox, &["kill"], &bundle).arg("KILL");
        let [first, deletion, second] =
            race([kill(), verb(&sandbox, &["delete", "--force"], &bundle), kill()]);
        deletion.succeeds().prints("");
        for kill in [first, second] {
            if kill.code() != 0 {
                is_refused(&kill.exits_with(1), &["container does not exist", "container not running"]);
            }
        }
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn an_exec_ends_with_the_container_that_is_deleted() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        sandbox.launch(&bundle);
        let exec = || verb(&sandbox, &["exec"], &bundle).args(["sleep", "1000"]);
        let [first, deletion, second] =
            race([exec(), verb(&sandbox, &["delete", "--force"], &bundle), exec()]);
        deletion.succeeds().prints("");
        for exec in [first, second] {
            match exec.code() {
                // It ran, and was killed with the others.
                137 => assert_eq!(exec.stderr, "", "nothing is wrong with that\n{exec}"),
                _ => is_refused(
                    &exec.exits_with(255),
                    &["container does not exist", "cannot exec in a stopped container", "killed by signal 9"],
                ),
            }
        }
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn a_start_and_a_deletion_leave_one_outcome() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    for _ in 0..rounds() {
        sandbox.create(&bundle);
        let [start, deletion] =
            race([verb(&sandbox, &["start"], &bundle), verb(&sandbox, &["delete", "--force"], &bundle)]);
        deletion.succeeds().prints("");
        if start.code() != 0 {
            is_refused(
                &start.exits_with(1),
                &["container does not exist", "cannot start a container that is"],
            );
        }
        is_gone(&sandbox, &bundle);
    }
}

/// What a storm is made of; the id goes behind the first word.
const STORM: [&[&str]; 14] = [
    &["create", "--bundle"],
    &["create", "--bundle"],
    &["run", "--detach", "--bundle"],
    &["start"],
    &["start"],
    &["exec", "true"],
    &["pause"],
    &["resume"],
    &["update", "--pids-limit", "50"],
    &["ps", "--format", "json"],
    &["events", "--stats"],
    &["kill", "KILL"],
    &["delete"],
    &["delete", "--force"],
];

/// Runs one command of a storm. A creation takes the bundle as its last option's value.
fn stormy(sandbox: &Sandbox, bundle: &Bundle, words: &[&str]) -> Output {
    match words.last() {
        Some(&"--bundle") => sandbox.runtime().args(words).arg(bundle.directory()).arg(bundle.id()),
        _ => sandbox.runtime().arg(words[0]).arg(bundle.id()).args(&words[1..]),
    }
    .output()
}

#[test]
fn a_storm_of_commands_ends_in_sentences_and_leaves_nothing() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    std::thread::scope(|scope| {
        // Strides that share no factor with the length mix the orders.
        for stride in [3, 5, 9, 11] {
            let (sandbox, bundle) = (&sandbox, &bundle);
            scope.spawn(move || {
                for step in 0..4 * rounds() {
                    let words = STORM[step * stride % STORM.len()];
                    let output = stormy(sandbox, bundle, words);
                    match output.code() {
                        0 => {}
                        // A process that ran and was killed.
                        137 if words[0] == "exec" => {}
                        code => {
                            assert_eq!(code, if words[0] == "exec" { 255 } else { 1 }, "{output}");
                            is_refused(&output, &["level=error"]);
                        }
                    }
                }
            });
        }
    });
    verb(&sandbox, &["delete", "--force"], &bundle).output().succeeds();
    is_gone(&sandbox, &bundle);
}
