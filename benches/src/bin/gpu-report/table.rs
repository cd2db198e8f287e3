//! The report for people.

use crate::gathered::Variant;
use crate::report::{Measured, Report, Row, rate};
use anychip_bench::record::Outcome;
use std::fmt::Write as _;

pub(crate) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let known = |key: &str| report.run.get(key).map_or("unknown", String::as_str);
    // Writing into a string cannot fail.
    let _ = writeln!(out, "# {}\n", known("description"));
    if !report.complete {
        let _ = writeln!(out, "**This run is not complete**: see its stages.\n");
    }
    if known("kind") == "software" {
        let _ = writeln!(out, "**A driver in software**: says that the script works, and nothing about a GPU.\n");
    }
    let asked = report.run.get("options").filter(|options| !options.is_empty());
    let command = asked.map_or("benches/gpu.sh".into(), |options| format!("benches/gpu.sh {options}"));
    let _ = writeln!(
        out,
        "`{command}` on {}, device `{}`, NVIDIA driver {}, {}, commit {}.\n",
        known("date"),
        known("device"),
        known("driver"),
        known("host"),
        known("commit")
    );
    let _ = writeln!(out, "## Conformance\n\n{}\n", conformance(report));
    ceilings(&mut out, report);
    rows(&mut out, report);
    let _ = writeln!(out, "## Stages\n\n| stage | seconds | | |\n| --- | --- | --- | --- |");
    for stage in &report.stages {
        let _ = writeln!(out, "| {} | {:.1} | {} | {} |", stage.name, stage.seconds, stage.status, cell(&stage.note));
    }
    out
}

fn conformance(report: &Report) -> String {
    let Some(counts) = report.conformance.as_ref().and_then(|counts| counts.as_object()) else {
        return "Not run to its end.".into();
    };
    let profile = report.run.get("profile").map_or("", String::as_str);
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("Profile {profile}: {}.", counts.join(", "))
}

fn ceilings(out: &mut String, report: &Report) {
    let _ = writeln!(out, "## Ceilings\n\n| by | what | size | reached | clock |\n| --- | --- | --- | --- | --- |");
    let mut line = |by: &str, all: &[Measured]| {
        for measured in all {
            let c = &measured.ceiling;
            let _ = writeln!(out, "| {by} | {} {} | {} | {} | {} |", c.kind, c.format, c.size, rate(c), c.clock);
        }
    };
    line("anychip", &report.ceilings.anychip);
    line("torch", &report.ceilings.torch);
    let _ = writeln!(out);
}

fn rows(out: &mut String, report: &Report) {
    let _ = writeln!(out, "## Operations at V4-Flash's sizes\n");
    let _ = writeln!(
        out,
        "Each result was judged by the oracle before and after it was timed. Medians; spread is the distance of the \
         quartiles over the median. Bytes and FLOPs are the contract's, each operand once; shares are of the ceilings that \
         {} measured: of its copy, and of its product in f32 where every number read is f32, else in bf16. What stays in a \
         cache between runs exceeds the copy.\n",
        report.ceilings_by
    );
    match (&report.torch, &report.torch_absent) {
        (Some(torch), _) if torch.same => {
            let _ = writeln!(
                out,
                "torch {} on the same GPU, {} clock, its fastest variant that computes the same from the same formats; \
                 the ratio is anychip's time over torch's.\n",
                torch.version, torch.clock
            );
        }
        (Some(torch), _) => {
            let _ = writeln!(out, "torch {} ran on {}: no ratio.\n", torch.version, torch.name);
        }
        (None, Some(reason)) => {
            let _ = writeln!(out, "No torch: {reason}.\n");
        }
        (None, None) => {}
    }
    let mut op = "";
    for row in &report.rows {
        if row.record.op != op {
            op = &row.record.op;
            let _ = writeln!(
                out,
                "### `{op}`\n\n| shape | anychip | spread | error/tolerance | GB/s | of copy | GFLOP/s | of gemm | torch | ratio |"
            );
            let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        }
        let _ = writeln!(out, "{}", line(row));
    }
    let _ = writeln!(out);
}

fn line(row: &Row) -> String {
    let shape = &row.record.shape;
    let torch = torch(row);
    match (&row.record.outcome, &row.rates) {
        (Outcome::Timed(timed), Some(rates)) => {
            // Only what is not the rule is said: device time, on the device itself.
            let mut marks = String::new();
            if timed.clock != "device" {
                let _ = write!(marks, ", {} clock", timed.clock);
            }
            if timed.fallback {
                marks += ", fallback";
            }
            let share = |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.1} %", 100.0 * share));
            let ratio = row.times_torch.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            format!(
                "| {shape} | {}{marks} | {:.0} % | {:.3} | {:.2} | {} | {:.1} | {} ({}) | {torch} | {ratio} |",
                time(timed.spread.median_ns),
                100.0 * rates.spread,
                timed.worst,
                rates.bytes_per_second / 1e9,
                share(rates.share_of_copy),
                rates.flops_per_second / 1e9,
                share(rates.share_of_gemm),
                rates.gemm,
            )
        }
        (Outcome::PassedOver { reason }, _) => {
            format!("| {shape} | not run: {} | | | | | | | {torch} | |", cell(reason))
        }
        (Outcome::Failed { error }, _) => format!("| {shape} | **failed**: {} | | | | | | | {torch} | |", cell(error)),
        (Outcome::Timed(_), None) => format!("| {shape} | | | | | | | | {torch} | |"),
    }
}

/// The fastest equal variant; why there is none; and the fastest that is not equal, as what it is.
fn torch(row: &Row) -> String {
    let Some(theirs) = &row.torch else { return String::new() };
    let median = |variant: &Variant| variant.spread.as_ref().map(|spread| spread.median_ns);
    let mut parts = Vec::new();
    if let Some((variant, nanos)) = row.torch_fastest.as_ref().and_then(|fastest| Some((fastest, median(fastest)?))) {
        parts.push(format!("{} {}", time(nanos), variant.name));
    } else if let Some(reason) = &theirs.none {
        parts.push(format!("nothing equal: {reason}"));
    } else if let Some(failed) = theirs.variants.iter().find_map(|variant| variant.failed.as_ref()) {
        parts.push(format!("nothing ran: {failed}"));
    }
    let others = theirs.variants.iter().filter(|variant| !variant.equal);
    let others = others.filter_map(|variant| Some((median(variant)?, variant)));
    if let Some((nanos, variant)) = others.min_by(|a, b| a.0.total_cmp(&b.0)) {
        parts.push(format!("not equal: {} {}", time(nanos), variant.name));
    }
    cell(&parts.join("; "))
}

fn time(nanos: f64) -> String {
    match nanos {
        _ if nanos < 1e6 => format!("{:.3} µs", nanos / 1e3),
        _ if nanos < 1e9 => format!("{:.3} ms", nanos / 1e6),
        _ => format!("{:.3} s", nanos / 1e9),
    }
}

/// Text within a cell: one line, no column's end, and not the whole of a long error.
fn cell(text: &str) -> String {
    let one: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    one.replace('|', "\\|")
}
