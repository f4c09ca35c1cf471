//! XML through the same soup: feeds, which are not always well-formed.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::Soup;
use super::soup::MAX_DEPTH;
use crate::outbound::Charset;

/// Reads until something is not XML at all.
pub(super) fn read(document: &[u8]) -> Soup {
    let text = decoded(document);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let mut soup = Soup::of_xml();
    let mut open: Vec<String> = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) if open.len() < MAX_DEPTH => {
                open.push(tag.name().as_ref().to_owned());
                soup.start(tag.name().as_ref(), Vec::new());
            }
            Ok(Event::Empty(tag)) => {
                soup.start(tag.name().as_ref(), Vec::new());
                soup.end();
            }
            Ok(Event::End(tag)) => {
                if let Some(place) = open.iter().rposition(|name| name == tag.name().as_ref()) {
                    for _ in place..open.len() {
                        soup.end();
                    }
                    open.truncate(place);
                }
            }
            Ok(Event::Text(piece)) => soup.text(piece.as_bytes()),
            Ok(Event::CData(piece)) => {
                soup.flush();
                soup.text(piece.as_bytes());
                soup.flush();
            }
            Ok(Event::GeneralRef(name)) => soup.text(reference(&name).as_bytes()),
            Ok(Event::Eof) | Err(_) => return soup.finished(),
            Ok(_) => soup.flush(),
        }
    }
}

/// A character by its name or number; what has neither is nothing.
pub(crate) fn reference(name: &str) -> String {
    let character = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => number.parse().ok(),
        }
        .and_then(char::from_u32),
        None => match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => None,
        },
    };
    character.map(String::from).unwrap_or_default()
}

/// The text of a document, in the encoding its first line names.
fn decoded(document: &[u8]) -> String {
    const DECLARATION: usize = 200;
    let head = String::from_utf8_lossy(document.get(..DECLARATION).unwrap_or(document));
    let label = head
        .trim_start()
        .strip_prefix("<?xml")
        .and_then(|rest| rest.split_once("?>"))
        .and_then(|(declaration, _)| declaration.split_once("encoding"))
        .map(|(_, rest)| rest.trim_start_matches([' ', '=', '"', '\'']))
        .and_then(|rest| rest.split(['"', '\'']).next());
    let charset = label.and_then(Charset::named).unwrap_or(Charset::Utf8);
    charset.decode(document).trim_start_matches('\u{feff}').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(document: &[u8]) -> Vec<String> {
        let soup = read(document);
        let items = soup.elements().filter(|element| element.name() == "title");
        items.map(|title| title.text()).collect()
    }

    #[test]
    fn feeds_are_read() {
        let feed = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><rss><channel><item><title>A &amp; B &#233;&#xe9; \
                    &unknown;</title><media:title>no</media:title></item><item><title><![CDATA[<b>C</b>]]></title>\
                    </item></channel></rss>";
        assert_eq!(titles(feed.as_bytes()), ["A & B éé ", "<b>C</b>"]);
        let latin = b"<?xml version='1.0' encoding='iso-8859-1'?><title>caf\xe9</title>";
        assert_eq!(titles(latin), ["café"]);
        assert_eq!(titles(b"<a><title>one</b></title><title>two"), ["one", "two"]);
        assert!(titles(b"no xml at all <").is_empty());
        assert!(titles(&[0xff; 10]).is_empty());
        let deep = "<a>".repeat(100_000);
        assert!(titles(deep.as_bytes()).is_empty());
    }
}
