//! By which of its networks a container's packets go out, and ports of the host lead in: of each family by one.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::address::Joint;
use super::document::Driver;

/// Returns the networks with a way out, those by which packets rather go first.
pub(super) fn ranked(joints: &[Joint]) -> Vec<&Joint> {
    let mut open = Vec::from_iter(joints.iter().filter(|joint| joint.is_open()));
    open.sort_by_key(|joint| (Reverse(joint.connection.gateway_priority), joint.endpoint.position));
    open
}

/// Returns where packets go by a network that go nowhere else: of each family by the first that has such a way.
pub(super) fn gateways_by(joint: &Joint, joints: &[Joint]) -> Vec<IpAddr> {
    let ranked = ranked(joints);
    let is_first = |gateway: &IpAddr| {
        let first = ranked.iter().find(|of| of.may_lead_out(gateway.is_ipv4()));
        first.is_some_and(|first| first.record.id == joint.record.id)
    };
    joint.gateways().into_iter().filter(is_first).collect()
}

impl Joint {
    /// Tells whether packets of a family may leave by it; of one that is not attached yet nobody knows.
    fn may_lead_out(&self, is_v4: bool) -> bool {
        (self.is_elsewhere() && self.attached.is_none())
            || self.gateways().iter().any(|gateway| gateway.is_ipv4() == is_v4)
    }

    /// Returns its address of a family in a network of the engine's.
    pub(super) fn address_of(&self, is_v4: bool) -> Option<IpAddr> {
        self.endpoint.addresses().find(|own| own.is_ipv4() == is_v4)
    }
}

/// The networks by which ports of the host lead to a container: of each family the one by which its packets go out, so that what it
/// answers goes back by where it came, or the first with a way in. One from elsewhere has all of them, if there is no other.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaysIn<'a> {
    v4: Option<&'a Joint>,
    v6: Option<&'a Joint>,
}

impl<'a> WaysIn<'a> {
    pub(super) fn of(joints: &'a [Joint]) -> Self {
        let ranked = ranked(joints);
        let bridges = || ranked.iter().copied().filter(|joint| joint.document.driver == Driver::Bridge);
        let of_family = |is_v4: bool| bridges().find(|joint| joint.address_of(is_v4).is_some());
        if bridges().next().is_some() {
            return Self { v4: of_family(true), v6: of_family(false) };
        }
        let place = |joint: &Joint| ranked.iter().position(|of| of.record.id == joint.record.id);
        let other = joints
            .iter()
            .filter(|joint| !joint.document.internal)
            .min_by_key(|joint| (!joint.is_elsewhere(), place(joint).unwrap_or(usize::MAX)));
        Self { v4: other, v6: other }
    }

    /// Returns the one of a family.
    pub(super) fn of_family(self, is_v4: bool) -> Option<&'a Joint> {
        if is_v4 { self.v4 } else { self.v6 }
    }

    /// Returns the first of them; none where nothing leads in.
    pub(super) fn first(self) -> Option<&'a Joint> {
        self.v4.or(self.v6)
    }

    /// Returns the one whose plugins publish the ports, if these are theirs.
    pub(super) fn elsewhere(self) -> Option<&'a Joint> {
        self.first().filter(|joint| joint.is_elsewhere())
    }
}
