//! From characters to tags and text, by the HTML standard's tokenizer.

use std::convert::Infallible;

use html5gum::emitters::Emitter;
use html5gum::{Error, State, Tokenizer};

/// What builds a tree of what is read.
pub(super) trait Build {
    /// A start tag; what it says is how the text after it is read.
    fn start(&mut self, name: &str, attributes: Vec<(String, String)>, closes_itself: bool) -> Option<State>;
    fn end(&mut self, name: &str);
    /// A piece of text; a character may be cut in two.
    fn text(&mut self, piece: &[u8]);
    /// A comment, a declaration or an instruction: no text, but it separates some.
    fn note(&mut self, doctype: bool);
    fn finish(self) -> super::Soup;
}

/// Reads all of a page into `build`.
pub(super) fn read<B: Build>(page: &str, mut build: B) -> B {
    let emitter = Reader {
        build: &mut build,
        tag: Tag::default(),
        last_start: Vec::new(),
    };
    match Tokenizer::new_with_emitter(page, emitter).finish() {
        Ok(()) => build,
        Err(never) => match never {},
    }
}

#[derive(Debug, Default)]
struct Tag {
    is_end: bool,
    name: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    closes_itself: bool,
}

/// Gathers a tag from its pieces.
struct Reader<'b, B> {
    build: &'b mut B,
    tag: Tag,
    last_start: Vec<u8>,
}

impl<B: Build> Reader<'_, B> {
    fn begin(&mut self, is_end: bool) {
        self.tag = Tag {
            is_end,
            ..Tag::default()
        };
    }
}

pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl<B: Build> Emitter for Reader<'_, B> {
    type Token = Infallible;

    fn set_last_start_tag(&mut self, last_start_tag: Option<&[u8]>) {
        self.last_start = last_start_tag.unwrap_or_default().to_vec();
    }

    fn emit_eof(&mut self) {}

    fn emit_error(&mut self, _: Error) {}

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn pop_token(&mut self) -> Option<Infallible> {
        None
    }

    fn emit_string(&mut self, piece: &[u8]) {
        self.build.text(piece);
    }

    fn init_start_tag(&mut self) {
        self.begin(false);
    }

    fn init_end_tag(&mut self) {
        self.begin(true);
    }

    fn init_comment(&mut self) {}

    fn emit_current_tag(&mut self) -> Option<State> {
        let tag = std::mem::take(&mut self.tag);
        if tag.is_end {
            self.last_start.clear();
            self.build.end(&text(tag.name));
            return None;
        }
        self.last_start.clone_from(&tag.name);
        let mut attributes: Vec<(String, String)> = Vec::with_capacity(tag.attributes.len());
        for (name, value) in tag.attributes {
            let name = text(name);
            if !attributes.iter().any(|(known, _)| *known == name) {
                attributes.push((name, text(value)));
            }
        }
        self.build.start(&text(tag.name), attributes, tag.closes_itself)
    }

    fn emit_current_comment(&mut self) {
        self.build.note(false);
    }

    fn emit_current_doctype(&mut self) {
        self.build.note(true);
    }

    fn set_self_closing(&mut self) {
        self.tag.closes_itself = true;
    }

    fn set_force_quirks(&mut self) {}

    fn push_tag_name(&mut self, piece: &[u8]) {
        self.tag.name.extend_from_slice(piece);
    }

    fn push_comment(&mut self, _: &[u8]) {}

    fn push_doctype_name(&mut self, _: &[u8]) {}

    fn init_doctype(&mut self) {}

    fn init_attribute(&mut self) {
        // Nobody writes so many; whoever does makes every further one slower.
        const MAX_ATTRIBUTES: usize = 256;
        self.tag.attributes.truncate(MAX_ATTRIBUTES);
        self.tag.attributes.push((Vec::new(), Vec::new()));
    }

    fn push_attribute_name(&mut self, piece: &[u8]) {
        if let Some((name, _)) = self.tag.attributes.last_mut() {
            name.extend_from_slice(piece);
        }
    }

    fn push_attribute_value(&mut self, piece: &[u8]) {
        if let Some((_, value)) = self.tag.attributes.last_mut() {
            value.extend_from_slice(piece);
        }
    }

    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}

    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}

    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}

    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.tag.is_end && !self.last_start.is_empty() && self.tag.name == self.last_start
    }
}

/// How the text after a start tag of this name is read, if not as usual.
pub(super) fn text_state(name: &str) -> Option<State> {
    Some(match name {
        "title" | "textarea" => State::RcData,
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => State::RawText,
        "script" => State::ScriptData,
        "plaintext" => State::PlainText,
        _ => return None,
    })
}
