//! The tree of a page as Beautiful Soup keeps it, in document order, and the text of its parts.

use std::collections::BTreeMap;

use html5gum::State;

use super::tokens::{self, Build, text_state};

/// Elements in one another at most; deeper ones follow one another.
pub(super) const MAX_DEPTH: usize = 1024;

/// In these, space is text.
const KEEPS_SPACE: [&str; 2] = ["pre", "textarea"];
/// What stands in these is no text of the page.
const NO_TEXT: [&str; 5] = ["rt", "rp", "style", "script", "template"];

#[derive(Debug)]
enum Node {
    Element {
        name: String,
        attributes: Vec<(String, String)>,
        /// The first node that is not in it.
        end: usize,
    },
    Text {
        text: String,
        /// Whether it is text of the page, and not a script, say.
        shown: bool,
    },
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Soup {
    /// In document order: what is in an element follows it.
    nodes: Vec<Node>,
    open: Vec<usize>,
    pending: Vec<u8>,
    keeping_space: usize,
    hiding: usize,
    /// No element has a meaning.
    is_xml: bool,
}

/// An element of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'s> {
    soup: &'s Soup,
    place: usize,
}

impl Soup {
    pub(super) fn of_xml() -> Self {
        Self {
            is_xml: true,
            ..Self::default()
        }
    }

    pub(super) fn start(&mut self, name: &str, attributes: Vec<(String, String)>) {
        self.flush();
        self.keeping_space += usize::from(KEEPS_SPACE.contains(&name));
        self.hiding += usize::from(NO_TEXT.contains(&name));
        self.open.push(self.nodes.len());
        self.nodes.push(Node::Element {
            name: name.to_owned(),
            attributes,
            end: usize::MAX,
        });
    }

    /// Closes the innermost open element.
    pub(super) fn end(&mut self) {
        self.flush();
        let after = self.nodes.len();
        let Some(place) = self.open.pop() else { return };
        if let Some(Node::Element { name, end, .. }) = self.nodes.get_mut(place) {
            self.keeping_space -= usize::from(KEEPS_SPACE.contains(&name.as_str()));
            self.hiding -= usize::from(NO_TEXT.contains(&name.as_str()));
            *end = after;
        }
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// Ends a piece of text; one that is only space becomes one character of it.
    pub(super) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut text = tokens::text(std::mem::take(&mut self.pending));
        let space = |c: char| matches!(c, ' ' | '\n' | '\t' | '\u{c}' | '\r');
        let keeping = self.keeping_space > 0 && !self.is_xml;
        if !keeping && text.chars().all(space) {
            text = if text.contains('\n') { "\n" } else { " " }.to_owned();
        }
        self.nodes.push(Node::Text {
            text,
            shown: self.hiding == 0 || self.is_xml,
        });
    }

    pub(super) fn finished(mut self) -> Self {
        self.flush();
        while !self.open.is_empty() {
            self.end();
        }
        self
    }

    fn elements_in(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = Element<'_>> {
        places
            .filter(|place| matches!(self.nodes.get(*place), Some(Node::Element { .. })))
            .map(|place| Element { soup: self, place })
    }

    /// All elements, in document order.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Element<'_>> {
        self.elements_in(0..self.nodes.len())
    }

    /// The first element of this name.
    pub(crate) fn first(&self, name: &str) -> Option<Element<'_>> {
        self.elements().find(|element| element.name() == name)
    }

    /// All of the page's text.
    pub(crate) fn text_of_page(&self) -> String {
        self.strings(0..self.nodes.len()).collect()
    }

    /// The pieces of the page's text, without the space around them, joined by a space.
    pub(crate) fn words_of_page(&self) -> String {
        stripped(self.strings(0..self.nodes.len()), " ")
    }

    fn strings(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = &str> {
        self.nodes
            .get(places)
            .into_iter()
            .flatten()
            .filter_map(|node| match node {
                Node::Text { text, shown: true } => Some(text.as_str()),
                _ => None,
            })
    }
}

