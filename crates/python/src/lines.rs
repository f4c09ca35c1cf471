//! Lines out of a stream of bytes, none longer than a limit.

/// Gathers bytes until a line is whole.
#[derive(Debug)]
pub(crate) struct Lines {
    most: usize,
    unread: Vec<u8>,
    /// Up to here `unread` has no line feed.
    searched: usize,
}

/// A line that is longer than it may be; nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            unread: Vec::new(),
            searched: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some(found) = self.unread[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.searched = self.unread.len();
            return if self.unread.len() > self.most {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + found;
        if end > self.most {
            return Err(TooLong);
        }
        let rest = self.unread.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.unread, rest);
        line.truncate(end);
        self.searched = 0;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(lines: &mut Lines) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut found = Vec::new();
        while let Some(line) = lines.next()? {
            found.push(line);
        }
        Ok(found)
    }

    proptest! {
        /// However the bytes are cut, the lines are those that were written.
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            written in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let clean = |line: &Vec<u8>| -> Vec<u8> { line.iter().copied().filter(|byte| *byte != b'\n').collect() };
            let written: Vec<Vec<u8>> = written.iter().map(clean).collect();
            let mut bytes: Vec<u8> = written.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
            bytes.extend(clean(&tail));
            let (mut lines, mut found) = (Lines::new(64), Vec::new());
            let mut cuts = cuts.iter().cycle();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                lines.push(now);
                found.extend(all(&mut lines).unwrap());
                rest = later;
            }
            prop_assert_eq!(found, written);
        }

        /// A line over the limit is refused, one at the limit is not.
        #[test]
        fn the_limit_is_exact(most in 0usize..50, length in 0usize..100, cut in 1usize..100, ended in any::<bool>()) {
            let mut bytes = vec![b'x'; length];
            if ended { bytes.push(b'\n'); }
            let mut lines = Lines::new(most);
            let mut refused = false;
            for part in bytes.chunks(cut) {
                lines.push(part);
                refused |= all(&mut lines).is_err();
            }
            prop_assert_eq!(refused, length > most);
        }
    }
}
