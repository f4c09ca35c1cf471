//! What happened in the histories that were played: a simulation that never drops an answer proves nothing about
//! dropped answers.

use flowfleet_core::RunState;
use flowfleet_core::run::{Event, apply};

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident: $($item:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($item,)*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$item,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$item => $text,)*
                }
            }
        }
    };
}

counted! {
    /// What can go wrong, or is asked for in the middle of it.
    Fault:
    LoseQuestion = "a question is lost",
    LoseAnswer = "the answer to something that was done is lost",
    TimeOut = "a caller stops waiting for what is still under way",
    TimePasses = "time passes while things are under way",
    CrashWorker = "a worker crashes",
    CrashDispatcher = "a dispatcher crashes",
    PauseWorker = "a worker is stopped for a while",
    PauseDispatcher = "a dispatcher is stopped for a while",
    DrainWorker = "a worker is told to drain",
    ResetConnection = "a worker's connection to the broker breaks",
    RestartBroker = "the broker restarts",
    DuplicateMessage = "the broker repeats a message",
    LoseMessage = "the broker loses a message",
    Purge = "the queue is purged",
    Refuse = "the broker refuses a pool",
    BreakSession = "the leader's session ends and it does not know",
    LoseHint = "a cancel signal on the bus is lost",
    Cancel = "a client cancels",
    Repeat = "a client repeats a submission that was answered",
    Conflict = "a client uses a key for something else",
}

counted! {
    /// What the protocol does about it.
    Step:
    Grouped = "several requests share a commit",
    ExistingById = "a repeated submission is found by its id",
    ExistingByKey = "a repeated submission is found by its key",
    ConflictTold = "a used key is refused",
    NotClaimable = "a message is spent on a run that is not claimable",
    ClaimUnheard = "a claim is committed and its answer lost",
    ClaimTooLate = "a claim finds the run expired",
    Resumed = "an attempt starts from checkpoints",
    StaleWrite = "the store refuses a write",
    StaleRenewal = "a renewal finds the lease lost",
    Lapsed = "a worker gives a lease up that nobody confirmed",
    OlderLeaseEnds = "a newer lease of a run ends the older one",
    ProgressTwice = "progress is written again after a lost answer",
    EndTwice = "an end is written again after a lost answer",
    WrittenTogether = "progress is written with the end of its run",
    NodeFailed = "a node fails and may be tried again",
    NodeRefused = "a node fails for good",
    TimedOut = "an attempt takes too long",
    SlowNode = "a node outlives its lease",
    CancelHeard = "a worker hears of a cancellation",
    CancelTooLate = "a run ends before its cancellation is heard",
    CancelledOnRelease = "a cancelled run is handed back and ends",
    HandedBack = "a draining worker hands a run back",
    DrainedIdle = "a draining worker ends in order",
    HoardReturned = "a worker without a free slot gives messages back",
    VoidReceipt = "an acknowledgement of an old connection is void",
    Redelivered = "the broker delivers a message again",
    Swept = "the sweep publishes a row that was left",
    Reconciled = "the reconciler publishes runs again",
    RefusedRow = "a refused row is left to the reconciler",
    PublishedTwice = "a row is published twice",
    TwoLeaders = "two dispatchers believe that they lead",
    Reaped = "a lease that ran out is ended",
    TooManyInterruptions = "a run ends after too many interruptions",
    LateQuestion = "a question is executed after its sender died or gave up",
}

/// How often each of them happened. Adds up over histories and threads.
#[derive(Debug, Clone)]
pub struct Coverage {
    faults: [u64; Fault::ALL.len()],
    steps: [u64; Step::ALL.len()],
    transitions: [[u64; Event::ALL.len()]; RunState::ALL.len()],
    /// Histories played.
    pub histories: u64,
    /// Steps of all of them: messages delivered, tasks run, faults.
    pub moves: u64,
    /// Virtual time of all of them, in milliseconds.
    pub virtual_ms: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            faults: [0; _],
            steps: [0; _],
            transitions: [[0; _]; _],
            histories: 0,
            moves: 0,
            virtual_ms: 0,
        }
    }
}

/// Transitions that the store can be asked for: nothing blocks a run yet.
fn expected() -> impl Iterator<Item = (RunState, Event)> {
    RunState::ALL
        .into_iter()
        .filter(|state| *state != RunState::Blocked)
        .flat_map(|state| Event::ALL.into_iter().map(move |event| (state, event)))
        .filter(|&(state, event)| apply(state, event).is_ok())
}

impl Coverage {
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.steps[step as usize] += 1;
    }

    pub(crate) fn transition(&mut self, state: RunState, event: Event) {
        if let Some(at) = Event::ALL.iter().position(|e| *e == event) {
            self.transitions[state as usize][at] += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        let add = |into: &mut [u64], from: &[u64]| into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        add(&mut self.faults, &other.faults);
        add(&mut self.steps, &other.steps);
        for (into, from) in self.transitions.iter_mut().zip(&other.transitions) {
            add(into, from);
        }
        self.histories += other.histories;
        self.moves += other.moves;
        self.virtual_ms += other.virtual_ms;
    }

    /// Every counter with its name.
    pub fn lines(&self) -> Vec<(String, u64)> {
        let faults = Fault::ALL
            .iter()
            .map(|f| (format!("fault: {}", f.as_str()), self.faults[*f as usize]));
        let steps = Step::ALL
            .iter()
            .map(|s| (format!("step: {}", s.as_str()), self.steps[*s as usize]));
        let transitions = expected().map(|(state, event)| {
            let at = Event::ALL.iter().position(|e| *e == event).unwrap_or_default();
            let count = self.transitions[state as usize][at];
            (format!("transition: {} {event:?}", state.as_str()), count)
        });
        faults.chain(steps).chain(transitions).collect()
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<String> {
        let never = self.lines().into_iter().filter(|(_, count)| *count == 0);
        never.map(|(name, _)| name).collect()
    }
}
