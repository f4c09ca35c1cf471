//! Which workers there are: one hash, a field a worker, each with its own end.
//!
//! Ends are by the clock of Redis, so that clocks of workers decide nothing. One announcement is one small
//! script, a listing of 5,000 workers one round trip; what has run out is removed by whoever lists.

use std::time::Duration;

use flowfleet_core::error::PortError;
use flowfleet_core::id::WorkerId;
use flowfleet_core::port::{Result, WorkerPresence};
use fred::clients::Client;
use fred::interfaces::{HashesInterface, LuaInterface};

use super::connection::explain;
use super::target::Names;

/// KEYS: hash. ARGV: worker, milliseconds to live, announcement.
const ANNOUNCE: &str = r"
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', till, ARGV[3]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1";

/// KEYS: hash. Answers the announcements that have not run out.
const LIST: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local present = {}
for i = 1, #all, 2 do
  local space = string.find(all[i + 1], ' ', 1, true)
  if space and tonumber(string.sub(all[i + 1], 1, space - 1)) > now then
    present[#present + 1] = string.sub(all[i + 1], space + 1)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return present";

pub(super) async fn announce(
    client: &Client,
    names: &Names,
    presence: &WorkerPresence,
    ttl: Duration,
) -> Result<()> {
    const OPERATION: &str = "bus.announce";
    let body =
        serde_json::to_string(presence).map_err(|error| PortError::bug(OPERATION, error.to_string()))?;
    let ttl = ttl.as_millis().max(1).to_string();
    let arguments = vec![presence.id.to_string(), ttl, body];
    let sent = client
        .eval::<(), _, _, _>(ANNOUNCE, names.workers(), arguments)
        .await;
    sent.map_err(|error| explain(OPERATION, error))
}

pub(super) async fn withdraw(client: &Client, names: &Names, worker: WorkerId) -> Result<()> {
    let sent = client.hdel::<(), _, _>(names.workers(), worker.to_string()).await;
    sent.map_err(|error| explain("bus.withdraw", error))
}

pub(super) async fn workers(client: &Client, names: &Names) -> Result<Vec<WorkerPresence>> {
    let found = client
        .eval::<Vec<String>, _, _, _>(LIST, names.workers(), Vec::<String>::new())
        .await;
    let found = found.map_err(|error| explain("bus.workers", error))?;
    let parsed = found.iter().filter_map(|body| match serde_json::from_str(body) {
        Ok(presence) => Some(presence),
        Err(error) => {
            // A worker of another version: it is there, but cannot be shown.
            tracing::debug!(%error, "a worker's announcement cannot be read");
            None
        }
    });
    Ok(parsed.collect())
}
