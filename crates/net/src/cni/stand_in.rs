//! A namespace in the place of one that is gone.
//!
//! The plugins `bridge` and `ptp` learn from the container's device which rules of masquerading they have made, and leave these where it
//! has gone with its namespace. They are given one in which a device of the name has the addresses, of which they take these and
//! delete it. Others would do something else with it, such as move it to the host, and are told that there is no namespace.

use std::os::fd::{AsFd as _, OwnedFd};

use super::error::{Doing as _, Result};
use super::record::Record;
use super::result::Attached;
use crate::device::{Bridge, Change, Devices, Mac, make_namespace};

/// Who needs one.
const NEEDY: [&str; 2] = ["bridge", "ptp"];

/// Tells whether a plugin needs one.
pub(super) fn is_for(plugin: &str) -> bool {
    NEEDY.contains(&plugin)
}

/// Makes one for an attachment of which it is known what it was; it goes with its descriptor.
pub(super) fn make(record: &Record, device: &str) -> Result<Option<OwnedFd>> {
    let Some(Ok(Attached { interfaces, addresses, .. })) = record.result.as_ref().map(Attached::read) else {
        return Ok(None);
    };
    let is_its = |index: usize| interfaces.get(index).is_some_and(|interface| interface.name == device);
    let its = addresses.iter().filter(|address| address.interface.is_none_or(is_its));
    let make = || -> crate::Result<OwnedFd> {
        let namespace = make_namespace()?;
        let there = Devices::of(namespace.as_fd())?;
        // Any device that is made without another does.
        let bridge = Bridge { name: device, mac: Mac([2, 0, 0, 0, 0, 1]), mtu: None };
        there.change(vec![Change::make_bridge(&bridge)])?;
        let index = there.find(device)?.map_or(0, |found| found.index);
        there.change(its.map(|address| Change::give_address(index, address.net)).collect())?;
        Ok(namespace)
    };
    make()
        .map(Some)
        .map_err(std::io::Error::other)
        .doing(|| format!("make a namespace with a device {device}"))
}
