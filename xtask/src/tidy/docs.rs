//! Public items are documented: the compiler's `missing_docs` finds them, this rule finds who switches it off.

use proc_macro2::TokenTree;

use super::source::{Source, is_ident, line};
use super::{Violation, Workspace};

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let members = workspace.metadata.members().map(|member| workspace.metadata.manifest(member));
    let unlinted = members.filter_map(|manifest| inherits_lints(workspace, &manifest));
    let exempted = workspace.sources.iter().flat_map(exemptions);
    workspace_lint(workspace).into_iter().chain(unlinted).chain(exempted).collect()
}

fn workspace_lint(workspace: &Workspace) -> Option<Violation> {
    let root = workspace.texts.iter().find(|text| text.path == "Cargo.toml")?;
    let is_on = |line: &str| {
        let level = line.strip_prefix("missing_docs").map(|rest| rest.trim_start_matches([' ', '=']));
        matches!(level, Some("\"warn\"" | "\"deny\"" | "\"forbid\""))
    };
    let missing = !root.content.lines().any(is_on);
    missing.then(|| Violation::new(&root.path, 1, "the workspace does not switch on the lint missing_docs"))
}

fn inherits_lints(workspace: &Workspace, manifest: &str) -> Option<Violation> {
    let text = workspace.texts.iter().find(|text| text.path == manifest)?;
    let mut lines = text.content.lines().skip_while(|line| line.trim() != "[lints]").skip(1);
    let inherits = lines.next().is_some_and(|line| line.replace(' ', "") == "workspace=true");
    (!inherits).then(|| Violation::new(manifest, 1, "[lints] does not inherit the workspace's lints"))
}

fn exemptions(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    source.each_level(|level| {
        for pair in level.windows(2) {
            let [name, TokenTree::Group(arguments)] = pair else { continue };
            let relaxes = is_ident(name, "expect") || is_ident(name, "allow");
            let mut lints = arguments.stream().into_iter();
            if relaxes && lints.any(|lint| is_ident(&lint, "missing_docs")) {
                let sentence = "missing_docs is switched off: write the documentation";
                found.push(Violation::new(&source.path, line(name), sentence));
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::planted::{member, metadata};
    use crate::tidy::tests::lines;

    #[test]
    fn exemptions_are_found() {
        let path = "crates/x/src/lib.rs";
        for (content, expected) in [
            ("#![expect(missing_docs, reason = \"later\")]", &[1][..]),
            ("\n#[allow(missing_docs)]\npub fn f() {}", &[2]),
            ("#[expect(dead_code, reason = \"x\")]\nfn f() {}", &[]),
        ] {
            assert_eq!(lines(check, path, content), expected, "wrong lines for {content}");
        }
    }

    #[test]
    fn a_workspace_without_the_lint_is_found() {
        assert_eq!(lines(check, "Cargo.toml", "[workspace.lints.rust]\nmissing_docs = \"allow\"\n"), [1]);
        assert_eq!(lines(check, "Cargo.toml", "[workspace.lints.rust]\nmissing_docs = \"warn\"\n"), [0; 0]);
    }

    #[test]
    fn a_member_without_the_workspace_lints_is_found() {
        for (manifest, expected) in
            [("[package]\nname = \"x\"\n", 1), ("[lints]\nworkspace = true\n", 0), ("[lints.rust]\n", 1)]
        {
            let mut workspace = Workspace::of(&[("crates/sys/Cargo.toml", manifest)]);
            workspace.metadata = metadata(vec![member("sys", &[])], &[]);
            assert_eq!(check(&workspace).len(), expected, "wrong verdict for {manifest}");
        }
    }
}
