//! The one document: what was measured, side by side. Two clocks or two devices are never divided by each other.

use crate::gathered::{Gathered, Stage, Torch, TorchDevice, TorchRow, Variant};
use anychip_bench::ceilings::Ceiling;
use anychip_bench::record::{Outcome, Record, Timed};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    /// What the script knows: device, description, driver, options.
    pub(crate) run: BTreeMap<String, String>,
    /// Whether all stages came to their end.
    pub(crate) complete: bool,
    pub(crate) stages: Vec<Stage>,
    /// How many cases passed, failed, were unsupported or fell back; `null` if the suite came to no end.
    pub(crate) conformance: Option<Value>,
    /// Who measured the ceilings that shares are of: `torch` or `anychip`.
    pub(crate) ceilings_by: &'static str,
    pub(crate) ceilings: Ceilings,
    pub(crate) torch: Option<TorchDevice>,
    /// Why there is no torch.
    pub(crate) torch_absent: Option<String>,
    pub(crate) rows: Vec<Row>,
    /// What torch measured and anychip did not, because its benchmark did not come that far.
    pub(crate) torch_only: Vec<TorchRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Ceilings {
    pub(crate) anychip: Vec<Measured>,
    pub(crate) torch: Vec<Measured>,
}

/// A ceiling with its rate by the median, per second.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    pub(crate) ceiling: Ceiling,
    pub(crate) per_second: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) record: Record,
    /// What follows from the times, where there are any.
    pub(crate) rates: Option<Rates>,
    pub(crate) torch: Option<TorchRow>,
    /// The fastest of torch's equal variants.
    pub(crate) torch_fastest: Option<Variant>,
    /// anychip's median over torch's: 2 is twice as long. `null` where nothing is equal, and between clocks or devices.
    pub(crate) times_torch: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rates {
    pub(crate) bytes_per_second: f64,
    pub(crate) flops_per_second: f64,
    /// Of the measured copy. Above 1 where operands stay in a cache.
    pub(crate) share_of_copy: Option<f64>,
    /// Of the measured product.
    pub(crate) share_of_gemm: Option<f64>,
    /// Format of that product: f32 where every number read is f32, else bf16.
    pub(crate) gemm: &'static str,
    /// Distance of the quartiles over the median.
    pub(crate) spread: f64,
}

impl Report {
    pub(crate) fn of(gathered: Gathered) -> Report {
        let Gathered { run, stages, conformance, ceilings, records, torch } = gathered;
        let (mut device, mut absent, mut by_torch, mut theirs) = (None, None, Vec::new(), Vec::new());
        for line in torch {
            match line {
                Torch::Absent(reason) => absent = Some(reason),
                Torch::Device(found) => device = Some(found),
                Torch::Ceiling(ceiling) => by_torch.push(measured(ceiling)),
                Torch::Row(row) => theirs.push(row),
            }
        }
        let same = device.as_ref().is_some_and(|device: &TorchDevice| device.same);
        let by_anychip: Vec<Measured> = ceilings.into_iter().map(measured).collect();
        let torch_measures = same && by_torch.iter().any(|ceiling| ceiling.ceiling.kind == "copy");
        let shares_of = if torch_measures { &by_torch } else { &by_anychip };
        let clock = device.as_ref().filter(|_| same).map(|device| device.clock.clone());
        let row = |record| Row::of(record, &theirs, clock.as_deref(), shares_of);
        let rows: Vec<Row> = records.into_iter().map(row).collect();
        theirs.retain(|one| !rows.iter().any(|row| row.record.op == one.op && row.record.shape == one.shape));
        let end = |stage: &Stage| matches!(stage.status.as_str(), "passed" | "failed" | "skipped");
        Report {
            schema: "anychip.gpu/1",
            complete: run.contains_key("ended") && stages.iter().all(end),
            run,
            stages,
            conformance: conformance.map(|document| document["devices"][0]["counts"].clone()),
            ceilings_by: if torch_measures { "torch" } else { "anychip" },
            ceilings: Ceilings { anychip: by_anychip, torch: by_torch },
            torch: device,
            torch_absent: absent,
            rows,
            torch_only: theirs,
        }
    }
}

impl Row {
    /// `clock` is torch's, where it ran on the same device.
    fn of(record: Record, theirs: &[TorchRow], clock: Option<&str>, ceilings: &[Measured]) -> Row {
        let torch = theirs.iter().find(|row| row.op == record.op && row.shape == record.shape).cloned();
        let timed = |variant: &Variant| variant.spread.as_ref().map(|spread| spread.median_ns);
        let equal =
            torch.iter().flat_map(|row| &row.variants).filter(|variant| variant.equal && timed(variant).is_some());
        let fastest =
            equal.min_by(|a, b| timed(a).partial_cmp(&timed(b)).unwrap_or(std::cmp::Ordering::Equal)).cloned();
        let (mut rates, mut times_torch) = (None, None);
        if let Outcome::Timed(own) = &record.outcome {
            rates = Some(Rates::of(own, ceilings));
            let comparable = clock == Some(own.clock.as_str()) && !own.fallback;
            let theirs = fastest.as_ref().filter(|_| comparable).and_then(timed);
            times_torch = theirs.filter(|&theirs| theirs > 0.0).map(|theirs| own.spread.median_ns / theirs);
        }
        Row { record, rates, torch, torch_fastest: fastest, times_torch }
    }
}

