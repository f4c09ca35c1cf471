//! The domain of Flowfleet without I/O.
//!
//! Owns what every other crate agrees on: ids and names, the run and its state machine, leases, retry rules,
//! limits, the wire messages, and the ports (traits) that adapters implement. Nothing here awaits a socket,
//! reads a clock or draws a random number: time and randomness are arguments, so each decision can be tested
//! as a table and simulated.

pub mod chat;
pub mod clock;
pub mod error;
pub mod event;
pub mod flow;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod history;
pub mod id;
pub mod knowledge;
pub mod lease;
pub mod limits;
pub mod message;
pub mod name;
pub mod payload;
pub mod pool;
pub mod port;
pub mod retry;
pub mod run;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Kind, PortError};
pub use event::{EventData, EventKind, NewEvent, RunEvent};
pub use flow::{FlowRef, FlowVersion};
pub use id::{FlowId, KeyId, RunId, WorkerId};
pub use lease::Lease;
pub use limits::Limits;
pub use message::{RunMessage, TraceContext};
pub use name::{Capability, FlowName, KnowledgeName, Labels, QueueName, Tenant};
pub use payload::{BlobRef, Payload};
pub use pool::{Capabilities, Pool};
pub use retry::RetryPolicy;
pub use run::{Priority, RunState};
