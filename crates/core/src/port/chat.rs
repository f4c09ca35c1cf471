//! The memory of conversations.

use async_trait::async_trait;

use super::Result;
use crate::chat::{Recall, Remember, Said};
use crate::name::{FlowName, Tenant};

/// What flows remember of conversations. Messages belong to a tenant and outlive the runs that said them.
#[async_trait]
pub trait ChatStore: Send + Sync + std::fmt::Debug {
    /// Keeps messages, each if its run is held under its lease; answers which were. Idempotent: a message whose id is
    /// known replaces what was said before, at its place in the conversation, unless it is a later attempt's or another
    /// flow's. Of a session some hundred messages more than `keep` may stay; older ones are forgotten.
    async fn remember(&self, messages: &[Remember], keep: u32) -> Result<Vec<bool>>;

    /// What was said, newest first: at most [`crate::chat::RECALL_MESSAGES`] messages and
    /// [`crate::chat::RECALL_BYTES`] of text.
    async fn recall(&self, tenant: &Tenant, wanted: &Recall) -> Result<Vec<Said>>;

    /// Ids of the sessions, of one flow or of all, that with the newest message first.
    async fn sessions(
        &self,
        tenant: &Tenant,
        flow: Option<&FlowName>,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<String>>;

    /// Forgets a session, in all flows. Answers how many messages it had. Idempotent.
    async fn forget(&self, tenant: &Tenant, session_id: &str) -> Result<u64>;
}
