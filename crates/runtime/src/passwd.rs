//! Names of the host's users.

/// Returns the name of a user, or `#` and the number where `/etc/passwd` has none, as runc prints it.
///
/// Other sources of names are not asked: they would load foreign code into a privileged program.
pub(crate) fn name(uid: u32) -> String {
    // Names of people come in any encoding.
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    find(&String::from_utf8_lossy(&passwd), uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_the_id_names_the_user() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\na:b:7:\n\nbroken\ntoor:x:0:0::/:\nu:x:1000:1000::/:\n";
        assert_eq!(find(passwd, 0), Some("root"));
        assert_eq!(find(passwd, 1000), Some("u"));
        assert_eq!(find(passwd, 7), Some("a"));
        assert_eq!(find(passwd, 8), None);
        assert_eq!(find("", 0), None);
    }

    #[test]
    fn an_unknown_user_is_a_number() {
        assert_eq!(name(u32::MAX - 1), "#4294967294");
    }
}
