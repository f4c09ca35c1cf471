//! Traces and scenarios: what is read, and what is refused with which sentence.

use flowfleet_simulate::{Scenario, read_arrivals, read_availability};
use proptest::prelude::*;

use super::scenario;

#[test]
fn the_three_forms_of_a_trace() {
    let default = Scenario::default();
    let runs = read_arrivals(b"arrival_s,service_s\n100,5\n103.5,7\n", &default).expect("it reads");
    assert_eq!(
        runs.iter()
            .map(|run| (run.at_s, run.service_s))
            .collect::<Vec<_>>(),
        [(0.0, 5.0), (3.5, 7.0)]
    );
    let runs = read_arrivals(
        b"arrival_s,context_tokens,generated_tokens\n0,1000,100\n",
        &default,
    )
    .expect("it reads");
    assert!((runs[0].service_s - 3.2).abs() < 1e-9);
    let runs = read_arrivals(b"minute,count\n10,3\n11,0\n12,2\n", &default).expect("it reads");
    assert_eq!(runs.len(), 5);
    assert!(runs[2].at_s < 60.0 && runs[3].at_s >= 120.0);
}

#[test]
fn a_window_and_a_scale_of_a_trace() {
    let counts: String = (0..600).map(|minute| format!("{minute},10\n")).collect();
    let counts = format!("minute,count\n{counts}");
    let read = |toml: &str| read_arrivals(counts.as_bytes(), &scenario(toml)).expect("it reads");
    let hour = read("[trace]\nstart_h = 2\nhours = 1");
    assert_eq!(hour.len(), 600);
    assert!(hour[0].at_s < 60.0 && hour[599].at_s < 3_600.0);
    let tenth = read("[trace]\nscale = 0.1").len();
    assert_eq!(tenth, 600);
    assert_eq!(read("[trace]\nscale = 1.5").len(), 9_000);
}

#[test]
fn gzip_is_unpacked() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../traces/azure_llm_code_2023.csv.gz"
    );
    let bytes = std::fs::read(path).expect("the trace is in the repository");
    assert_eq!(
        read_arrivals(&bytes, &Scenario::default())
            .expect("it reads")
            .len(),
        8_819
    );
}

#[test]
fn what_is_wrong_with_a_trace_is_said_with_its_line() {
    let problem = |text: &str| {
        read_arrivals(text.as_bytes(), &Scenario::default())
            .expect_err("it is wrong")
            .to_string()
    };
    assert_eq!(
        problem("arrival_s,service_s\n1,2\n2,many\n"),
        "line 3: \"many\" is no number of 0 or more"
    );
    assert_eq!(
        problem("arrival_s,service_s\n1,-2\n"),
        "line 2: \"-2\" is no number of 0 or more"
    );
    assert!(problem("time,count\n1,2\n").starts_with("the columns are time,count: use"));
    assert!(problem("arrival_s,service_s\n").starts_with("no run arrives"));
    let problem = read_availability(b"start_s,available\n10,1\n5,0\n")
        .expect_err("it is wrong")
        .to_string();
    assert_eq!(problem, "line 3: it starts at 5 s, not after the row before");
    let problem = read_availability(b"start_s,available\n10,yes\n")
        .expect_err("it is wrong")
        .to_string();
    assert_eq!(
        problem,
        "line 2: available is \"yes\": use 0, 1 or more, and -1 at the end"
    );
}

#[test]
fn what_is_wrong_with_a_scenario_is_said_with_its_key() {
    for (text, part) in [
        ("speed = 3", "unknown field `speed`"),
        ("tick_s = 0", "tick_s is 0: use a number above 0"),
        (
            "[policy]\nmin_slots = 9\nmax_slots = 3",
            "policy.min_slots is 9 and policy.max_slots 3",
        ),
        (
            "[cloud]\nboot_s = [9, 3]",
            "cloud.boot_s is [9, 3]: use [least, most]",
        ),
        ("[policy.rule]\nname = \"magic\"", "unknown variant `magic`"),
        ("[policy.machines]\nslots = 0", "policy.machines.slots is 0"),
    ] {
        let problem = Scenario::parse(text).expect_err(text);
        assert!(problem.contains(part), "{text}: {problem}");
    }
}

#[test]
fn the_printed_scenario_is_the_default_one() {
    let text = toml::to_string(&Scenario::default()).expect("it prints");
    assert_eq!(Scenario::parse(&text), Ok(Scenario::default()));
}

proptest! {
    #[test]
    fn no_bytes_break_the_readers(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z_,0-9.\n-]{0,120}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = read_arrivals(bytes, &Scenario::default());
            let _ = read_availability(bytes);
        }
        let rows = format!("arrival_s,service_s\n{text}");
        if let Ok(arrivals) = read_arrivals(rows.as_bytes(), &Scenario::default()) {
            prop_assert!(arrivals.is_sorted_by(|a, b| a.at_s <= b.at_s));
            prop_assert!(arrivals.iter().all(|run| run.at_s.is_finite() && run.service_s > 0.0));
        }
        let _ = Scenario::parse(&text);
    }

    #[test]
    fn an_availability_says_what_its_rows_say(spans in proptest::collection::vec((1..500_u32, any::<bool>()), 1..20), at in 0.0..20_000.0_f64) {
        let mut text = String::from("start_s,available\n");
        let (mut start, mut rows) = (0, Vec::new());
        for (length, available) in &spans {
            rows.push((start, *available));
            text.push_str(&format!("{start},{}\n", u8::from(*available)));
            start += length;
        }
        text.push_str(&format!("{start},-1\n"));
        let read = read_availability(text.as_bytes()).expect("it reads");
        let within = at.rem_euclid(f64::from(start));
        let expected = rows.iter().rev().find(|(from, _)| f64::from(*from) <= within).is_some_and(|(_, available)| *available);
        prop_assert_eq!(read.at(at), expected);
    }
}
