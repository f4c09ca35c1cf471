//! A stateful fake of the provider: machines boot, spot comes from zones that may have none, launches are refused, notices
//! come two minutes before the end, and every second is billed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use flowfleet_plan::{Lifecycle, Prices};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::trace::Availability;

/// How the cloud behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudSettings {
    /// Launch to accepting: least and most.
    pub boot_s: [f64; 2],
    pub fargate_start_s: [f64; 2],
    /// Each machine is billed by the second from its launch, and for this long at least.
    pub minimum_billed_s: f64,
    /// From the notice of an interruption to the end.
    pub notice_s: f64,
    /// Interruptions of a spot machine besides those of its zone.
    pub interruptions_per_hour: f64,
    /// USD a slot-hour.
    pub prices: Prices,
    /// Machines of a lifecycle that are refused at times.
    pub refusals: Vec<Refusals>,
}

impl Default for CloudSettings {
    fn default() -> Self {
        Self {
            boot_s: [70.0, 110.0],
            fargate_start_s: [30.0, 40.0],
            minimum_billed_s: 60.0,
            notice_s: 120.0,
            interruptions_per_hour: 0.0,
            prices: Prices::default(),
            refusals: Vec::new(),
        }
    }
}

/// Launches of a lifecycle fail between two times, in seconds from the start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusals {
    pub lifecycle: Lifecycle,
    pub from_s: f64,
    pub to_s: f64,
}

/// A zone with spot capacity, when there is some.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    pub name: String,
    /// Times the price of spot.
    pub price: f64,
    pub availability: Availability,
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Happening {
    /// It accepts runs.
    Ready(u32),
    /// It is taken away at the time given.
    Notice(u32, f64),
    /// It is gone, and whatever it executed with it.
    Gone(u32),
}

/// What became of a request for machines.
#[derive(Debug, Clone, PartialEq)]
pub struct Launched {
    pub machines: Vec<u32>,
    /// The code of the refusal of the rest.
    pub refused: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
struct Machine {
    lifecycle: Lifecycle,
    zone: Option<usize>,
    slots: u32,
    usd_per_hour: f64,
    launched_s: f64,
    noticed: bool,
}

/// A moment, ordered as time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct At(pub(crate) f64);

impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Ready(u32),
    Notice(u32),
    Gone(u32),
    /// A zone has no spot from now on.
    ZoneEnds(usize),
}

/// The cloud. Time is an argument: it never goes backwards.
#[derive(Debug, Clone)]
pub struct Cloud {
    settings: CloudSettings,
    zones: Vec<Zone>,
    machines: BTreeMap<u32, Machine>,
    due: BinaryHeap<Reverse<(At, Due)>>,
    next: u32,
    draws: Draws,
    /// Answers to tokens that were used.
    tokens: BTreeMap<String, Launched>,
    /// USD of machines that are gone.
    billed: BTreeMap<Lifecycle, f64>,
}

impl Cloud {
    pub fn new(settings: CloudSettings, zones: Vec<Zone>, seed: u64) -> Self {
        let mut due = BinaryHeap::new();
        for (index, zone) in zones.iter().enumerate() {
            for end in zone.availability.ends() {
                due.push(Reverse((At(end), Due::ZoneEnds(index))));
            }
        }
        Self {
            settings,
            zones,
            machines: BTreeMap::new(),
            due,
            next: 0,
            draws: Draws::new(seed, 2),
            tokens: BTreeMap::new(),
            billed: BTreeMap::new(),
        }
    }

    /// Asks for machines. The same token gets the same answer and launches nothing again.
    pub fn launch(
        &mut self,
        now_s: f64,
        lifecycle: Lifecycle,
        machines: u32,
        slots: u32,
        token: &str,
    ) -> Launched {
        if let Some(answer) = self.tokens.get(token) {
            return answer.clone();
        }
        let mut answer = Launched {
            machines: Vec::new(),
            refused: None,
        };
        for _ in 0..machines {
            match self.place(now_s, lifecycle) {
                Ok((zone, factor)) => {
                    let id = self.start(now_s, lifecycle, slots, zone, factor);
                    answer.machines.push(id);
                }
                Err(code) => {
                    answer.refused = Some(code);
                    break;
                }
            }
        }
        if !token.is_empty() {
            self.tokens.insert(token.to_owned(), answer.clone());
        }
        answer
    }

