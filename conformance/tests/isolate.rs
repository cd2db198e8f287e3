//! Cases in child processes: this test's own executable, run again for the one test that is the child's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/later.rs"]
mod later;

use anychip_conformance::{
    CaseResult, ExpectedFailures, Isolation, Report, Rule, Selection, check, run, run_isolated, serve,
};
use anychip_core::{Device, Op};
use common::{Bench, Fault, faulty};
use later::{Later, Slip};
use std::collections::BTreeSet;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

/// Says in the child's environment what is wrong with its device.
const FAULT: &str = "ANYCHIP_TEST_FAULT";
const OPS: [&str; 3] = ["hadamard", "rope", "embed"];

fn selection() -> Selection {
    Selection { ops: OPS.map(String::from).to_vec(), ..Selection::default() }
}

fn is_near(bench: &mut Bench<'_>, op: &Op, f: fn()) -> anychip_core::Result<()> {
    if op.name() == "rope" {
        println!("a kernel that talks, and leaves its line unfinished");
        print!("so");
        f();
    }
    bench.run(op)
}

/// The child's side. Run as a test it has no fault to show, and does nothing.
#[test]
fn child() {
    let fault: Fault = match std::env::var(FAULT).as_deref() {
        Ok("crash") => |bench, op| {
            is_near(bench, op, || {
                eprintln!("illegal instruction in rope");
                std::process::abort()
            })
        },
        // A few of the cases: each takes the whole of its time.
        Ok("hang") => |bench, op| match op.operands().first() {
            Some((_, _, x)) if x.size(2) == 65 => is_near(bench, op, || std::thread::sleep(Duration::from_secs(600))),
            _ => bench.run(op),
        },
        Ok("unwritten") => |_, _| Ok(()),
        Ok("talk") => |bench, op| is_near(bench, op, || ()),
        Ok("false start") => std::process::exit(7),
        Ok("lost") => |bench, op| bench.run(op),
        _ => return,
    };
    let cases = selection().cases().unwrap();
    let is_lost = std::env::var(FAULT).as_deref() == Ok("lost");
    let device: Box<dyn Device> =
        if is_lost { Box::new(Later::new(Slip::LosesItself)) } else { Box::new(faulty(fault)) };
    serve(&*device, &cases, &selection(), io::stdin().lock(), io::stdout()).unwrap();
    // libtest has nothing to add.
    std::process::exit(0);
}

fn isolated(fault: &str, timeout: Duration, batch: usize, selection: &Selection) -> Report {
    let command = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "child", "--nocapture"]).env(FAULT, fault);
        Ok(command)
    };
    let isolation = Isolation { command: &command, timeout, batch };
    let report = run_isolated(&*anychip_cpu::open(), selection, &isolation, &mut |_| true).unwrap();
    let checked = check(&serde_json::to_string(&report).unwrap()).unwrap();
    assert!(checked.holds(), "{:#?}", checked.devices[0].findings);
    report
}

fn assert_rope_alone_failed(report: &Report, rule: Rule) {
    let failed: BTreeSet<&str> = report.failures().map(|f| f.op).collect();
    assert_eq!(failed, BTreeSet::from(["rope"]), "{}", report.matrix());
    assert!(report.failures().all(|f| f.rule == rule && f.message.starts_with(&rule.to_string())));
    assert_eq!(report.results.len(), report.counts.selected, "the run goes on");
    assert!(report.counts.passed > 0 && !report.passed);
}

#[test]
fn results_are_those_of_one_process() {
    let here = run(&*anychip_cpu::open(), &selection(), &mut |_| true).unwrap();
    for batch in [1, 4, 1000] {
        let there = isolated("talk", Duration::from_secs(60), batch, &selection());
        let plain = |report: &Report| {
            let result = |r: &CaseResult| serde_json::to_string(&CaseResult { seconds: 0.0, ..r.clone() }).unwrap();
            report.results.iter().map(result).collect::<Vec<_>>()
        };
        assert_eq!(plain(&here), plain(&there));
        assert_eq!((here.counts, &here.statement), (there.counts, &there.statement));
        assert!(there.passed);
    }
}

#[test]
fn a_crash_is_the_result_of_its_case() {
    let report = isolated("crash", Duration::from_secs(60), 100, &selection());
    assert_rope_alone_failed(&report, Rule::Crashed);
    let lost = report.formats.iter().find(|summary| summary.format.is_none()).unwrap();
    assert_eq!((lost.op, lost.failed), ("rope", report.counts.failed), "the formats went with the process");
    let message = &report.failures().next().unwrap().message;
    assert!(message.contains("the process ended (signal: 6") && message.contains("illegal instruction"), "{message}");
}

#[test]
fn a_hang_is_the_result_of_its_case() {
    let begun = Instant::now();
    let report = isolated("hang", Duration::from_secs(2), 100, &selection());
    assert_rope_alone_failed(&report, Rule::Hung);
    assert!(report.failures().next().unwrap().message.contains("within 2s"));
    let failed = report.counts.failed as u64;
    assert!((1..20).contains(&failed) && begun.elapsed() < Duration::from_secs(60 + 4 * failed), "{failed}");
}

/// A device that was lost is opened again, by another process, for the case that follows.
#[test]
fn a_lost_device_is_opened_again() {
    let report = isolated("lost", Duration::from_secs(60), 100, &selection());
    let failed: BTreeSet<&str> = report.failures().map(|f| f.op).collect();
    assert_eq!(failed, BTreeSet::from(["hadamard"]), "{}", report.matrix());
    assert!(report.failures().all(|f| f.message.contains("later was lost (the plug was pulled)")));
    assert_eq!(report.results.len(), report.counts.selected, "the run goes on");
    assert!(report.counts.failed > 3 && report.counts.passed > 10);
}

/// A failure that the child found comes over whole.
#[test]
fn failures_are_those_of_one_process() {
    let here = run(&faulty(|_, _| Ok(())), &selection(), &mut |_| true).unwrap();
    let there = isolated("unwritten", Duration::from_secs(60), 100, &selection());
    let said = |report: &Report| report.failures().map(|f| format!("{f:?}")).collect::<Vec<_>>();
    assert!(here.counts.failed > 10 && said(&here) == said(&there), "{}", there.matrix());
}

#[test]
fn a_crash_can_be_expected() {
    let list = "[[expected_failures]]\ncase = \"rope\"\nreason = \"driver bug\"\n";
    let expected = ExpectedFailures::parse("list", list).unwrap();
    let report = isolated("crash", Duration::from_secs(60), 100, &Selection { expected, ..selection() });
    assert!(report.passed && report.counts.expected > 0, "{}", report.matrix());
}

#[test]
fn children_that_never_start_end_the_run() {
    let report = isolated("false start", Duration::from_secs(60), 100, &selection());
    assert!(!report.passed && report.results.len() == 3, "{}", report.matrix());
    assert!(report.failures().all(|f| f.rule == Rule::Crashed && f.message.contains("exit status: 7")));
    assert!(report.reasons.iter().any(|reason| reason.starts_with("stopped after 3 of")));
}
