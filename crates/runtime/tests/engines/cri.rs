//! The calls of the Container Runtime Interface, version 1, that tests make; numbers of fields are those of its
//! `api.proto`. The usual client, crictl, is in no suite of Debian, so the tests bring their own.

use std::fs;
use std::path::PathBuf;

use bulkhead_testkit::{Init, Machine};
use serde_json::Value;

use crate::grpc::{self, Answer, Message};
use crate::image::BUSYBOX;

/// States of a container.
pub(crate) const RUNNING: u64 = 1;
pub(crate) const EXITED: u64 = 2;

/// A client of the service.
pub(crate) struct Cri<'m> {
    machine: &'m Machine<'m>,
    socket: PathBuf,
}

/// A pod that runs.
pub(crate) struct Pod {
    pub(crate) id: String,
    init: Init,
}

/// Where the daemon writes its log, on its machine.
pub(crate) const LOG: &str = "/run/shared/containerd.log";

/// The last lines of the daemon's log.
pub(crate) fn last_words(machine: &Machine<'_>) -> String {
    let log = fs::read_to_string(machine.path(LOG)).unwrap_or_default();
    let lines = Vec::from_iter(log.lines());
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// What tests choose of a container's configuration.
#[derive(Default)]
pub(crate) struct Container<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a [&'a str],
    pub(crate) terminal: bool,
    /// Bytes; 0 is no limit.
    pub(crate) memory: u64,
    /// Microseconds of 100 ms; 0 is no limit.
    pub(crate) quota: u64,
    pub(crate) user: u64,
    pub(crate) read_only: bool,
    pub(crate) privileged: bool,
}

/// What the service knows of a container.
pub(crate) struct Status {
    pub(crate) state: u64,
    pub(crate) exit_code: u64,
    pub(crate) reason: String,
    pub(crate) pid: u64,
}

/// What a program printed that ran in a container, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) output: String,
    pub(crate) errors: String,
    pub(crate) exit_code: u64,
}

impl<'m> Cri<'m> {
    pub(crate) fn of(machine: &'m Machine<'m>) -> Self {
        Self { machine, socket: machine.path("/run/containerd/containerd.sock") }
    }

    /// Calls a method; an error of the service is a failure.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a request is made for one call")]
    fn call(&self, method: &str, request: Message) -> Answer {
        let answer = grpc::call(&self.socket, &format!("/runtime.v1.RuntimeService/{method}"), &request);
        answer.unwrap_or_else(|| panic!("{method} should succeed\n{}", last_words(self.machine)))
    }

    /// Runs a pod.
    #[track_caller]
    pub(crate) fn run_pod(&self) -> Pod {
        let request = Message::new().message(1, pod(self.machine.init()));
        Pod { id: self.call("RunPodSandbox", request).text(1), init: self.machine.init() }
    }

    /// Creates and starts a container of busybox; returns its id.
    #[track_caller]
    pub(crate) fn start(&self, pod: &Pod, container: &Container<'_>) -> String {
        let request = Message::new().bytes(1, &pod.id).message(2, container.message());
        let id = self.call("CreateContainer", request.message(3, self::pod(pod.init))).text(1);
        self.call("StartContainer", Message::new().bytes(1, &id));
        id
    }

    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> Status {
        let answer = self.call("ContainerStatus", Message::new().bytes(1, id).number(2, true));
        let status = answer.message(1);
        let entries = answer.messages(2).into_iter().map(|entry| (entry.text(1), entry.text(2)));
        let info = entries.into_iter().find(|(key, _)| key == "info").map(|(_, value)| value);
        let info: Value = serde_json::from_str(&info.unwrap()).unwrap();
        Status {
            state: status.number(3),
            exit_code: status.number(7),
            reason: status.text(10),
            pid: info["pid"].as_u64().unwrap_or_default(),
        }
    }

    /// The address of a pod.
    #[track_caller]
    pub(crate) fn address(&self, pod: &Pod) -> String {
        self.call("PodSandboxStatus", Message::new().bytes(1, &pod.id)).message(1).message(5).text(1)
    }

