//! `pod create`.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_engine::pod::Share;
use bulkhead_engine::request::{
    HostEntry, Hosts, KeyValue, Network, PublishMode, PublishedPorts, Publishing, Resources, Size,
    UserNamespace,
};
use bulkhead_engine::store::Kind;
use bulkhead_engine::{Force, PodRequest};
use clap::Args;

use crate::container::options::{Limits, labels, pair};
use crate::failure::{Failure, NOT_STARTED, warn};
use crate::home::Home;
use crate::verbs::Operation;

/// Create a pod, whose containers share a network and more
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead pod create [OPTIONS] [NAME]")]
pub(crate) struct Create {
    /// Name the pod
    #[arg(short, long = "name", value_name = "NAME", conflicts_with = "name")]
    named: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<KeyValue>,
    /// Set the labels of a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// What its containers share: a list of net, ipc, uts and pid, or none; +pid adds to the usual
    #[arg(long, value_name = "LIST", default_value = "ipc,net,uts")]
    share: Share,
    /// Network: its name, none, host, or of an ordinary user pasta or slirp4netns
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<Network>,
    /// Have a port of the host lead to its containers: [ADDRESS:][HOST:]PORT
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<PublishedPorts>,
    /// How ports of the host lead to them: dnat, or proxy
    #[arg(long, value_name = "MODE", default_value = "dnat")]
    publish_mode: PublishMode,
    /// Name its containers have for themselves
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<HostEntry>,
    /// Ask this server for names
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Look for names in this domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf(5)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Set a parameter of the kernel in what is shared
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<KeyValue>,
    /// Size of the /dev/shm that is shared
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<Size>,
    /// Users of its containers: host, or for ordinary users keep-id
    #[arg(long, value_name = "MODE")]
    userns: Option<UserNamespace>,
    /// The cgroup below which the pod's is
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// Write the pod's id into this file, which must not be there
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
    /// Remove a pod of that name first, with its containers
    #[arg(long)]
    replace: bool,
    /// Its name; without it one is made up
    name: Option<String>,
}

impl Operation for Create {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Create {
            named,
            label,
            label_file,
            share,
            network,
            publish,
            publish_mode,
            hostname,
            add_host,
            dns,
            dns_search,
            dns_option,
            sysctl,
            shm_size,
            userns,
            cgroup_parent,
            limits,
            pod_id_file,
            replace,
            name,
        } = self;
        let mut resources = Resources::default();
        limits.apply(&mut resources);
        let mut chosen = Network::Default;
        for more in network {
            chosen.add(more).map_err(|error| Failure::new(error.to_string()).code(NOT_STARTED))?;
        }
        let request = PodRequest {
            name: named.or(name),
            labels: labels(&label_file, label)?,
            share,
            network: chosen,
            publishing: Publishing { ports: publish, mode: publish_mode, ..Publishing::default() },
            hostname,
            hosts: Hosts { servers: dns, search: dns_search, options: dns_option, entries: add_host },
            sysctls: sysctl.into_iter().map(pair).collect(),
            shm_size,
            user: userns,
            cgroup_parent,
            limits: resources,
        };
        let not_started = |error: bulkhead_engine::Error| Failure::from(error).code(NOT_STARTED);
        let engine = home.engine()?;
        let file = pod_id_file.as_ref().map(|path| {
            let told = path.display();
            std::fs::File::create_new(path)
                .map_err(|error| Failure::new(format!("make {told} for the id: {error}")).code(NOT_STARTED))
        });
        let file = file.transpose()?;
        if let (true, Some(name)) = (replace, &request.name) {
            match engine.remove_pod(name, Force::Yes) {
                Err(error) if error.kind() == Kind::NotFound => {}
                removed => drop(removed.map_err(not_started)?),
            }
        }
        let (pod, warnings) = match engine.create_pod(&request) {
            Ok(made) => made,
            Err(error) => {
                // Nothing was made that the file could name.
                if let Some(path) = &pod_id_file {
                    let _ = std::fs::remove_file(path);
                }
                return Err(not_started(error));
            }
        };
        if let Some(mut file) = file {
            file.write_all(pod.id.as_bytes()).map_err(Failure::doing("write the file for the id"))?;
        }
        warnings.iter().for_each(|text| warn(text));
        writeln!(io::stdout(), "{}", pod.id)?;
        Ok(ExitCode::SUCCESS)
    }
}
