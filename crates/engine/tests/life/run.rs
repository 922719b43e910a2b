//! Running containers: what they say, how they end, and what is told of them.

use bulkhead_engine::{Filters, Force, Removal, State, Volumes};
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
