//! As whom a process runs, before anybody has looked at the image's files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// `USER[:GROUP]`, each a name or a number, which the image's own files decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserSpec {
    /// The user; empty means the default one, root.
    pub user: String,
    /// The group; without it the user's own.
    pub group: Option<String>,
}

impl FromStr for UserSpec {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("user", text, reason);
        if text.contains(|c: char| c.is_control()) {
            return Err(wrong("a name has no control characters"));
        }
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        if group.is_some_and(|group| group.contains(':')) {
            return Err(wrong("expected USER or USER:GROUP"));
        }
        let group = group.filter(|group| !group.is_empty()).map(str::to_owned);
        Ok(Self { user: user.to_owned(), group })
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

impl TryFrom<String> for UserSpec {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<UserSpec> for String {
    fn from(user: UserSpec) -> Self {
        user.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_have_a_group() {
        for (text, user, group) in [
            ("", "", None),
            ("root", "root", None),
            ("1000:1000", "1000", Some("1000")),
            ("www-data:", "www-data", None),
            (":adm", "", Some("adm")),
        ] {
            let spec: UserSpec = text.parse().unwrap();
            assert_eq!((spec.user.as_str(), spec.group.as_deref()), (user, group), "{text}");
            assert_eq!(spec.to_string().parse(), Ok(spec));
        }
        assert!("a:b:c".parse::<UserSpec>().is_err());
        assert!("a\nb".parse::<UserSpec>().is_err());
    }
}
