//! A container with its run directory, for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_shim::client::{self, Attachment, Event, Started};
use bulkhead_shim::order::{Log, Restart, Stdin, Stop, VERSION};
use bulkhead_shim::protocol::{Attach, Exit, ToMonitor};
use bulkhead_shim::status::Phase;
use bulkhead_shim::{Order, Status};
use bulkhead_testkit::{Bundle, Sandbox, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The program under test.
pub(crate) const BULKMON: &str = env!("CARGO_BIN_EXE_bulkmon");

/// The runtime of this build, which `cargo test` builds for the whole workspace, or `cargo build -p bulkhead-runtime`.
pub(crate) fn bulkrun() -> Option<PathBuf> {
    Some(Path::new(BULKMON).with_file_name("bulkrun")).filter(|program| program.is_file())
}

/// Makes a sandbox, or ends the test where it cannot run.
macro_rules! sandbox {
    () => {{
        bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
        match $crate::stand::bulkrun() {
            Some(bulkrun) => bulkhead_testkit::Sandbox::new(bulkrun),
            None => bulkhead_testkit::skip!(
                "needs bulkrun beside bulkmon: cargo build --package bulkhead-runtime"
            ),
        }
    }};
}
pub(crate) use sandbox;

/// A container and what its monitor is to do. When it is dropped, its monitor has ended or is made to.
pub(crate) struct Stand {
    pub(crate) run: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) order: Order,
}

impl Stand {
    /// Prepares a container; `change` edits its order.
    pub(crate) fn new(sandbox: &Sandbox, bundle: &Bundle, change: impl FnOnce(&mut Order)) -> Self {
        let run = Self::place(sandbox, bundle);
        fs::create_dir(&run).unwrap();
        let log = run.join("log.json");
        let runtime = [sandbox.runtime_program(), Path::new("--root"), &sandbox.state_directory()];
        let mut order = Order {
            version: VERSION,
            id: bundle.id().to_owned(),
            runtime: runtime.iter().map(|word| word.to_str().unwrap().to_owned()).collect(),
            bundle: bundle.directory().to_owned(),
            cgroup: Some(bundle.cgroups_path().into()),
            overlay: None,
            parts: Vec::new(),
            shared: None,
            joined: Vec::new(),
            terminal: bundle.config()["process"]["terminal"] == true,
            size: None,
            stdin: Stdin::Closed,
            log: Log::JsonFile {
                path: log.clone(),
                max_size: 0,
                max_file: 1,
                attributes: Default::default(),
            },
            status: run.join("status.json"),
            restart: Restart::No,
            restarts: 0,
            health: None,
            stop: Stop { signal: 15, grace: 10 },
            companion: None,
            companions: Vec::new(),
            recorded: Vec::new(),
            at_end: Vec::new(),
        };
        change(&mut order);
        order.write(&run.join("order.json")).unwrap();
        Self { run, log, order }
    }

    /// Where [`new`](Self::new) will make its directory.
    pub(crate) fn place(sandbox: &Sandbox, bundle: &Bundle) -> PathBuf {
        sandbox.directory().join(format!("run-{}", bundle.id()))
    }

    /// Starts it with a client that hears everything.
    #[track_caller]
    pub(crate) fn start(&self) -> Attachment {
        self.start_with(HEAR).attachment.unwrap()
    }

    #[track_caller]
    pub(crate) fn start_with(&self, attach: Attach) -> Started {
        client::spawn(Path::new(BULKMON), &self.run, Some(attach)).unwrap()
    }

    /// Starts it with nobody attached.
    #[track_caller]
    pub(crate) fn start_alone(&self) -> Started {
        client::spawn(Path::new(BULKMON), &self.run, None).unwrap()
    }

    pub(crate) fn ask(&self, request: &ToMonitor<'_>) -> client::Result<()> {
        client::request(&self.run, request)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        Status::read(&self.order.status).unwrap().unwrap()
    }

    /// Waits until the monitor has gone, and returns what it wrote last.
    #[track_caller]
    pub(crate) fn last_status(&self) -> Status {
        wait_until("the monitor has gone", || !client::alive(&self.run).unwrap());
        let status = self.status();
        assert_eq!(status.phase, Phase::Exited, "{status:?}");
        status
    }

    /// The log's members `log` and `stream`, line by line.
    #[track_caller]
    pub(crate) fn logged(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let entry = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["time"].as_str().unwrap().ends_with('Z'), "{line} has a time");
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            (text("log"), text("stream"))
        };
        text.lines().map(entry).collect()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if client::alive(&self.run).unwrap_or(false) {
            let failing = std::thread::panicking();
            if let Ok(Some(status)) = Status::read(&self.order.status)
                && let Ok(monitor) = bulkhead_sys::process::open_pidfd(status.monitor.pid)
            {
                drop(bulkhead_sys::process::signal(monitor, 9));
            }
            assert!(failing, "the monitor of {} was left", self.run.display());
        }
    }
}

/// A client that hears everything and says nothing.
pub(crate) const HEAR: Attach =
    Attach { stdin: false, stdout: true, stderr: true, takes_end: false, hears_ending: false, patience: 0 };

/// One that speaks, too.
pub(crate) const SPEAK: Attach = Attach { stdin: true, ..HEAR };

/// How long a test waits for an event.
const LIMIT: Duration = Duration::from_secs(20);

/// The next event, which must come in time.
#[track_caller]
pub(crate) fn next(attachment: &mut Attachment) -> Option<Event> {
    let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(attachment, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ready, 1, "nothing was heard for {LIMIT:?}");
    attachment.next().unwrap()
}

/// What was heard of each stream, until the first end.
#[track_caller]
pub(crate) fn hear(attachment: &mut Attachment) -> (String, String, Exit) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match next(attachment) {
            Some(Event::Stdout(bytes)) => stdout.extend(bytes),
            Some(Event::Stderr(bytes)) => stderr.extend(bytes),
            Some(Event::Ending(_)) => {}
            Some(Event::Exited(exit)) => {
                let text = |bytes| String::from_utf8(bytes).unwrap();
                return (text(stdout), text(stderr), exit);
            }
            None => panic!("the connection ended without a word"),
        }
    }
}

/// Hears output until it has `text`.
#[track_caller]
pub(crate) fn hear_until(attachment: &mut Attachment, text: &str) -> String {
    let mut heard = String::new();
    let end = Instant::now() + LIMIT;
    while !heard.contains(text) {
        assert!(Instant::now() < end, "{text:?} was not heard, but {heard:?}");
        match next(attachment) {
            Some(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                heard.push_str(&String::from_utf8_lossy(&bytes));
            }
            other => panic!("{text:?} was not heard, but {heard:?} and then {other:?}"),
        }
    }
    heard
}
