//! How a container comes into a pod.

use bulkhead_shim::order::NamespaceKind;
use bulkhead_store::{Image, PodRecord};

use super::document::PodDocument;
use super::request::PodRequest;
use crate::configure::Users;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::network;
use crate::request::{InPod, Ipc, Network, Pid, Publishing, Request, Resources, UserNamespace, Uts};

/// The pod of a container that is being made.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Its record.
    pub(crate) record: PodRecord,
    /// Whether it is as new as the container.
    pub(crate) origin: Origin,
    /// The users that its containers share, if they are not the host's.
    pub(crate) users: Option<Users>,
    /// What the user should be told.
    pub(crate) warnings: Vec<String>,
}

/// Where the pod of a new container comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was there.
    Found,
    /// It was made for the container.
    Made,
}

impl Engine {
    /// Finds or makes the pod that a request names, and decides what the container shares with it. Without a pod there is
    /// nothing to share.
    ///
    /// # Errors
    /// When the pod is not there, or the request asks for something else than what the pod's containers share.
    pub(crate) fn join_pod(&self, request: &mut Request, image: Option<&Image>) -> Result<Option<Joined>> {
        let mut warnings = Vec::new();
        let (record, origin) = match request.pod.clone() {
            None => {
                share_nothing(request);
                return Ok(None);
            }
            Some(InPod::Existing(wanted)) => (self.find_pod(&wanted)?, Origin::Found),
            Some(InPod::New(name)) => {
                let (made, told) = self.create_pod(&take_over(request, name, image))?;
                warnings = told;
                (self.store.pod(&made.id)?, Origin::Made)
            }
        };
        let document = PodDocument::read(&record)?;
        let joined = Joined { record, origin, users: document.users.clone(), warnings };
        if let Err(error) = share(request, &joined.record, &document) {
            self.leave_pod(&joined);
            return Err(error);
        }
        request.pod = Some(InPod::Existing(joined.record.id.clone()));
        Ok(Some(joined))
    }

    /// Removes a pod that was made for a container which could not be.
    pub(crate) fn leave_pod(&self, joined: &Joined) {
        if joined.origin == Origin::Made {
            // The first error is the one to tell; a pod that stays has a name by which it can be removed.
            drop(self.remove_pod(&joined.record.id, crate::remove::Force::No));
        }
    }
}

/// A new pod has what its first container would have had, also all ports that its image names where these are published.
fn take_over(request: &mut Request, name: String, image: Option<&Image>) -> PodRequest {
    if request.publishing.all {
        request.publishing.exposed = network::exposed(request, image);
    }
    let network = match &mut request.namespaces.network {
        // It is in the pod's, and that has what a container would have.
        Network::Pod => Network::Default,
        network @ (Network::Host
        | Network::None
        | Network::Default
        | Network::Networks(_)
        | Network::Carried(_)) => std::mem::replace(network, Network::Pod),
        Network::Container(_) => Network::None,
    };
    PodRequest {
        name: Some(name),
        network,
        publishing: std::mem::take(&mut request.publishing),
        hostname: request.hostname.take(),
        hosts: std::mem::take(&mut request.hosts),
        shm_size: request.resources.shm_size.take(),
        user: request.namespaces.user.take(),
        cgroup_parent: request.resources.cgroup_parent.take(),
        ..PodRequest::default()
    }
}

/// Has of its own what it would share with its pod.
fn share_nothing(request: &mut Request) {
    let namespaces = &mut request.namespaces;
    if namespaces.network == Network::Pod {
        namespaces.network = Network::Default;
    }
    if namespaces.ipc == Ipc::Pod {
        namespaces.ipc = Ipc::Private;
    }
    if namespaces.uts == Uts::Pod {
        namespaces.uts = Uts::Private;
    }
    if namespaces.pid == Pid::Pod {
        namespaces.pid = Pid::Private;
    }
}

