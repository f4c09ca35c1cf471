use flowfleet_simulate::*;
use flowfleet_plan::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let which = args.get(1).map(|s| s.as_str()).unwrap_or("all");
    let peers = args.iter().any(|a| a == "peers");
    for (name, file, toml) in [
        ("genai", "genai_lora", "[trace]\nscale = 1\nhours=240\n"),
        ("genai20", "genai_lora", "[trace]\nscale = 20\nhours=48\nstart_h=24\n"),
        ("llm", "azure_llm_code_2023", "[trace]\nscale = 5\n"),
        ("wc98", "wc98_days00_61", "[trace]\nscale = 0.003\nstart_h=960\nhours=24\n"),
        ("philly", "philly_oct", "[trace]\nscale=1\nhours=72\n[policy]\nmax_slots=4000\n"),
        ("functions", "azure_functions_maf1_days00_13", "[trace]\nscale = 0.0003\nhours=24\n"),
    ] {
        if which != "all" && which != name { continue; }
        let mut s = Scenario::parse(toml).unwrap();
        let bytes = std::fs::read(format!("/work/shared/traces/{file}.csv.gz")).unwrap();
        let arrivals = read_arrivals(&bytes, &s).unwrap();
        s.policy.max_slots = 100_000;
        let bound = clairvoyant(&s, &arrivals);
        println!("== {name}: {} runs, peak {} slots", arrivals.len(), bound.peak_slots);
        let mut reports = vec![];
        let t = std::time::Instant::now();
        let mut label = |mut r: Report, l: &str| { r.policy = l.into(); reports.push(r); };
        label(simulate(&s, &arrivals, &[]), "slo handoff");
        let took = t.elapsed();
        s.policy.handoff_s = None;
        label(simulate(&s, &arrivals, &[]), "slo");
        if peers {
            for rule in [Rule::KedaHpa{target:4.0}, Rule::EcsManaged{target:100.}, Rule::BacklogPerInstance{target:4.}, Rule::Buildkite{buffer:0.}] {
                s.policy.rule = rule;
                let t = tune(&s, &arrivals, &[]);
                label(t.report, &format!("{}{} {:?}", if t.meets_goal {""} else {"!"}, t.policy.rule.name(), match t.policy.rule {Rule::KedaHpa{target}|Rule::EcsManaged{target}|Rule::BacklogPerInstance{target}=>target, Rule::Buildkite{buffer}=>buffer, _=>0.}));
            }
        }
        println!("{}({took:?})", table(&reports, &bound, 30.));
    }
}
