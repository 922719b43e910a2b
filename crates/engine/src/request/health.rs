//! What tells whether a container is well.

use std::str::FromStr;

use bulkhead_shim::order::OnUnhealthy;
use serde::{Deserialize, Serialize};

use super::malformed::choose;
use super::{Malformed, Nanoseconds};

/// The check of a container. What is not given is the image's, or docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// What is run.
    #[serde(skip_serializing_if = "super::is_default")]
    pub command: HealthCommand,
    /// `--health-interval`; 30 s.
    #[serde(skip_serializing_if = "super::is_default")]
    pub interval: Option<Nanoseconds>,
    /// `--health-timeout`; 30 s.
    #[serde(skip_serializing_if = "super::is_default")]
    pub timeout: Option<Nanoseconds>,
    /// `--health-start-period`; none.
    #[serde(skip_serializing_if = "super::is_default")]
    pub start_period: Option<Nanoseconds>,
    /// `--health-start-interval`; 5 s.
    #[serde(skip_serializing_if = "super::is_default")]
    pub start_interval: Option<Nanoseconds>,
    /// `--health-retries`; 3.
    #[serde(skip_serializing_if = "super::is_default")]
    pub retries: Option<u32>,
    /// `--health-on-failure`; nothing is done.
    #[serde(skip_serializing_if = "super::is_default")]
    pub on_failure: Option<OnFailure>,
}

/// What is run to see whether a container is well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthCommand {
    /// What the image says, if it says anything.
    #[default]
    Image,
    /// Nothing (`--no-healthcheck`, and `--health-cmd none`).
    None,
    /// A line for the container's shell (`--health-cmd`).
    Shell(String),
}

impl FromStr for HealthCommand {
    type Err = Malformed;

    /// Reads `--health-cmd`: a line for the shell; `none` alone turns the image's check off, and an empty one leaves it.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.contains('\0') {
            return Err(Malformed::new("health command", text, "a command has no NUL byte"));
        }
        Ok(match text {
            "" => Self::Image,
            "none" => Self::None,
            _ => Self::Shell(text.to_owned()),
        })
    }
}

/// What is done with an unhealthy container: `none`, `kill`, `restart`, `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OnFailure(pub OnUnhealthy);

impl FromStr for OnFailure {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let choices = [
            ("none", OnUnhealthy::None),
            ("kill", OnUnhealthy::Kill),
            ("restart", OnUnhealthy::Restart),
            ("stop", OnUnhealthy::Stop),
        ];
        choose("action on failure", text, &choices).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_line_for_the_shell() {
        assert_eq!("none".parse(), Ok(HealthCommand::None));
        assert_eq!("".parse(), Ok(HealthCommand::Image));
        assert_eq!("curl -f x || exit 1".parse(), Ok(HealthCommand::Shell("curl -f x || exit 1".to_owned())));
        assert!("a\0".parse::<HealthCommand>().is_err());
        assert_eq!("restart".parse(), Ok(OnFailure(OnUnhealthy::Restart)));
        assert!("reboot".parse::<OnFailure>().unwrap_err().to_string().contains("none, kill, restart, stop"));
    }
}