/// Shares what the pod's containers share.
fn share(request: &mut Request, record: &PodRecord, document: &PodDocument) -> Result<()> {
    let pod = &document.request;
    let refuse = |flag: &str, reason: &str| {
        Err(Error::Invalid { what: format!("{flag} with --pod {}", record.name), reason: reason.into() })
    };
    let namespaces = &mut request.namespaces;
    let shares_any = pod.share.names().next().is_some();
    if shares_any && matches!(&namespaces.user, Some(user) if *user != UserNamespace::Host) {
        return refuse("--userns", "its containers share their users: give it to `bulkhead pod create`");
    }
    if shares_any && document.users.is_some() {
        if namespaces.user == Some(UserNamespace::Host) {
            return refuse(
                "--userns host",
                "its containers have the users of the pod, which an ordinary user's needs",
            );
        }
        namespaces.user = Some(UserNamespace::Pod);
    }
    if pod.share.has(NamespaceKind::Network) {
        match (&namespaces.network, &pod.network) {
            (Network::Pod, Network::Host) => namespaces.network = Network::Host,
            (Network::Pod, _) => {}
            _ => {
                return refuse(
                    "--network",
                    "its containers share a network: give it to `bulkhead pod create`",
                );
            }
        }
    }
    let kept = namespaces.clone();
    if kept.network == Network::Pod && request.publishing != Publishing::default() {
        return refuse(
            "--publish",
            "the ports are those of the network that its containers share: give them to `bulkhead pod create`",
        );
    }
    share_nothing(request);
    let namespaces = &mut request.namespaces;
    if kept.network == Network::Pod && pod.share.has(NamespaceKind::Network) {
        namespaces.network = Network::Pod;
    }
    if kept.ipc == Ipc::Pod && pod.share.has(NamespaceKind::Ipc) {
        namespaces.ipc = Ipc::Pod;
    }
    if kept.uts == Uts::Pod && pod.share.has(NamespaceKind::Uts) {
        namespaces.uts = Uts::Pod;
    }
    if kept.pid == Pid::Pod && pod.share.has(NamespaceKind::Pid) {
        namespaces.pid = Pid::Pod;
    }
    if request.resources.cgroup_parent.is_some() && pod.limits != Resources::default() {
        return refuse("--cgroup-parent", "the pod's limits hold below its own cgroup alone; leave it out");
    }
    if request.resources.cgroup_parent.is_none() {
        request.resources.cgroup_parent.clone_from(&document.cgroup);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Request {
        let mut request = Request::default();
        request.namespaces.network = Network::Pod;
        request.namespaces.ipc = Ipc::Pod;
        request.namespaces.uts = Uts::Pod;
        request.namespaces.pid = Pid::Pod;
        request
    }

    fn shared(share_text: &str, network: Network, mut request: Request) -> Result<Request> {
        let pod = PodRequest { share: share_text.parse().unwrap(), network, ..PodRequest::default() };
        let document = PodDocument::new(pod, Some("/bulkhead/pod-x".to_owned()), None);
        share(&mut request, &PodRecord::new("x", "web"), &document)?;
        Ok(request)
    }

    #[test]
    fn a_container_shares_what_its_pod_shares_and_has_the_rest_of_its_own() {
        let all = shared("net,ipc,uts,pid", Network::None, asked()).unwrap();
        assert_eq!(all.namespaces, asked().namespaces);
        assert_eq!(all.resources.cgroup_parent.as_deref(), Some("/bulkhead/pod-x"));
        let none = shared("none", Network::None, asked()).unwrap();
        assert_eq!(none.namespaces, Request::default().namespaces);
        let host = shared("net", Network::Host, asked()).unwrap();
        assert_eq!((host.namespaces.network, host.namespaces.ipc), (Network::Host, Ipc::Private));
    }

    #[test]
    fn a_container_has_the_users_of_a_pod_that_has_some_and_shares_anything() {
        let map = vec![bulkhead_shim::users::IdMapping { container_id: 0, host_id: 1000, size: 1 }];
        let users = Users { uids: map.clone(), gids: map };
        let shared = |share_text: &str, user: Option<UserNamespace>| {
            let pod = PodRequest { share: share_text.parse().unwrap(), ..PodRequest::default() };
            let document = PodDocument::new(pod, None, Some(users.clone()));
            let mut request = asked();
            request.namespaces.user = user;
            share(&mut request, &PodRecord::new("x", "web"), &document).map(|()| request.namespaces.user)
        };
        assert_eq!(shared("uts", None).unwrap(), Some(UserNamespace::Pod));
        assert_eq!(shared("none", None).unwrap(), None);
        let own = UserNamespace::KeepId { uid: None, gid: None };
        assert_eq!(shared("none", Some(own.clone())).unwrap(), Some(own.clone()));
        let error = shared("uts", Some(own)).unwrap_err().to_string();
        assert!(error.contains("give it to `bulkhead pod create`"), "{error}");
    }

    #[test]
    fn a_container_may_have_some_things_otherwise_but_not_its_network() {
        let mut request = asked();
        request.namespaces.pid = Pid::Host;
        assert_eq!(shared("+pid", Network::None, request).unwrap().namespaces.pid, Pid::Host);
        let mut request = asked();
        request.namespaces.network = Network::Host;
        let error = shared("net", Network::None, request.clone()).unwrap_err().to_string();
        assert!(error.starts_with("--network with --pod web: "), "{error}");
        assert_eq!(shared("ipc", Network::None, request).unwrap().namespaces.network, Network::Host);
    }

    #[test]
    fn a_container_does_not_leave_the_limits_of_its_pod() {
        let mut request = asked();
        request.resources.cgroup_parent = Some("/elsewhere".to_owned());
        let limited = Resources { cpu_shares: Some(5), ..Resources::default() };
        for (limits, is_refused) in [(Resources::default(), false), (limited, true)] {
            let pod = PodRequest { limits, ..PodRequest::default() };
            let document = PodDocument::new(pod, Some("/bulkhead/pod-x".to_owned()), None);
            let shared = share(&mut request.clone(), &PodRecord::new("x", "web"), &document);
            let error = shared.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error.starts_with("--cgroup-parent with --pod web: "), is_refused, "{error}");
        }
    }
}
