//! The picture: horizontal bars, one group a measurement, each with its value and the ratio to ours. SVG by hand:
//! it needs no library, and one style sheet in it follows the reader's light or dark theme.

use std::fmt::Write as _;

use super::figures::{Bars, Better, Part};
use super::machine::Machine;
use super::table::{number, with_unit};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
/// Right of the longest bar there is room for its value.
const LONGEST: f64 = 430.0;
const BAR: f64 = 20.0;
const STEP: f64 = 27.0;

const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 }
.group { font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.name { text-anchor: end }
.ours { fill: #0969da }
.other { fill: #9aa4af }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9198a1 }
  .ours { fill: #4493f8 }
  .other { fill: #59636e }
  .paper { fill: #0d1117 }
}
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, content: &str) {
    let _ = writeln!(
        svg,
        r#"<text class="{class}" x="{x}" y="{y}">{}</text>"#,
        escaped(content)
    );
}

/// Draws a group and answers where the next one begins.
fn group(svg: &mut String, bars: &Bars, mut y: f64) -> f64 {
    let most = bars.bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let better = match bars.better {
        Better::Higher => "longer is better",
        Better::Lower => "shorter is better",
    };
    text(svg, "group", 20.0, y, &bars.title);
    text(svg, "small", LEFT + LONGEST + 40.0, y, better);
    y += 12.0;
    let ours = bars.bars.first().map_or(0.0, |(_, value)| *value);
    for (at, (name, value)) in bars.bars.iter().enumerate() {
        let length = if most > 0.0 {
            (LONGEST * value / most).max(1.0)
        } else {
            1.0
        };
        let class = if at == 0 { "ours" } else { "other" };
        text(svg, "name", LEFT - 10.0, y + 15.0, name);
        let _ = writeln!(
            svg,
            r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{length:.1}" height="{BAR}" rx="3"/>"#
        );
        let mut label = with_unit(*value, bars.unit);
        if at > 0 && *value > 0.0 {
            let _ = write!(label, "   ours is {} ×", number(ours / value));
        }
        text(svg, "value", LEFT + length + 8.0, y + 15.0, &label);
        y += STEP;
    }
    y + 26.0
}

pub(super) fn draw(machine: &Machine, parts: &[Part]) -> String {
    let mut body = String::new();
    text(
        &mut body,
        "title",
        20.0,
        34.0,
        "Flowfleet beside its limits and its peers",
    );
    let mut y = 70.0;
    for bars in parts.iter().flat_map(|part| &part.bars) {
        y = group(&mut body, bars, y);
    }
    let about = machine.sentence();
    // Long lines do not wrap in SVG.
    let (mut line, mut lines) = (String::new(), Vec::new());
    for word in about.split(' ') {
        if line.len() + word.len() > 130 {
            lines.push(std::mem::take(&mut line));
        }
        line.push_str(word);
        line.push(' ');
    }
    lines.push(line);
    for line in lines {
        text(&mut body, "small", 20.0, y, line.trim_end());
        y += 15.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         role=\"img\" aria-label=\"Flowfleet beside its limits and its peers\">\n<style>\n{STYLE}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Unit;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bars = Bars {
            title: "A < B".into(),
            unit: Unit::PerSecond,
            better: Better::Higher,
            bars: vec![("flowfleet".into(), 50.0), ("floor".into(), 100.0)],
        };
        let mut svg = String::new();
        group(&mut svg, &bars, 0.0);
        assert!(svg.contains("A &lt; B"));
        assert!(
            svg.contains(r#"class="ours" x="190" y="12" width="215.0""#),
            "{svg}"
        );
        assert!(
            svg.contains(r#"class="other" x="190" y="39" width="430.0""#),
            "{svg}"
        );
        assert!(svg.contains("100/s   ours is 0.50 ×"), "{svg}");
    }
}
