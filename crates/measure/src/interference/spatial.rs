//! Every probe from inside a sandbox, with a witness outside.

use std::time::Instant;

use crate::arena::{self, Arena, LIMIT, WORKLOAD};
use crate::claim::Claim;
use crate::error::Error;
use crate::interrupt;
use crate::plan::{AGAIN, Axis, BARE, Size, Task};
use crate::platform::{Platform, Seat, WORKING_DIRECTORY};
use crate::record::Finding;
use crate::started::{self, Input, Started};
use crate::stats::Failure;

use super::judge::{self, Said};
use super::probes::{Aims, PROBES, Probe};
use super::witness::Witness;

/// The task's name.
pub(super) const NAME: &str = "probes";

/// The seat of the sandbox from which everything is attempted.
const SEAT: usize = 2;

/// The task as the plan has it.
pub(super) fn task(size: Size) -> Task {
    let blocks = match size {
        Size::Quick => 1,
        Size::Full => 3,
    };
    Task {
        name: NAME.to_owned(),
        axis: Axis::Noninterference,
        says: format!(
            "{} attempts on what is outside, each in a sandbox of its own; a witness on the host tells whether it was reached.",
            PROBES.len()
        ),
        pair: None,
        rate: None,
        quantities: Vec::new(),
        least: blocks,
        most: blocks,
    }
}

/// How many attempts there are, and which of them have no witness on this host, with the reason.
///
/// # Errors
/// When no witness can be laid out at all.
pub(super) fn unwitnessed() -> Result<(usize, Vec<String>), Error> {
    // What is left of it when it is killed is found as a measurement's is.
    let claim = Claim::make(&std::env::temp_dir(), arena::PREFIX)?;
    let found = Witness::lay(claim.name(), claim.path()).map(|mut witness| {
        let missing = PROBES.iter().filter_map(|probe| {
            let armed = witness.arm(probe.sight).err();
            let nothing =
                || (probe.words)(witness.aims()).is_none().then(|| "nothing of the kind".to_owned());
            armed.or_else(nothing).map(|reason| format!("{} ({reason})", probe.name))
        });
        missing.collect()
    });
    claim.remove()?;
    Ok((PROBES.len(), found?))
}

/// Makes every attempt.
pub(super) fn take(arena: &Arena, platform: &Platform) -> Vec<Finding> {
    // What is without a wall need not be shown twice.
    if platform.name == AGAIN {
        return Vec::new();
    }
    let mut witness = match Witness::lay(arena.name(), arena.place()) {
        Ok(witness) => witness,
        Err(error) => {
            let Failure(reason) = error.into();
            return PROBES.iter().map(|probe| judge::moot(probe, &reason)).collect();
        }
    };
    let attempts = PROBES.iter().map_while(|probe| {
        // A session throws away what was interrupted.
        interrupt::check().is_ok().then(|| attempt(probe, arena, platform, &mut witness))
    });
    attempts.collect()
}

fn attempt(probe: &Probe, arena: &Arena, platform: &Platform, witness: &mut Witness) -> Finding {
    if let Err(reason) = witness.arm(probe.sight) {
        return judge::moot(probe, &reason);
    }
    let seat = match arena.seat(platform, SEAT) {
        Ok(seat) => seat,
        Err(error) => return judge::moot(probe, &Failure::from(error).0),
    };
    let inside = |path: &str| {
        let bare = platform.kind.name == BARE;
        if bare {
            seat.root.join(path.trim_start_matches('/')).display().to_string()
        } else {
            path.to_owned()
        }
    };
    let aims = Aims {
        root: inside("/"),
        node: inside(&format!("{WORKING_DIRECTORY}/node")),
        place: inside("/run"),
        ..witness.aims().clone()
    };
    let Some(words) = (probe.words)(&aims) else {
        return judge::moot(probe, "the host has nothing of that kind to be reached");
    };
    let said = run(arena, platform, &seat, &words, witness);
    let nothing = Said::Done(Vec::new());
    let saw = witness.look(probe.sight, said.as_ref().unwrap_or(&nothing));
    judge::verdict(probe, &said, saw)
}

fn run(
    arena: &Arena,
    platform: &Platform,
    seat: &Seat,
    words: &[String],
    witness: &Witness,
) -> Result<Said, Failure> {
    let words = [WORKLOAD, "probe"].into_iter().chain(words.iter().map(String::as_str));
    let words = Vec::from_iter(words.map(str::to_owned));
    platform.prepare(seat, &words)?;
    let started = arena::start(platform.run(seat, &words), seat, Input::Nothing)?;
    let ran = serve(started, witness).inspect_err(|_| arena.clear(platform, seat))?;
    Said::of(&ran)
}

/// Waits for the attempt's end, and answers who calls meanwhile.
fn serve(mut started: Started, witness: &Witness) -> Result<Vec<u8>, Failure> {
    let end = Instant::now() + LIMIT;
    while started.look()?.is_none() {
        let waited = Vec::from_iter(witness.listeners().chain([started.ending()]));
        started::wait_for(&waited, end)?;
        witness.serve();
    }
    started.finish(LIMIT).map(|ended| ended.output)
}
