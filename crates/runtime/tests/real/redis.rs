//! Redis as a service, with clients outside its container.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires, skip};
use serde_json::json;

use crate::debian::{Debian, MISSING};
use crate::{eventually, is_gone, sandbox, statistics, verb};

/// A container of Redis whose socket lies in a directory that it shares with the host.
struct Redis<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle,
    socket: PathBuf,
}

impl Redis<'_> {
    fn new<'a>(sandbox: &'a Sandbox, debian: &Debian) -> Redis<'a> {
        let shared = sandbox.directory().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        let (uid, gid) = debian.user("redis");
        let server = ["redis-server", "--port", "0", "--unixsocket", "/srv/shared/socket"];
        let files = ["--dir", "/var/lib/redis", "--save", "3600 1"];
        let bundle = debian
            .bundle(sandbox, "redis")
            .args(server.into_iter().chain(files))
            .user(uid, gid)
            .bind(&shared, "/srv/shared", &["rw"]);
        Redis { sandbox, bundle, socket: shared.join("socket") }
    }

    fn launched<'a>(sandbox: &'a Sandbox, debian: &Debian) -> Redis<'a> {
        let redis = Redis::new(sandbox, debian);
        sandbox.launch(&redis.bundle);
        redis.answers();
        redis
    }

    fn connect(&self) -> io::Result<Client> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Waits until it answers.
    #[track_caller]
    fn answers(&self) {
        let ping = || self.connect()?.ask("PING");
        eventually("Redis answers", || ping().is_ok_and(|answer| answer == "+PONG"));
    }
}

/// A connection that speaks Redis's protocol.
struct Client(BufReader<UnixStream>);

impl Client {
    fn send(&mut self, command: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())
    }

    /// Reads an answer of one line.
    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn ask(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.answer()
    }
}

/// Says that a load shall end, when the test that causes it ends, however that comes.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn redis_serves_from_start_to_deletion() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let redis = Redis::new(&sandbox, &debian);
    sandbox.create(&redis.bundle);
    assert!(!redis.socket.exists(), "nothing runs before `start`");
    sandbox.start(&redis.bundle);
    redis.answers();
    let client = |words: &[&str]| {
        let command = ["redis-cli", "-s", "/srv/shared/socket"].iter().chain(words);
        sandbox.exec(&redis.bundle, command).output().succeeds()
    };
    client(&["set", "greeting", "hello from inside"]).prints("OK\n");
    assert_eq!(redis.connect().unwrap().ask("STRLEN greeting").unwrap(), ":17", "both see one store");
    let processes =
        sandbox.runtime().args(["ps", "-f", "json", redis.bundle.id()]).output().succeeds().json();
    assert_eq!(processes, json!([sandbox.pid(&redis.bundle)]), "the server is the only process");
    verb(&sandbox, &["delete", "--force"], &redis.bundle);
    is_gone(&sandbox, &redis.bundle);
}

#[test]
fn a_paused_redis_answers_nothing_and_goes_on_without_loss() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let redis = Redis::launched(&sandbox, &debian);
    let (end, counted) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _end = EndOfLoad(&end);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = redis.connect().unwrap();
                while !end.load(Ordering::Relaxed) {
                    let answer = client.ask("INCR counter").unwrap();
                    assert!(answer.starts_with(':'), "a number is the answer: {answer}");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let reaches = |number| eventually("clients get on", || counted.load(Ordering::Relaxed) > number);
        reaches(200);
        verb(&sandbox, &["pause"], &redis.bundle);
        assert_eq!(sandbox.status(&redis.bundle), "paused");
        // The kernel takes connections and questions for it.
        let mut patient = redis.connect().unwrap();
        patient.send("PING").unwrap();
        patient.0.get_ref().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let silence = patient.answer().map_err(|error| error.kind());
        assert_eq!(silence, Err(io::ErrorKind::WouldBlock), "nobody answers");
        let exec = sandbox.exec(&redis.bundle, ["true"]).output();
        exec.exits_with(255).complains("cannot exec in a paused container");
        let before = counted.load(Ordering::Relaxed);
        verb(&sandbox, &["resume"], &redis.bundle);
        patient.0.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(patient.answer().unwrap(), "+PONG", "the question is answered late");
        reaches(before + 200);
    });
    let mut client = redis.connect().unwrap();
    client.send("GET counter").unwrap();
    let value = [client.answer().unwrap(), client.answer().unwrap()];
    assert_eq!(value[1], counted.into_inner().to_string(), "each increment that was answered counts, once");
}

