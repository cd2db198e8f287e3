//! `anychip bench`: how long an operation takes, once its result was found to be right.

use crate::args::BenchArgs;
use crate::devices::Name;
use crate::error::Failure;
use crate::output::Output;
use crate::{Outcome, interrupt};
use anychip_bench::{BenchError, Measured, Simulated, measure, simulate};
use serde::Serialize;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    results: Vec<Entry>,
}

/// A result of a device: measured, or simulated.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Measured(Box<Measured>),
    Simulated {
        device: String,
        #[serde(flatten)]
        time: Box<Simulated>,
    },
    Wrong {
        device: String,
        error: String,
    },
}

pub(crate) fn run(args: &BenchArgs) -> Result<Outcome, Failure> {
    let names = Name::of_all(&args.devices)?;
    let mut output = Output::begin(args.json.target.as_deref())?;
    let mut results = Vec::new();
    for name in names {
        interrupt::check()?;
        let result = match name.profile() {
            Some(profile) => {
                let (op, shape) = (args.op.clone(), args.shape.clone());
                interrupt::leaving(move || simulate(&profile, &op, &shape))?
                    .map(|time| Entry::Simulated { device: name.to_string(), time: Box::new(time) })
            }
            None => measure(&*name.open_interruptible()?, &args.op, &args.shape)
                .map(|measured| Entry::Measured(Box::new(measured))),
        };
        let entry = match result {
            Ok(entry) => entry,
            // A device that is wrong is an answer; the others are still asked.
            Err(error @ BenchError::Wrong(_)) => Entry::Wrong { device: name.to_string(), error: error.to_string() },
            Err(error) => return Err(error.into()),
        };
        output.print(&line(&entry))?;
        results.push(entry);
    }
    let passed = !results.iter().any(|entry| matches!(entry, Entry::Wrong { .. }));
    output.finish(&Document { schema: "anychip.bench/1", results })?;
    Ok(passed.into())
}

fn line(entry: &Entry) -> String {
    match entry {
        Entry::Measured(m) => format!(
            "{:<12} {:>12.3} us ({} clock; quartiles {:.3} to {:.3}, {} runs)  {:.3} Tflop/s  {:.1} GB/s{}\n",
            m.device,
            m.median_us,
            m.clock,
            m.q1_us,
            m.q3_us,
            m.runs,
            m.tflops,
            m.gb_per_s,
            if m.fallback { "  fallback" } else { "" }
        ),
        Entry::Simulated { device, time } => {
            let peak = time.share_of_peak.map(|share| format!(", {:.1} % of peak", 100.0 * share));
            let rate = time.tflops.map_or_else(
                || format!("{:.3} TB/s", time.tb_per_s),
                |tflops| format!("{tflops:.1} Tflop/s{}", peak.unwrap_or_default()),
            );
            let busy: Vec<String> =
                time.pipe_busy.iter().map(|(pipe, share)| format!("{pipe} {:.0} %", 100.0 * share)).collect();
            format!(
                "{device:<12} {:>12.3} us (simulated; {})  {rate}  bound: {}\n{:<12} {}; L2 hit {:.0} %, HBM {:.2} GB; profile {} {}\n",
                time.simulated_us,
                time.validated,
                time.bound,
                "",
                busy.join(", "),
                100.0 * time.l2_hit,
                time.hbm_bytes / 1e9,
                time.profile,
                time.profile_hash,
            )
        }
        Entry::Wrong { device, error } => format!("{device:<12} {error}\n"),
    }
}
