//! How the vectors of a text's pieces become one.

use super::*;

#[test]
fn pieces_of_a_text_are_averaged() {
    let piece = |text: usize, tokens: usize| Piece {
        text,
        tokens: vec![0; tokens],
    };
    let pieces = [piece(0, 5), piece(2, 3), piece(2, 1)];
    let vectors = vec![vec![3.0, 4.0], vec![1.0, 0.0], vec![0.0, 1.0]];
    let joined = joined(3, &pieces, vectors);
    assert_eq!(joined[0], Some(vec![3.0, 4.0]), "one piece is as it came");
    assert_eq!(joined[1], None, "an empty text has none");
    let length = (0.75_f64 * 0.75 + 0.25 * 0.25).sqrt();
    assert_eq!(joined[2], Some(vec![0.75 / length, 0.25 / length]));
}
