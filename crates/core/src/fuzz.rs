//! Fuzz targets of the wire: what holds for any bytes. Compiled for tests and for `fuzz/` only.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::message::{BadMessage, RunMessage, VERSION};
use crate::port::{Live, WorkerPresence};
use crate::{FlowName, FlowRef, Labels, Payload, Priority, QueueName, RunId, RunState, Tenant};

#[cfg(test)]
const MESSAGES: [&str; 4] = [
    r#"{"v":1,"run":"0199f0c2-1111-7000-8000-000000000001"}"#,
    r#"{"v":1,"run":"0199f0c2-1111-7000-8000-000000000001","trace":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"a=b"}}"#,
    r#"{"v":2,"run":"0199f0c2-1111-7000-8000-000000000001","new":true}"#,
    r#"{"blob":{"key":"runs/a/input","size":70000,"sha256":"00"}}"#,
];

#[cfg(test)]
const NAMES: [&str; 7] = [
    "hello@3",
    "basic-prompting",
    "a@00000000001",
    "high",
    "queued",
    "0199f0c2-1111-7000-8000-000000000001",
    "a@4294967295",
];

/// A message of the queue is refused with a reason, or says the same when it is sent on.
pub fn message(bytes: &[u8]) {
    match RunMessage::decode(bytes) {
        Ok(message) => {
            assert_eq!(message.v, VERSION);
            assert_eq!(RunMessage::decode(&message.encode()).ok(), Some(message));
        }
        Err(BadMessage::Version(version)) => assert_ne!(version, VERSION),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    same_again::<Payload>(bytes);
    same_again::<Labels>(bytes);
}

/// Messages of the bus, as far as they are types of this crate.
pub fn live(bytes: &[u8]) {
    same_again::<Vec<Live>>(bytes);
    same_again::<WorkerPresence>(bytes);
}

/// Text that parses as a name prints as one that parses to the same.
pub fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(flow) = text.parse::<FlowRef>() {
        assert_eq!(flow.to_string().parse(), Ok(flow));
    }
    prints_as_it_parses::<FlowName>(text);
    prints_as_it_parses::<QueueName>(text);
    prints_as_it_parses::<Tenant>(text);
    if let Ok(id) = text.parse::<RunId>() {
        assert_eq!(id.to_string().parse::<RunId>().ok(), Some(id));
    }
    if let Ok(state) = text.parse::<RunState>() {
        assert_eq!(state.as_str(), text);
    }
    if let Ok(priority) = text.parse::<Priority>() {
        assert_eq!(priority.as_str(), text);
    }
}

fn prints_as_it_parses<T: FromStr + Display>(text: &str)
where
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(name) => assert_eq!(name.to_string(), text),
        // A refusal quotes what was found, but not all of it.
        Err(error) => assert!((1..2_000).contains(&error.to_string().len())),
    }
}

/// What is read is written so that it is read again as the same, from the second time on: reading a number may round
/// it once.
fn same_again<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + Debug>(bytes: &[u8]) {
    let read = |bytes: &[u8]| serde_json::from_slice::<T>(bytes).ok();
    let Some(value) = read(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&value).unwrap_or_default();
    assert_eq!(read(&written), Some(value));
}

#[cfg(test)]
mod tests {
    use flowfleet_mutate::Driver;

    use super::*;

    const LIVE: [&str; 3] = [
        r#"[{"live":"events","events":[{"run":"0199f0c2-1111-7000-8000-000000000001","seq":1,"kind":"run.queued","at":"2026-01-02T03:04:05Z","data":{"n":1.5}}]}]"#,
        r#"[{"live":"token","run":"0199f0c2-1111-7000-8000-000000000001","node":"a","text":"b"},{"live":"lagged"}]"#,
        r#"{"id":"0199f0c2-1111-7000-8000-000000000001","host":"h","version":"1","queues":["default"],"slots":4,"busy":1,"state":"accepting","lifecycle":"spot","started_at":"2026-01-02T03:04:05Z","seen_at":"2026-01-02T03:04:05Z"}"#,
    ];

    #[test]
    fn messages() {
        Driver::new("message").seeds(MESSAGES).cases(20_000).run(message);
    }

    #[test]
    fn live_messages() {
        Driver::new("live").seeds(LIVE).cases(20_000).run(live);
    }

    #[test]
    fn names() {
        Driver::new("name").seeds(NAMES).cases(20_000).run(name);
    }
}
