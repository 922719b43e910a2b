//! The default command: one script, run in the container and on the host, its answers side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Prints `key=value` lines. Nothing but a POSIX shell with `cat`, `id`, `ls` and `readlink`, since it runs on
/// whatever the machine has.
pub(super) const SCRIPT: &str = r#"
echo "pid=$$"
set -- /proc/[0-9]*; echo "processes=$#"
echo "hostname=$(cat /proc/sys/kernel/hostname)"
echo "uid=$(id -u)"
read -r inside outside size < /proc/self/uid_map; echo "uid_map=$inside $outside $size"
count=0; while read -r line; do count=$((count + 1)); done < /proc/self/mountinfo; echo "mounts=$count"
set -- /sys/class/net/*; links=; for link; do links="$links ${link##*/}"; done; echo "links=$links"
while read -r key value rest; do
  case $key in CapEff:) echo "capabilities=$value";; Seccomp:) echo "seccomp=$value";; NoNewPrivs:) echo "no_new_privs=$value";; esac
done < /proc/self/status
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [ -r "$file" ] && echo "memory=$(cat "$file")" && break
done
for file in /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max; do
  [ -r "$file" ] && echo "pids=$(cat "$file")" && break
done
for kind in cgroup ipc mnt net pid time user uts; do echo "ns_$kind=$(readlink /proc/self/ns/$kind)"; done
set -- /dev/*; echo "devices=$#"
if { read -r line < /proc/keys; } 2>/dev/null; then echo "keys=shown"; else echo "keys=hidden"; fi
if [ -n "${BULKHEAD_DEMO:-}" ]; then : > /etc/bulkhead-demo; fi
if [ -e /etc/bulkhead-demo ]; then echo "written=there"; else echo "written=not there"; fi
echo "kernel=$(cat /proc/sys/kernel/osrelease)"
"#;

/// The variable that tells the script that it runs in the container.
pub(super) const VARIABLE: &str = "BULKHEAD_DEMO=1";

/// Every kind of namespace, as /proc names them.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

type Facts<'a> = BTreeMap<&'a str, &'a str>;

/// A row of the table: what it is about, and how it is read from one side's facts.
type Row = (&'static str, fn(&Facts) -> String);

const ROWS: &[Row] = &[
    ("this shell's pid", |facts| plain(facts, "pid")),
    ("processes it sees", |facts| plain(facts, "processes")),
    ("host name", |facts| plain(facts, "hostname")),
    ("user", user),
    ("mounts", |facts| plain(facts, "mounts")),
    ("network links", |facts| plain(facts, "links")),
    ("capabilities", capabilities),
    ("system call filter", filter),
    ("memory limit", memory),
    ("process limit", |facts| plain(facts, "pids")),
    ("entries of /dev", |facts| plain(facts, "devices")),
    ("kernel keys", |facts| plain(facts, "keys")),
    ("file written to /etc", |facts| plain(facts, "written")),
    ("kernel", |facts| plain(facts, "kernel")),
];

/// The two-column table of what the script said on both sides.
pub(super) fn table(inside: &str, outside: &str) -> String {
    let (inside, outside) = (facts(inside), facts(outside));
    let mut rows = vec![["", "in the container", "on the host"].map(str::to_owned)];
    rows.extend(ROWS.iter().map(|(name, read)| [(*name).to_owned(), read(&inside), read(&outside)]));
    rows.push(["namespaces".to_owned(), own_namespaces(&inside, &outside), "the host's".to_owned()]);
    aligned(&rows)
}

fn facts(text: &str) -> Facts<'_> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key, value.trim())).collect()
}

fn plain(facts: &Facts, key: &str) -> String {
    facts.get(key).filter(|value| !value.is_empty()).map_or("-".to_owned(), |value| (*value).to_owned())
}

fn user(facts: &Facts) -> String {
    let uid = plain(facts, "uid");
    let map = Vec::from_iter(facts.get("uid_map").map_or("", |map| map).split(' '));
    match map[..] {
        ["0", "0", _] | [_] => uid,
        [_, outside, _] if uid == "0" => format!("0, which is {outside} outside"),
        _ => uid,
    }
}

fn capabilities(facts: &Facts) -> String {
    let set = facts.get("capabilities").and_then(|set| u64::from_str_radix(set, 16).ok());
    set.map_or("-".to_owned(), |set| set.count_ones().to_string())
}

fn filter(facts: &Facts) -> String {
    match facts.get("seccomp") {
        Some(&"2") => "yes".to_owned(),
        _ => "none".to_owned(),
    }
}

fn memory(facts: &Facts) -> String {
    match facts.get("memory").map(|limit| limit.parse::<u64>()) {
        // Without a limit, v1 prints the largest multiple of the page size.
        Some(Ok(bytes)) if bytes < 1 << 60 => format!("{} MiB", bytes >> 20),
        _ => "none".to_owned(),
    }
}

fn own_namespaces(inside: &Facts, outside: &Facts) -> String {
    let key = |kind: &&str| format!("ns_{kind}");
    let own = NAMESPACES.iter().filter(|kind| {
        let key = key(kind);
        inside.get(key.as_str()) != outside.get(key.as_str())
    });
    format!("its own {}", Vec::from_iter(own.copied()).join(" "))
}

fn aligned(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for [name, inside, outside] in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}", format!("{name:first$}  {inside:second$}  {outside}").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_answers_every_question_on_this_machine() {
        let output = std::process::Command::new("/bin/sh").args(["-c", SCRIPT]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let facts = facts(&text);
        for key in
            ["pid", "processes", "hostname", "uid", "mounts", "capabilities", "seccomp", "kernel", "ns_mnt"]
        {
            assert!(facts.contains_key(key), "the script does not say {key}: {text}");
        }
        assert_eq!(facts["written"], "not there");
    }

    #[test]
    fn values_are_put_for_people() {
        for (text, read, expected) in [
            ("uid=0\nuid_map=0 0 4294967295", user as fn(&Facts) -> String, "0"),
            ("uid=0\nuid_map=0 1000 1", user, "0, which is 1000 outside"),
            ("uid=1000\nuid_map=0 0 4294967295", user, "1000"),
            ("capabilities=00000000a80425fb", capabilities, "14"),
            ("seccomp=2", filter, "yes"),
            ("seccomp=0", filter, "none"),
            ("memory=536870912", memory, "512 MiB"),
            ("memory=max", memory, "none"),
            ("memory=9223372036854771712", memory, "none"),
            ("", memory, "none"),
        ] {
            assert_eq!(read(&facts(text)), expected, "from {text:?}");
        }
    }

    #[test]
    fn columns_are_aligned_and_namespaces_compared() {
        let table =
            table("pid=1\nns_pid=pid:[2]\nns_user=user:[1]", "pid=4711\nns_pid=pid:[1]\nns_user=user:[1]");
        let lines = Vec::from_iter(table.lines());
        let column = lines[0].find("on the host").unwrap();
        assert_eq!(lines[1].find("4711"), Some(column), "{table}");
        assert!(lines.last().unwrap().contains("its own pid "), "{table}");
    }
}
