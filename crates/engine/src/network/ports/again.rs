//! Ports of a container whose networks change while it runs: they lead to it by the ways in that it has then.

use std::net::IpAddr;

use super::{Choice, Chosen, MoreFiles, PublishedPort, Wanted, wanted};
use crate::engine::Engine;
use crate::error::{Result, chain};
use crate::known::Known;
use crate::network::address::Joint;
use crate::network::host::{Host, Warnings};
use crate::network::live::Live;
use crate::network::proxy::{self, Kept};
use crate::network::start::{Wish, called, exposed, forget_after};
use crate::network::ways::{WaysIn, ranked};

impl Engine {
    /// Has the ports of a container that runs lead to it by these networks, which it has by now, and tells of those that do not; they
    /// are those that it had before, as far as they can be.
    pub(in crate::network) fn publish_again(
        &self,
        host: &Host<'_>,
        known: &Known,
        joints: &[Joint],
        before: &[PublishedPort],
    ) -> Warnings {
        let mut warnings = Warnings::new();
        if !known.document.request.publishing.is_any() {
            return warnings;
        }
        let mut published = || -> Result<()> {
            let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
            let exposed = exposed(&known.document.request, image.as_ref());
            let called = called(&known.record, &known.document);
            host.publish_again(&Wish::of(known, joints, &exposed, &called), before, &mut warnings)
        };
        if let Err(error) = published() {
            // It is connected otherwise, whether its ports follow or not.
            warnings.push(format!("its ports lead nowhere until its next start: {}", chain(&error)));
        }
        warnings
    }
}

impl Host<'_> {
    fn publish_again(
        &self,
        wish: &Wish<'_>,
        before: &[PublishedPort],
        warnings: &mut Warnings,
    ) -> Result<()> {
        let now = Live::read_to_add(self.engine(), wish.owner)?;
        let wanted = match wanted(wish.publishing, wish.exposed, wish.joints) {
            Ok(wanted) => wanted,
            Err(error) => {
                // Who had no way in before is told nothing new.
                if !before.is_empty() {
                    warnings.push(format!("its ports lead nowhere any more: {}", chain(&error)));
                }
                return self.publish_nothing(now);
            }
        };
        if wanted.is_empty() || tell_of_plugins(wish.joints, &now, warnings) || are_led(&wanted, &now.ports) {
            return Ok(());
        }
        let pinned = pin(&wanted, before);
        let kept =
            Vec::from_iter(pinned.iter().filter(|(_, is_kept)| *is_kept).map(|(wanted, _)| wanted.clone()));
        let all = Vec::from_iter(pinned.into_iter().map(|(wanted, _)| wanted));
        let roomy = MoreFiles::for_all(all.len());
        // What they were led by is in the way of them.
        proxy::end(self.engine(), &now)?;
        self.close_loopback(&now)?;
        let leads_there = |port: &&PublishedPort| all.iter().any(|wanted| wanted.to == port.to);
        let gone = Vec::from_iter(now.translated().iter().filter(|port| !leads_there(port)).cloned());
        let choose = |wanted: &[Wanted]| Choice::new(self, wish.owner, wish.publishing.mode)?.make(wanted);
        let chosen = choose(&all).or_else(|error| {
            // A new one that cannot be had costs none of the others.
            warnings.push(format!("not all of its ports lead to it until its next start: {}", chain(&error)));
            choose(&kept)
        });
        let (ports, sockets) = match chosen {
            Ok(chosen) if !chosen.0.is_empty() => chosen,
            chosen => return self.publish_nothing(now).and(chosen.map(drop)),
        };
        let chosen = Chosen { ports, sockets, _roomy: roomy };
        self.publish(wish, chosen, Kept::ByNobody, warnings)?;
        forget_after(&gone)
    }

    /// Takes back what leads to an owner.
    fn publish_nothing(&self, now: Live) -> Result<()> {
        if now.ports.is_empty() && now.proxy.is_none() {
            return Ok(());
        }
        self.rules.keep(&now.owner, &[])?;
        proxy::end(self.engine(), &now)?;
        forget_after(now.translated())?;
        self.close_loopback(&now)?;
        let (ports, refused, homeless) = Default::default();
        Live { ports, refused, homeless, proxy: None, ..now }.write(self.engine())
    }
}

