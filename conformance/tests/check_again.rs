//! Reports of many devices hold, and their cases come out the same where they are run again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{Checked, ExpectedFailures, Report, Selection, check, faults, run};
use anychip_core::forward::{Hooks, Recordings, Wrapped};
use anychip_core::{Determinism, Device, Numerics, Op};
use common::{bare, faulty, rope_backwards};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// Planted faults are many: reports of all of them take minutes.
const EVERY: usize = 24;

fn of(ops: &[&str]) -> Selection {
    Selection { ops: ops.iter().map(|op| op.to_string()).collect(), ..Selection::default() }
}

fn report(device: &dyn Device, selection: &Selection) -> Value {
    serde_json::to_value(run(device, selection, &mut |_| true).unwrap()).unwrap()
}

fn checked(report: &Value) -> Checked {
    check(&report.to_string()).unwrap()
}

/// The CPU over two operations.
static RIGHT: LazyLock<Value> = LazyLock::new(|| report(&*anychip_cpu::open(), &of(&["embed", "rope"])));
/// One that turns the wrong way, and knows it of some cases.
static WRONG: LazyLock<Value> = LazyLock::new(|| {
    let list = "[[expected_failures]]\ncase = \"rope/near/\"\nreason = \"angles\"\n";
    let expected = ExpectedFailures::parse("test.toml", list).unwrap();
    report(&faulty(rope_backwards), &Selection { expected, ..of(&["rope", "embed"]) })
});

#[test]
fn reports_of_faulty_devices_hold() {
    let all = faults::faults();
    for fault in all.iter().step_by(EVERY) {
        let device = faults::faulty(Arc::from(anychip_cpu::open()), *fault);
        let found = checked(&report(&device, &of(fault.ops)));
        assert!(found.holds(), "{}: {:#?}", fault.name, found.devices[0].findings);
    }
}

/// The first result that passed with an error of some size.
fn first_measured(report: &Value) -> usize {
    let measured = |result: &Value| result["nearest"]["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0);
    report["results"].as_array().unwrap().iter().position(measured).unwrap()
}

fn again(report: &Value, device: &dyn Device) -> (usize, Vec<String>, Report) {
    let found = checked(report).devices[0].run_again(device, &mut |_| true);
    (found.compared, found.differences.iter().map(ToString::to_string).collect(), found.report)
}

#[test]
fn the_same_cases_are_run_again_and_compared() {
    let total = RIGHT["results"].as_array().unwrap().len();
    let (compared, differences, report) = again(&RIGHT, &*anychip_cpu::open());
    assert_eq!((compared, report.results.len()), (total, total));
    assert!(differences.is_empty() && report.passed, "{differences:#?}");
    assert!(again(&WRONG, &faulty(rope_backwards)).1.is_empty());

    let (_, differences, _) = again(&RIGHT, &faulty(rope_backwards));
    assert!(
        differences
            .iter()
            .all(|line| line.starts_with("rope/") && line.contains("passed in the report, failed here: R"))
    );
    assert!(!differences.is_empty());
    let (_, differences, _) = again(&WRONG, &*anychip_cpu::open());
    assert!(differences.iter().any(|line| line.contains("expected in the report, failed here")), "{differences:#?}");
    assert!(differences.iter().any(|line| line.contains("failed in the report, passed here")), "{differences:#?}");
    let (_, differences, _) = again(&RIGHT, &bare());
    assert!(
        differences.iter().any(|line| line.starts_with("ops[rope].declared: accumulator of 24 bits")),
        "{differences:#?}"
    );
    assert!(differences.iter().any(|line| line.contains("passed in the report, unsupported here: ")));

    let mut heard = 0;
    let stopped = checked(&RIGHT).devices[0].run_again(&*anychip_cpu::open(), &mut |_| {
        heard += 1;
        heard < 2
    });
    assert_eq!(stopped.compared, 2);
    assert!(stopped.differences.iter().any(|line| line.what.contains("cases have none here: stopped after 2")));
}

#[test]
fn another_error_within_the_tolerance_is_no_difference_unless_the_bits_are_promised() {
    let at = first_measured(&RIGHT);
    let mut other = RIGHT.clone();
    let nearest = &mut other["results"][at]["nearest"];
    nearest["got"] = (nearest["got"].as_f64().unwrap() * 1.000001).into();
    assert!(again(&other, &*anychip_cpu::open()).1.is_empty());

    let mut promised = report(&promising(), &of(&["embed", "rope"]));
    assert!(checked(&promised).holds() && again(&promised, &promising()).1.is_empty());
    promised["results"][at]["nearest"] = other["results"][at]["nearest"].clone();
    let (_, differences, _) = again(&promised, &promising());
    assert!(differences.len() == 1 && differences[0].contains("both declare the same bits"), "{differences:#?}");
}

/// The CPU, if it said of itself that others of its family give the same bits.
fn promising() -> impl Device {
    Wrapped::new(anychip_cpu::open(), Promising)
}

struct Promising;

impl Hooks for Promising {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::Whole
    }

    fn numerics(&self, inner: &dyn Device, op: &Op) -> Numerics {
        Numerics { determinism: Determinism::CrossDevice, ..inner.numerics(op) }
    }
}