/// Strings without the space around them, those that are not empty.
fn stripped<'s>(strings: impl Iterator<Item = &'s str>, separator: &str) -> String {
    let words: Vec<&str> = strings.map(strip).filter(|word| !word.is_empty()).collect();
    words.join(separator)
}

/// As Python's `str.strip`, which also takes the separators U+001C to U+001F for space.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

impl<'s> Element<'s> {
    pub(crate) fn name(&self) -> &'s str {
        match &self.soup.nodes[self.place] {
            Node::Element { name, .. } => name,
            Node::Text { .. } => "",
        }
    }

    fn inside(&self) -> std::ops::Range<usize> {
        match self.soup.nodes[self.place] {
            Node::Element { end, .. } => self.place + 1..end,
            Node::Text { .. } => 0..0,
        }
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'s str> {
        let Node::Element { attributes, .. } = &self.soup.nodes[self.place] else {
            return None;
        };
        let found = attributes.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.attribute("class")
            .is_some_and(|classes| classes.split_whitespace().any(|one| one == class))
    }

    /// Elements in it, in document order.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Self> {
        self.soup.elements_in(self.inside())
    }

    /// All of its text.
    pub(crate) fn text(&self) -> String {
        self.soup.strings(self.inside()).collect()
    }

    /// The pieces of its text, without the space around them, one after the other.
    pub(crate) fn stripped_text(&self) -> String {
        stripped(self.soup.strings(self.inside()), "")
    }

    /// Its string, if that is all there is in it.
    pub(crate) fn only_string(&self) -> Option<&'s str> {
        let soup = self.soup;
        let mut inside = self.inside();
        loop {
            match (inside.len(), soup.nodes.get(inside.start)?) {
                (1, Node::Text { text, .. }) => return Some(text),
                (_, Node::Element { end, .. }) if *end == inside.end => inside = inside.start + 1..inside.end,
                _ => return None,
            }
        }
    }
}

/// Python's own parser: a tag opens, its end tag closes, and nothing is added.
#[derive(Debug, Default)]
pub(super) struct Plain {
    soup: Soup,
    open: Vec<String>,
    /// Void elements that have closed themselves, by name: as many end tags of theirs are passed over.
    closed: BTreeMap<&'static str, usize>,
}

const VOID: [&str; 24] = [
    "area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "image", "img",
    "input", "isindex", "keygen", "link", "menuitem", "meta", "nextid", "param", "source", "spacer", "track",
    "wbr",
];

impl Build for Plain {
    fn start(&mut self, name: &str, attributes: Vec<(String, String)>, closes_itself: bool) -> Option<State> {
        if self.open.len() == MAX_DEPTH {
            self.open.pop();
            self.soup.end();
        }
        self.soup.start(name, attributes);
        let void = VOID.iter().find(|void| **void == name);
        if closes_itself || void.is_some() {
            self.soup.end();
            if let Some(void) = void.filter(|_| !closes_itself) {
                *self.closed.entry(void).or_default() += 1;
            }
            return None;
        }
        self.open.push(name.to_owned());
        text_state(name).filter(|_| matches!(name, "script" | "style"))
    }

    fn end(&mut self, name: &str) {
        if let Some(closed) = self.closed.get_mut(name).filter(|closed| **closed > 0) {
            *closed -= 1;
            return;
        }
        self.soup.flush();
        if let Some(place) = self.open.iter().rposition(|open| open == name) {
            for _ in place..self.open.len() {
                self.soup.end();
            }
            self.open.truncate(place);
        }
    }

    fn text(&mut self, piece: &[u8]) {
        self.soup.text(piece);
    }

    fn note(&mut self, _: bool) {
        self.soup.flush();
    }

    fn finish(self) -> Soup {
        self.soup.finished()
    }
}