/// Tells whether the ports are, or are to be, those of plugins, which lead ports to a container when they attach it and never again.
fn tell_of_plugins(joints: &[Joint], now: &Live, warnings: &mut Warnings) -> bool {
    let entry = WaysIn::of(joints).elsewhere();
    let name = |joint: &Joint| crate::network::bare(&joint.record.name).to_owned();
    if let Some(entry) = entry.filter(|_| now.elsewhere.is_empty()) {
        let name = name(entry);
        warnings.push(format!("plugins of network {name} (CNI) lead its ports to it from its next start on"));
    }
    // Answers to what comes by them go out by another.
    let way_out = ranked(joints).into_iter().next().filter(|_| entry.is_none() && !now.elsewhere.is_empty());
    if let Some(way_out) = way_out.filter(|joint| !joint.is_elsewhere()) {
        let name = name(way_out);
        warnings.push(format!(
            "its ports are those of plugins (CNI), and network {name} leads them to it from its next start on"
        ));
    }
    entry.is_some() || !now.elsewhere.is_empty()
}

/// Tells whether these ports lead where they are wanted.
fn are_led(wanted: &[Wanted], ports: &[PublishedPort]) -> bool {
    let is_led = |wanted: &Wanted| {
        ports.iter().any(|port| {
            let Wanted { container, protocol, address, first: _, choices: _, to } = *wanted;
            (port.container, port.protocol, port.address, port.to) == (container, protocol, address, to)
        })
    };
    wanted.len() == ports.len() && wanted.iter().all(is_led)
}

/// Has what is wanted be at the ports where it was, and tells of each whether it was there.
fn pin(wanted: &[Wanted], before: &[PublishedPort]) -> Vec<(Wanted, bool)> {
    let mut left = before.to_vec();
    let family = |address: &IpAddr| address.is_ipv4();
    let pin = |wanted: &Wanted| {
        let Wanted { container, protocol, address, first, choices, to: _ } = wanted;
        let is_in = |port: u16| {
            first.is_none_or(|first| {
                (u32::from(first)..u32::from(first) + u32::from(*choices)).contains(&port.into())
            })
        };
        let place = left.iter().position(|port| {
            (port.container, port.protocol, family(&port.address)) == (*container, *protocol, family(address))
                && is_in(port.host)
        });
        match place.map(|place| left.swap_remove(place)) {
            Some(port) => (Wanted { first: Some(port.host), choices: 1, ..wanted.clone() }, true),
            None => (wanted.clone(), false),
        }
    };
    wanted.iter().map(pin).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::request::Protocol;

    fn wanted_at(container: u16, first: Option<u16>, choices: u16, to: &str) -> Wanted {
        let to: SocketAddr = format!("{to}:{container}").parse().unwrap();
        let address = super::super::unspecified(to.is_ipv4());
        Wanted { container, protocol: Protocol::Tcp, address, first, choices, to }
    }

    fn was(container: u16, host: u16) -> PublishedPort {
        let to = SocketAddr::from(([10, 0, 0, 2], container));
        PublishedPort {
            container,
            protocol: Protocol::Tcp,
            address: super::super::unspecified(true),
            host,
            to,
        }
    }

    #[test]
    fn ports_stay_where_they_were_though_they_lead_elsewhere() {
        let wanted = [
            wanted_at(80, None, 1, "10.0.1.2"),
            wanted_at(80, None, 1, "10.0.1.2"),
            wanted_at(81, Some(8000), 3, "10.0.1.2"),
            wanted_at(82, Some(9000), 1, "10.0.1.2"),
            wanted_at(80, None, 1, "[fd00::2]"),
        ];
        let before = [was(80, 50_000), was(80, 50_001), was(81, 8002), was(82, 9001)];
        let pinned = pin(&wanted, &before);
        let mut first = Vec::from_iter(pinned.iter().map(|(wanted, is_kept)| (wanted.first, *is_kept)));
        first[..2].sort_unstable();
        assert_eq!(
            first,
            [
                (Some(50_000), true),
                (Some(50_001), true),
                (Some(8002), true),
                (Some(9000), false),
                (None, false)
            ]
        );
        assert!(pinned.iter().all(|(wanted, _)| wanted.to.ip() != IpAddr::from([10, 0, 0, 2])));
    }

    #[test]
    fn ports_are_led_when_each_is_where_it_is_wanted_and_no_other() {
        let wanted = [wanted_at(80, Some(8080), 1, "10.0.0.2")];
        let [first, second] = [was(80, 8080), was(81, 8081)];
        assert!(are_led(&wanted, std::slice::from_ref(&first)));
        assert!(!are_led(&wanted, &[first, second]));
        assert!(!are_led(&wanted, &[]));
        assert!(!are_led(&[wanted_at(80, Some(8080), 1, "10.0.1.2")], &[was(80, 8080)]));
    }
}
