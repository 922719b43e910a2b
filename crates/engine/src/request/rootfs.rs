//! What the root file system of a container is made of.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// What the root file system of a container is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// The layers of an image, as the user named it, with a writable one on top.
    Image(String),
    /// A directory of the host (`--rootfs`).
    Directory(RootDirectory),
}

impl Default for Root {
    fn default() -> Self {
        Self::Image(String::new())
    }
}

/// `DIR[:O]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDirectory {
    /// The directory.
    pub path: PathBuf,
    /// It stays as it is: what the container writes goes to a layer on top of it (`:O`).
    pub overlay: bool,
}

impl FromStr for RootDirectory {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (path, overlay) = text.strip_suffix(":O").map_or((text, false), |path| (path, true));
        if path.is_empty() || path.contains('\0') {
            return Err(Malformed::new("root directory", text, "expected DIR or DIR:O"));
        }
        Ok(Self { path: PathBuf::from(path), overlay })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_may_stay_as_it_is() {
        for (text, path, overlay) in
            [("/srv/root", "/srv/root", false), ("./r:O", "./r", true), ("a:b", "a:b", false)]
        {
            assert_eq!(text.parse(), Ok(RootDirectory { path: path.into(), overlay }));
        }
        assert!("".parse::<RootDirectory>().is_err() && ":O".parse::<RootDirectory>().is_err());
    }
}
