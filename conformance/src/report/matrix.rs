//! The report as a table of operations by outcomes.

use super::{Counts, OpSummary, Outcome, Report};
use std::fmt::Write;

impl Report {
    /// A table for people: a row per operation, then why cases are unsupported, the failures and the verdict.
    ///
    /// The last columns are the shares of their tolerance that the nearest and the loosest case used. Tiny numbers mean
    /// bounds that are too loose to find faults.
    pub fn matrix(&self) -> String {
        let width = self.ops.iter().map(|o| o.op.len()).max().unwrap_or(0).max("operation".len());
        let mut text =
            format!("{} ({}), {} profile, seed {}\n", self.device.name, self.device.description, self.profile, {
                self.seed
            });
        let head = ["passed", "failed", "unsupported", "fallback", "expected", "largest ratio", "loosest ratio"];
        let line = |text: &mut String, name: &str, cells: [String; 7]| {
            let _ = write!(text, "{name:width$}"); // a String takes everything
            for (cell, head) in cells.iter().zip(head) {
                let _ = write!(text, "  {cell:>0$}", head.len());
            }
            text.push('\n');
        };
        line(&mut text, "operation", head.map(String::from));
        for OpSummary { op, counts, largest_ratio, loosest_ratio, .. } in &self.ops {
            line(&mut text, op, cells(counts, [*largest_ratio, *loosest_ratio]));
        }
        let largest = self.ops.iter().filter_map(|o| o.largest_ratio).reduce(f64::max);
        let loosest = self.ops.iter().filter_map(|o| o.loosest_ratio).reduce(f64::min);
        line(&mut text, "all", cells(&self.counts, [largest, loosest]));
        text += &self.unsupported();
        self.failures().for_each(|failure| text += &format!("FAILED {failure}\n"));
        for result in &self.results {
            if let Outcome::Expected { reason, failure } = &result.outcome {
                text += &format!("failed as expected ({reason}) {failure}\n");
            }
        }
        match self.passed {
            true => text += "passed\n",
            false => text += &format!("NOT PASSED: {}\n", self.reasons.join("; ")),
        }
        text
    }
}

fn cells(counts: &Counts, ratios: [Option<f64>; 2]) -> [String; 7] {
    let Counts { passed, failed, unsupported, fallback, expected, .. } = counts;
    let [largest, loosest] = ratios.map(|ratio| ratio.map_or("exact".into(), |r| format!("{r:.4}")));
    let [passed, failed, unsupported, fallback, expected] =
        [passed, failed, unsupported, fallback, expected].map(usize::to_string);
    [passed, failed, unsupported, fallback, expected, largest, loosest]
}
