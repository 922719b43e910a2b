//! The verbs in the order of the help, and what is said of one that is none.

use std::ffi::OsString;

use super::{Verb, absent};
use crate::failure::{Failure, NOT_STARTED};
use crate::{
    container, help, image, inspect, manual, measure, network, pod, registry, system, version, volume,
};

/// Verbs about one kind of things.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) title: &'static str,
    pub(crate) verbs: &'static [Verb],
}

/// All verbs.
pub(crate) static FAMILIES: &[Family] = &[
    Family {
        title: "Containers",
        verbs: &[
            Verb::of::<container::create::Run>(&["run", "container run"]),
            Verb::of::<container::list::List>(&["ps", "container ls", "container list", "container ps"]),
            Verb::of::<container::exec::Exec>(&["exec", "container exec"]),
            Verb::of::<container::look::LogOptions>(&["logs", "container logs"]),
            Verb::of::<container::life::StopOptions>(&["stop", "container stop"]),
            Verb::of::<container::life::Start>(&["start", "container start"]),
            Verb::of::<container::life::Restart>(&["restart", "container restart"]),
            Verb::of::<container::life::Remove>(&["rm", "container rm", "container remove"]),
            Verb::of::<container::create::Create>(&["create", "container create"]),
            Verb::of::<container::attach::Attach>(&["attach", "container attach"]),
            Verb::of::<container::life::Kill>(&["kill", "container kill"]),
            Verb::of::<container::life::Pause>(&["pause", "container pause"]),
            Verb::of::<container::life::Unpause>(&["unpause", "container unpause"]),
            Verb::of::<container::life::Wait>(&["wait", "container wait"]),
            Verb::of::<container::update::Update>(&["update", "container update"]),
            Verb::of::<container::life::Rename>(&["rename", "container rename"]),
            Verb::of::<container::look::Top>(&["top", "container top"]),
            Verb::of::<container::stats::Stats>(&["stats", "container stats"]),
            Verb::of::<container::port::Port>(&["port", "container port"]),
            Verb::of::<container::copy::Copy>(&["cp", "container cp"]),
            Verb::of::<container::root::Diff>(&["diff", "container diff"]),
            Verb::of::<container::root::Export>(&["export", "container export"]),
            Verb::of::<inspect::Containers>(&["container inspect"]),
            Verb::of::<container::life::Prune>(&["container prune"]),
        ],
    },
    Family {
        title: "Pods",
        verbs: &[
            Verb::of::<pod::create::Create>(&["pod create"]),
            Verb::of::<pod::list::List>(&["pod ps", "pod ls", "pod list"]),
            Verb::of::<pod::life::Start>(&["pod start"]),
            Verb::of::<pod::life::StopAll>(&["pod stop"]),
            Verb::of::<pod::life::Restart>(&["pod restart"]),
            Verb::of::<pod::life::Kill>(&["pod kill"]),
            Verb::of::<pod::life::Pause>(&["pod pause"]),
            Verb::of::<pod::life::Unpause>(&["pod unpause"]),
            Verb::of::<pod::life::Remove>(&["pod rm", "pod remove"]),
            Verb::of::<pod::look::Inspect>(&["pod inspect"]),
            Verb::of::<pod::look::LogOptions>(&["pod logs"]),
            Verb::of::<pod::look::Top>(&["pod top"]),
            Verb::of::<pod::look::PodStats>(&["pod stats"]),
            Verb::of::<pod::life::Exists>(&["pod exists"]),
            Verb::of::<pod::life::Prune>(&["pod prune"]),
        ],
    },
    Family {
        title: "Images",
        verbs: &[
            Verb::of::<image::list::List>(&["images", "image ls", "image list"]),
            Verb::of::<registry::pull::Options>(&["pull", "image pull"]),
            Verb::of::<registry::push::Options>(&["push", "image push"]),
            Verb::of::<registry::login::Options>(&["login"]),
            Verb::of::<registry::login::Leave>(&["logout"]),
            Verb::of::<image::archive::Load>(&["load", "image load"]),
            Verb::of::<image::archive::Save>(&["save", "image save"]),
            Verb::of::<image::make::CommitOptions>(&["commit", "container commit"]),
            Verb::of::<image::make::ImportOptions>(&["import", "image import"]),
            Verb::of::<image::name::Tag>(&["tag", "image tag"]),
            Verb::of::<image::name::Remove>(&["rmi", "image rm", "image remove"]),
            Verb::of::<image::history::History>(&["history", "image history"]),
            Verb::of::<inspect::Images>(&["image inspect"]),
            Verb::of::<image::name::Prune>(&["image prune"]),
        ],
    },
    Family {
        title: "Volumes",
        verbs: &[
            Verb::of::<volume::Create>(&["volume create"]),
            Verb::of::<volume::List>(&["volume ls", "volume list"]),
            Verb::of::<inspect::Volumes>(&["volume inspect"]),
            Verb::of::<volume::Remove>(&["volume rm", "volume remove"]),
            Verb::of::<volume::Prune>(&["volume prune"]),
        ],
    },
    Family {
        title: "Networks",
        verbs: &[
            Verb::of::<network::Create>(&["network create"]),
            Verb::of::<network::List>(&["network ls", "network list"]),
            Verb::of::<inspect::Networks>(&["network inspect"]),
            Verb::of::<network::Connect>(&["network connect"]),
            Verb::of::<network::Disconnect>(&["network disconnect"]),
            Verb::of::<network::Remove>(&["network rm", "network remove"]),
            Verb::of::<network::Prune>(&["network prune"]),
        ],
    },
    Family {
        title: "System",
        verbs: &[
            Verb::of::<inspect::Any>(&["inspect"]),
            Verb::of::<system::events::Options>(&["events", "system events"]),
            Verb::of::<system::df::Df>(&["system df"]),
            Verb::of::<system::whole::Prune>(&["system prune"]),
            Verb::of::<system::check::Check>(&["system check"]),
            Verb::of::<system::whole::RestartAll>(&["system restart-all"]),
            Verb::of::<system::whole::RestartUnit>(&["system restart-unit"]),
            Verb::of::<system::info::Options>(&["info", "system info"]),
            Verb::of::<version::Options>(&["version"]),
            measure::VERB,
        ],
    },
    Family {
        title: "Shell",
        verbs: &[
            Verb::of::<help::Options>(&["help"]),
            Verb::of::<manual::Completion>(&["completion"]),
            Verb::of::<manual::Manual>(&["man"]),
        ],
    },
];

