//! An Atom feed of papers, as Python's ElementTree reads it.
//!
//! An element's text is what stands before its first child. Documents with entities of their own are refused.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, XmlVersion};
use serde_json::{Map, Value as Json};

use crate::html::strip;

const ATOM: &str = "http://www.w3.org/2005/Atom";
const ARXIV: &str = "http://arxiv.org/schemas/atom";

/// Feed, entry, part of an entry, part of an author: what is deeper is not looked at, but may be as deep as this.
const DEEPEST: usize = 1000;

/// Why a document is no feed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the answer declares the entity {0}, which is not allowed")]
    Entities(String),
    #[error("the answer is not well-formed XML: {0}")]
    Malformed(String),
    #[error("an author in the answer has no name")]
    Nameless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Space {
    Atom,
    Arxiv,
    #[default]
    Other,
}

/// An element down to the second level below an entry.
#[derive(Debug, Default)]
struct Element {
    space: Space,
    name: String,
    attributes: Vec<(String, String)>,
    /// What stands before its first child.
    text: String,
    children: Vec<Element>,
    /// A child has begun, kept or not.
    parted: bool,
}

impl Element {
    fn is(&self, space: Space, name: &str) -> bool {
        self.space == space && self.name == name
    }

    fn all<'e>(&'e self, space: Space, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.is(space, name))
    }

    fn text_of(&self, space: Space, name: &str) -> Json {
        let found = self.all(space, name).next();
        match found.map(|found| found.text.as_str()) {
            Some(text) if !text.is_empty() => strip(text).into(),
            _ => Json::Null,
        }
    }

    fn attribute(&self, name: &str) -> Json {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map_or(Json::Null, |(_, value)| value.as_str().into())
    }

    fn link(&self, rel: &str) -> Json {
        let found = self
            .all(Space::Atom, "link")
            .find(|link| link.attribute("rel") == rel);
        found.map_or(Json::Null, |link| link.attribute("href"))
    }
}

/// The papers of a feed.
pub(super) fn papers(feed: &str) -> Result<Vec<Map<String, Json>>, Error> {
    let root = read(feed)?;
    root.all(Space::Atom, "entry").map(paper).collect()
}

fn paper(entry: &Element) -> Result<Map<String, Json>, Error> {
    let text = |name| entry.text_of(Space::Atom, name);
    let authors = entry.all(Space::Atom, "author").map(|author| {
        let name = author.all(Space::Atom, "name").next().ok_or(Error::Nameless)?;
        Ok(match name.text.is_empty() {
            true => Json::Null,
            false => name.text.as_str().into(),
        })
    });
    let authors = authors.collect::<Result<Vec<Json>, Error>>()?;
    let primary = entry.all(Space::Arxiv, "primary_category").next();
    let categories: Vec<Json> = entry
        .all(Space::Atom, "category")
        .map(|category| category.attribute("term"))
        .collect();
    let cells = [
        ("id", text("id")),
        ("title", text("title")),
        ("summary", text("summary")),
        ("published", text("published")),
        ("updated", text("updated")),
        ("authors", authors.into()),
        ("arxiv_url", entry.link("alternate")),
        ("pdf_url", entry.link("related")),
        ("comment", entry.text_of(Space::Arxiv, "comment")),
        ("journal_ref", entry.text_of(Space::Arxiv, "journal_ref")),
        (
            "primary_category",
            primary.map_or(Json::Null, |category| category.attribute("term")),
        ),
        ("categories", categories.into()),
    ];
    let cells = cells.into_iter();
    Ok(cells.map(|(name, cell)| (name.to_owned(), cell)).collect())
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

/// The document's element, with what is in it.
fn read(document: &str) -> Result<Element, Error> {
    let text = document.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let (space, event) = reader.read_resolved_event().map_err(malformed)?;
        match event {
            Event::Start(tag) => {
                if open.len() >= DEEPEST || root.is_some() {
                    return Err(malformed("more than one element, or too deep"));
                }
                let element = element(&space, &tag)?;
                part(&mut open);
                open.push(element);
            }
            Event::Empty(tag) => {
                let element = element(&space, &tag)?;
                part(&mut open);
                close(element, &mut open, &mut root)?;
            }
            Event::End(_) => {
                let element = open.pop().ok_or_else(|| malformed("an end without a start"))?;
                close(element, &mut open, &mut root)?;
            }
            Event::Text(piece) => say(&mut open, &piece)?,
            Event::CData(piece) => say(&mut open, &piece)?,
            Event::GeneralRef(name) => {
                let character = crate::html::reference(&name);
                if character.is_empty() {
                    return Err(malformed(format!("undefined entity &{};", &*name)));
                }
                say(&mut open, &character)?;
            }
            Event::DocType(declared) => {
                if let Some((_, entity)) = declared.split_once("<!ENTITY") {
                    let name = entity.split_whitespace().next().unwrap_or_default();
                    return Err(Error::Entities(name.to_owned()));
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    match (root, open.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => Err(malformed("no element found, or one that does not end")),
    }
}

fn element(space: &ResolveResult<'_>, tag: &BytesStart<'_>) -> Result<Element, Error> {
    let space = match space {
        ResolveResult::Bound(bound) if bound.0 == ATOM => Space::Atom,
        ResolveResult::Bound(bound) if bound.0 == ARXIV => Space::Arxiv,
        ResolveResult::Bound(_) | ResolveResult::Unbound => Space::Other,
        ResolveResult::Unknown(prefix) => return Err(malformed(format!("unbound prefix {prefix}"))),
    };
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(malformed)?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(malformed)?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element {
        space,
        name: tag.local_name().as_ref().to_owned(),
        attributes,
        ..Element::default()
    })
}

/// Notes that a child begins: what follows it is no text of its parent.
fn part(open: &mut [Element]) {
    if let Some(parent) = open.last_mut() {
        parent.parted = true;
    }
}

/// Ends an element. What lies deeper than is looked at goes.
fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) -> Result<(), Error> {
    const KEPT: usize = 3;
    let depth = open.len();
    match open.last_mut() {
        Some(parent) if depth <= KEPT => parent.children.push(element),
        Some(_) => {}
        None if root.is_none() => *root = Some(element),
        None => return Err(malformed("more than one element")),
    }
    Ok(())
}

fn say(open: &mut [Element], text: &str) -> Result<(), Error> {
    match open.last_mut() {
        Some(element) if !element.parted => element.text.push_str(text),
        Some(_) => {}
        None if text.trim().is_empty() => {}
        None => return Err(malformed("text outside of the element")),
    }
    Ok(())
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
