//! The map has every module of the runtime, and nothing that is not there (ARCHITECTURE.md, "Files of").

use super::source::Text;
use super::{Violation, Workspace};

const MAP: &str = "ARCHITECTURE.md";

const TITLE: &str = "## Files of `crates/runtime/src`";

const DIRECTORY: &str = "crates/runtime/src/";

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let Some(map) = workspace.texts.iter().find(|text| text.path == MAP) else { return Vec::new() };
    let named = names(map);
    let paths = workspace.sources.iter().map(|source| source.path.as_str());
    let modules = paths.filter_map(|path| path.strip_prefix(DIRECTORY)?.strip_suffix(".rs"));
    // The library's root holds nothing but their names.
    let modules = Vec::from_iter(modules.filter(|module| !module.contains('/') && *module != "lib"));
    let missing = modules.iter().filter(|module| !named.contains(module)).map(|module| {
        let sentence = format!("{module} is missing in {MAP}, under \"Files of\"");
        Violation::new(&format!("{DIRECTORY}{module}.rs"), 1, sentence)
    });
    let is_gone = |name: &&&str| !name.contains('/') && !modules.contains(name);
    let gone = named.iter().filter(is_gone).map(|name| {
        let line = map.line_of(TITLE).unwrap_or(1);
        Violation::new(MAP, line, format!("{DIRECTORY}{name}.rs is named and is not there"))
    });
    missing.chain(gone).collect()
}

/// What stands in backquotes in the section.
fn names(map: &Text) -> Vec<&str> {
    let section = map.content.split_once(TITLE).map_or("", |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    section.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(map: &str) -> Vec<String> {
        let files = [
            (MAP, map),
            ("crates/runtime/src/lib.rs", ""),
            ("crates/runtime/src/plan.rs", ""),
            ("crates/runtime/src/plan/mounts.rs", ""),
            ("crates/runtime/src/state.rs", ""),
            ("crates/runtime/tests/state.rs", ""),
        ];
        check(&Workspace::of(&files)).into_iter().map(|violation| violation.sentence).collect()
    }

    #[test]
    fn the_map_and_the_land_agree() {
        let whole =
            format!("# Map\n`sys`\n{TITLE}\n`plan` and `plan/*` (pure) · `state`\n\n## Next\n`other`\n");
        assert_eq!(sentences(&whole), [""; 0]);
    }

    #[test]
    fn what_is_missing_or_gone_is_found() {
        let map = format!("{TITLE}\n`plan` `gone`\n## Next\n`state`\n");
        let expected = [
            "state is missing in ARCHITECTURE.md, under \"Files of\"",
            "crates/runtime/src/gone.rs is named and is not there",
        ];
        assert_eq!(sentences(&map), expected);
    }
}
