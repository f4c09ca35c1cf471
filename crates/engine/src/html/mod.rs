//! HTML as Langflow's components see it, which is through Beautiful Soup: what text a page has, and which elements.
//!
//! Pages are tokenized as the HTML standard says. Which element a tag opens and closes is another matter: Beautiful
//! Soup leaves it to a parser, and the parsers it is used with here, lxml's (libxml2) and Python's own, both differ
//! from browsers. The first one's rules are in `legacy`; the second has hardly any.

mod legacy;
mod soup;
mod tokens;
mod xml;

pub(crate) use soup::{Soup, strip};
use tokens::Build;
pub(crate) use xml::reference;

/// Which parser's rules decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// libxml2's, of HTML 4: elements close one another, and `html`, `head` and `body` are added.
    Legacy,
    /// A tag opens, its end tag closes.
    Plain,
}

/// Reads XML, as far as it can be read.
pub(crate) fn parse_xml(document: &[u8]) -> Soup {
    xml::read(document)
}

/// Reads a page. Anything is a page.
pub(crate) fn parse(page: &str, rules: Rules) -> Soup {
    let page = page.strip_prefix('\u{feff}').unwrap_or(page);
    match rules {
        Rules::Legacy => tokens::read(page, legacy::Builder::default()).finish(),
        Rules::Plain => tokens::read(page, soup::Plain::default()).finish(),
    }
}

#[cfg(test)]
mod tests;
