//! The bus in memory.

use std::sync::Arc;

use crate::contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_passes_the_contract() {
    let bus = flowfleet_bus::open("memory:").await.unwrap();
    contract::suite(Arc::clone(&bus), bus).await;
}
