//! Elements of HTML and SVG, written so that they are well-formed XML, too.
//!
//! Whatever comes from outside (names, versions, reasons) can enter a page only as the text of an element or the value
//! of an attribute, and both are escaped where they are written: here.

use std::fmt::{self, Display, Formatter, Write as _};

/// Elements that have no end in HTML. All others must have one, even when they are empty.
const VOID: &[&str] = &["br", "col", "hr", "img", "link", "meta"];

/// An element with what is in it.
#[derive(Clone, Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), children: Vec::new() }
    }

    /// An element that holds nothing but text.
    pub(super) fn of(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name).text(text)
    }

    pub(super) fn with(mut self, attribute: &'static str, value: impl Display) -> Self {
        self.attributes.push((attribute, value.to_string()));
        self
    }

    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.children.push(Node::Text(text.into()));
        self
    }

    pub(super) fn add(mut self, child: Self) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    pub(super) fn all(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }
}

impl Display for Element {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(formatter, " {name}=\"{}\"", Escaped(value))?;
        }
        if VOID.contains(&self.name) {
            return formatter.write_str("/>");
        }
        formatter.write_char('>')?;
        for child in &self.children {
            match child {
                Node::Element(element) => element.fmt(formatter)?,
                Node::Text(text) => Escaped(text).fmt(formatter)?,
            }
        }
        write!(formatter, "</{}>", self.name)
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '<' => formatter.write_str("&lt;"),
            '>' => formatter.write_str("&gt;"),
            '&' => formatter.write_str("&amp;"),
            '"' => formatter.write_str("&quot;"),
            '\'' => formatter.write_str("&#39;"),
            character if is_allowed(character) => formatter.write_char(character),
            _ => formatter.write_char('\u{fffd}'),
        })
    }
}

/// What XML 1.0 can hold (section 2.2), but for the marks that turn the direction of what follows.
fn is_allowed(character: char) -> bool {
    let is_control = character.is_control() && !matches!(character, '\t' | '\n' | '\r');
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !is_control && !turns && !matches!(character, '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        let element =
            Element::new("p").with("title", "a\"b'<&").text("<script>\u{1b}\u{202e}").add(Element::new("br"));
        let written = "<p title=\"a&quot;b&#39;&lt;&amp;\">&lt;script&gt;\u{fffd}\u{fffd}<br/></p>";
        assert_eq!(element.to_string(), written);
        assert_eq!(Element::new("div").to_string(), "<div></div>", "an empty element that HTML leaves open");
    }
}