    /// The cheapest zone with capacity (price-capacity-optimized, where capacity is all or none).
    fn place(&self, now_s: f64, lifecycle: Lifecycle) -> Result<(Option<usize>, f64), &'static str> {
        let refused = self
            .settings
            .refusals
            .iter()
            .any(|window| window.lifecycle == lifecycle && (window.from_s..window.to_s).contains(&now_s));
        if refused {
            return Err("InsufficientInstanceCapacity");
        }
        if lifecycle != Lifecycle::Spot || self.zones.is_empty() {
            return Ok((None, 1.0));
        }
        self.zones
            .iter()
            .enumerate()
            .filter(|(_, zone)| zone.availability.at(now_s))
            .min_by(|(_, a), (_, b)| a.price.total_cmp(&b.price))
            .map(|(index, zone)| (Some(index), zone.price))
            .ok_or("InsufficientInstanceCapacity")
    }

    fn start(
        &mut self,
        now_s: f64,
        lifecycle: Lifecycle,
        slots: u32,
        zone: Option<usize>,
        factor: f64,
    ) -> u32 {
        let id = self.next;
        self.next += 1;
        let boot_s = match lifecycle {
            Lifecycle::Fargate => self.draws.between(self.settings.fargate_start_s),
            _ => self.draws.between(self.settings.boot_s),
        };
        self.due.push(Reverse((At(now_s + boot_s), Due::Ready(id))));
        if lifecycle == Lifecycle::Spot && self.settings.interruptions_per_hour > 0.0 {
            let lasts_s = self
                .draws
                .exponential(3_600.0 / self.settings.interruptions_per_hour);
            self.due.push(Reverse((At(now_s + lasts_s), Due::Notice(id))));
        }
        self.machines.insert(
            id,
            Machine {
                lifecycle,
                zone,
                slots,
                usd_per_hour: f64::from(slots) * self.settings.prices.of(lifecycle) * factor,
                launched_s: now_s,
                noticed: false,
            },
        );
        id
    }

    /// Ends a machine; one that is gone already stays gone.
    pub fn terminate(&mut self, now_s: f64, id: u32) {
        if let Some(machine) = self.machines.remove(&id) {
            *self.billed.entry(machine.lifecycle).or_default() += self.bill(&machine, now_s);
        }
    }

    fn bill(&self, machine: &Machine, now_s: f64) -> f64 {
        let seconds = (now_s - machine.launched_s).max(self.settings.minimum_billed_s);
        seconds / 3_600.0 * machine.usd_per_hour
    }

    /// When something happens next.
    pub fn next_s(&self) -> Option<f64> {
        self.due.peek().map(|Reverse((At(at_s), _))| *at_s)
    }

    /// What happens next, if it happens by `now_s`. Call it until there is nothing more.
    pub fn advance(&mut self, now_s: f64) -> Option<(f64, Happening)> {
        while let Some(&Reverse((At(at_s), due))) = self.due.peek() {
            if at_s > now_s {
                return None;
            }
            self.due.pop();
            match due {
                Due::Ready(id) if self.machines.contains_key(&id) => {
                    return Some((at_s, Happening::Ready(id)));
                }
                Due::Notice(id) => {
                    if let Some(machine) = self.machines.get_mut(&id).filter(|machine| !machine.noticed) {
                        machine.noticed = true;
                        let gone_s = at_s + self.settings.notice_s;
                        self.due.push(Reverse((At(gone_s), Due::Gone(id))));
                        return Some((at_s, Happening::Notice(id, gone_s)));
                    }
                }
                Due::Gone(id) if self.machines.contains_key(&id) => {
                    self.terminate(at_s, id);
                    return Some((at_s, Happening::Gone(id)));
                }
                Due::ZoneEnds(zone) => self.end_zone(at_s, zone),
                Due::Ready(_) | Due::Gone(_) => {}
            }
        }
        None
    }

    /// A zone takes its spot machines back, not all in the same second.
    fn end_zone(&mut self, now_s: f64, zone: usize) {
        let there: Vec<u32> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.zone == Some(zone))
            .map(|(id, _)| *id)
            .collect();
        for id in there {
            let at_s = now_s + self.draws.between([0.0, 60.0]);
            self.due.push(Reverse((At(at_s), Due::Notice(id))));
        }
    }

    /// Takes a machine away now, with the usual notice: what a test of faults does.
    pub fn interrupt(&mut self, now_s: f64, id: u32) {
        self.due.push(Reverse((At(now_s), Due::Notice(id))));
    }

    pub fn usd_per_hour(&self, id: u32) -> Option<f64> {
        self.machines.get(&id).map(|machine| machine.usd_per_hour)
    }

    pub fn slots(&self, id: u32) -> Option<u32> {
        self.machines.get(&id).map(|machine| machine.slots)
    }

    pub fn prices(&self) -> Prices {
        self.settings.prices
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// USD by lifecycle: of the machines that are gone, and of the others until now.
    pub fn billed(&self, now_s: f64) -> BTreeMap<Lifecycle, f64> {
        let mut billed = self.billed.clone();
        for machine in self.machines.values() {
            *billed.entry(machine.lifecycle).or_default() += self.bill(machine, now_s);
        }
        billed
    }
}
