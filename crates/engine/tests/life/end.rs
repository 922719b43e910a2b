//! Ending, freezing and starting again.

use bulkhead_engine::{State, Stop};
use bulkhead_testkit::{is_root, requires};

use crate::ground::Ground;

#[test]
fn a_container_is_paused_stopped_and_started_again() {
    requires!(is_root(), "needs root");
    let ground = Ground::new();
    let request = ground.named("web", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    ground.engine.run(&request, None).unwrap();
    let state = || ground.engine.container("web").unwrap().state;
    assert_eq!(state(), State::Running);
    ground.engine.pause("web").unwrap();
    assert_eq!(state(), State::Paused);
    ground.engine.unpause("web").unwrap();
    assert_eq!(state(), State::Running);
    Ground::until("the first word", || ground.said("web").contains("up"));
    ground.engine.stop("web", &Stop::default()).unwrap();
    let container = ground.engine.container("web").unwrap();
    assert_eq!((container.state, container.exit_code), (State::Exited, Some(5)));
    ground.engine.start("web", None).unwrap();
    assert_eq!(state(), State::Running);
    Ground::until("the first word of the second start", || ground.said("web").matches("up").count() == 2);
    ground.engine.kill("web", 9).unwrap();
    assert_eq!(ground.engine.wait("web", Default::default()).unwrap(), 137);
    assert_eq!(ground.said("web"), "up\nbye\nup\n");
}
