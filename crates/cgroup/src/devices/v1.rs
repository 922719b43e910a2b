//! Device rules as files of the v1 controller: a default by the rule `a`, then one line for each exception.

use super::{Default, Kind, Nodes, Policy};
use crate::dir::Dir;
use crate::error::Result;

/// Sets the rules of a new cgroup, which starts with those of its parent.
pub(crate) fn apply(dir: &Dir, policy: &Policy) -> Result<()> {
    let (clear, list) = match policy.default {
        Default::Deny => ("devices.deny", "devices.allow"),
        Default::Allow => ("devices.allow", "devices.deny"),
    };
    dir.write(clear, "a")?;
    if policy.exceptions.is_empty() {
        return Ok(());
    }
    // The kernel reads one rule from each write; opening the file once for all saves two calls for each.
    let file = dir.open_to_write(list)?;
    policy
        .exceptions
        .iter()
        .try_for_each(|(nodes, access)| dir.write_to(&file, list, &format!("{} {access}", line(nodes))))
}

/// Changes the rules of a cgroup in use, in an order in which nothing is denied meanwhile that is allowed before and
/// after.
pub(crate) fn change(dir: &Dir, policy: &Policy) -> Result<()> {
    let list = dir.read("devices.list")?;
    let now: Option<Vec<&str>> =
        list.lines().map(|line| Some(line).filter(|line| !line.starts_with('a'))).collect();
    let (Some(now), Default::Deny) = (now, policy.default) else { return apply(dir, policy) };
    let wanted = |what: &str| policy.exceptions.iter().find(|(nodes, _)| line(nodes) == what);
    for (nodes, access) in &policy.exceptions {
        dir.write("devices.allow", &format!("{} {access}", line(nodes)))?;
    }
    for (what, access) in now.into_iter().filter_map(|line| line.rsplit_once(' ')) {
        let kept = wanted(what).map(|(_, access)| access.to_string()).unwrap_or_default();
        let gone: String = access.chars().filter(|letter| !kept.contains(*letter)).collect();
        if !gone.is_empty() {
            dir.write("devices.deny", &format!("{what} {gone}"))?;
        }
    }
    Ok(())
}

fn line(nodes: &Nodes) -> String {
    let kind = match nodes.kind {
        Kind::Char => 'c',
        Kind::Block => 'b',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    format!("{kind} {}:{}", number(nodes.major), number(nodes.minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::fold;

    #[test]
    fn an_exception_is_a_line_in_the_form_of_the_kernel() {
        let policy = fold(&["allow b 8:* r", "allow c 1:3 rwm", "allow c *:* m"]).unwrap();
        let lines: Vec<String> =
            policy.exceptions.iter().map(|(nodes, access)| format!("{} {access}", line(nodes))).collect();
        assert_eq!(lines, ["b 8:* r", "c 1:3 rwm", "c *:* m"]);
    }
}
