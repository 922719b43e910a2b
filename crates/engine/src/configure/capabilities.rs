//! Which capabilities a container has.

use bulkhead_seccomp::DEFAULT_CAPABILITIES;
use bulkhead_sys::capability;

use super::{Scene, invalid};
use crate::error::Result;
use crate::request::{Capability, Security};

/// Decides the bounding set, by the kernel's order: docker's default without `--cap-drop` and with `--cap-add`; with ALL on
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
    let mut kept = Vec::new();
    for name in capability::NAMES.iter().map(|name| format!("CAP_{name}")) {
        let by_default = DEFAULT_CAPABILITIES.contains(&name.as_str());
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
