//! Where the output of a container is kept.

use std::collections::BTreeMap;
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
        /// What each line says besides.
        #[serde(flatten)]
        details: LogDetails,
    },
    /// The journal of systemd.
    Journald {
        /// What each entry says besides. Without a tag it is the first twelve characters of the id.
        #[serde(flatten)]
        details: LogDetails,
    },
    /// Nothing is kept.
    None,
}

/// What lines of a log say of their container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LogDetails {
    /// `tag`: a name for the container, with `{{.Name}}` and others of [`Tagged`] filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `labels`: the labels that are told, by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// `labels-regex`: those whose names match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_regex: Option<String>,
    /// `env`: the environment variables that are told, by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `env-regex`: those whose names match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_regex: Option<String>,
}

/// What a tag may name of a container.
#[derive(Debug, Clone, Copy)]
pub struct Tagged<'a> {
    /// `{{.FullID}}`, of which the first twelve characters are `{{.ID}}`.
    pub id: &'a str,
    /// `{{.Name}}`.
    pub name: &'a str,
    /// `{{.ImageFullID}}`, of which the first twelve digits are `{{.ImageID}}`.
    pub image_id: &'a str,
    /// `{{.ImageName}}`.
    pub image_name: &'a str,
    /// `{{.Command}}`.
    pub command: &'a str,
}

