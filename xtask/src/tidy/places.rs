//! No text of the project names the machine it was written on: a path that exists on one desk, or the address
//! that one machine fetches its packages from, is wrong everywhere else.

use std::path::Path;

use super::source::Text;
use super::{Violation, Workspace};

/// Directories that are on every machine, so that naming them gives nothing away.
const EVERYWHERE: &[&str] = &[
    "/",
    "/home",
    "/root",
    "/tmp",
    "/usr",
    "/usr/src",
    "/usr/local",
    "/opt",
    "/srv",
    "/var",
    "/var/tmp",
    "/mnt",
    "/run",
    "/dev",
    "/dev/shm",
];

/// Written by cargo, not by us.
const GENERATED: &[&str] = &["Cargo.lock"];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let written = workspace.texts.iter().filter(|text| !GENERATED.contains(&text.path.as_str()));
    written.flat_map(|text| check_text(text, &workspace.places)).collect()
}

fn check_text(text: &Text, places: &[String]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in text.content.lines().enumerate() {
        for place in places.iter().filter(|place| names(line, place)) {
            let sentence = format!("{place} is a place of this machine");
            found.push(Violation::new(&text.path, index + 1, sentence));
        }
    }
    found
}

/// True when `line` names the place, not just a longer path that happens to contain it.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "._-/$}".contains(before))
    })
}

/// The directories above the checkout, and the hosts of the machine's package sources.
pub(super) fn of_this_machine(root: &Path) -> Vec<String> {
    let above = root.ancestors().skip(1).filter_map(Path::to_str);
    let above =
        above.filter(|directory| !EVERYWHERE.contains(directory)).map(|directory| format!("{directory}/"));
    above.chain(package_hosts(Path::new("/etc/apt"))).collect()
}

fn package_hosts(apt: &Path) -> Vec<String> {
    let parts = apt.join("sources.list.d").read_dir().into_iter().flatten().flatten();
    let files = parts.map(|entry| entry.path()).chain([apt.join("sources.list")]);
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    let mut hosts: Vec<String> = texts.flat_map(|text| hosts_in(&text)).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn hosts_in(sources: &str) -> Vec<String> {
    let active = sources.lines().filter(|line| !line.trim_start().starts_with('#'));
    let addresses = active.flat_map(|line| line.split_whitespace()).filter_map(|word| word.split_once("://"));
    let hosts = addresses.filter_map(|(_, rest)| rest.split('/').next());
    hosts.filter(|host| !host.is_empty()).map(|host| format!("//{host}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_places_are_found() {
        let mut workspace = Workspace::of(&[
            ("README.md", "fine\nsee /builds/desk/notes\n"),
            ("docs/a.md", "deb http://packages.example/debian sid main\n"),
            ("docs/b.md", "$HOME/builds/desk/ and x/builds/desk/ are other paths\n"),
            ("Cargo.lock", "source = \"http://packages.example/\"\n"),
        ]);
        workspace.places = vec!["/builds/desk/".to_owned(), "//packages.example".to_owned()];
        let found: Vec<_> = check(&workspace).into_iter().map(|v| (v.path, v.line)).collect();
        assert_eq!(found, [("README.md".to_owned(), 2), ("docs/a.md".to_owned(), 1)]);
    }

    #[test]
    fn directories_that_everyone_has_are_no_secret() {
        let places = of_this_machine(Path::new("/home/someone/src/bulkhead"));
        assert!(places.contains(&"/home/someone/src/".to_owned()));
        assert!(places.contains(&"/home/someone/".to_owned()));
        assert!(!places.contains(&"/home/".to_owned()));
    }

    #[test]
    fn hosts_come_from_both_formats() {
        let text = "deb [arch=amd64] https://one.example/debian sid main\nURIs: http://two.example/x\n# http://no.example\n";
        assert_eq!(hosts_in(text), ["//one.example", "//two.example"]);
    }
}
