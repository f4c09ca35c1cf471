//! Streams cut into pieces: Server-Sent Events, as far as model servers use them (the `data` of each event), or lines.
//!
//! Each byte is looked at once, so that a line without an end costs no more than its length.

use super::stream::Framing;

/// Bytes in, events out.
#[derive(Debug)]
pub(super) struct Decoder {
    framing: Framing,
    line: Vec<u8>,
    data: Option<String>,
    /// A carriage return ended the last line: a newline right after it belongs to it.
    after_return: bool,
    started: bool,
}

impl Decoder {
    pub(super) fn of(framing: Framing) -> Self {
        Self {
            framing,
            line: Vec::new(),
            data: None,
            after_return: false,
            started: false,
        }
    }

    /// What is left when nothing follows: a line without an end; an event without one is none.
    pub(super) fn end(&mut self) -> Option<String> {
        match self.framing {
            Framing::Lines => self.end_line(),
            Framing::Events => None,
        }
    }

    /// Takes the next bytes and hands every event they complete to `event`, in order.
    pub(super) fn push(&mut self, bytes: &[u8], event: &mut Vec<String>) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            let second_half = self.after_return && text.is_empty() && end == Some(b'\n');
            self.after_return = end == Some(b'\r');
            if second_half {
                continue;
            }
            self.line.extend_from_slice(text);
            if end.is_some() {
                event.extend(self.end_line());
            }
        }
    }

    /// An empty line ends an event.
    fn end_line(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let mut line = line.as_ref();
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if self.framing == Framing::Lines {
            return Some(line.to_owned());
        }
        if line.is_empty() {
            return self.data.take();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::of(Framing::Events);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk, &mut events);
        }
        events
    }

    #[test]
    fn table() {
        let cases: [(&str, &[&str]); 9] = [
            ("data: a\n\ndata:b\n\n", &["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\r", &["a", "b"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            (": comment\n\nevent: x\nid: 1\ndata: a\n\n", &["a"]),
            ("\u{feff}data: a\n\n", &["a"]),
            ("data\n\n", &[""]),
            ("data:  two\n\n", &[" two"]),
            ("data: cut off", &[]),
            ("data: cut off\n", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(decoded(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn lines() {
        let mut decoder = Decoder::of(Framing::Lines);
        let mut pieces = Vec::new();
        decoder.push(b"{\"a\": 1}\n\r\n{\"b\"", &mut pieces);
        decoder.push(b": 2}\r\nlast", &mut pieces);
        assert_eq!(pieces, ["{\"a\": 1}", "", "{\"b\": 2}"]);
        assert_eq!(decoder.end().as_deref(), Some("last"));
        assert_eq!(Decoder::of(Framing::Events).end(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            events in proptest::collection::vec("[a-zé日: ]{1,8}", 0..5),
            end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            size in 1_usize..7,
        ) {
            let text: String = events.iter().map(|event| format!("data: {event}{end}{end}")).collect();
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(decoded(&chunks), events);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decoded(&[&bytes]);
        }
    }
}
