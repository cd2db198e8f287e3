//! Plots of errors against their bounds, as inline SVG.

use super::html::text;
use crate::rules::spread::{BINS, FIRST};
use std::fmt::Write;

/// Width of a plot, and of its part left and right of the scale.
const WIDTH: f64 = 720.0;
const MARGIN: f64 = 40.0;
/// Powers of two at the ends of the scale; what lies outside is drawn there.
const ENDS: [f64; 2] = [FIRST as f64 - 1.0, 3.0];

fn x(ratio: f64) -> f64 {
    let power = if ratio > 0.0 { ratio.log2() } else { ENDS[0] };
    MARGIN + (power.clamp(ENDS[0], ENDS[1]) - ENDS[0]) / (ENDS[1] - ENDS[0]) * (WIDTH - 2.0 * MARGIN)
}

/// The scale of shares, labelled, and the line at 1.
fn axis(svg: &mut String, height: f64) {
    let bottom = height - 18.0;
    // A String takes everything, here and below.
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>",
        WIDTH - MARGIN
    );
    for power in [-18, -15, -12, -9, -6, -3] {
        let at = x(f64::from(power).exp2());
        let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">2^{power}</text>", height - 4.0);
    }
    let limit = x(1.0);
    let _ = write!(
        svg,
        "<line class=\"limit\" x1=\"{limit:.1}\" x2=\"{limit:.1}\" y1=\"2\" y2=\"{bottom}\"/>\
         <text x=\"{limit:.1}\" y=\"{:.1}\" text-anchor=\"middle\">bound</text>",
        height - 4.0
    );
}

fn svg(height: f64, what: &str, draw: impl FnOnce(&mut String)) -> String {
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{what}\">"
    );
    draw(&mut out);
    axis(&mut out, height);
    out += "</svg>\n";
    out
}

/// A dot per case, by the share of its tolerance that its worst element used. Nothing without cases.
pub(super) fn strip(cases: &[(&str, f64)]) -> String {
    if cases.is_empty() {
        return String::new();
    }
    svg(64.0, "error over tolerance of each case", |out| {
        for (index, (case, ratio)) in cases.iter().enumerate() {
            let out_of = if *ratio <= 1.0 { "" } else { " class=\"out\"" };
            let y = 10.0 + (index % 4) as f64 * 9.0;
            let _ = write!(
                out,
                "<circle{out_of} cx=\"{:.1}\" cy=\"{y}\" r=\"4\"><title>{}: {ratio:.4}</title></circle>",
                x(*ratio),
                text(case)
            );
        }
    })
}

/// A bar per bin of a case's [`spread`](super::CaseResult::spread), its height by the logarithm of its count: one wrong
/// element of millions is to be seen. Nothing without numbers.
pub(super) fn histogram(bins: &[u64]) -> String {
    let largest = bins.iter().copied().max().unwrap_or(0);
    if bins.len() != BINS || largest == 0 {
        return String::new();
    }
    let height = |count: u64| 12.0 + 60.0 * (count as f64).ln() / (largest as f64).ln().max(1.0);
    svg(100.0, "elements by error over tolerance", |out| {
        for (bin, &count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            // The first bin is of exact elements and lies left of the scale; the others end at their power of two.
            let power = FIRST + bin as i32 - 1;
            let (left, what) = match bin {
                0 => (4.0, "exact".to_owned()),
                bin if bin == BINS - 1 => (x(f64::from(power - 1).exp2()), format!("over 2^{}", power - 1)),
                _ => (x(f64::from(power - 1).exp2()), format!("up to 2^{power}")),
            };
            let out_of = if power > 0 { " out" } else { "" };
            let (tall, width) = (height(count), x(2.0) - x(1.0) - 2.0);
            let _ = write!(
                out,
                "<rect class=\"bar{out_of}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\">\
                 <title>{what}: {count}</title></rect>",
                left + 1.0,
                82.0 - tall
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_is_drawn_right_of_the_bound() {
        assert!(x(0.0) == MARGIN && x(0.99) < x(1.0) && x(1.01) > x(1.0) && x(f64::INFINITY) <= WIDTH - MARGIN);
        let dots = strip(&[("a<b", 0.5), ("c", 7.0)]);
        assert!(dots.contains("a&lt;b: 0.5000") && dots.matches("class=\"out\"").count() == 1, "{dots}");
        assert!(strip(&[]).is_empty());
    }

    #[test]
    fn bars_stand_for_bins() {
        let mut bins = vec![0; BINS];
        (bins[0], bins[BINS - 4], bins[BINS - 3]) = (1000, 10, 1);
        let bars = histogram(&bins);
        assert!(
            bars.contains("exact: 1000") && bars.contains("up to 2^0: 10") && bars.contains("up to 2^1: 1<"),
            "{bars}"
        );
        assert_eq!(bars.matches("bar out").count(), 1);
        assert!(histogram(&[]).is_empty() && histogram(&[0; BINS]).is_empty());
    }
}
