use flowfleet_simulate::*;
use flowfleet_plan::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    for (name, file, toml) in [
        ("genai", "genai_lora", "[trace]\nscale = 1\nhours=240\n"),
        ("genai20", "genai_lora", "[trace]\nscale = 20\nhours=48\nstart_h=24\n"),
        ("llm", "azure_llm_code_2023", "[trace]\nscale = 5\n"),
        ("wc98", "wc98_days00_61", "[trace]\nscale = 0.003\nstart_h=960\nhours=24\n"),
        ("philly", "philly_oct", "[trace]\nscale=1\nhours=72\n[policy]\nmax_slots=4000\n"),
        ("functions", "azure_functions_maf1_days00_13", "[trace]\nscale = 0.0003\nhours=24\n"),
    ] {
        if !args.iter().any(|a| a == name) { continue; }
        let mut s = Scenario::parse(toml).unwrap();
        let bytes = std::fs::read(format!("/work/shared/traces/{file}.csv.gz")).unwrap();
        let arrivals = read_arrivals(&bytes, &s).unwrap();
        s.policy.max_slots = 100_000;
        let bound = clairvoyant(&s, &arrivals);
        println!("== {name}: {} runs", arrivals.len());
        let r = simulate(&s, &arrivals, &[]);
        print!("adaptive {:.3} {:.1} % | ", r.cost_usd / bound.clairvoyant_usd, r.late_share*100.);
        for eff in [120.0, 300.0] { print!("\nhold {eff}: ");
            for b in [0.0, 0.25, 0.5, 0.75, 1.0] {
                s.policy.hold_s = eff * 2.0 / 5f64.powf(b);
                s.policy.rule = Rule::SloStaffing(SloStaffing{reserve:b, reserve_min: b, reserve_max:b, ..Default::default()});
                let r = simulate(&s, &arrivals, &[]);
                print!("{b}: {:.3} {:4.1}% | ", r.cost_usd / bound.clairvoyant_usd, r.late_share*100.);
            }
            println!();
        }
    }
}
