//! Docker's verbs that are not there, and what does the same.

/// Says what to do instead of a verb of docker's; nothing of what docker has not either.
pub(super) fn instead_of(first: &str, second: Option<&str>) -> Option<&'static str> {
    let of_two = |second| WORDS.iter().find(|(names, _)| names.contains(&&*format!("{first} {second}")));
    let found = second.and_then(of_two).or_else(|| WORDS.iter().find(|(names, _)| names.contains(&first)));
    found.map(|(_, next)| *next)
}

const WORDS: &[(&[&str], &str)] = &[
    (
        &["build", "buildx", "builder", "image build", "bake"],
        "another program builds images: `buildah build -t NAME .`, then `buildah push NAME docker-archive:image.tar:NAME` and \
         `bulkhead load -i image.tar`; or change a container and `bulkhead commit` it",
    ),
    (
        &["compose", "docker-compose"],
        "`bulkhead pod create` keeps containers together, `--restart` and `bulkhead system restart-unit` start them with the \
         machine; files of compose are not read",
    ),
    (
        &["search"],
        "the pages of a registry are searched with a browser; `bulkhead pull NAME` fetches what was found",
    ),
    (&["context"], "there is no daemon that could be elsewhere: `ssh HOST bulkhead …`"),
    (
        &["swarm", "node", "service", "stack", "config"],
        "this is one machine's engine: a cluster takes an orchestrator",
    ),
    (&["secret"], "`run --secret FILE` gives a container a secret; the file is the only store of it"),
    (
        &["plugin"],
        "there are no plugins: volumes are directories (`--volume`), logs are json-file, journald or none (`--log-driver`)",
    ),
    (
        &["manifest", "trust", "image sign"],
        "`bulkhead pull NAME@sha256:…` has exactly one image; `skopeo` shows and copies lists of platforms",
    ),
    (&["checkpoint"], "processes are not kept beyond their end; `bulkhead pause` freezes them"),
    (&["scout", "sbom"], "scanners read what `bulkhead save NAME -o image.tar` writes"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::FAMILIES;

    #[test]
    fn what_is_not_there_is_no_verb() {
        let verbs = || FAMILIES.iter().flat_map(|family| family.verbs).flat_map(|verb| verb.names);
        for name in WORDS.iter().flat_map(|(names, _)| *names) {
            assert!(verbs().all(|verb| verb != name), "{name} is there by now");
        }
        assert!(instead_of("stack", Some("ls")).unwrap().contains("orchestrator"));
        assert!(instead_of("build", Some(".")).unwrap().contains("buildah"));
        assert_eq!(instead_of("frobnicate", None), None);
        assert_eq!(instead_of("container", Some("frobnicate")), None);
    }
}
