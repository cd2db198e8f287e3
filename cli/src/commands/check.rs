//! `anychip conformance --check`: does a report hold, and is it so on this machine?

use crate::devices::Name;
use crate::error::Failure;
use crate::output::Output;
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_conformance::{Checked, CheckedReport, Finding, RunAgain, check_file};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    passed: bool,
    suite_version: &'static str,
    findings: &'a [Finding],
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
struct Device<'a> {
    #[serde(flatten)]
    report: &'a CheckedReport,
    /// The same cases on this machine, where that was asked for.
    run_again: Option<RunAgain>,
}

pub(crate) fn run(file: &Path, devices: &[String], mut output: Output) -> Result<Outcome, Failure> {
    let devices = Name::of_all(devices)?;
    let checked = check_file(file)?;
    let is_held = |device: &Name| checked.devices.iter().any(|report| report.device == device.to_string());
    if let Some(device) = devices.iter().find(|device| !is_held(device)) {
        let held: Vec<&str> = checked.devices.iter().map(|report| report.device.as_str()).collect();
        let (file, name) = (file.display().to_string(), device.to_string());
        return Err(Failure::NotInReport { file, name, held: held.join(", ") });
    }
    let Checked { suite_version, findings, devices: reports, .. } = &checked;
    tell(&mut output, "finding", findings)?;
    let mut passed = checked.holds();
    let mut all = Vec::new();
    for report in reports {
        show(&mut output, report)?;
        let mut run_again = None;
        if let Some(device) = devices.iter().find(|device| device.to_string() == report.device) {
            let found = again(*device, report)?;
            passed &= found.differences.is_empty();
            let verdict = match found.differences.len() {
                0 => "all as in the report".into(),
                count => format!("NOT AS IN THE REPORT, {count} differences"),
            };
            output.line(&format!("{device}: run again here, {} cases: {verdict}", found.compared))?;
            tell(&mut output, "difference", &found.differences)?;
            run_again = Some(found);
        }
        all.push(Device { report, run_again });
    }
    output.finish(&Document { schema: "anychip.check/1", passed, suite_version, findings, devices: all })?;
    Ok(passed.into())
}

fn show(output: &mut Output, report: &CheckedReport) -> Result<(), Failure> {
    let verdict = match report.findings.len() {
        0 => "the report holds".into(),
        count => format!("THE REPORT DOES NOT HOLD, {count} findings"),
    };
    output.line(&format!("{}: {verdict}", report.device))?;
    tell(output, "finding", &report.findings)?;
    for (begin, sentences) in [("it says that", &report.says), ("it cannot show", &report.cannot_show)] {
        for sentence in sentences {
            output.line(&format!("  {begin} {sentence}"))?;
        }
    }
    Ok(())
}

fn tell(output: &mut Output, what: &str, found: &[Finding]) -> Result<(), Failure> {
    found.iter().try_for_each(|found| output.line(&format!("  {what}: {found}")))
}

/// The same cases here; Ctrl-C ends the command.
fn again(device: Name, report: &CheckedReport) -> Result<RunAgain, Failure> {
    let line = Line::items(&device.to_string(), report.results);
    let found = report.run_again(&*device.open()?, &mut |_| {
        line.step();
        !interrupt::raised()
    });
    interrupt::check()?;
    Ok(found)
}
