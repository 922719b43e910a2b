//! A place with an engine of its own, which leaves nothing.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_engine::request::{Limit, Request, Root, RootDirectory};
use bulkhead_engine::store::Places;
use bulkhead_engine::{Attach, Engine, Event, Filters, Force, Logs, Programs, Removal, Session, Volumes};
use bulkhead_testkit::{Sandbox, built, network, rootfs};

/// An engine with places of its own. Whatever containers are left at the end are removed, and leaks fail the test.
pub(crate) struct Ground {
    pub(crate) engine: Engine,
    pub(crate) sandbox: Sandbox,
}

/// A client that hears everything.
pub(crate) const HEAR: Attach = Attach { stdin: false, stdout: true, stderr: true, patience: 0, size: None };

impl Ground {
    pub(crate) fn new() -> Self {
        network::isolate();
        let programs = programs();
        let sandbox = Sandbox::new(&programs.runtime);
        let places = places(sandbox.directory());
        rootfs::create(&sandbox.directory().join("rootfs"));
        Self { engine: Engine::with(&places, programs).unwrap(), sandbox }
    }

    /// Asks for a container of the busybox root that runs a script.
    pub(crate) fn script(&self, script: &str) -> Request {
        let path = self.sandbox.directory().join("rootfs");
        let mut request =
            Request { root: Root::Directory(RootDirectory { path, overlay: true }), ..Request::default() };
        request.process.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        request.resources.cgroup_parent = Some(format!("/{}", self.sandbox.name()));
        request.stop_timeout = Limit::of_seconds("1").ok();
        request
    }

    /// As [`Ground::script`], with a name.
    pub(crate) fn named(&self, name: &str, script: &str) -> Request {
        Request { name: Some(name.to_owned()), ..self.script(script) }
    }

    /// Runs a script to its end, and returns its code and what it said.
    pub(crate) fn output(&self, request: &Request) -> (u8, String) {
        let running = self.engine.run(request, Some(HEAR)).unwrap();
        hear(running.session.unwrap())
    }

    /// What a container said so far, by its log.
    pub(crate) fn said(&self, wanted: &str) -> String {
        let mut said = String::new();
        self.engine
            .logs(wanted, &Logs::default(), &mut |entry| {
                said.push_str(&entry.text);
                ControlFlow::Continue(())
            })
            .unwrap();
        said
    }

    /// Waits until something is so.
    pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < end, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for container in self.engine.containers(&Filters::default()).unwrap_or_default() {
            let removal = Removal { force: Force::Yes, volumes: Volumes::Remove };
            if let Err(error) = self.engine.remove(&container.id, removal) {
                eprintln!("container {} is not removed: {error}", container.name);
            }
        }
    }
}

/// Hears a container to its end, and does what follows that.
pub(crate) fn hear(mut session: Session<'_>) -> (u8, String) {
    let mut said = Vec::new();
    let mut code = None;
    while let Some(event) = session.next().unwrap() {
        match event {
            Event::Stdout(bytes) | Event::Stderr(bytes) => said.extend(bytes),
            Event::Ending(_) => {}
            Event::Exited(exit) => {
                code = Some(exit.code);
                break;
            }
        }
    }
    session.finish().unwrap();
    (code.expect("the end is told"), String::from_utf8_lossy(&said).into_owned())
}

pub(crate) fn places(directory: &Path) -> Places {
    Places { root: directory.join("engine"), run: directory.join("engine-run") }
}

/// The programs of this build.
pub(crate) fn programs() -> Programs {
    Programs {
        monitor: built::program("bulkhead-shim", "bulkmon"),
        runtime: built::program("bulkhead-runtime", "bulkrun"),
        names: built::program("bulkhead-net", "bulkdns"),
        ports: built::program("bulkhead-net", "bulkproxy"),
        engine: PathBuf::from("/bin/false"),
    }
}
