//! Which element a tag opens and closes by the rules of libxml2's HTML parser, as of 2.14.
//!
//! They are those of HTML 4's DTD: some start tags close the element they stand in, an end tag closes what it may reach,
//! and `html`, `head` and `body` are there even if nobody wrote them.

use html5gum::State;

use super::soup::{MAX_DEPTH, Soup};
use super::tokens::{Build, text_state};

/// What is added to a page: how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Seen {
    #[default]
    Nothing,
    Head,
    Body,
}

/// Builds the tree.
#[derive(Debug, Default)]
pub(super) struct Builder {
    soup: Soup,
    open: Vec<String>,
    seen: Seen,
    /// Start tags of `html`, `head` and `body` that were passed over: their end tags are too.
    passed_over: usize,
    /// Something other than comments and the document type has been read; space before it is nothing.
    begun: bool,
    /// The document type has been read.
    typed: bool,
    /// The text is a script or the like.
    raw: bool,
}

impl Builder {
    fn top(&self) -> Option<&str> {
        self.open.last().map(String::as_str)
    }

    fn is_open(&self, name: &str) -> bool {
        self.open.iter().any(|open| open == name)
    }

    fn push(&mut self, name: &str, attributes: Vec<(String, String)>) {
        match name {
            "head" => self.seen = self.seen.max(Seen::Head),
            "body" => self.seen = Seen::Body,
            _ => {}
        }
        if self.open.len() == MAX_DEPTH {
            self.pop();
        }
        self.soup.start(name, attributes);
        self.open.push(name.to_owned());
    }

    fn pop(&mut self) {
        if self.open.pop().is_some() {
            self.soup.end();
        }
    }

    fn close_for(&mut self, name: &str) {
        while self.top().is_some_and(|open| closed_by(open).contains(&name)) {
            self.pop();
        }
    }

    /// Adds what must stand around an element of this name.
    fn imply(&mut self, name: &str) {
        if name == "html" {
            return;
        }
        if self.open.is_empty() {
            self.push("html", Vec::new());
        }
        match name {
            "body" | "head" => {}
            "script" | "style" | "meta" | "link" | "title" | "base" if self.open.len() <= 1 => {
                if self.seen < Seen::Head {
                    self.push("head", Vec::new());
                }
            }
            "noframes" | "frame" | "frameset" => {}
            _ => {
                if self.seen < Seen::Body && !self.is_open("body") && !self.is_open("head") {
                    self.push("body", Vec::new());
                }
            }
        }
    }

    /// Makes a place for text.
    fn imply_text(&mut self) {
        if self.top() == Some("head") {
            self.close_for("p");
        }
        self.imply("p");
    }
}

impl Build for Builder {
    fn start(&mut self, name: &str, attributes: Vec<(String, String)>, closes_itself: bool) -> Option<State> {
        self.begun = true;
        self.close_for(name);
        self.imply(name);
        let passed_over = match name {
            "html" => usize::from(!self.open.is_empty()),
            "head" => usize::from(self.open.len() != 1),
            "body" => self.open.iter().filter(|open| *open == "body").count(),
            _ => 0,
        };
        self.passed_over += passed_over;
        if passed_over == 0 {
            self.push(name, attributes);
        }
        // What follows is about the innermost element, also if that is not this one.
        let top = self.top()?.to_owned();
        if closes_itself || is_empty(&top) {
            self.pop();
            return None;
        }
        let state = text_state(&top);
        self.raw = state.is_some_and(|state| state != State::RcData);
        state
    }

    fn end(&mut self, name: &str) {
        self.begun = true;
        self.raw = false;
        if self.passed_over > 0 && matches!(name, "html" | "body" | "head") {
            self.passed_over -= 1;
            return;
        }
        if !self.is_open(name) {
            return;
        }
        let reach = priority(name);
        for open in self.open.iter().rev() {
            if open == name {
                break;
            }
            if priority(open) > reach {
                return;
            }
        }
        while self.top().is_some_and(|open| open != name) {
            self.pop();
        }
        self.pop();
    }

