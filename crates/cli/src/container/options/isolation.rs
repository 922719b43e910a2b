//! What the container has of its own, and what it may do.

use std::path::Path;

use bulkhead_engine::request::{
    Capability, CgroupNamespace, HostEntry, IdMap, Ipc, KeyValue, Pid, Request, Seccomp, SecurityOption,
    UserNamespace, Uts, resolver_word,
};
use clap::Args;

use super::files;
use crate::failure::{Failure, NOT_STARTED};

#[derive(Args, Debug)]
pub(super) struct Isolation {
    /// Name the container has for itself
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// NIS domain of the container
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<HostEntry>,
    /// Look for names in this domain
    #[arg(long, value_name = "DOMAIN", value_parser = resolver_word)]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf(5)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = resolver_word)]
    dns_option: Vec<String>,
    /// Shared memory: private, none, shareable, host, or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<Ipc>,
    /// Processes: host, or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<Pid>,
    /// Host name: host
    #[arg(long, value_name = "MODE")]
    uts: Option<Uts>,
    /// Cgroups: private or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<CgroupNamespace>,
    /// Users: host, auto, keep-id, nomap, or container:NAME
    #[arg(long, value_name = "MODE", conflicts_with_all = ["uidmap", "gidmap"])]
    userns: Option<UserNamespace>,
    /// Map users of the container to users of this machine
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    uidmap: Vec<IdMap>,
    /// Map groups; the same as users without it
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", requires = "uidmap")]
    gidmap: Vec<IdMap>,
    /// Give all rights and devices
    #[arg(long)]
    privileged: bool,
    /// Give a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<Capability>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<Capability>,
    /// Choose a filter, a profile or a label, such as seccomp=FILE
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOption>,
    /// Set a parameter of the kernel in the container
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<KeyValue>,
    /// The runtime: a name or a path
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
}

impl Isolation {
    pub(super) fn apply(self, request: &mut Request) -> Result<(), Failure> {
        let Isolation {
            hostname,
            domainname,
            add_host,
            dns_search,
            dns_option,
            ipc,
            pid,
            uts,
            cgroupns,
            userns,
            uidmap,
            gidmap,
            privileged,
            cap_add,
            cap_drop,
            security_opt,
            sysctl,
            runtime,
        } = self;
        request.hostname = hostname;
        request.domainname = domainname;
        request.hosts.entries = add_host;
        request.hosts.search = dns_search;
        request.hosts.options = dns_option;
        let namespaces = &mut request.namespaces;
        // What is not said is the pod's, as far as that has it.
        let in_pod = request.pod.is_some();
        namespaces.ipc = ipc.unwrap_or(if in_pod { Ipc::Pod } else { Ipc::default() });
        namespaces.pid = pid.unwrap_or(if in_pod { Pid::Pod } else { Pid::default() });
        namespaces.uts = uts.unwrap_or(if in_pod { Uts::Pod } else { Uts::default() });
        namespaces.cgroup = cgroupns;
        namespaces.user = match uidmap.is_empty() {
            true => userns,
            false => Some(UserNamespace::Map { uids: uidmap, gids: gidmap }),
        };
        request.security.privileged = privileged;
        request.security.add = cap_add;
        request.security.drop = cap_drop;
        for option in security_opt {
            let option = match option {
                SecurityOption::SeccompFile(path) => SecurityOption::Seccomp(profile(&path)?),
                other => other,
            };
            request
                .security
                .apply(option)
                .map_err(|error| Failure::new(error.to_string()).code(NOT_STARTED))?;
        }
        request.sysctls.extend(sysctl.into_iter().map(files::pair));
        request.runtime = runtime;
        Ok(())
    }
}

/// The profile in a file.
fn profile(path: &Path) -> Result<Seccomp, Failure> {
    files::read(path).map(Seccomp::Profile)
}
