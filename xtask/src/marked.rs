//! Pages of which a program writes the part between two marks.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Ends what a program writes.
const END: &str = "<!-- end -->";

/// Puts `markdown` between the line `begin` of the page and the next end.
pub(crate) fn insert(page: &Path, begin: &str, markdown: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let text = between(&text, begin, markdown);
    let text = text.with_context(|| format!("find `{begin}` in {}", page.display()))?;
    std::fs::write(page, text).with_context(|| format!("write {}", page.display()))
}

fn between(text: &str, begin: &str, markdown: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{}\n{END}{after}", markdown.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced() {
        let page = "before\n<!-- begin -->\nold\n<!-- end -->\nafter\n";
        let expected = "before\n<!-- begin -->\nnew\n<!-- end -->\nafter\n";
        assert_eq!(between(page, "<!-- begin -->", "new\n").unwrap(), expected);
        assert_eq!(between(expected, "<!-- begin -->", "new").unwrap(), expected);
        assert_eq!(between("nothing", "<!-- begin -->", "new"), None);
    }
}