    fn text(&mut self, piece: &[u8]) {
        let piece = if self.begun { piece } else { trimmed(piece) };
        if piece.is_empty() {
            return;
        }
        self.begun = true;
        if self.raw || !matches!(self.top(), None | Some("html" | "head")) {
            self.soup.text(piece);
            return;
        }
        let words = trimmed(piece);
        self.soup.text(&piece[..piece.len() - words.len()]);
        if !words.is_empty() {
            self.imply_text();
            self.soup.text(words);
        }
    }

    fn note(&mut self, doctype: bool) {
        self.begun |= doctype && self.typed;
        self.typed |= doctype;
        self.soup.flush();
    }

    fn finish(self) -> Soup {
        self.soup.finished()
    }
}

/// Without the space it begins with.
fn trimmed(piece: &[u8]) -> &[u8] {
    let words = piece
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | 0xc | b'\r'));
    &piece[words.unwrap_or(piece.len())..]
}

/// Elements that cannot have anything in them.
fn is_empty(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "basefont"
            | "br"
            | "col"
            | "frame"
            | "hr"
            | "img"
            | "input"
            | "isindex"
            | "link"
            | "meta"
            | "param"
    )
}

/// An end tag reaches its element over others of at most this.
fn priority(name: &str) -> u32 {
    match name {
        "div" => 150,
        "td" | "th" => 160,
        "tr" => 170,
        "thead" | "tbody" | "tfoot" => 180,
        "table" => 190,
        "head" | "body" => 200,
        "html" => 220,
        _ => 100,
    }
}

/// The start tags that close an element.
fn closed_by(open: &str) -> &'static [&'static str] {
    match open {
        "a" => &["a", "fieldset", "table", "td", "th"],
        "address" => &["dd", "dl", "dt", "form", "li", "ul"],
        "b" | "i" => &["center", "p", "td", "th"],
        "big" | "s" | "small" | "strike" | "tt" => &["p"],
        "caption" | "col" => &["col", "colgroup", "tbody", "tfoot", "thead", "tr"],
        "colgroup" => &["colgroup", "tbody", "tfoot", "thead", "tr"],
        "dd" => &["dt"],
        "dir" | "menu" => &["dd", "dl", "dt", "form", "ul"],
        "dl" => &["form", "li"],
        "dt" => &["dd", "dl"],
        "font" => &["center", "td", "th"],
        "form" | "hr" | "ol" => &["form"],
        "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => &["fieldset", "form", "li", "p", "table"],
        "head" => &[
            "a",
            "abbr",
            "acronym",
            "address",
            "b",
            "bdo",
            "big",
            "blockquote",
            "body",
            "br",
            "center",
            "cite",
            "code",
            "dd",
            "dfn",
            "dir",
            "div",
            "dl",
            "dt",
            "em",
            "fieldset",
            "font",
            "form",
            "frameset",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "i",
            "iframe",
            "img",
            "kbd",
            "li",
            "listing",
            "map",
            "menu",
            "ol",
            "p",
            "pre",
            "q",
            "s",
            "samp",
            "small",
            "span",
            "strike",
            "strong",
            "sub",
            "sup",
            "table",
            "tt",
            "u",
            "ul",
            "var",
            "xmp",
        ],
        "legend" => &["fieldset"],
        "li" => &["li"],
        "link" | "style" | "title" => &["body", "frameset"],
        "listing" | "pre" | "xmp" => &["dd", "dl", "dt", "fieldset", "form", "li", "table", "ul"],
        "option" => &["optgroup", "option"],
        "p" => &[
            "address",
            "blockquote",
            "body",
            "caption",
            "center",
            "col",
            "colgroup",
            "dd",
            "dir",
            "div",
            "dl",
            "dt",
            "fieldset",
            "form",
            "frameset",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "head",
            "hr",
            "li",
            "listing",
            "menu",
            "ol",
            "p",
            "pre",
            "table",
            "tbody",
            "td",
            "tfoot",
            "th",
            "title",
            "tr",
            "ul",
            "xmp",
        ],
        "script" => &["noscript"],
        "span" => &["td", "th"],
        "tbody" | "thead" => &["tbody", "tfoot"],
        "td" | "th" => &["tbody", "td", "tfoot", "th", "tr"],
        "tfoot" => &["tbody"],
        "tr" => &["tbody", "tfoot", "tr"],
        "u" => &["p", "td", "th"],
        "ul" => &["address", "form", "menu", "pre"],
        _ => &[],
    }
}
