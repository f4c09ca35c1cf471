//! What nobody can beat without moving runs: somebody who knows every arrival and duration, and still has to boot machines.
//!
//! Each run starts as it arrives, in the lowest free slot; a machine boots in time for its first run, and between two of its
//! runs it is kept if that costs less than booting again. Beside it, the work alone: slots that are never idle and never boot.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use flowfleet_plan::Lifecycle;
use serde::{Deserialize, Serialize};

use crate::cloud::At;
use crate::scenario::Scenario;
use crate::trace::Arrival;

/// Costs that bound every policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    pub clairvoyant_usd: f64,
    /// Nobody, by any means, pays less on the pool's machines.
    pub work_usd: f64,
    pub peak_slots: u32,
}

/// Computes the bounds, at the price of the pool's machines.
pub fn clairvoyant(scenario: &Scenario, arrivals: &[Arrival]) -> Bound {
    let machines = &scenario.policy.machines;
    let lifecycle = match machines.lifecycle {
        Lifecycle::Local => Lifecycle::OnDemand,
        other => other,
    };
    let usd_per_slot_s = scenario.cloud.prices.of(lifecycle) / 3_600.0;
    let slots = machines.slots.max(1);
    let boot_s = f64::midpoint(scenario.cloud.boot_s[0], scenario.cloud.boot_s[1]);
    let minimum_s = scenario.cloud.minimum_billed_s;

    let mut ends: BinaryHeap<Reverse<(At, u32)>> = BinaryHeap::new();
    let mut free = BTreeSet::new();
    let mut next_slot = 0;
    // Per machine: when it was launched (booting included), and until when it is busy.
    let mut rentals: Vec<(f64, f64)> = Vec::new();
    let mut machine_s = 0.0;
    let mut work_s = 0.0;
    for arrival in arrivals {
        while let Some(&Reverse((At(end_s), slot))) = ends.peek() {
            if end_s > arrival.at_s {
                break;
            }
            ends.pop();
            free.insert(slot);
        }
        let slot = free.pop_first().unwrap_or_else(|| {
            next_slot += 1;
            next_slot - 1
        });
        let end_s = arrival.at_s + arrival.service_s;
        work_s += arrival.service_s;
        ends.push(Reverse((At(end_s), slot)));
        let machine = (slot / slots) as usize;
        match rentals.get_mut(machine) {
            None => rentals.push((arrival.at_s - boot_s, end_s)),
            Some((launched_s, busy_s)) => {
                if arrival.at_s - *busy_s > boot_s {
                    machine_s += (*busy_s - *launched_s).max(minimum_s);
                    *launched_s = arrival.at_s - boot_s;
                    *busy_s = end_s;
                } else {
                    *busy_s = busy_s.max(end_s);
                }
            }
        }
    }
    machine_s += rentals
        .iter()
        .map(|(launched_s, busy_s)| (busy_s - launched_s).max(minimum_s))
        .sum::<f64>();
    Bound {
        clairvoyant_usd: machine_s * f64::from(slots) * usd_per_slot_s,
        work_usd: work_s * usd_per_slot_s,
        peak_slots: next_slot,
    }
}
