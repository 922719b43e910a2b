//! The pod of a container.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// The pod that a container comes into: `NAME` or `new:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InPod {
    /// One that is there, by its name, its id or the beginning of its id.
    Existing(String),
    /// One that is made with the container and that takes over its network and its host name.
    New(String),
}

impl FromStr for InPod {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text.strip_prefix("new:") {
            _ if text.is_empty() => Err(Malformed::new("pod", text, "expected NAME or new:NAME")),
            None => Ok(Self::Existing(text.to_owned())),
            Some("") => Err(Malformed::new("pod", text, "expected new:NAME with the name of the new pod")),
            Some(name) => Ok(Self::New(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_there_or_new() {
        assert_eq!("web".parse(), Ok(InPod::Existing("web".to_owned())));
        assert_eq!("new:web".parse(), Ok(InPod::New("web".to_owned())));
        for wrong in ["", "new:"] {
            assert!(wrong.parse::<InPod>().is_err(), "{wrong:?}");
        }
    }
}
