//! Damage that keeps a document JSON: values replaced, moved, repeated and removed, keys renamed.

use serde_json::{Map, Value as Json, json};

use crate::Random;
use crate::seeds::dictionary;

/// Levels that one replacement adds at most.
const DEEP: usize = 80;

/// `None` if the input is not JSON.
pub(crate) fn damage(input: &[u8], others: &[Vec<u8>], random: &mut Random) -> Option<Vec<u8>> {
    let mut document: Json = serde_json::from_slice(input).ok()?;
    let donor = match random.below(4) {
        0 => random
            .pick(others)
            .and_then(|other| serde_json::from_slice(other).ok()),
        _ => None,
    };
    let piece = {
        let from = donor.as_ref().unwrap_or(&document);
        let place = random.below(count(from));
        nth(from, &mut { place }).cloned().unwrap_or_default()
    };
    let place = random.below(count(&document));
    change(nth_mut(&mut document, &mut { place })?, piece, random);
    serde_json::to_vec(&document).ok()
}

fn change(value: &mut Json, piece: Json, random: &mut Random) {
    let word = random.pick(dictionary()).copied().unwrap_or_default();
    match (random.below(6), &mut *value) {
        (0 | 1, Json::Object(entries)) if !entries.is_empty() => change_entry(entries, word, piece, random),
        (0 | 1, Json::Array(items)) if !items.is_empty() => change_item(items, piece, random),
        (0, Json::String(text)) => text.push_str(word),
        (1, Json::String(text)) => *text = text.chars().rev().collect(),
        (0, Json::Number(_)) => *value = number(random),
        (0..=2, _) => *value = piece,
        (3, _) => *value = simple(word, random),
        (4, _) => *value = json!([value.take()]),
        _ => *value = json!({ word: value.take() }),
    }
}

fn change_entry(entries: &mut Map<String, Json>, word: &str, piece: Json, random: &mut Random) {
    let key = entries
        .keys()
        .nth(random.below(entries.len()))
        .cloned()
        .unwrap_or_default();
    match random.below(4) {
        0 => drop(entries.shift_remove(&key)),
        1 => {
            let value = entries.shift_remove(&key).unwrap_or_default();
            entries.insert(word.to_owned(), value);
        }
        2 => drop(entries.insert(word.to_owned(), piece)),
        _ => drop(entries.insert(key, piece)),
    }
}

fn change_item(items: &mut Vec<Json>, piece: Json, random: &mut Random) {
    let (at, other) = (random.below(items.len()), random.below(items.len()));
    match random.below(4) {
        0 => drop(items.remove(at)),
        1 => items.insert(other, items[at].clone()),
        2 => items.swap(at, other),
        _ => items.insert(at, piece),
    }
}

fn simple(word: &str, random: &mut Random) -> Json {
    match random.below(8) {
        0 => Json::Null,
        1 => json!(random.below(2) == 0),
        2 => json!([]),
        3 => json!({}),
        4 => json!(""),
        5 => number(random),
        6 => (0..random.below(DEEP)).fold(json!(word), |inner, _| json!([inner])),
        _ => json!(word),
    }
}

fn number(random: &mut Random) -> Json {
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(0.5),
        json!(-0.0),
        json!(1e300),
        json!(1e-300),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(4_294_967_296_u64),
        json!(1e16),
    ];
    random.pick(&numbers).cloned().unwrap_or_default()
}

/// Values in a document, itself included.
fn count(value: &Json) -> usize {
    1 + match value {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place of the walk that [`count`] counts.
fn nth<'t>(value: &'t Json, place: &mut usize) -> Option<&'t Json> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Json::Array(items) => items.iter().find_map(|item| nth(item, place)),
        Json::Object(entries) => entries.values().find_map(|item| nth(item, place)),
        _ => None,
    }
}

fn nth_mut<'t>(value: &'t mut Json, place: &mut usize) -> Option<&'t mut Json> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Json::Array(items) => items.iter_mut().find_map(|item| nth_mut(item, place)),
        Json::Object(entries) => entries.values_mut().find_map(|item| nth_mut(item, place)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_place() {
        let mut document = json!({"a": [1, {"b": 2}], "c": "x"});
        assert_eq!(count(&document), 6);
        let found: Vec<Json> = (0..7)
            .filter_map(|place| nth(&document, &mut { place }).cloned())
            .collect();
        assert_eq!(
            found[1..],
            [
                json!([1, {"b": 2}]),
                json!(1),
                json!({"b": 2}),
                json!(2),
                json!("x")
            ]
        );
        *nth_mut(&mut document, &mut 4).unwrap() = json!(3);
        assert_eq!(document, json!({"a": [1, {"b": 3}], "c": "x"}));
    }

    #[test]
    fn damaged_documents_are_still_json() {
        let mut random = Random::new(1);
        let mut document = br#"{"a": [1, {"b": 2}], "c": "x"}"#.to_vec();
        for _ in 0..500 {
            document = damage(&document, &[b"[1, 2]".to_vec()], &mut random).unwrap();
            document.truncate(if document.len() > 10_000 { 0 } else { usize::MAX });
            if serde_json::from_slice::<Json>(&document).is_err() {
                document = b"{}".to_vec();
            }
        }
        assert_eq!(damage(b"not JSON", &[], &mut random), None);
    }
}
