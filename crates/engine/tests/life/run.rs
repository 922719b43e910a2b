//! Running containers: what they say, how they end, and what is told of them.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bulkhead_engine::{
    Attach, Event, Events, Filters, Follow, Force, Removal, Session, State, Until, Volumes,
};
use bulkhead_testkit::{is_root, requires};

use crate::ground::{Ground, HEAR, hear};

#[test]
fn what_a_container_says_is_heard_and_kept_with_its_code() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let request = ground.named("web", "echo out; echo err >&2; exit 3");
    let running = ground.engine.run(&request, Some(HEAR)).unwrap();
    let (code, said) = hear(running.session.unwrap());
    assert_eq!(code, 3);
    assert!(said.contains("out\n") && said.contains("err\n"), "{said}");
    let container = ground.engine.container("web").unwrap();
    assert_eq!((container.state, container.exit_code), (State::Exited, Some(3)));
    assert_eq!(container.name, "web");
    assert!(container.started.unwrap() <= container.finished.unwrap());
    let mut kept: Vec<String> = ground.said("web").lines().map(str::to_owned).collect();
    kept.sort();
    assert_eq!(kept, ["err", "out"]);
    let removal = Removal { force: Force::No, volumes: Volumes::Keep };
    assert_eq!(ground.engine.remove("web", removal).unwrap(), container.id);
    assert!(ground.engine.containers(&Filters::default()).unwrap().is_empty());
    assert!(!container.directory.exists());
}

#[test]
fn a_container_that_removes_itself_is_gone_when_its_client_has_heard_the_end() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let mut request = ground.script("echo hello");
    request.remove = true;
    assert_eq!(ground.output(&request), (0, "hello\n".to_owned()));
    assert!(ground.engine.containers(&Filters::default()).unwrap().is_empty());
}

/// Runs a container that removes itself, until its client hears that its process has ended; returns its directory, too.
fn ending(ground: &Ground, prepare: impl FnOnce(&PathBuf)) -> (Session<'_>, PathBuf) {
    let mut request = ground.named("web", "read line");
    request.remove = true;
    request.process.stdin = true;
    let running = ground.engine.run(&request, Some(Attach { stdin: true, ..HEAR })).unwrap();
    let directory = ground.engine.container("web").unwrap().directory;
    prepare(&directory);
    let mut session = running.session.unwrap();
    assert!(session.close_stdin().unwrap());
    loop {
        match session.next().unwrap() {
            Some(Event::Ending(_)) => return (session, directory),
            Some(Event::Stdout(_) | Event::Stderr(_)) => {}
            other => panic!("{other:?} instead of the beginning of the end"),
        }
    }
}

#[test]
fn removal_begins_while_the_runtime_cleans_up() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let (session, directory) = ending(&ground, |_| {});
    let is_going = || ground.engine.container("web").unwrap().state == State::Removing;
    Ground::until("the begin of its removal", is_going);
    assert_eq!(ground.engine.wait("web", Until::default()).unwrap(), 1, "its code is known");
    Ground::until("the removal of the layer", || !directory.join("upper").exists());
    assert!(directory.exists(), "what belongs to the container itself goes last");
    let (code, _) = hear(session);
    assert_eq!(code, 1, "there was no line");
    assert!(!directory.exists());
    let mut actions = Vec::new();
    let wanted = Events { follow: Follow::No, ..Events::default() };
    let note = &mut |event: &bulkhead_engine::store::Event| {
        actions.push(event.action.clone());
        ControlFlow::Continue(())
    };
    ground.engine.events(&wanted, note).unwrap();
    let expected = ["create", "attach", "connect", "start", "die", "disconnect", "destroy"];
    assert_eq!(actions, expected, "each is told once");
}

#[test]
fn who_holds_a_container_that_ends_is_waited_for() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let mut held = None;
    let (session, directory) = ending(&ground, |directory| {
        let file = File::open(directory).unwrap();
        file.lock().unwrap();
        held = Some(file);
    });
    assert!(directory.join("upper").exists(), "somebody else has plans with it");
    drop(held);
    assert_eq!(hear(session).0, 1);
    assert!(!directory.exists());
}

#[test]
fn what_was_started_again_is_not_removed_by_who_hears_late_of_its_end() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let mut request = ground.named("web", "[ -e /again ] && exec sleep 1000; touch /again; exit 7");
    request.remove = true;
    let mut session = ground.engine.run(&request, Some(HEAR)).unwrap().session.unwrap();
    let container = || ground.engine.container("web").unwrap();
    Ground::until("the end", || container().state == State::Exited);
    ground.engine.start("web", None).unwrap();
    while !matches!(session.next().unwrap(), Some(Event::Ending(_))) {}
    let now = container();
    assert_eq!(now.state, State::Running);
    assert!(now.directory.join("upper/again").exists(), "its layer is in use");
    assert_eq!(hear(session).0, 7);
    assert_eq!(container().state, State::Running);
}
