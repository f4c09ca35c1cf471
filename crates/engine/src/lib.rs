//! Langflow flows: parsed, compiled once into a [`Plan`], scheduled without I/O, executed natively.
//!
//! [`compile`] turns an export into a plan or says everything that is wrong with it. [`execute`] drives one run:
//! the schedule says which nodes are ready, the driver awaits them side by side, each finished node is reported so
//! that the caller can checkpoint it, and a later attempt passes those outputs back as `resume`.
//!
//! Left to others: storing flows and runs, leases, retries of whole runs, and the Python host for components
//! without a native implementation.

pub mod catalogue;
mod compile;
mod component;
mod components;
mod document;
mod edge;
mod execute;
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod graph;
mod group;
mod hold;
mod hosted;
mod html;
mod knowledge;
mod known;
pub mod langflow;
mod memory;
pub mod metrics;
mod model;
mod node;
mod outbound;
mod outcome;
mod params;
mod plan;
mod prepare;
mod problem;
#[cfg(test)]
mod reference;
mod request;
mod run;
mod schedule;
mod settings;
mod template;
mod tweak;
mod value;
mod variables;

pub use compile::compile;
pub use component::{Kind, NodeError, NodeOutput, Usage};
pub use execute::execute;
pub use files::{FileError, Files, MAX_FILE_BYTES, NoFiles, none as no_files, segments as path_segments};
pub use hold::{Control, Hold};
pub use hosted::Hosted;
pub use knowledge::{Bring, Knowledge, KnowledgeBase, KnowledgeError, Look, Seen, Tags};
pub use memory::{InMemory, Memory, MemoryError, Recall, Remembered};
pub use model::{CallLimits, ModelSettings};
pub use outbound::{Host, Http, InvalidHost, OutboundSettings};
pub use plan::{CompileLimits, EngineKind, NodeInfo, Plan, Unsupported};
pub use problem::{FlowError, MAX_PROBLEMS, Problem};
pub use request::{InputType, LangflowCall, OutputType, Request, RequestError, Workflow, WorkflowMode};
pub use run::{Clock, Environment, HostError, Outcome, Progress, RunError, Services, ServicesError};
pub use settings::InvalidSettings;
pub use value::{Message, Value};