    /// Runs a program in a container to its end.
    #[track_caller]
    pub(crate) fn exec(&self, id: &str, command: &[&str]) -> Ran {
        let answer = self.call("ExecSync", Message::new().bytes(1, id).texts(2, command));
        Ran { output: answer.text(1), errors: answer.text(2), exit_code: answer.number(3) }
    }

    /// Asks for the address of the streams of a program that is to run in a container.
    #[track_caller]
    pub(crate) fn exec_streams(&self, id: &str, command: &[&str], terminal: bool) -> String {
        let request = Message::new().bytes(1, id).texts(2, command).number(3, terminal);
        self.call("Exec", request.number(4, true).number(5, true).number(6, !terminal)).text(1)
    }

    /// Asks for the address of the streams of a container, which has a terminal.
    #[track_caller]
    pub(crate) fn attach(&self, id: &str) -> String {
        let request = Message::new().bytes(1, id).number(2, true).number(3, true).number(4, true);
        self.call("Attach", request).text(1)
    }

    /// Limits a container's memory, in bytes, and CPU, in microseconds of 100 ms.
    #[track_caller]
    pub(crate) fn update(&self, id: &str, memory: u64, quota: u64) {
        let request = Message::new().bytes(1, id).message(2, resources(memory, quota));
        self.call("UpdateContainerResources", request);
    }

    /// The memory that a container uses, in bytes, and the CPU time that it has used, in nanoseconds.
    #[track_caller]
    pub(crate) fn statistics(&self, id: &str) -> (u64, u64) {
        let statistics = self.call("ContainerStats", Message::new().bytes(1, id)).message(1);
        (statistics.message(3).message(2).number(1), statistics.message(2).message(2).number(1))
    }

    /// Stops a container, by force after some seconds.
    #[track_caller]
    pub(crate) fn stop(&self, id: &str, seconds: u64) {
        self.call("StopContainer", Message::new().bytes(1, id).number(2, seconds));
    }

    #[track_caller]
    pub(crate) fn remove(&self, id: &str) {
        self.call("RemoveContainer", Message::new().bytes(1, id));
    }

    #[track_caller]
    pub(crate) fn remove_pod(&self, pod: &Pod) {
        self.call("StopPodSandbox", Message::new().bytes(1, &pod.id));
        self.call("RemovePodSandbox", Message::new().bytes(1, &pod.id));
    }
}

fn pod(init: Init) -> Message {
    let metadata = Message::new().texts(1, &["pod"]).texts(2, &["uid"]).texts(3, &["default"]);
    let sysctl = Message::new().texts(1, &["net.ipv4.ip_forward"]).texts(2, &["1"]);
    // Only a pod that may have privileged containers gets one.
    let security = Message::new().number(6, true);
    let parent = match init {
        Init::Own => "/pods/pod",
        Init::Systemd => "system.slice",
    };
    let linux = Message::new().texts(1, &[parent]).message(2, security).message(3, sysctl);
    let pod = Message::new().message(1, metadata).texts(2, &["house"]).texts(3, &["/run/shared/logs"]);
    pod.message(8, linux)
}

impl Container<'_> {
    fn message(&self) -> Message {
        let log = format!("{}.log", self.name);
        let environment = Message::new().texts(1, &["A"]).texts(2, &["b"]);
        let user = Message::new().number(1, self.user);
        // A pid namespace for each container, as the kubelet has it.
        let namespaces = Message::new().number(2, 1_u64);
        let security = Message::new().number(2, self.privileged).message(3, namespaces).message(5, user);
        let security = security.number(7, self.read_only);
        let linux = Message::new().message(1, resources(self.memory, self.quota)).message(2, security);
        Message::new()
            .message(1, Message::new().texts(1, &[self.name]))
            .message(2, Message::new().texts(1, &[BUSYBOX]))
            .texts(3, self.command)
            .message(6, environment)
            .bytes(11, log)
            .number(12, self.terminal)
            .number(14, self.terminal)
            .message(15, linux)
    }
}

fn resources(memory: u64, quota: u64) -> Message {
    Message::new().number(1, 100_000_u64).number(2, quota).number(4, memory)
}
