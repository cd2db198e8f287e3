//! `anychip trace`: what the cores of a simulated Ascend do, for Perfetto, and how busy their engines are.

use crate::args::TraceArgs;
use crate::devices::Name;
use crate::error::Failure;
use crate::output::{Output, Report};
use crate::{Outcome, interrupt};
use anychip_ascend::trace::{perfetto, utilisation};

pub(crate) fn run(args: &TraceArgs) -> Result<Outcome, Failure> {
    let profile = Name::of(&args.device)?.profile();
    let profile = profile.ok_or_else(|| Failure::NotSimulated { name: args.device.clone() })?;
    // A place that cannot be written is found before the work.
    let report = Report::begin(&args.output)?;
    let drawing = args.drawing.as_deref().map(Report::begin).transpose()?;
    let (of, op, shape) = (profile.clone(), args.op.clone(), args.shape.clone());
    let (programs, timing) = interrupt::leaving(move || anychip_bench::trace(&of, &op, &shape))??;
    let trace = perfetto(&profile, &programs, &timing, args.cores.max(1));
    report.finish(serde_json::to_string(&trace).map_err(Failure::Json)?.as_bytes())?;
    if let (Some(drawing), Some(file)) = (drawing, &args.drawing) {
        let until = args.until.map_or(f64::INFINITY, |us| us * profile.figures.clock * 1e3);
        let title = format!("{} {} on {}: core 0 ({})", args.op, args.shape, args.device, profile.title);
        drawing.finish(anychip_ascend::trace::drawing(&profile, &timing, 0, until, &title).as_bytes())?;
        crate::output::note(&format!("{}: the drawing", file.display()));
    }
    let mut output = Output::begin(None)?;
    output.line(&format!(
        "{} {} on {}: {:.3} us simulated, {:.0} cycles, {} cores; bound: {}",
        args.op,
        args.shape,
        args.device,
        timing.us,
        timing.cycles,
        timing.cores,
        timing.bound()
    ))?;
    output.line("engine            time (us)   ratio")?;
    for (name, us, share) in utilisation(&timing) {
        output.line(&format!("{:<15} {us:>11.3} {share:>7.3}", format!("{name}_time")))?;
    }
    output.line(&format!(
        "HBM {:.3} GB, {:.1} % of its bandwidth; L2 hit {:.1} %, {:.1} % of its bandwidth",
        timing.hbm_bytes / 1e9,
        100.0 * timing.hbm_share,
        100.0 * timing.l2_hit,
        100.0 * timing.l2_share
    ))?;
    output.line(&format!("modelled on {} ({}); silicon not used", profile.title, profile.hash()))?;
    output.line(&format!("{}: open it in ui.perfetto.dev", args.output.display()))?;
    Ok(Outcome::Passed)
}
