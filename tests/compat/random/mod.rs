//! Flows that a seed draws: acyclic, of simple components, with values that like to break things.
//!
//! `FLOWFLEET_COMPAT_SEED` and `FLOWFLEET_COMPAT_CASES` choose others and more. What differs is made smaller for as long
//! as it differs, and written to a file that the failure names.

mod components;
mod shrink;
mod spec;
mod texts;

use std::path::PathBuf;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::compare::Verdict;
use crate::reference::Lfx;
use crate::stage::Stage;
use crate::table::{Engine, Row};
use spec::Spec;

/// What became of the drawn flows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    same: usize,
    fail: usize,
    refused: Vec<String>,
    pub(crate) nodes: usize,
    pub(crate) different: Vec<String>,
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}"))
    })
}

/// What differs is told of as it is found: many flows take long.
pub(crate) fn explore(stage: &Stage, lfx: &mut Lfx, tell: impl Fn(&str)) -> Tally {
    let (seed, cases) = (
        number("FLOWFLEET_COMPAT_SEED", 1),
        number("FLOWFLEET_COMPAT_CASES", 60),
    );
    let mut tally = Tally::default();
    for case in 0..cases {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(case);
        let spec = Spec::draw(&mut StdRng::seed_from_u64(seed));
        let row = stage.compare(lfx, &spec.case(format!("drawn by {seed}")));
        tally.nodes += spec.nodes();
        match (&row.engine, &row.verdict) {
            (Engine::Refused(why) | Engine::Python(why), _) => tally.refused.push(format!("{seed}: {why}")),
            (Engine::Native, Verdict::Same) => tally.same += 1,
            (Engine::Native, Verdict::SameError(_) | Verdict::NotComparable(_)) => tally.fail += 1,
            (Engine::Native, Verdict::Differs(_)) => {
                let told = reduced(stage, lfx, &spec, seed, row);
                tell(&told);
                tally.different.push(told);
            }
        }
    }
    tally
}

/// The smallest flow found that differs still.
fn reduced(stage: &Stage, lfx: &mut Lfx, spec: &Spec, seed: u64, row: Row) -> String {
    let differs = |spec: &Spec| {
        let row = stage.compare(lfx, &spec.case(format!("drawn by {seed}")));
        (row.is_native() && row.differs()).then_some(row)
    };
    let (spec, row) = shrink::smallest(spec.clone(), row, differs);
    let case = spec.case(String::new());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("compat-{seed}.json"));
    let told = json!({"input": case.input, "flow": case.flow});
    std::fs::write(&path, format!("{told:#}\n")).unwrap();
    format!("{} ({}): {spec} {:?}", row.name, path.display(), row.verdict)
}

impl Tally {
    pub(crate) fn print(&self) -> String {
        let Self {
            same,
            fail,
            refused,
            nodes,
            different,
        } = self;
        let mut text = format!(
            "drawn flows: {same} the same, {fail} fail in both, {} need Python, {} differ; {nodes} nodes\n",
            refused.len(),
            different.len()
        );
        for line in refused.iter().take(5) {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }

    /// Most flows are to run, natively and to their end, or little is compared.
    pub(crate) fn says_little(&self) -> bool {
        let all = self.same + self.fail + self.refused.len() + self.different.len();
        self.same * 10 < all * 6
    }
}
