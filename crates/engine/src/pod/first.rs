//! The first process of a pod whose containers share their processes.
//!
//! It is `bulkmon pod`, which waits for orphans and does nothing else, in namespaces of its own with a root that has only
//! itself, as a user who is nobody and without any right: what a container of the pod can reach by way of it
//! (proc_pid_root(5)) is nothing. It has no monitor. It ends with the pod's stop, not with that of its containers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_shim::status::Process;
use bulkhead_spec::{Config, Linux, Mount, Namespace, NamespaceType, OCI_VERSION, Root, User};
use bulkhead_store::PodRecord;

use super::document::PodDocument;
use crate::configure;
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::runtime::{by_systemd, checked};

/// The file that says which process it is, in the pod's directory below `run`.
const FIRST: &str = "first.json";
/// The bundle.
const BUNDLE: &str = "bundle";
/// The program, in its root.
const PROGRAM: &str = "/bulkmon";
/// Nobody.
const NOBODY: u32 = 65534;

impl Engine {
    /// Returns the first process of the pod, which runs after this; `users` is the file by which the pod's user namespace is
    /// opened, if somebody holds it.
    pub(super) fn first_of_pod(
        &self,
        record: &PodRecord,
        document: &PodDocument,
        users: Option<PathBuf>,
    ) -> Result<Process> {
        match self.first_process(&record.id)? {
            Some(process) => Ok(process),
            None => self.start_first(record, document, users),
        }
    }

    /// Finds the first process of a pod, if it runs.
    pub(super) fn first_process(&self, id: &str) -> Result<Option<Process>> {
        let path = self.places().pod_run(id).join(FIRST);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.doing(|| format!("read {}", path.display()))?,
        };
        let process: Process = serde_json::from_slice(&text).map_err(|error| Error::Damaged {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(process).filter(Process::goes_on))
    }

    fn start_first(
        &self,
        record: &PodRecord,
        document: &PodDocument,
        users: Option<PathBuf>,
    ) -> Result<Process> {
        self.end_first(record)?;
        let run = self.places().pod_run(&record.id);
        let bundle = run.join(BUNDLE);
        for part in [&run, &bundle, &bundle.join("rootfs")] {
            make_directory(part)?;
        }
        let doing = || format!("start the first process of pod {}", record.name);
        // Nobody is to enter its root.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bundle.join("rootfs"), open).doing(doing)?;
        let config = self.first_config(record, document, users)?;
        let text = serde_json::to_vec(&config).map_err(std::io::Error::from).doing(doing)?;
        fs::write(bundle.join("config.json"), text).doing(doing)?;
        let pid_file = run.join("pid");
        let mut command = self.runtime(None)?.command();
        let cgroup = config.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
        command
            .args(by_systemd(cgroup))
            .args(["run", "--detach", "--bundle"])
            .arg(&bundle)
            .arg("--pid-file")
            .arg(&pid_file);
        // Its streams are the runtime's, whose complaints go into a file: a pipe would be open as long as it lives.
        let complaints = run.join("complaints");
        // That of an earlier one was given to its user.
        remove_file(&complaints).doing(doing)?;
        let to = fs::File::create(&complaints).doing(doing)?;
        command.arg(&record.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(to);
        let mut output = command.output().doing(doing)?;
        output.stderr = fs::read(&complaints).doing(doing)?;
        checked("run", &record.name, output)?;
        let pid = fs::read_to_string(&pid_file).doing(doing)?;
        let process = pid.trim().parse().ok().and_then(Process::find);
        let process = process
            .ok_or(rustix::io::Errno::SRCH)
            .doing(|| format!("{}: it ended at once; `bulkmon` has to be a static program", doing()))?;
        let text = serde_json::to_vec(&process).map_err(std::io::Error::from).doing(doing)?;
        fs::write(run.join(FIRST), text).doing(doing)?;
        Ok(process)
    }

    fn first_config(
        &self,
        record: &PodRecord,
        document: &PodDocument,
        users: Option<PathBuf>,
    ) -> Result<Config> {
        let kinds = [
            NamespaceType::Pid,
            NamespaceType::Mount,
            NamespaceType::Network,
            NamespaceType::Ipc,
            NamespaceType::Uts,
            NamespaceType::Cgroup,
        ];
        let mut namespaces = kinds.map(|kind| Namespace { kind, path: None }).to_vec();
        let path = users.map(|users| users.to_string_lossy().into_owned());
        // A namespace that is there has its ids.
        let ids = document.users.as_ref().filter(|_| path.is_none());
        if document.users.is_some() {
            namespaces.push(Namespace { kind: NamespaceType::User, path });
        }
        // Where there is nobody but the pod's root, that has no rights either.
        let has_nobody = document.users.as_ref().is_none_or(|users| users.on_host(NOBODY, NOBODY).is_some());
        let nobody = if has_nobody { NOBODY } else { 0 };
        let process = bulkhead_spec::Process {
            user: User { uid: nobody, gid: nobody, ..User::default() },
            args: vec![PROGRAM.to_owned(), "pod".to_owned()],
            cwd: "/".to_owned(),
            no_new_privileges: true,
            ..bulkhead_spec::Process::default()
        };
        let program = Mount {
            destination: PROGRAM.to_owned(),
            kind: Some("bind".to_owned()),
            source: Some(self.monitor()?.to_string_lossy().into_owned()),
            options: ["bind", "ro", "nosuid", "nodev", "rprivate"].map(str::to_owned).to_vec(),
            ..Mount::default()
        };
        Ok(Config {
            oci_version: OCI_VERSION.to_owned(),
            process: Some(process),
            root: Some(Root { path: "rootfs".to_owned(), readonly: true }),
            hostname: Some(document.hostname(record).to_owned()),
            mounts: vec![program],
            linux: Some(Linux {
                namespaces,
                uid_mappings: ids.map(|users| configure::mappings(&users.uids)).unwrap_or_default(),
                gid_mappings: ids.map(|users| configure::mappings(&users.gids)).unwrap_or_default(),
                cgroups_path: document.cgroup.as_deref().map(|cgroup| cgroup_of_first(cgroup, &record.id)),
                ..Linux::default()
            }),
            ..Config::default()
        })
    }

    /// Ends the first process of a pod, and with it all that share its namespace. One that is not there is no error.
    pub(super) fn end_first(&self, record: &PodRecord) -> Result<()> {
        let run = self.places().pod_run(&record.id);
        if !Path::new(&run.join("pid")).exists() {
            return Ok(());
        }
        self.runtime(None)?.delete_by_force((&record.name, &record.id), &run.join(BUNDLE))?;
        for file in [FIRST, "pid"] {
            remove_file(&run.join(file)).doing(|| format!("remove {} of pod {}", file, record.name))?;
        }
        Ok(())
    }
}

/// Removes a file, which need not be there.
fn remove_file(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn cgroup_of_first(cgroup: &str, id: &str) -> String {
    match cgroup.ends_with(".slice") {
        true => format!("{cgroup}:bulkhead:{id}"),
        false => format!("{cgroup}/first"),
    }
}
