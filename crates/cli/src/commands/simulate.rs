//! `flowfleet simulate`: what a trace would have cost, and how long its runs would have waited, under one or more policies.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use flowfleet_plan::{Policy, Rule, SloStaffing};
use flowfleet_simulate::{
    Arrival, Report, Scenario, Zone, clairvoyant, picture, read_arrivals, read_availability, simulate, table,
    tune,
};

use super::{Context, read_file};
use crate::failure::{Failure, Result};

const EXAMPLES: &str = "\
Examples:
  flowfleet simulate --trace arrivals.csv.gz
  flowfleet simulate --trace arrivals.csv --policy slo-staffing --policy keda-hpa --picture fleet.svg
  flowfleet simulate --trace arrivals.csv --scenario fleet.toml --policy all --tune
  flowfleet simulate --trace arrivals.csv --spot us-east-1a.csv --spot us-east-1b.csv --json
  flowfleet simulate --print-scenario > fleet.toml

A trace is CSV, plain or gzip, with the columns `arrival_s,service_s`, `arrival_s,context_tokens,generated_tokens`
or `minute,count`. A file for --spot says when a zone had spot capacity: `start_s,available`, the last row -1.
The decisions are those of the autoscaler itself; docs/autoscaling.md says what is simulated and how.";

/// Options of `simulate`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The arrivals to play; - reads stdin
    #[arg(long, value_name = "FILE", required_unless_present = "print_scenario")]
    trace: Option<String>,
    /// The cloud, the work and the pool, as TOML; what it leaves out has a default
    #[arg(long, value_name = "FILE")]
    scenario: Option<String>,
    /// Which rules to play: slo-staffing, backlog-per-instance, keda-hpa, ecs-managed, buildkite, step, or all.
    /// Without it, the scenario's
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append)]
    policy: Vec<String>,
    /// When a zone had spot capacity, one file a zone; without it there is always some
    #[arg(long, value_name = "FILE", action = clap::ArgAction::Append)]
    spot: Vec<PathBuf>,
    /// Search for the cheapest settings of each rule that meet the goal, and print them
    #[arg(long)]
    tune: bool,
    /// Draw the first policy as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print the scenario with all defaults, and end
    #[arg(long)]
    print_scenario: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let scenario = match &args.scenario {
        None => Scenario::default(),
        Some(path) => {
            let bytes = read_file(path).await?;
            let text =
                String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{path} is not UTF-8")))?;
            Scenario::parse(&text).map_err(|problem| {
                Failure::usage(format!("{path}: {}", problem.trim_end()))
                    .advise("flowfleet simulate --print-scenario shows every key")
            })?
        }
    };
    let policies = policies(&args.policy, &scenario.policy)?;
    if args.print_scenario {
        let text = toml::to_string(&scenario)
            .map_err(|error| Failure::usage(format!("the scenario cannot be printed: {error}")))?;
        context.term.line(text.trim_end())?;
        return Ok(());
    }
    let trace = args.trace.clone().unwrap_or_default();
    let bytes = read_file(&trace).await?;
    let arrivals =
        read_arrivals(&bytes, &scenario).map_err(|error| Failure::usage(format!("{trace}: {error}")))?;
    let mut zones = Vec::new();
    for path in &args.spot {
        zones.push(zone(path).await?);
    }
    let work = Work {
        scenario,
        arrivals,
        zones,
        tune: args.tune,
    };
    let (work, played) = play(work, policies, context).await?;
    show(&args, &work, &played, context)
}

/// What every policy is played on.
struct Work {
    scenario: Scenario,
    arrivals: Vec<Arrival>,
    zones: Vec<Zone>,
    tune: bool,
}

/// A policy, what came of it, and whether it was found by a search that met the goal.
struct Played {
    policy: Policy,
    report: Report,
    meets_goal: Option<bool>,
}

async fn play(work: Work, policies: Vec<Policy>, context: &Context) -> Result<(Work, Vec<Played>)> {
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    let playing = tokio::task::spawn_blocking(move || {
        let count = policies.len();
        let played = policies
            .into_iter()
            .enumerate()
            .map(|(index, policy)| {
                let _ = told.send(format!("{} ({} of {count})", policy.rule.name(), index + 1));
                work.play(policy)
            })
            .collect();
        (work, played)
    });
    while let Some(what) = telling.recv().await {
        context.term.note(&format!("playing {what}"));
    }
    playing
        .await
        .map_err(|error| Failure::run(format!("the simulation stopped: {error}")))
}

