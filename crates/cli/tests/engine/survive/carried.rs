//! kill -9 at moments of the start of an ordinary user's container, whose packets a program carries. Who wants each call in turn sets
//! `BULKHEAD_MOMENTS=1000`.

use std::fs;

use bulkhead_testkit::{Output, requires, wait_until};

use super::WELL;
use super::moments::moments;
use crate::carriers::{Carrier, PASTA, SLIRP, carriers, on_a_cable};
use crate::person::Person;
use crate::shop::IMAGE;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The command.
    Run,
    /// The hook that starts the carrier.
    Hook,
}

/// Has the user's program be a script, which has a call of a process be its last where that is wanted.
fn with_script(person: &Person) {
    let programs = person.shop.path("programs");
    fs::rename(programs.join("bulkhead"), programs.join("own")).unwrap();
    let script = "#!/bin/sh\n\
        own=${0%/*}\n\
        case \" $* \" in *\" for-monitor plug \"*) is=hook;; *\" run -d \"*) is=run;; *) is=other;; esac\n\
        [ -e $own/$is.kill ] && exec strace -o $own/../trace/$is -e signal=none $(cat $own/$is.kill) $own/own \"$@\"\n\
        exec $own/own \"$@\"\n";
    person.shop.script_file(&programs.join("bulkhead"), script);
    let trace = person.shop.path("trace");
    fs::create_dir(&trace).unwrap();
    std::os::unix::fs::chown(&trace, Some(crate::person::USER), Some(crate::person::USER)).unwrap();
}

/// Starts the container; a call of the victim is its last, or without a moment they are counted.
fn killed(person: &Person, victim: Victim, moment: Option<usize>) -> (Output, usize) {
    let name = if victim == Victim::Run { "run" } else { "hook" };
    let wanted = person.shop.path("programs").join(format!("{name}.kill"));
    fs::write(&wanted, moment.map(|at| format!("-e inject=all:signal=KILL:when={at}")).unwrap_or_default())
        .unwrap();
    let words = [
        "run",
        "-d",
        "--name",
        "victim",
        "--stop-timeout",
        "1",
        "-p",
        "127.0.0.1:8090:80",
        IMAGE,
        "sleep",
        "1000",
    ];
    let output = person.bulkhead(&words).output();
    fs::remove_file(&wanted).unwrap();
    let text = fs::read_to_string(person.shop.path("trace").join(name)).unwrap_or_default();
    (output, text.lines().filter(|line| line.contains('(') && !line.contains("resumed>")).count())
}

fn sweep(which: Carrier) {
    requires!(bulkhead_testkit::find_program("strace").is_some(), "needs strace");
    let (person, _cable) = on_a_cable!(which);
    with_script(&person);
    let check = || person.bulkhead(&["system", "check"]).output();
    for victim in [Victim::Run, Victim::Hook] {
        let (whole, calls) = killed(&person, victim, None);
        whole.succeeds();
        assert!(calls > 100, "they are counted: {calls}");
        person.said(&["rm", "-f", "victim"]);
        for moment in moments(calls) {
            drop(killed(&person, victim, Some(moment)));
            let after = format!("call {moment} of {victim:?} with {}", which.name);
            let mended = check();
            assert_eq!(mended.code(), 0, "after {after}, not all could be mended\n{mended}");
            let again = check();
            assert_eq!(
                again.stdout, WELL,
                "after {after}, a second check finds something\n{mended}\n{again}"
            );
            let state = person.said(&["ps", "-a", "--format", "{{.State}}"]);
            let expected = usize::from(state == "running\n");
            assert_eq!(carriers(&person).len(), expected, "after {after} it is {state:?}");
            if !state.is_empty() {
                person.said(&["start", "victim"]);
                assert_eq!(person.said(&["port", "victim", "80"]), "127.0.0.1:8090\n", "after {after}");
                assert_eq!(carriers(&person).len(), 1, "after {after}, and a start");
                person.said(&["rm", "-f", "victim"]);
            }
            wait_until(&format!("its carrier has ended after {after}"), || carriers(&person).is_empty());
            assert!(std::net::TcpListener::bind("127.0.0.1:8090").is_ok(), "after {after}, its port is free");
            assert_eq!(check().stdout, WELL, "after {after} and its removal");
        }
    }
}

#[test]
fn a_start_with_pasta_is_killed() {
    sweep(PASTA);
}

#[test]
fn a_start_with_slirp4netns_is_killed() {
    sweep(SLIRP);
}