impl Rates {
    fn of(timed: &Timed, ceilings: &[Measured]) -> Rates {
        let seconds = timed.spread.median_ns.max(1.0) / 1e9;
        let only_f32 =
            !timed.reads.iter().any(|dtype| matches!(dtype.as_str(), "bf16" | "f16" | "e4m3" | "e2m1" | "u8"));
        let gemm = if only_f32 { "f32" } else { "bf16" };
        let share = |kind: &str, format: &str, rate: f64| {
            let of = |all: &&Measured| all.ceiling.kind == kind && all.ceiling.format == format;
            let ceiling = ceilings.iter().find(of).filter(|all| all.ceiling.clock == timed.clock && !timed.fallback)?;
            (ceiling.per_second > 0.0).then(|| rate / ceiling.per_second)
        };
        let (bytes, flops) = (timed.bytes as f64 / seconds, timed.flops as f64 / seconds);
        Rates {
            bytes_per_second: bytes,
            flops_per_second: flops,
            share_of_copy: share("copy", "bytes", bytes),
            share_of_gemm: share("gemm", gemm, flops),
            gemm,
            spread: (timed.spread.q3_ns - timed.spread.q1_ns) / timed.spread.median_ns.max(1.0),
        }
    }
}

fn measured(ceiling: Ceiling) -> Measured {
    Measured { per_second: ceiling.work as f64 / ceiling.spread.median_ns.max(1.0) * 1e9, ceiling }
}

/// A ceiling's rate in words.
pub(crate) fn rate(ceiling: &Ceiling) -> String {
    let giga = ceiling.work as f64 / ceiling.spread.median_ns.max(1.0);
    if ceiling.kind == "copy" { format!("{giga:.1} GB/s") } else { format!("{giga:.1} GFLOP/s") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    /// What the stages leave, with torch on a device that is `same` and has `clock`.
    fn report(same: bool, clock: &str) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let spread = |median: u64| format!(r#""runs":9,"least_ns":1,"q1_ns":90,"median_ns":{median},"q3_ns":110"#);
        let timed = format!(
            r#"{{"op":"linear","shape":"a/t1","device":"wgpu","description":"d","outcome":"timed","clock":"device","fallback":false,"reads":["bf16"],"flops":400,"bytes":100,"worst":0.5,{}}}"#,
            spread(100)
        );
        fs::write(dir.path().join("bench.jsonl"), format!("{timed}\n{{\"op\":\"lin")).unwrap();
        let variant = |equal: bool, median| {
            format!(r#"{{"name":"n{median}","equal":{equal},"error":0.0,"spread":{{{}}}}}"#, spread(median))
        };
        let ceiling = format!(r#""size":"s","work":200,"clock":"device",{}"#, spread(100));
        let torch = [
            format!(r#"{{"device":{{"version":"2","name":"d","same":{same},"clock":"{clock}"}}}}"#),
            format!(r#"{{"ceiling":{{"kind":"copy","format":"bytes",{ceiling}}}}}"#),
            format!(r#"{{"ceiling":{{"kind":"gemm","format":"bf16",{ceiling}}}}}"#),
            format!(
                r#"{{"row":{{"op":"linear","shape":"a/t1","none":null,"variants":[{},{},{},{{"name":"x","equal":true,"failed":"no"}}]}}}}"#,
                variant(true, 60),
                variant(true, 50),
                variant(false, 10)
            ),
        ];
        fs::write(dir.path().join("torch.jsonl"), torch.join("\n")).unwrap();
        fs::write(dir.path().join("stages"), "a\t1.5\tpassed\tn\nb\t2\tfailed\t\n").unwrap();
        fs::write(dir.path().join("run"), "device=wgpu\nended=yes\n").unwrap();
        Report::of(Gathered::read(dir.path()).unwrap())
    }

    #[test]
    fn the_fastest_equal_variant_is_compared() {
        let report = report(true, "device");
        let [row] = &report.rows[..] else { unreachable!("the half line is passed over") };
        assert_eq!(row.torch_fastest.as_ref().unwrap().name, "n50");
        assert_eq!(row.times_torch, Some(2.0));
        let rates = row.rates.as_ref().unwrap();
        assert_eq!((rates.share_of_copy, rates.share_of_gemm), (Some(0.5), Some(2.0)));
        assert_eq!((report.ceilings_by, report.complete, report.stages.len()), ("torch", true, 2));
        let table = crate::table::markdown(&report);
        assert!(table.contains("| a/t1 | 0.100 µs | 20 % |") && table.contains("| 2.00 |"), "{table}");
    }

    #[test]
    fn other_clocks_and_devices_are_not() {
        for (same, clock) in [(false, "device"), (true, "host")] {
            assert_eq!(report(same, clock).rows[0].times_torch, None);
        }
        assert_eq!(report(false, "device").rows[0].rates.as_ref().unwrap().share_of_copy, None);
    }

    #[test]
    fn nothing_is_a_report_too() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report::of(Gathered::read(dir.path()).unwrap());
        assert!(!report.complete && report.rows.is_empty() && crate::table::markdown(&report).contains("not complete"));
    }
}
