//! `anychip faults`: the suite itself, judged by bugs that were planted in a correct device.

use crate::args::FaultsArgs;
use crate::devices::Name;
use crate::error::Failure;
use crate::output::Output;
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_conformance::faults::{faults, score};

pub(crate) fn run(args: &FaultsArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let line = Line::items("faults", faults().len());
    let report = score(&Name::Cpu.open()?.into(), args.seed, args.seeds, &mut |_| {
        line.step();
        !interrupt::raised()
    })?;
    drop(line);
    interrupt::check()?;
    output.print(&report.table())?;
    let passed = report.passed;
    output.finish(&report)?;
    Ok(passed.into())
}
