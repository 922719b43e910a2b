//! What the monitor of a container does: how it stops it, and how it sees whether it is well.

use bulkhead_shim::order::{Health, OnUnhealthy, Stop};
use bulkhead_store::Defaults;

use super::invalid;
use crate::error::Result;
use crate::request::{HealthCommand, Limit, Nanoseconds, Request, Signal};

/// Seconds between the signal and SIGKILL, unless somebody says otherwise.
const GRACE: u64 = 10;

/// A hundred years, which is for ever: monitors add it to the time.
const EVER: u64 = 100 * 365 * 86_400;

/// Decides how a container is stopped. In the place of a signal of the image's that there is not it gets SIGTERM.
pub fn stop(request: &Request, defaults: &Defaults) -> Stop {
    let of_image = || defaults.stop_signal.parse().unwrap_or(Signal::TERM);
    let signal = request.stop_signal.unwrap_or_else(of_image);
    let grace = match (request.stop_timeout, defaults.stop_timeout) {
        (Some(Limit::At(seconds)), _) => seconds,
        (Some(Limit::Unlimited), _) => EVER,
        (None, Some(seconds)) => u64::try_from(seconds).unwrap_or(EVER),
        (None, None) => GRACE,
    };
    Stop { signal: signal.number(), grace: grace.min(EVER) }
}

/// Says that the image wants to be stopped by a signal that there is not.
pub(super) fn without_signal(request: &Request, defaults: &Defaults) -> Option<String> {
    let wanted = defaults.stop_signal.as_str();
    if wanted.is_empty() || request.stop_signal.is_some() {
        return None;
    }
    let error = wanted.parse::<Signal>().err()?;
    Some(format!(
        "it is stopped by SIGTERM, since the image's stop signal is none: {error}; choose one by --stop-signal"
    ))
}

const SECOND: u64 = 1_000_000_000;
/// What docker takes for too short to be meant.
const SHORTEST: u64 = 1_000_000;

/// Decides what tells whether a container is well: the image's check, over which the request's goes; nothing where neither has
/// one.
///
/// # Errors
/// A time of less than a millisecond, options without a check.
pub fn health(request: &Request, defaults: &Defaults) -> Result<Option<Health>> {
    let asked = &request.health;
    let of_image = defaults.healthcheck.clone().unwrap_or_default();
    let shell = || defaults.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    let in_shell = |line: &str| [shell(), vec![line.to_owned()]].concat();
    let command = match &asked.command {
        HealthCommand::None => Vec::new(),
        HealthCommand::Shell(line) => in_shell(line),
        HealthCommand::Image => match of_image.test.split_first() {
            Some((kind, words)) if kind == "CMD" => words.to_vec(),
            Some((kind, [line])) if kind == "CMD-SHELL" => in_shell(line),
            None => Vec::new(),
            Some((kind, _)) if kind == "NONE" => Vec::new(),
            Some((kind, _)) => {
                return Err(invalid("image", format!("its health check is of an unknown kind, {kind:?}")));
            }
        },
    };
    let times = [
        ("--health-interval", asked.interval, of_image.interval, 30 * SECOND),
        ("--health-timeout", asked.timeout, of_image.timeout, 30 * SECOND),
        ("--health-start-period", asked.start_period, of_image.start_period, 0),
        ("--health-start-interval", asked.start_interval, of_image.start_interval, 5 * SECOND),
    ];
    if command.is_empty() {
        let given = times.iter().find(|(_, asked, ..)| asked.is_some()).map(|&(flag, ..)| flag);
        let given = given
            .or(asked.retries.map(|_| "--health-retries"))
            .or(asked.on_failure.map(|_| "--health-on-failure"));
        return match given {
            Some(flag) => Err(invalid(flag, "there is no check; give one by --health-cmd")),
            None => Ok(None),
        };
    }
    let [interval, timeout, start_period, start_interval] =
        times.map(|(flag, asked, of_image, default)| match asked {
            Some(Nanoseconds(time @ 1..SHORTEST)) => {
                Err(invalid(format!("{flag} {}", Nanoseconds(time)), "it is less than a millisecond"))
            }
            Some(Nanoseconds(0)) | None => Ok(match u64::try_from(of_image) {
                Ok(time) if time > 0 => time,
                _ => default,
            }),
            Some(Nanoseconds(time)) => Ok(time),
        });
    let of_image = u32::try_from(of_image.retries).ok().filter(|&retries| retries > 0);
    Ok(Some(Health {
        command,
        interval: interval?,
        timeout: timeout?,
        start_period: start_period?,
        start_interval: start_interval?,
        retries: asked.retries.filter(|&retries| retries > 0).or(of_image).unwrap_or(3),
        on_failure: asked.on_failure.map_or(OnUnhealthy::None, |action| action.0),
    }))
}