/// What a group of verbs with two words is about.
pub(super) fn of_group(group: &str) -> &'static str {
    match group {
        "container" => "Verbs of containers",
        "image" => "Verbs of images",
        "network" => "Verbs of networks",
        "pod" => "Verbs of pods",
        "volume" => "Verbs of volumes",
        _ => "Verbs of the whole",
    }
}

/// Says that nothing is called so, and what is.
pub(super) fn unknown(words: &[OsString]) -> Failure {
    let names = || FAMILIES.iter().flat_map(|family| family.verbs).flat_map(|verb| verb.names).copied();
    let first = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let of_group = Vec::from_iter(names().filter_map(|name| name.strip_prefix(&format!("{first} "))));
    let failure = |text: String| Failure::new(text).code(NOT_STARTED);
    let second = words.get(1).map(|word| word.to_string_lossy());
    if let Some(next) = absent::instead_of(&first, second.as_deref()) {
        let typed = match second.filter(|_| !of_group.is_empty()) {
            Some(second) => format!("{first} {second}"),
            None => first,
        };
        return failure(format!("bulkhead has no command {typed}")).hint(next);
    }
    if of_group.is_empty() {
        let failure = failure(format!("bulkhead has no command {first}"));
        let near = nearest(&first, names().filter(|name| !name.contains(' ')));
        return failure.hint(match near {
            Some(near) => format!("did you mean `bulkhead {near}`?"),
            None => "`bulkhead --help` lists the commands".to_owned(),
        });
    }
    let all = of_group.join(", ");
    match words.get(1).map(|word| word.to_string_lossy()) {
        None => failure(format!("bulkhead {first} wants one of {all}")),
        Some(word) => match nearest(&word, of_group.iter().copied()) {
            Some(near) => failure(format!("bulkhead {first} has no {word}"))
                .hint(format!("did you mean `bulkhead {first} {near}`?")),
            None => failure(format!("bulkhead {first} has no {word}: it has {all}")),
        },
    }
}

/// The name that a mistyped one was meant for, if one is near.
fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (typed.chars().count() / 3).clamp(1, 2);
    let scored = names.map(|name| (distance(typed, name), name));
    let (least, name) = scored.min_by_key(|(distance, _)| *distance)?;
    (least <= allowed).then_some(name)
}

/// How many letters must be put in, taken out, exchanged, or swapped with the next one.
fn distance(one: &str, other: &str) -> usize {
    let other = Vec::from_iter(other.chars());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last = Vec::from_iter(0..=other.len());
    let mut letter_before = None;
    for (row, letter) in one.chars().enumerate() {
        let mut line = vec![row + 1];
        for (column, wanted) in other.iter().enumerate() {
            let exchanged = last[column] + usize::from(letter != *wanted);
            let mut least = exchanged.min(last[column + 1] + 1).min(line[column] + 1);
            let is_swapped = column > 0 && letter_before == Some(*wanted) && other[column - 1] == letter;
            if is_swapped && let Some(before) = before_last.get(column - 1) {
                least = least.min(before + 1);
            }
            line.push(least);
        }
        before_last = std::mem::replace(&mut last, line);
        letter_before = Some(letter);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_are_found() {
        let names = ["run", "rm", "rmi", "images", "inspect", "version"];
        for (typed, expected) in [
            ("runn", Some("run")),
            ("rnu", Some("run")),
            ("image", Some("images")),
            ("inpsect", Some("inspect")),
            ("verison", Some("version")),
            ("frobnicate", None),
        ] {
            assert_eq!(nearest(typed, names.into_iter()), expected, "for {typed}");
        }
    }
}
