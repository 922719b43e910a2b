//! Where the output of a container is kept.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::malformed::choose;
use super::{KeyValue, Malformed, Size};

/// Where output is kept: the driver's name of docker with what `--log-opt` may say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "driver")]
pub enum Log {
    /// Lines of JSON in files of the container's.
    JsonFile {
        /// `max-size`: bytes after which a new file begins; without it never.
        #[serde(default)]
        max_size: Option<Size>,
        /// `max-file`: how many files are kept; without it 1.
        #[serde(default)]
        max_file: Option<u32>,
    },
    /// The journal of systemd.
    Journald {
        /// `tag`: `CONTAINER_TAG` of each entry; without it the first twelve characters of the id.
        #[serde(default)]
        tag: Option<String>,
    },
    /// Nothing is kept.
    None,
}

impl Default for Log {
    fn default() -> Self {
        Self::JsonFile { max_size: None, max_file: None }
    }
}

impl FromStr for Log {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let drivers = [("json-file", 0), ("journald", 1), ("none", 2)];
        choose("log driver", text, &drivers).map(|driver| match driver {
            0 => Self::default(),
            1 => Self::Journald { tag: None },
            _ => Self::None,
        })
    }
}

/// One `--log-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOption(KeyValue);

impl FromStr for LogOption {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        text.parse().map(Self)
    }
}

impl Log {
    /// Adds an option. They are added when the driver is known, which may be named behind them.
    ///
    /// # Errors
    /// An option that the driver does not have, and a value that it cannot have.
    pub fn set(&mut self, option: &LogOption) -> Result<(), Malformed> {
        let LogOption(KeyValue { key, value }) = option;
        let text = format!("{key}={value}");
        let wrong = |reason: &str| Malformed::new("log option", &text, reason);
        match (self, key.as_str()) {
            (Self::JsonFile { max_size, .. }, "max-size") => {
                let Size(bytes) =
                    value.parse().map_err(|error: Malformed| error.within("log option", &text))?;
                *max_size = match bytes {
                    0 => {
                        return Err(wrong(
                            "a file has at least one byte; leave it out for files without end",
                        ));
                    }
                    _ => Some(Size(bytes)),
                };
            }
            (Self::JsonFile { max_file, .. }, "max-file") => {
                let count = value.parse::<u32>().ok().filter(|&count| count > 0);
                *max_file = Some(count.ok_or_else(|| wrong("expected a whole number from 1"))?);
            }
            (Self::Journald { tag }, "tag") if !value.contains("{{") => *tag = Some(value.clone()),
            (Self::Journald { .. }, "tag") => {
                return Err(wrong("templates are not filled in; name the tag itself"));
            }
            (Self::JsonFile { .. }, _) => {
                return Err(wrong("json-file has the options max-size and max-file"));
            }
            (Self::Journald { .. }, _) => return Err(wrong("journald has the option tag")),
            (Self::None, _) => return Err(wrong("the driver none has no options")),
        }
        Ok(())
    }

    /// Checks what options say together.
    ///
    /// # Errors
    /// Several files without a size after which the next begins.
    pub fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::JsonFile { max_size: None, max_file: Some(count) } if *count > 1 => {
                let reason = "several files need a max-size after which the next begins";
                Err(Malformed::new("log option", &format!("max-file={count}"), reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(driver: &str, options: &[&str]) -> Result<Log, String> {
        let mut log: Log = driver.parse().map_err(|error: Malformed| error.to_string())?;
        for option in options {
            let option = option.parse().map_err(|error: Malformed| error.to_string())?;
            log.set(&option).map_err(|error| error.to_string())?;
        }
        log.check().map_err(|error| error.to_string())?;
        Ok(log)
    }

    #[test]
    fn each_driver_has_options() {
        let rotated = Log::JsonFile { max_size: Some(Size(10 << 20)), max_file: Some(3) };
        assert_eq!(with("json-file", &["max-size=10m", "max-file=3"]), Ok(rotated));
        assert_eq!(with("journald", &["tag=web"]), Ok(Log::Journald { tag: Some("web".to_owned()) }));
        assert_eq!(with("none", &[]), Ok(Log::None));
        for (driver, options, words) in [
            ("syslog", vec![], "json-file, journald, none"),
            ("json-file", vec!["max-size=0"], "at least one byte"),
            ("json-file", vec!["max-size=big"], "size \"big\""),
            ("json-file", vec!["max-file=0", "max-size=1m"], "from 1"),
            ("json-file", vec!["max-file=3"], "need a max-size"),
            ("json-file", vec!["compress=true"], "max-size and max-file"),
            ("json-file", vec!["=x"], "expected name=value"),
            ("journald", vec!["tag={{.Name}}"], "templates"),
            ("none", vec!["tag=x"], "no options"),
        ] {
            let error = with(driver, &options).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