impl Work {
    fn play(&self, policy: Policy) -> Played {
        let scenario = Scenario {
            policy,
            ..self.scenario.clone()
        };
        if self.tune {
            let tuned = tune(&scenario, &self.arrivals, &self.zones);
            return Played {
                policy: tuned.policy,
                report: tuned.report,
                meets_goal: Some(tuned.meets_goal),
            };
        }
        let report = simulate(&scenario, &self.arrivals, &self.zones);
        Played {
            policy: scenario.policy,
            report,
            meets_goal: None,
        }
    }
}

fn show(args: &Args, work: &Work, played: &[Played], context: &Context) -> Result {
    let slo_s = work.scenario.policy.slo_s;
    let bound = clairvoyant(&work.scenario, &work.arrivals);
    if let (Some(path), Some(first)) = (&args.picture, played.first()) {
        std::fs::write(path, picture(&first.report, slo_s))
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
        context.term.note(&format!("drawn: {}", path.display()));
    }
    if args.json {
        let policies: Vec<_> = played
            .iter()
            .map(|played| {
                serde_json::json!({
                    "report": played.report,
                    "policy": played.policy,
                    "meets_goal": played.meets_goal,
                })
            })
            .collect();
        return Ok(context.term.json(&serde_json::json!({
            "runs": work.arrivals.len(), "bound": bound, "policies": policies,
        }))?);
    }
    let reports: Vec<Report> = played.iter().map(|played| played.report.clone()).collect();
    context.term.line(table(&reports, &bound, slo_s).trim_end())?;
    for played in played {
        match played.meets_goal {
            None => {}
            Some(false) => context.term.line(&format!(
                "\n{}: no setting that was tried meets the goal",
                played.policy.rule.name()
            ))?,
            Some(true) => {
                let settings = toml::to_string(&Settings::of(&played.policy))
                    .map_err(|error| Failure::run(format!("the settings cannot be printed: {error}")))?;
                context.term.line(&format!("\n{}", settings.trim_end()))?;
            }
        }
    }
    Ok(())
}

/// What a search varies, to paste into a scenario or the autoscaler's configuration.
#[derive(serde::Serialize)]
struct Settings<'a> {
    policy: Found<'a>,
}

#[derive(serde::Serialize)]
struct Found<'a> {
    hold_s: f64,
    rule: &'a Rule,
}

impl<'a> Settings<'a> {
    fn of(policy: &'a Policy) -> Self {
        Self {
            policy: Found {
                hold_s: policy.hold_s,
                rule: &policy.rule,
            },
        }
    }
}

async fn zone(path: &Path) -> Result<Zone> {
    let name = path.display().to_string();
    let bytes = read_file(&name).await?;
    let availability =
        read_availability(&bytes).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    Ok(Zone {
        name,
        price: 1.0,
        availability,
    })
}

/// The scenario's pool under each rule named; a peer's hands nothing off, because the peer does not.
fn policies(names: &[String], base: &Policy) -> Result<Vec<Policy>> {
    if names.is_empty() {
        return Ok(vec![base.clone()]);
    }
    let slots = f64::from(base.machines.slots);
    let rules = [
        Rule::SloStaffing(SloStaffing::default()),
        Rule::BacklogPerInstance { target: slots },
        Rule::KedaHpa { target: slots },
        Rule::EcsManaged { target: 100.0 },
        Rule::Buildkite { buffer: 0.0 },
        Rule::Step {
            steps: vec![(1, 1), (10, 3), (50, 12), (200, 50)],
        },
    ];
    let mut policies = Vec::new();
    for name in names {
        let named: Vec<&Rule> = rules
            .iter()
            .filter(|rule| name == "all" || name == rule.name())
            .collect();
        if named.is_empty() {
            let known: Vec<_> = rules.iter().map(Rule::name).collect();
            return Err(Failure::usage(format!(
                "policy {name:?} is not known: use {} or all",
                known.join(", ")
            )));
        }
        for rule in named {
            let ours = matches!(rule, Rule::SloStaffing(_));
            // The scenario's own settings of its rule count.
            let rule = if base.rule.name() == rule.name() {
                &base.rule
            } else {
                rule
            };
            policies.push(Policy {
                rule: rule.clone(),
                handoff_s: base.handoff_s.filter(|_| ours),
                ..base.clone()
            });
        }
    }
    Ok(policies)
}
