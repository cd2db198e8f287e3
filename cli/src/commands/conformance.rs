//! `anychip conformance`: every operation of a device, judged against the oracle.

use crate::args::ConformanceArgs;
use crate::devices::{EVERYWHERE, Name};
use crate::error::Failure;
use crate::output::{Output, Report as File, note};
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_conformance::{
    ExpectedFailures, Isolation, Report, Selection, html, junit, replay, run as run_suite, run_isolated, serve,
};
use serde::Serialize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, io};

/// Cases that one child process runs: opening a device is paid for once in so many.
const BATCH: usize = 64;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    passed: bool,
    /// A report for each device.
    devices: &'a [Report],
}

pub(crate) fn run(args: &ConformanceArgs) -> Result<Outcome, Failure> {
    if args.isolated_child {
        return child(args);
    }
    let mut output = Output::begin(args.json.target.as_deref())?;
    if let Some(file) = &args.check {
        return super::check::run(file, &args.devices, output);
    }
    if let Some(file) = &args.replay {
        return again(args, file, output);
    }
    let junit_file = args.junit.as_deref().map(File::begin).transpose()?;
    let html_file = args.html.as_deref().map(File::begin).transpose()?;
    let devices = if args.devices.is_empty() { EVERYWHERE.to_vec() } else { Name::of_all(&args.devices)? };
    let selection = selection(args)?;
    let unused = unused(&selection)?;
    if !unused.is_empty() && args.case.is_none() && args.ops.is_empty() {
        note(&format!("these expected failures name none of the cases: {}", unused.join(", ")));
    }
    let mut reports = Vec::new();
    for device in devices {
        let report = match args.isolate {
            true => judge_isolated(device, &selection, args)?,
            false => judge(device, &selection)?,
        };
        output.print(&report.matrix())?;
        if args.formats {
            output.print(&report.format_matrix())?;
        }
        interrupt::check()?;
        reports.push(report);
    }
    if let Some(file) = junit_file {
        file.finish(junit(&reports)?.as_bytes())?;
    }
    if let Some(file) = html_file {
        file.finish(html(&reports).as_bytes())?;
    }
    let passed = reports.iter().all(|report| report.passed);
    output.finish(&Document { schema: "anychip.conformance/1", passed, devices: &reports })?;
    Ok(passed.into())
}

/// Runs the selected cases on a device; Ctrl-C ends the run with what there is.
pub(super) fn judge(device: Name, selection: &Selection) -> Result<Report, Failure> {
    let line = Line::items(&device.to_string(), selection.cases()?.len());
    let report = run_suite(&*device.open()?, selection, &mut |_| {
        line.step();
        !interrupt::raised()
    })?;
    Ok(report)
}

fn selection(args: &ConformanceArgs) -> Result<Selection, Failure> {
    Ok(Selection {
        ops: args.ops.clone(),
        profile: args.profile,
        case: args.case.clone(),
        seed: args.seed,
        strict: args.strict,
        expected: args.expect.as_deref().map(ExpectedFailures::open).transpose()?.unwrap_or_default(),
        save_failures: args.save_failures.clone(),
    })
}

/// Expected failures that name no case of this run.
fn unused(selection: &Selection) -> Result<Vec<&str>, Failure> {
    let cases = selection.cases()?;
    Ok(selection.expected.unused(cases.iter().map(|case| case.name.as_str())))
}

/// As [`judge`], each case in a child process.
fn judge_isolated(device: Name, selection: &Selection, args: &ConformanceArgs) -> Result<Report, Failure> {
    let line = Line::items(&device.to_string(), selection.cases()?.len());
    let command = || -> io::Result<Command> {
        let mut child = Command::new(env::current_exe()?);
        child.args(["conformance", "--isolated-child", "--device", &device.to_string()]);
        child.args(["--profile", &selection.profile.to_string(), "--seed", &selection.seed.to_string()]);
        for (option, names) in [("--op", &selection.ops[..]), ("--case", selection.case.as_slice())] {
            for name in names {
                child.args([option, name]);
            }
        }
        for (option, file) in [("--expect", &args.expect), ("--save-failures", &args.save_failures)] {
            if let Some(file) = file {
                child.arg(option).arg(file);
            }
        }
        Ok(child)
    };
    let isolation = Isolation { command: &command, timeout: Duration::from_secs(args.timeout), batch: BATCH };
    let report = run_isolated(&*device.open()?, selection, &isolation, &mut |_| {
        line.step();
        !interrupt::raised()
    })?;
    Ok(report)
}

/// The child's side of [`judge_isolated`].
fn child(args: &ConformanceArgs) -> Result<Outcome, Failure> {
    let selection = selection(args)?;
    let cases = selection.cases()?;
    for device in Name::of_all(&args.devices)? {
        serve(&*device.open()?, &cases, &selection, io::stdin().lock(), io::stdout())
            .map_err(|source| Failure::Stdout { source })?;
    }
    Ok(Outcome::Passed)
}

#[derive(Serialize)]
struct ReplayDocument {
    schema: &'static str,
    passed: bool,
    devices: Vec<anychip_conformance::Replayed>,
}

/// Runs a saved failure again, over the bytes in its file.
fn again(args: &ConformanceArgs, file: &Path, mut output: Output) -> Result<Outcome, Failure> {
    let devices = if args.devices.is_empty() { EVERYWHERE.to_vec() } else { Name::of_all(&args.devices)? };
    let mut replayed = Vec::new();
    for device in devices {
        let found = replay(&*device.open()?, file, &Selection::default())?;
        interrupt::check()?;
        let verdict = if found.report.passed { "no longer fails" } else { "still does not pass" };
        output.line(&format!("{}: on {device} it {verdict}", found.case))?;
        output.line(&format!("  then, on {}: {}", found.saved_device, found.saved_message))?;
        for failure in found.report.failures() {
            output.line(&format!("  now: {}", failure.message))?;
        }
        if !found.same_inputs {
            let which = found.other_inputs.join(", ");
            output.line(&format!("  what ran are the file's inputs; the case's name stands for others in: {which}"))?;
        }
        replayed.push(found);
    }
    let passed = replayed.iter().all(|found| found.report.passed);
    output.finish(&ReplayDocument { schema: "anychip.replay/1", passed, devices: replayed })?;
    Ok(passed.into())
}
