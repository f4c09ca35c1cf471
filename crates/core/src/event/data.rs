//! What an event says, as the JSON text that is stored and sent: made once, however often it is written.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// JSON text, cheap to clone; null when an event says nothing but its kind.
#[derive(Clone, Default)]
pub struct EventData(Option<Arc<RawValue>>);

impl EventData {
    /// The JSON of `value`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        let raw = to_raw_value(value)?;
        Ok(Self((raw.get() != "null").then(|| raw.into())))
    }

    pub fn text(&self) -> &str {
        self.0.as_ref().map_or("null", |raw| raw.get())
    }

    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// Parses the text.
    pub fn value(&self) -> Value {
        // The text is JSON: it was written by serde_json.
        serde_json::from_str(self.text()).unwrap_or_default()
    }

    /// A field of an object. Parses the text: whoever wants several takes [`EventData::value`].
    pub fn get(&self, field: &str) -> Option<Value> {
        self.value().get_mut(field).map(Value::take)
    }
}

impl From<Value> for EventData {
    fn from(value: Value) -> Self {
        // Only a map with keys that are not text cannot be written, and a `Value` has none.
        Self::of(&value).unwrap_or_default()
    }
}

impl fmt::Debug for EventData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// By what is said: the order of an object's fields does not count.
impl PartialEq for EventData {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() || self.value() == other.value()
    }
}

impl PartialEq<Value> for EventData {
    fn eq(&self, other: &Value) -> bool {
        self.value() == *other
    }
}

impl Serialize for EventData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// By way of a [`Value`]: a `RawValue` cannot be read inside a tagged enum, where bus messages have their events.
impl<'de> Deserialize<'de> for EventData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::event::{EventKind, RunEvent};
    use crate::id::RunId;
    use crate::port::Live;

    fn samples() -> [Value; 6] {
        [
            Value::Null,
            json!({ "node": "a", "elapsed_s": 0.25, "preview": "\"é\n\u{1}" }),
            json!({}),
            json!([null, -1, 1.5e300, u64::MAX]),
            json!("text"),
            json!(false),
        ]
    }

    #[test]
    fn reads_what_was_written_wherever_it_stands() {
        for value in samples() {
            let data = EventData::from(value.clone());
            assert_eq!(data, value);
            assert_eq!(data.is_null(), value.is_null());
            let text = serde_json::to_string(&data).unwrap();
            assert_eq!(text, value.to_string());
            assert_eq!(serde_json::from_str::<EventData>(&text).unwrap(), data);
            assert_eq!(serde_json::from_value::<EventData>(value.clone()).unwrap(), data);
            assert_eq!(serde_json::to_value(&data).unwrap(), value);
            let live = Live::Events {
                events: vec![RunEvent {
                    run: RunId::generate(),
                    seq: 1,
                    kind: EventKind::NodeFinished,
                    at: Timestamp::UNIX_EPOCH,
                    data,
                }],
            };
            let text = serde_json::to_string(&live).unwrap();
            assert_eq!(text.contains("\"data\""), !value.is_null(), "{text}");
            assert_eq!(serde_json::from_str::<Live>(&text).unwrap(), live);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::from_value::<Live>(value).unwrap(), live);
        }
    }

    #[test]
    fn equal_is_what_says_the_same() {
        let read = |text: &str| serde_json::from_str::<EventData>(text).unwrap();
        assert_eq!(read("{\"a\": 1, \"b\": [2]}"), read("{\"b\":[2],\"a\":1}"));
        assert_ne!(read("{\"a\":1}"), read("{\"a\":2}"));
        assert_ne!(read("{}"), EventData::default());
    }

    #[test]
    fn fields_are_read_by_name() {
        let data = EventData::from(json!({ "node": "a" }));
        assert_eq!(data.get("node"), Some(json!("a")));
        assert_eq!(data.get("other"), None);
        assert_eq!(EventData::default().get("node"), None);
    }
}
