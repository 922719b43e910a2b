//! What follows an end, what an unhealthy container meets, and how one is stopped.

use std::time::{Duration, Instant};

use bulkhead_testkit::wait_until;

use crate::shop::{Shop, shop};

impl Shop {
    #[track_caller]
    fn kept(&self, name: &str, options: &[&str], script: &str) {
        let run = self.with("run", &[&["-d", "--name", name], options].concat(), &["sh", "-c", script]);
        run.output().succeeds();
    }

    fn state(&self, name: &str) -> serde_json::Value {
        self.inspect(name)["State"].clone()
    }

    fn restarts(&self, name: &str) -> i64 {
        self.inspect(name)["RestartCount"].as_i64().unwrap()
    }

    fn health(&self, name: &str) -> String {
        self.state(name)["Health"]["Status"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn on_failure_starts_again_so_often_with_longer_and_longer_pauses() {
    let shop = shop!();
    let began = Instant::now();
    shop.kept("job", &["--restart", "on-failure:3"], "date +%s%N; exit 5");
    assert_eq!(shop.said(&["wait", "job"]), "5\n");
    // 100, 200 and 400 ms.
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    assert_eq!((shop.restarts("job"), shop.said(&["logs", "job"]).lines().count()), (3, 4));
    assert_eq!(shop.state("job")["Status"], "exited");
    shop.kept("good", &["--restart", "on-failure"], "echo once");
    assert_eq!(shop.said(&["wait", "good"]), "0\n");
    assert_eq!((shop.restarts("good"), shop.said(&["logs", "good"])), (0, "once\n".to_owned()));
}

/// Fails when of what a policy started many times, while nobody looked, only the last run is told.
#[test]
fn every_run_that_a_policy_had_another_follow_is_told_once() {
    let shop = shop!();
    let id = shop.with("run", &["-d", "--name", "job", "--restart", "on-failure:3"], &["sh", "-c", "exit 5"]);
    let id = id.output().succeeds().stdout;
    let status = shop.path("engine/containers").join(id.trim()).join("status.json");
    // No command looks meanwhile.
    let is_over = || std::fs::read_to_string(&status).is_ok_and(|text| text.contains("\"exited\""));
    wait_until("it has ended for good", is_over);
    let format = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    let told = || {
        let words =
            ["events", "--since", "1h", "--until", "0s", "--filter", "container=job", "--format", format];
        let said = shop.said(&words);
        let lines =
            said.lines().map(str::trim).filter(|line| line.starts_with("start") || line.starts_with("die"));
        lines.map(|line| line.replace(" <no value>", "")).collect::<Vec<_>>()
    };
    assert_eq!(told(), ["start", "die 5"].repeat(4));
    assert_eq!(told().len(), 8, "and not once more");
    shop.said(&["start", "job"]);
    wait_until("it is told of", || told().len() == 16);
    shop.said(&["rm", "-f", "job"]);
    assert_eq!(told(), ["start", "die 5"].repeat(8));
}

#[test]
fn always_starts_again_until_it_is_stopped() {
    let shop = shop!();
    for policy in ["always", "unless-stopped"] {
        shop.kept(policy, &["--restart", policy], "echo up; sleep 0.1");
        wait_until("it is started again", || shop.restarts(policy) >= 2);
        wait_until("it waits", || shop.said(&["ps", "--format", "{{.Status}}"]).contains("Restarting (0)"));
        shop.said(&["stop", policy]);
        assert_eq!(shop.state(policy)["Status"], "exited");
        let said = shop.said(&["logs", policy]);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(shop.said(&["logs", policy]), said, "a stop is the end of it");
        shop.said(&["start", policy]);
        wait_until("it says more", || shop.said(&["logs", policy]).len() > said.len());
        shop.said(&["rm", "-f", policy]);
    }
}

#[test]
fn what_waits_to_be_started_again_is_not_paused_and_the_way_out_is_told() {
    let shop = shop!();
    shop.kept("web", &["--restart", "always"], "exit 1");
    wait_until("it is refused", || {
        let paused = shop.bulkhead(&["pause", "web"]).output();
        if paused.code() == 0 {
            shop.bulkhead(&["unpause", "web"]).output();
        }
        paused.stderr.contains("cannot pause container web, which is restarting")
            && paused.stderr.contains("hint: its policy starts it again in a moment: `bulkhead logs web`")
    });
}

#[test]
fn a_kill_by_the_user_is_a_stop_and_one_by_itself_is_not() {
    let shop = shop!();
    shop.kept("web", &["--restart", "always"], "echo up; sleep 1000");
    wait_until("it runs", || shop.said(&["logs", "web"]) == "up\n");
    let pid = shop.state("web")["Pid"].to_string();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait_until("it runs again", || shop.said(&["logs", "web"]) == "up\nup\n");
    shop.said(&["kill", "web"]);
    assert_eq!(shop.said(&["wait", "web"]), "137\n");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(shop.state("web")["Status"], "exited");
}

#[test]
fn a_container_is_stopped_by_its_own_signal_and_in_its_own_time() {
    let shop = shop!();
    let script =
        "trap 'echo usr1; exit 9' USR1; trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done";
    shop.kept("polite", &["--stop-signal", "SIGUSR1"], script);
    wait_until("it listens", || shop.said(&["logs", "polite"]) == "ready\n");
    shop.said(&["stop", "polite"]);
    assert_eq!(shop.said(&["logs", "polite"]), "ready\nusr1\n");
    assert_eq!(shop.state("polite")["ExitCode"], 9);
    shop.kept("deaf", &["--stop-timeout", "2"], "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    wait_until("it is deaf", || shop.said(&["logs", "deaf"]) == "ready\n");
    let began = Instant::now();
    shop.said(&["stop", "deaf"]);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(9), "{took:?}");
    assert_eq!(shop.state("deaf")["ExitCode"], 137);
    shop.said(&["start", "deaf"]);
    wait_until("it is deaf again", || shop.said(&["logs", "deaf"]).lines().count() == 2);
    let began = Instant::now();
    shop.said(&["stop", "-t", "0", "deaf"]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

const CHECK: [&str; 6] = [
    "--health-interval",
    "100ms",
    "--health-retries",
    "2",
    "--health-cmd",
    "test ! -e /ill || { echo ill; exit 3; }",
];

#[test]
fn a_container_tells_how_it_is() {
    let shop = shop!();
    shop.kept("web", &CHECK, "sleep 1000");
    wait_until("it is well", || shop.health("web") == "healthy");
    assert!(shop.said(&["ps", "--format", "{{.Status}}"]).contains("(healthy)"));
    assert_eq!(shop.said(&["ps", "-q", "--filter", "health=healthy"]).lines().count(), 1);
    shop.said(&["exec", "web", "touch", "/ill"]);
    wait_until("it is ill", || shop.health("web") == "unhealthy");
    let health = shop.state("web")["Health"].clone();
    assert!(health["FailingStreak"].as_i64().unwrap() >= 2, "{health}");
    let last = health["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last["ExitCode"].as_i64(), last["Output"].as_str()), (Some(3), Some("ill\n")), "{health}");
    assert_eq!(shop.state("web")["Status"], "running", "nothing follows unless it was asked for");
    shop.said(&["exec", "web", "rm", "/ill"]);
    wait_until("it is well again", || shop.health("web") == "healthy");
}

#[test]
fn an_unhealthy_container_meets_what_was_asked_for() {
    let shop = shop!();
    // What it wrote is still there when it starts again, so that it stays ill.
    for (action, policy) in [("kill", "no"), ("stop", "always"), ("kill", "on-failure:1"), ("restart", "no")]
    {
        let name = format!("{action}-{}", policy.replace(':', "-"));
        let options = [&CHECK[..], &["--health-on-failure", action, "--restart", policy]].concat();
        shop.kept(&name, &options, "trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done");
        wait_until("it is well", || shop.health(&name) == "healthy");
        shop.said(&["exec", &name, "touch", "/ill"]);
        match (action, policy) {
            ("restart", _) => {
                wait_until("it is started again", || shop.said(&["logs", &name]).lines().count() >= 2);
                assert!(
                    shop.state(&name)["Status"] == "running" || shop.state(&name)["Status"] == "restarting"
                );
                shop.said(&["rm", "-f", &name]);
                continue;
            }
            ("kill", "on-failure:1") => {
                wait_until("it has ended twice", || shop.state(&name)["Status"] == "exited");
                assert_eq!(shop.said(&["logs", &name]).lines().count(), 2, "its policy applies");
            }
            _ => wait_until("it has ended", || shop.state(&name)["Status"] == "exited"),
        }
        let code = if action == "stop" { 8 } else { 137 };
        assert_eq!(shop.state(&name)["ExitCode"], code, "{action} {policy}");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(shop.state(&name)["Status"], "exited", "{action} {policy}");
        shop.said(&["rm", &name]);
    }
}

#[test]
fn a_check_that_takes_too_long_fails_and_a_start_period_forgives() {
    let shop = shop!();
    let slow = [
        "--health-interval",
        "100ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
        "--health-cmd",
        "sleep 100",
    ];
    shop.kept("slow", &slow, "sleep 1000");
    wait_until("it is ill", || shop.health("slow") == "unhealthy");
    let log = shop.state("slow")["Health"]["Log"].clone();
    assert_eq!(log[0]["ExitCode"], -1, "{log}");
    let young = [
        "--health-interval",
        "50ms",
        "--health-start-period",
        "1h",
        "--health-retries",
        "1",
        "--health-cmd",
        "false",
    ];
    shop.kept("young", &young, "sleep 1000");
    wait_until("it was checked", || !shop.state("young")["Health"]["Log"].as_array().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(shop.health("young"), "starting");
    shop.kept("none", &["--no-healthcheck"], "sleep 1000");
    assert_eq!(shop.state("none")["Health"], serde_json::Value::Null);
}

#[test]
fn what_is_stopped_when_its_starts_are_used_up_stays_so() {
    let shop = shop!();
    let options = ["-d", "--name", "web", "--restart", "on-failure:1"];
    shop.with("run", &options, &["sh", "-c", "exit 3"]).output().succeeds();
    wait_until("it is not started again", || {
        let document = shop.inspect("web");
        document["RestartCount"] == 1 && document["State"]["Status"] == "exited"
    });
    shop.said(&["stop", "web"]);
    let started = || shop.inspect("web")["State"]["StartedAt"].clone();
    let before = started();
    shop.said(&["system", "restart-all"]);
    assert_eq!(started(), before, "as after a boot");
}
