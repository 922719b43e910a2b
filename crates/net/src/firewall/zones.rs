//! firewalld's zones, as its table shows them.
//!
//! A chain sends each packet that is forwarded to the chain of the zone of the device by which it came, and at its end to that of the
//! default zone, where devices are that belong to none. Within a zone packets may go from device to device: so containers reach
//! other hosts where all devices that lead there are in the default zone, as NetworkManager has it.

use crate::device::Devices;
use crate::error::Result;
use crate::nft::{Filter, FoundChain, Named};
use crate::uplink;

/// What leads to the zones, before 2.0 and since.
const DISPATCH: [&str; 2] = ["filter_FORWARD_ZONES", "filter_FORWARD_dispatch"];
/// The chains of a zone, around its name.
const ZONE: &str = "filter_FWD_";
const STAGE: &str = "_dispatch_stage2";

/// Whether what containers send to other hosts is let out of bridges whose names begin so: by the default zone, or since an
/// administrator has given them a zone, which is as is wanted then.
pub(super) fn let_out(filter: &Filter, chains: &[FoundChain], prefix: &str) -> Result<bool> {
    let Some(dispatch) = chains.iter().find(|chain| is_named(chain, &DISPATCH)) else { return Ok(false) };
    let jumps = filter.jumps(dispatch)?;
    if jumps.iter().any(|jump| jump.is_for(Named::Prefix(prefix))) {
        return Ok(true);
    }
    let default = jumps.iter().find(|jump| jump.is_for_all());
    let default = default.and_then(|jump| jump.to.strip_prefix(ZONE));
    let allow = default.map(|zone| format!("{ZONE}{}_allow", zone.strip_suffix(STAGE).unwrap_or(zone)));
    let Some(allow) = allow.and_then(|name| chains.iter().find(|chain| is_named(chain, &[&name]))) else {
        return Ok(false);
    };
    let devices = uplink::devices(&Devices::open()?)?.concat();
    for device in &devices {
        if !filter.passing(allow, Named::Exactly(device))?.is_let_out {
            return Ok(false);
        }
    }
    Ok(!devices.is_empty())
}

fn is_named(chain: &FoundChain, names: &[&str]) -> bool {
    chain.table == "firewalld" && names.contains(&chain.name.as_str())
}
