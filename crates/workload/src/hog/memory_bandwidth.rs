//! Copies memory without end.

use super::Share;
use crate::error::Result;
use crate::pace::now;
use crate::work::Copying;

pub(super) fn live(share: &Share<'_>) -> Result<()> {
    let mut copying = Copying::new((share.mib << 20) / 2)?;
    share.slot.hold(share.mib as u64);
    while now() < share.end {
        copying.copy()?;
        share.slot.count(1);
    }
    Ok(())
}
