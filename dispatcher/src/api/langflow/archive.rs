//! ZIP archives of documents, not compressed: what Langflow's clients download several flows as. No I/O.

/// Entries of one archive.
pub(super) const MOST: usize = 500;

/// An archive of files by their names. It stays far below what needs more than 32 bits.
pub(super) fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let offset = small(archive.len());
        // Version 2.0, names in UTF-8, stored, at the beginning of 1980.
        let mut common = vec![20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(bytes).to_le_bytes());
        common.extend(small(bytes.len()));
        common.extend(small(bytes.len()));
        common.extend((name.len() as u16).to_le_bytes());
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend([0, 0]);
        archive.extend(name.as_bytes());
        archive.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        // No extra field, comment, other disk, or attributes.
        directory.extend([0; 12]);
        directory.extend(offset);
        directory.extend(name.as_bytes());
    }
    let count = (files.len() as u16).to_le_bytes();
    let start = small(archive.len());
    let length = small(directory.len());
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count);
    archive.extend(count);
    archive.extend(length);
    archive.extend(start);
    archive.extend([0, 0]);
    archive
}

fn small(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn archives_have_an_entry_a_file() {
        let archive = zip(&[
            ("a.json".to_owned(), b"{}".to_vec()),
            ("é.json".to_owned(), b"[1]".to_vec()),
        ]);
        let count = |mark: &[u8]| archive.windows(mark.len()).filter(|found| *found == mark).count();
        assert_eq!(
            (count(b"PK\x03\x04"), count(b"PK\x01\x02"), count(b"PK\x05\x06")),
            (2, 2, 1)
        );
        assert!(archive.ends_with(&[0, 0]));
        assert_eq!(count(b"[1]"), 1);
        assert_eq!(zip(&[]).len(), 22);
    }
}
