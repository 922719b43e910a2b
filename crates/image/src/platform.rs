//! Platforms: which image of an index runs here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system, a processor and its variant, by the names of Go: `linux/arm64/v8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, such as `linux`.
    #[serde(default)]
    pub os: String,
    /// The variant of the processor, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// It does not look like one.
    #[error("platform {text:?} is not of the form linux/arm64/v8")]
    Form {
        /// The text.
        text: String,
    },
    /// Nothing of this name is known.
    #[error("platform {text:?}: there is no {part} {word:?}: there are {}", known.join(", "))]
    Unknown {
        /// The text.
        text: String,
        /// What it is to be: an operating system, or a processor.
        part: &'static str,
        /// The name.
        word: String,
        /// The names that are known.
        known: &'static [&'static str],
    },
}

/// Operating systems by the names of Go, which images have: those that its compiler knows (`go tool dist list`), and `wasi`.
const SYSTEMS: &[&str] = &[
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "android",
    "ios",
    "plan9",
    "js",
    "wasi",
    "wasip1",
];

/// Processors by the names of Go: those that its compiler knows, and what older compilers knew or others know.
const PROCESSORS: &[&str] = &[
    "amd64", "arm64", "arm", "386", "ppc64le", "ppc64", "s390x", "riscv64", "loong64", "mips", "mipsle",
    "mips64", "mips64le", "sparc64", "wasm",
];

impl Platform {
    /// That of this machine.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Tells whether an image of `offered` runs where this is wanted: one of the same variant, or of a lesser one.
    #[must_use]
    pub fn runs(&self, offered: &Self) -> bool {
        self.distance(offered).is_some()
    }

    /// How well an image of `offered` runs where this is wanted: the less the better, nothing when it does not.
    #[must_use]
    pub fn distance(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let wanted = self.level();
        wanted.checked_sub(offered.level())
    }

    /// Variants run what is of a lesser one (containerd's `platforms.Only`).
    fn level(&self) -> usize {
        let number = |text: &str| text.strip_prefix('v').and_then(|digits| digits.parse().ok());
        let named = self.variant.as_deref().filter(|variant| !variant.is_empty()).and_then(number);
        named.unwrap_or(match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        })
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, or an architecture alone, as people write it: both are among those that are known.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let wrong = || PlatformError::Form { text: text.to_owned() };
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let words = Vec::from_iter(text.split('/'));
        if !words.iter().all(is_word) {
            return Err(wrong());
        }
        let (os, architecture, variant) = match *words.as_slice() {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(wrong()),
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "armhf" => "arm",
            "i386" => "386",
            other => other,
        };
        for (part, word, known) in
            [("operating system", os, SYSTEMS), ("processor", architecture, PROCESSORS)]
        {
            if !known.contains(&word) {
                let (text, word) = (text.to_owned(), word.to_owned());
                return Err(PlatformError::Unknown { text, part, word, known });
            }
        }
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { os, architecture, variant } = self;
        write!(formatter, "{os}/{architecture}")?;
        match variant.as_deref() {
            Some("") | None => Ok(()),
            Some(variant) => write!(formatter, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesser_variant_runs_and_a_greater_one_does_not() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("amd64", "linux/x86_64", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "aarch64", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm", "linux/arm/v7", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/amd64", "windows/amd64", None),
        ] {
            let [one, other] = [wanted, offered].map(|text| text.parse::<Platform>().unwrap());
            assert_eq!(one.distance(&other), expected, "{offered} where {wanted} is wanted");
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in ["", "/", "linux/", "linux/amd64/v1/x", "linux/amd 64"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?} was taken");
        }
        assert_eq!("linux/arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
    }

    #[test]
    fn what_nobody_knows_is_refused_with_what_is_known() {
        for (text, expected) in [
            (
                "linux/foo",
                "platform \"linux/foo\": there is no processor \"foo\": there are amd64, arm64, arm, 386,",
            ),
            ("amd46", "platform \"amd46\": there is no processor \"amd46\": there are amd64,"),
            (
                "linus/amd64",
                "platform \"linus/amd64\": there is no operating system \"linus\": there are linux,",
            ),
        ] {
            let told = text.parse::<Platform>().unwrap_err().to_string();
            assert!(told.starts_with(expected), "{told}");
        }
        for text in ["armhf", "linux/riscv64", "linux/s390x", "windows/amd64", "wasi/wasm"] {
            text.parse::<Platform>().unwrap();
        }
        assert!(PROCESSORS.contains(&Platform::host().architecture.as_str()), "this machine has one");
    }
}
