//! A picture of a simulation as SVG: what was demanded, what was paid for, and how long runs waited.

use std::fmt::Write as _;

use crate::report::{Report, Sample};

const WIDTH: f32 = 1_000.0;
const LEFT: f32 = 60.0;
const RIGHT: f32 = 20.0;
const PANEL: f32 = 260.0;
const WAITS: f32 = 120.0;
const GAP: f32 = 50.0;
const TOP: f32 = 56.0;
/// No more points than a screen shows.
const POINTS: usize = 500;

/// What is stacked, from the bottom: name, colour, value.
type Layer = (&'static str, &'static str, fn(&Sample) -> f32);

const LAYERS: [Layer; 5] = [
    ("spot", "#5b8db8", |sample| sample.spot),
    ("on-demand", "#2f5d8a", |sample| sample.on_demand),
    ("Fargate", "#c98bb9", |sample| sample.fargate),
    ("draining", "#b8b8b8", |sample| sample.draining),
    ("booting", "#e3c878", |sample| sample.booting),
];

/// Draws a report.
pub fn picture(report: &Report, slo_s: f64) -> String {
    let points = thin(&report.samples);
    let end_s = points.last().map_or(1.0, |sample| sample.at_s).max(1.0);
    let most = points
        .iter()
        .map(|sample| sample.slots().max(sample.running + sample.queued))
        .fold(1.0, f32::max);
    let height = TOP + PANEL + GAP + WAITS + 40.0;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}: {} runs, {:.2} USD, {:.1} % started later than {slo_s} s</text>",
        report.policy,
        report.runs,
        report.cost_usd,
        report.late_share * 100.0,
    );
    let x = |at_s: f32| LEFT + at_s / end_s * (WIDTH - LEFT - RIGHT);
    let y = |slots: f32| TOP + PANEL * (1.0 - slots / most);
    capacity(&mut svg, &points, x, y);
    let demand: String = points.iter().fold(String::new(), |mut path, sample| {
        let _ = write!(
            path,
            "{:.1},{:.1} ",
            x(sample.at_s),
            y(sample.running + sample.queued)
        );
        path
    });
    let _ = writeln!(
        svg,
        "<polyline points=\"{demand}\" fill=\"none\" stroke=\"#b03030\" stroke-width=\"1.2\"/>"
    );
    axis(&mut svg, TOP, PANEL, most, "slots");
    let waits_top = TOP + PANEL + GAP;
    waits(&mut svg, report, end_s, slo_s as f32, waits_top, x);
    hours(&mut svg, end_s, waits_top + WAITS, x);
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// The largest of each stretch, so that no peak is lost.
fn thin(samples: &[Sample]) -> Vec<Sample> {
    let stretch = samples.len().div_ceil(POINTS).max(1);
    samples
        .chunks(stretch)
        .filter_map(|chunk| {
            let peak = |of: fn(&Sample) -> f32| chunk.iter().map(of).fold(0.0, f32::max);
            let busiest = chunk.iter().max_by(|a, b| a.slots().total_cmp(&b.slots()))?;
            Some(Sample {
                queued: peak(|sample| sample.queued),
                ..*busiest
            })
        })
        .collect()
}

fn capacity(svg: &mut String, points: &[Sample], x: impl Fn(f32) -> f32, y: impl Fn(f32) -> f32) {
    let mut base = vec![0.0; points.len()];
    for (name, colour, value) in LAYERS {
        if points.iter().all(|sample| value(sample) == 0.0) {
            continue;
        }
        let mut outline = String::new();
        for (sample, base) in points.iter().zip(&base) {
            let _ = write!(outline, "{:.1},{:.1} ", x(sample.at_s), y(base + value(sample)));
        }
        for (sample, base) in points.iter().zip(&base).rev() {
            let _ = write!(outline, "{:.1},{:.1} ", x(sample.at_s), y(*base));
        }
        let _ = writeln!(
            svg,
            "<polygon points=\"{outline}\" fill=\"{colour}\"><title>{name}</title></polygon>"
        );
        for (sample, base) in points.iter().zip(&mut base) {
            *base += value(sample);
        }
    }
}

/// The 95th percentile of the waits of each stretch.
fn waits(svg: &mut String, report: &Report, end_s: f32, slo_s: f32, top: f32, x: impl Fn(f32) -> f32) {
    let mut stretches = vec![Vec::new(); POINTS / 2];
    for (at_s, wait_s) in &report.waits {
        let stretch = (at_s / end_s * stretches.len() as f32) as usize;
        let last = stretches.len() - 1;
        stretches[stretch.min(last)].push(*wait_s);
    }
    let p95: Vec<Option<f32>> = stretches
        .iter_mut()
        .map(|waits| {
            waits.sort_by(f32::total_cmp);
            waits
                .get((waits.len() * 95 / 100).min(waits.len().saturating_sub(1)))
                .copied()
        })
        .collect();
    let most = p95.iter().flatten().copied().fold(slo_s * 2.0, f32::max);
    let width = (WIDTH - LEFT - RIGHT) / p95.len() as f32;
    for (stretch, wait_s) in p95.iter().enumerate() {
        let Some(wait_s) = wait_s.filter(|wait_s| *wait_s > 0.0) else {
            continue;
        };
        let colour = if wait_s > slo_s { "#c05050" } else { "#7aa37a" };
        let height = WAITS * wait_s / most;
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
            x(stretch as f32 / p95.len() as f32 * end_s),
            top + WAITS - height,
        );
    }
    let goal = top + WAITS * (1.0 - slo_s / most);
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{goal:.1}\" y2=\"{goal:.1}\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>",
        WIDTH - RIGHT
    );
    axis(svg, top, WAITS, most, "wait p95, s");
}

fn axis(svg: &mut String, top: f32, height: f32, most: f32, name: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#444\">{name}</text>",
        top - 6.0
    );
    for part in [0.0, 0.5, 1.0] {
        let y = top + height * (1.0 - part);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\" stroke-width=\"0.7\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#444\">{:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            most * part,
        );
    }
}

fn hours(svg: &mut String, end_s: f32, y: f32, x: impl Fn(f32) -> f32) {
    for part in 0..=6 {
        let at_s = end_s * part as f32 / 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#444\">{:.1} h</text>",
            x(at_s),
            y + 18.0,
            at_s / 3_600.0,
        );
    }
}

fn legend(svg: &mut String) {
    let mut x = LEFT + 120.0;
    let demand = ("demand", "#b03030");
    for (name, colour) in LAYERS
        .iter()
        .map(|(name, colour, _)| (*name, *colour))
        .chain([demand])
    {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"36\" width=\"11\" height=\"11\" fill=\"{colour}\"/><text x=\"{}\" y=\"46\">{name}</text>",
            x + 16.0,
        );
        x += 95.0;
    }
}
