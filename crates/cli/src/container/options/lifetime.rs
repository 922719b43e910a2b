//! When a container ends, whether it is well, and where it speaks.

use bulkhead_engine::request::{
    HealthCommand, Limit, Log, LogOption, Nanoseconds, OnFailure, Request, Restart, Signal,
};
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};

#[derive(Args, Debug)]
pub(super) struct Lifetime {
    /// Remove it, and volumes without a name, when it has ended
    #[arg(long)]
    rm: bool,
    /// Start again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// Stop it by this signal
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// Kill it so many seconds after that; -1 for never
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = Limit::of_seconds)]
    stop_timeout: Option<Limit>,
    /// Run this in a shell to see whether it is well
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<HealthCommand>,
    /// From one check to the next, such as 30s
    #[arg(long, value_name = "TIME")]
    health_interval: Option<Nanoseconds>,
    /// How long a check may take
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<Nanoseconds>,
    /// How long failures do not count at first
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<Nanoseconds>,
    /// From one check to the next at first
    #[arg(long, value_name = "TIME")]
    health_start_interval: Option<Nanoseconds>,
    /// How many failures in a row make it unhealthy
    #[arg(long, value_name = "N")]
    health_retries: Option<u32>,
    /// Then do this: none, kill, restart or stop
    #[arg(long, value_name = "ACTION")]
    health_on_failure: Option<OnFailure>,
    /// Do without the image's check
    #[arg(long)]
    no_healthcheck: bool,
    /// Keep its output by json-file, journald or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<Log>,
    /// Set an option of that, such as max-size=10m
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<LogOption>,
}

impl Lifetime {
    pub(super) fn apply(self, request: &mut Request) -> Result<(), Failure> {
        let Lifetime {
            rm,
            restart,
            stop_signal,
            stop_timeout,
            health_cmd,
            health_interval,
            health_timeout,
            health_start_period,
            health_start_interval,
            health_retries,
            health_on_failure,
            no_healthcheck,
            log_driver,
            log_opt,
        } = self;
        let refused = |what: &str| Failure::new(what).code(NOT_STARTED).hint("leave one of them out");
        if rm && restart.is_some_and(|restart| restart != Restart::default()) {
            return Err(refused("--rm removes a container that --restart starts again"));
        }
        if no_healthcheck && health_cmd.is_some() {
            return Err(refused("--no-healthcheck and --health-cmd contradict each other"));
        }
        request.remove = rm;
        request.restart = restart.unwrap_or_default();
        request.stop_signal = stop_signal;
        request.stop_timeout = stop_timeout;
        let health = &mut request.health;
        health.command = if no_healthcheck { HealthCommand::None } else { health_cmd.unwrap_or_default() };
        health.interval = health_interval;
        health.timeout = health_timeout;
        health.start_period = health_start_period;
        health.start_interval = health_start_interval;
        health.retries = health_retries;
        health.on_failure = health_on_failure;
        let failure =
            |error: bulkhead_engine::request::Malformed| Failure::new(error.to_string()).code(NOT_STARTED);
        request.log = log_driver.unwrap_or_default();
        for option in &log_opt {
            request.log.set(option).map_err(failure)?;
        }
        request.log.check().map_err(failure)
    }
}
