//! Namespaces of a pod with users of its own: whose they must be, and what becomes of a start whose holder dies.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use bulkhead_shim::client::{self, Error};
use bulkhead_shim::order::{NamespaceKind, Shared, SharedNamespace};
use bulkhead_shim::place;
use bulkhead_shim::status::Process;
use bulkhead_shim::users::{IdMapping, Users};
use bulkhead_testkit::wait_until;

use crate::stand::{BULKMON, Stand, sandbox};

/// A process in a user namespace of its own, and in a network namespace that belongs to that. It ends with this.
struct Holder {
    child: Child,
    process: Process,
}

impl Holder {
    fn new() -> Self {
        let words = ["--user", "--map-root-user", "--net", "sleep", "1000"];
        let child = Command::new("unshare").args(words).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let net = PathBuf::from(format!("/proc/{pid}/ns/net"));
        wait_until("it has its namespaces", || fs::metadata(&net).is_ok_and(|found| found.ino() != own));
        Self { process: Process::find(pid).unwrap(), child }
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.process.pid))
    }

    fn shared(&self, kind: NamespaceKind, from: &Path) -> SharedNamespace {
        SharedNamespace { kind, from: Some(from.to_owned()), holder: Some(self.process) }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}

fn of(namespaces: Vec<SharedNamespace>) -> Shared {
    let map = vec![IdMapping { container_id: 0, host_id: 0, size: 1 }];
    let users = Some(Users { uids: map.clone(), gids: map });
    Shared { namespaces, users, hostname: None, sysctls: Vec::new(), memory: None }
}

/// Whoever exchanges what a monitor takes over, such as a link in a run directory, gets none of it: neither the host's
/// namespace nor another pod's.
#[test]
fn what_belongs_to_other_users_than_the_pods_is_not_joined() {
    let sandbox = sandbox!();
    let (pod, other) = (Holder::new(), Holder::new());
    let own = PathBuf::from(format!("/proc/{}/ns/net", std::process::id()));
    for (name, net, is_refused) in
        [("host", own, true), ("other", other.namespace("net"), true), ("pod", pod.namespace("net"), false)]
    {
        let bundle = sandbox.bundle(name).args(["true"]);
        let user = pod.shared(NamespaceKind::User, &pod.namespace("user"));
        let shared = of(vec![user, pod.shared(NamespaceKind::Network, &net)]);
        let stand = Stand::new(&sandbox, &bundle, |order| order.shared = Some(shared));
        let started = client::spawn(Path::new(BULKMON), &stand.run, None);
        match started {
            Err(Error::NotStarted { failure }) if is_refused => {
                let words = "the net namespace does not belong to the pod's users: stop the pod";
                assert!(failure.message.contains(words), "{name}: {}", failure.message);
                let link = place::namespace(&stand.run, NamespaceKind::Network);
                assert!(fs::symlink_metadata(link).is_err(), "{name}: there is no way to it");
            }
            Ok(_) if !is_refused => {}
            Ok(_) => panic!("{name}: it was started"),
            Err(error) => panic!("{name}: {error}"),
        }
        wait_until("the monitor has gone", || !client::alive(&stand.run).unwrap());
    }
}

/// The holder of a pod's users may die at any moment of a start: it gets these, or it fails and says why.
#[test]
fn a_start_whose_holder_dies_has_the_pods_users_or_none() {
    let sandbox = sandbox!();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..24_u64 {
        let mut holder = Holder::new();
        let users = fs::File::open(holder.namespace("user")).unwrap();
        let bundle = sandbox.bundle(&format!("race{round}")).script("read x");
        let user = holder.shared(NamespaceKind::User, &holder.namespace("user"));
        let network = SharedNamespace { kind: NamespaceKind::Network, from: None, holder: None };
        let stand = Stand::new(&sandbox, &bundle, |order| {
            order.shared = Some(of(vec![user, network]));
            order.stdin = bulkhead_shim::order::Stdin::Open;
        });
        let started = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_micros(round * 500));
                holder.end();
            });
            client::spawn(Path::new(BULKMON), &stand.run, None)
        });
        match started {
            Ok(_) => {
                let link = place::namespace(&stand.run, NamespaceKind::User);
                let held = fs::metadata(link).unwrap();
                assert_eq!(held.ino(), users.metadata().unwrap().ino(), "round {round}");
                stand.ask(&bulkhead_shim::protocol::ToMonitor::Signal(9)).unwrap();
                taken += 1;
            }
            Err(Error::NotStarted { failure }) => {
                let known = ["who held the pod's namespace", "open the pod's namespace"];
                let message = failure.message;
                assert!(known.iter().any(|words| message.contains(words)), "round {round}: {message}");
                refused += 1;
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        wait_until("the monitor has gone", || !client::alive(&stand.run).unwrap());
    }
    assert!(taken > 0 && refused > 0, "both happen: {taken} have them, {refused} have not");
}
