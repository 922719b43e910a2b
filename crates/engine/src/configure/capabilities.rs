//! Which capabilities a container has.

use bulkhead_seccomp::DEFAULT_CAPABILITIES;
use bulkhead_sys::capability;

use super::{Caller, Scene, invalid};
use crate::error::Result;
use crate::request::{Capability, Network, Security};

/// Decides the bounding set, by the kernel's order: docker's default, but for CAP_NET_RAW where a program of the user's carries its packets, without `--cap-drop` and with `--cap-add`; with ALL on
/// either side the other list is what is left.
///
/// # Errors
/// A capability that the host cannot give.
pub(super) fn decide(scene: &Scene<'_>) -> Result<Vec<String>> {
    let Security { privileged, add, drop, .. } = &scene.request.security;
    // In a user namespace of its own a container has whatever the kernel knows.
    let in_own = scene.users.is_some();
    let available = |name: &str| in_own || scene.facts.has_capability(name);
    let listed = |list: &[Capability], name: &str| list.iter().any(|capability| capability.as_str() == name);
    let all = |list: &[Capability]| list.iter().any(Capability::is_all);
    if let Some(missing) =
        add.iter().find(|capability| !capability.is_all() && !available(capability.as_str()))
    {
        let reason = "whoever runs this engine does not have it, and cannot give it";
        return Err(invalid(format!("--cap-add {missing}"), reason));
    }
    // slirp4netns and old versions of pasta lead frames that a container makes by itself to the host's own loopback.
    let is_carried = match &scene.request.namespaces.network {
        Network::Carried(_) | Network::Container(_) => scene.facts.caller != Caller::Root,
        Network::Pod => scene.pod.is_some_and(|pod| pod.carrier.is_some()),
        _ => false,
    };
    let mut kept = Vec::new();
    for name in capability::NAMES.iter().map(|name| format!("CAP_{name}")) {
        let is_usual = DEFAULT_CAPABILITIES.contains(&name.as_str());
        let by_default = is_usual && !(is_carried && name == "CAP_NET_RAW");
        let wanted = match (*privileged || all(add), all(drop)) {
            (true, false) => !listed(drop, &name) || *privileged,
            (false, true) => listed(add, &name),
            (true, true) => *privileged || !listed(drop, &name),
            (false, false) => listed(add, &name) || by_default && !listed(drop, &name),
        };
        if wanted && available(&name) {
            kept.push(name);
        }
    }
    Ok(kept)
}
