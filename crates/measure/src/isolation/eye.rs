//! How closely this kernel can be watched: the closest way that it allows is taken, and why not a closer one is told.

use super::follow::Following;
use super::instance::Instance;
use super::kernel::Functions;
use super::listen::{Listening, Tracer};
use super::seen::Seen;
use crate::record::Level;
use crate::stats::Failure;

/// Begins the names of what watching makes.
pub(crate) const PREFIX: &str = "bh-watch-";

/// What watches.
#[derive(Debug)]
pub(crate) struct Eye {
    way: Way,
    /// Why it is no closer one, a sentence for each level that is not reached.
    pub(crate) refusals: Vec<String>,
    /// The kernel's functions; none unless they are watched, or stacks are sampled.
    pub(super) functions: Functions,
    /// Whether stacks are sampled beside system calls, or why not.
    pub(super) samples: Result<(), String>,
}

#[derive(Debug)]
enum Way {
    Tracer(Box<Tracer>, Level),
    Ptrace,
}

/// A process tree that is watched.
#[derive(Debug)]
pub(super) enum Look<'a> {
    Tracer(Listening<'a>),
    Ptrace(Following),
}

impl Eye {
    /// Tries what this kernel allows. The caller must have mounts of its own to be allowed more than ptrace.
    pub(crate) fn open() -> Self {
        let mut refusals = Vec::new();
        let (way, samples) = tracer(&mut refusals).unwrap_or_else(|| {
            (
                Way::Ptrace,
                Err("stacks are sampled beside tracepoints, which this kernel does not allow".to_owned()),
            )
        });
        let functions = match &way {
            Way::Tracer(_, Level::Functions) => Functions::read(),
            Way::Tracer(..) if samples.is_ok() => Functions::read(),
            _ => Functions::default(),
        };
        Self { way, refusals, functions, samples }
    }

    /// What it sees.
    pub(crate) fn level(&self) -> Level {
        match &self.way {
            Way::Tracer(_, level) => *level,
            Way::Ptrace => Level::Calls,
        }
    }

    /// The level and why it is no higher one, for the journal.
    pub(crate) fn says(&self) -> String {
        let level = match self.level() {
            Level::Tracepoints if self.samples.is_ok() => {
                "level 1, system calls, by tracepoints, and functions in sampled stacks, a lower bound"
            }
            Level::Functions => "level 2, functions, by the function tracer",
            Level::Tracepoints => "level 1, system calls, by tracepoints",
            Level::Calls | Level::Samples => "level 0, system calls, by ptrace",
        };
        let reasons = self.refusals.iter().map(String::as_str);
        let refused = self.samples.as_ref().err().filter(|_| self.level() == Level::Tracepoints);
        let reasons = reasons.chain(refused.map(String::as_str));
        Vec::from_iter([level].into_iter().chain(reasons)).join("; ")
    }

    /// Begins to watch `pid`, which must be stopped, and the `makers` that work for it elsewhere, with all that they will make.
    pub(super) fn begin(&mut self, pid: u32, makers: &[u32]) -> Result<Look<'_>, Failure> {
        match &mut self.way {
            Way::Tracer(tracer, _) => tracer.begin(pid, makers).map(Look::Tracer),
            Way::Ptrace if makers.is_empty() => Following::begin(pid).map(Look::Ptrace),
            Way::Ptrace => Err(Failure(
                "its sandboxes are made by a daemon that runs already, which ptrace would stop at each call whomever it serves; the \
                 kernel's tracer can follow that"
                    .to_owned(),
            )),
        }
    }
}

/// The tracer with the most that it allows.
fn tracer(refusals: &mut Vec<String>) -> Option<(Way, Result<(), String>)> {
    let mut refuse = |level: &str, reason: String| refusals.push(format!("not {level}: {reason}"));
    let instance = match Instance::make(PREFIX) {
        Ok(instance) => instance,
        Err(error) => {
            refuse("level 2 or 1", Failure::of(&error).0);
            return None;
        }
    };
    let functions = instance.try_functions();
    if let Err(error) = &functions {
        refuse("level 2", format!("the kernel refuses its function tracer ({error})"));
    }
    let level = if functions.is_ok() { Level::Functions } else { Level::Tracepoints };
    let samples = match level {
        Level::Functions => Err("no stacks are sampled where all functions are seen".to_owned()),
        _ => try_samples(&instance),
    };
    let made = instance.try_calls().and_then(|()| Tracer::make(instance, functions.is_ok(), samples.is_ok()));
    match made {
        Ok(tracer) => Some((Way::Tracer(Box::new(tracer), level), samples)),
        Err(error) => {
            refuse("level 1", format!("the kernel refuses its tracepoints ({error})"));
            None
        }
    }
}

/// Tries whether stacks of the kernel can be sampled; if not, says why.
pub(crate) fn try_samples(instance: &Instance) -> Result<(), String> {
    let buffers = instance.buffers().map_err(|error| format!("no stacks are sampled: {error}"))?;
    let tried = super::stacks::try_samples(&buffers);
    tried.map_err(|error| format!("no stacks are sampled: the kernel refuses ({error})"))?;
    if Functions::read().is_empty() {
        return Err("no stacks are sampled: the kernel hides where its functions are".to_owned());
    }
    Ok(())
}

impl Look<'_> {
    /// What was seen since the last time.
    pub(super) fn take(&mut self) -> Result<Seen, Failure> {
        match self {
            Self::Tracer(listening) => listening.take(),
            Self::Ptrace(following) => Ok(following.take()),
        }
    }

    /// The tasks that are watched now.
    pub(super) fn followed(&self) -> Vec<u32> {
        match self {
            Self::Tracer(listening) => listening.followed(),
            Self::Ptrace(following) => following.followed(),
        }
    }
}