#[test]
fn a_memory_limit_that_bites_ends_redis_and_is_reported_as_that() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let redis = Redis::new(&sandbox, &debian);
    let running = sandbox.run(&redis.bundle).spawn();
    redis.answers();
    let events = sandbox.runtime().args(["events", "--interval", "50ms", redis.bundle.id()]).spawn();
    eventually("`events` reports", || events.stdout().contains("stats"));
    verb(&sandbox, &["update", "--memory", "64M"], &redis.bundle);
    let limit = &statistics(&sandbox, &redis.bundle)["memory"]["usage"]["limit"];
    assert_eq!(*limit, json!(64 << 20), "the limit is in force");
    let mut client = redis.connect().unwrap();
    assert_eq!(client.ask("SETRANGE small 1000000 x").unwrap(), ":1000001", "what fits is taken");
    let error = client.ask("SETRANGE large 400000000 x").map_err(|error| error.kind());
    assert!(
        matches!(error, Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)),
        "the server dies before it can answer: {error:?}"
    );
    running.wait().exits_with(128 + 9);
    let oom = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}", redis.bundle.id());
    let reports = events.wait().succeeds().stdout;
    assert!(reports.lines().any(|line| line == oom), "the kill is reported as what it was:\n{reports}");
    is_gone(&sandbox, &redis.bundle);
}

#[test]
fn a_cpu_limit_bites_while_it_is_in_force() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let mut redis = Redis::new(&sandbox, &debian);
    redis.bundle = redis.bundle.resources(json!({ "cpu": {} }));
    sandbox.launch(&redis.bundle);
    redis.answers();
    let busy = ["exec", "--detach", redis.bundle.id(), "sh", "-c", "while :; do :; done"];
    sandbox.runtime().args(busy).output().succeeds();
    // What the container has had of one processor since an earlier moment.
    let share = |since: (u64, Instant)| {
        let used = cpu_time(&redis) - since.0;
        Duration::from_nanos(used).as_secs_f64() / since.1.elapsed().as_secs_f64()
    };
    let now = || (cpu_time(&redis), Instant::now());
    let throttled = || statistics(&sandbox, &redis.bundle)["cpu"]["throttling"]["throttledPeriods"].as_u64();
    let gets = |what, expected: &dyn Fn(f64) -> bool| {
        eventually(what, || {
            let since = now();
            thread::sleep(Duration::from_millis(500));
            expected(share(since))
        });
    };
    gets("a busy container gets a processor", &|share| share > 0.3);
    verb(&sandbox, &["update", "--cpu-period", "50000", "--cpu-quota", "2500"], &redis.bundle);
    // A 20th of one processor, and what a period that had begun allowed.
    let since = now();
    thread::sleep(Duration::from_secs(1));
    let limited = share(since);
    assert!(limited < 0.2, "the container gets a 20th of a processor, and not {limited}");
    assert!(throttled() > Some(0), "the kernel says that it throttles");
    assert_eq!(redis.connect().unwrap().ask("PING").unwrap(), "+PONG", "it is slow but alive");
    verb(&sandbox, &["update", "--cpu-quota", "-1"], &redis.bundle);
    gets("a container without a limit gets a processor", &|share| share > 0.3);
}

/// Reads how long the container has run, in nanoseconds.
fn cpu_time(redis: &Redis<'_>) -> u64 {
    statistics(redis.sandbox, &redis.bundle)["cpu"]["usage"]["total"].as_u64().unwrap()
}

#[test]
fn redis_ends_by_itself_when_it_is_asked_to_and_keeps_what_it_knows() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let redis = Redis::launched(&sandbox, &debian);
    assert_eq!(redis.connect().unwrap().ask("SET key value").unwrap(), "+OK");
    let init = sandbox.pid(&redis.bundle);
    sandbox.kill(&redis.bundle, "TERM");
    assert_eq!(sandbox.wait_for_exit(init).code(), Some(0), "it ends by itself");
    assert_eq!(sandbox.status(&redis.bundle), "stopped");
    verb(&sandbox, &["delete"], &redis.bundle);
    is_gone(&sandbox, &redis.bundle);

    sandbox.launch(&redis.bundle);
    redis.answers();
    assert_eq!(redis.connect().unwrap().ask("STRLEN key").unwrap(), ":5", "the next finds what it saved");
}