impl Tagged<'_> {
    /// Fills a tag in.
    ///
    /// # Errors
    /// What it names and there is not.
    pub fn fill(&self, tag: &str) -> Result<String, Malformed> {
        let Self { id, name, image_id, image_name, command } = *self;
        let short = |text: &str| text.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        let mut filled = String::new();
        let mut rest = tag;
        while let Some((before, action)) = rest.split_once("{{") {
            let wrong = |reason: &str| Malformed::new(NOUN, &format!("tag={tag}"), reason);
            let (action, behind) = action.split_once("}}").ok_or_else(|| wrong("a {{ has no }}"))?;
            filled.push_str(before);
            match action.trim() {
                ".ID" => filled.push_str(&short(id)),
                ".FullID" => filled.push_str(id),
                ".Name" => filled.push_str(name),
                ".ImageID" => filled.push_str(&short(image_id)),
                ".ImageFullID" => filled.push_str(image_id),
                ".ImageName" => filled.push_str(image_name),
                ".Command" => filled.push_str(command),
                ".DaemonName" => filled.push_str("bulkhead"),
                _ => {
                    let known = "a tag may have {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, \
                                 {{.ImageName}}, {{.Command}} and {{.DaemonName}}";
                    return Err(wrong(known));
                }
            }
            rest = behind;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

const NOUN: &str = "log option";

impl Default for Log {
    fn default() -> Self {
        Self::JsonFile { max_size: None, max_file: None, details: LogDetails::default() }
    }
}

impl FromStr for Log {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let drivers = [("json-file", 0), ("journald", 1), ("none", 2)];
        choose("log driver", text, &drivers).map(|driver| match driver {
            0 => Self::default(),
            1 => Self::Journald { details: LogDetails::default() },
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
        let wrong = |reason: &str| Malformed::new(NOUN, &text, reason);
        match (self, key.as_str()) {
            (Self::JsonFile { max_size, .. }, "max-size") => {
                let Size(bytes) = value.parse().map_err(|error: Malformed| error.within(NOUN, &text))?;
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
            (Self::JsonFile { details, .. } | Self::Journald { details }, key) if DETAILS.contains(&key) => {
                details.set(key, value)?;
            }
            (Self::JsonFile { .. }, "compress") => {
                return Err(wrong("files of a log are not compressed; leave it out"));
            }
            (Self::JsonFile { .. }, _) => {
                return Err(wrong(
                    "json-file has the options max-size, max-file, tag, labels, labels-regex, env and env-regex",
                ));
            }
            (Self::Journald { .. }, _) => {
                return Err(wrong("journald has the options tag, labels, labels-regex, env and env-regex"));
            }
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
            Self::JsonFile { max_size: None, max_file: Some(count), .. } if *count > 1 => {
                let reason = "several files need a max-size after which the next begins";
                Err(Malformed::new(NOUN, &format!("max-file={count}"), reason))
            }
            _ => Ok(()),
        }
    }
}

/// The options that both drivers have.
const DETAILS: [&str; 5] = ["tag", "labels", "labels-regex", "env", "env-regex"];

impl LogDetails {
    fn set(&mut self, key: &str, value: &str) -> Result<(), Malformed> {
        let names = || value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        let pattern = || match regex_lite::Regex::new(value) {
            Ok(_) => Ok(Some(value.to_owned())),
            Err(error) => Err(Malformed::new(NOUN, &format!("{key}={value}"), error.to_string())),
        };
        match key {
            "labels" => self.labels = names().collect(),
            "env" => self.env = names().collect(),
            "labels-regex" => self.labels_regex = pattern()?,
            "env-regex" => self.env_regex = pattern()?,
            _ => {
                let example = Tagged { id: "", name: "", image_id: "", image_name: "", command: "" };
                example.fill(value)?;
                self.tag = Some(value.to_owned());
            }
        }
        Ok(())
    }

    /// Returns the labels and variables that are told, by name. A variable goes over a label of its name.
    pub fn told<'a>(
        &self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        environment: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> BTreeMap<String, String> {
        let matching =
            |pattern: &Option<String>| pattern.as_deref().and_then(|text| regex_lite::Regex::new(text).ok());
        let (label_pattern, variable_pattern) = (matching(&self.labels_regex), matching(&self.env_regex));
        let is_told = |names: &[String], pattern: &Option<regex_lite::Regex>, name: &str| {
            names.iter().any(|known| known == name)
                || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
        };
        let labels = labels.filter(|(name, _)| is_told(&self.labels, &label_pattern, name));
        let variables = environment.filter(|(name, _)| is_told(&self.env, &variable_pattern, name));
        labels.chain(variables).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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
        let details = LogDetails::default();
        let rotated = Log::JsonFile { max_size: Some(Size(10 << 20)), max_file: Some(3), details };
        assert_eq!(with("json-file", &["max-size=10m", "max-file=3"]), Ok(rotated));
        let details = LogDetails {
            tag: Some("{{.Name}}".to_owned()),
            labels: vec!["a".to_owned(), "b".to_owned()],
            env_regex: Some("^P".to_owned()),
            ..LogDetails::default()
        };
        let options = ["tag={{.Name}}", "labels=a,b", "env-regex=^P"];
        assert_eq!(with("journald", &options), Ok(Log::Journald { details: details.clone() }));
        let kept = serde_json::to_string(&Log::Journald { details: details.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Log>(&kept).unwrap(), Log::Journald { details }, "{kept}");
        let plain: Log = serde_json::from_str(r#"{"driver":"json-file"}"#).unwrap();
        assert_eq!(plain, Log::default());
        assert_eq!(with("none", &[]), Ok(Log::None));
        for (driver, options, words) in [
            ("syslog", vec![], "json-file, journald, none"),
            ("json-file", vec!["max-size=0"], "at least one byte"),
            ("json-file", vec!["max-size=big"], "size \"big\""),
            ("json-file", vec!["max-file=0", "max-size=1m"], "from 1"),
            ("json-file", vec!["max-file=3"], "need a max-size"),
            ("json-file", vec!["compress=true"], "not compressed"),
            ("json-file", vec!["mode=blocking"], "max-size, max-file, tag"),
            ("json-file", vec!["labels-regex=("], "labels-regex"),
            ("json-file", vec!["=x"], "expected name=value"),
            ("journald", vec!["tag={{.Nam}}"], "a tag may have {{.ID}}"),
            ("journald", vec!["tag={{.Name"], "has no }}"),
            ("journald", vec!["max-size=1m"], "journald has the options"),
            ("none", vec!["tag=x"], "no options"),
        ] {
            let error = with(driver, &options).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn lines_tell_of_their_container() {
        let details = LogDetails {
            labels: vec!["app".to_owned(), "no".to_owned()],
            env: vec!["A".to_owned()],
            env_regex: Some("^P".to_owned()),
            ..LogDetails::default()
        };
        let labels = [("app", "web"), ("other", "x")];
        let environment = [("A", "1"), ("PATH", "/bin"), ("B", "2")];
        let told = details.told(labels.into_iter(), environment.into_iter());
        let expected = [("A", "1"), ("PATH", "/bin"), ("app", "web")];
        assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let id = "0123456789abcdef";
        let tagged =
            Tagged { id, name: "web", image_id: "sha256:fedcba9876543210", image_name: "img", command: "sh" };
        let tag = "{{.ID}}/{{ .Name }}/{{.ImageID}}/{{.ImageName}}/{{.FullID}}/{{.Command}}";
        assert_eq!(tagged.fill(tag).unwrap(), "0123456789ab/web/fedcba987654/img/0123456789abcdef/sh");
    }
}
