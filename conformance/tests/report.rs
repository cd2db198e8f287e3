//! What a run says about itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{Builder, Case, Family, Outcome, Profile, Selection, SuiteError, junit, run, run_cases};
use anychip_core::ops::Hadamard;
use anychip_core::{DType, Op, Operation, Result, WithFallback};
use common::{Bench, bare, faulty};
use serde_json::Value;

fn of(ops: &[&str]) -> Selection {
    Selection { ops: ops.iter().map(|op| op.to_string()).collect(), ..Selection::default() }
}

fn twice_too_large(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let op = match op.name() {
        "rope" => &bench.with_other(op, "x", |_, bytes| bytes.iter_mut().skip(1).step_by(2).for_each(|b| *b ^= 1))?,
        _ => op,
    };
    bench.run(op)
}

#[test]
fn a_run_that_executes_nothing_has_not_passed() {
    let report = run(&bare(), &of(&["linear", "rope"]), &mut |_| true).unwrap();
    assert!(!report.passed && report.counts.executed == 0 && report.counts.failed == 0);
    assert_eq!(report.counts.unsupported, report.counts.selected);
    assert!(report.reasons[0].contains("ran no operation"), "{:?}", report.reasons);
    assert!(matches!(&report.results[0].outcome, Outcome::Unsupported { reason } if reason.contains("got linear")));
    let xml = junit(&[report]).unwrap();
    assert!(xml.contains("failures=\"1\"") && xml.contains("what was not run has not passed"), "{xml}");
}

#[test]
fn what_another_device_did_is_no_pass() {
    let both = WithFallback::new(Box::new(bare()), anychip_cpu::open());
    let report = run(&both, &of(&["rope"]), &mut |_| true).unwrap();
    assert_eq!(report.counts.fallback, report.counts.selected);
    assert!(!report.passed && report.counts.executed == 0);
    assert!(matches!(&report.results[0].outcome, Outcome::Fallback { ops, .. } if ops == &["rope"]));
}

#[test]
fn unsupported_is_a_failure_only_where_that_is_asked_for() {
    // The CPU with a fallback that is never taken: everything is native, strict or not.
    let strict = Selection { strict: true, ..of(&["embed"]) };
    let complete = WithFallback::new(anychip_cpu::open(), anychip_reference::open(1 << 30));
    assert!(run(&complete, &strict, &mut |_| true).unwrap().passed);
    let bare = run(&bare(), &strict, &mut |_| true).unwrap();
    assert!(bare.reasons.iter().any(|r| r.starts_with("strict:")), "{:?}", bare.reasons);
}

#[test]
fn a_run_can_be_stopped() {
    let mut heard = 0;
    let report = run(&*anychip_cpu::open(), &of(&["embed"]), &mut |_| {
        heard += 1;
        heard < 2
    });
    let report = report.unwrap();
    assert_eq!((heard, report.results.len()), (2, 2));
    assert!(!report.passed && report.reasons[0].starts_with("stopped after 2 of"), "{:?}", report.reasons);
}

#[test]
fn the_json_document_names_every_failure() {
    let report = run(&faulty(twice_too_large), &of(&["rope", "embed"]), &mut |_| true).unwrap();
    let json: Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(json["schema"], "anychip.conformance/1");
    assert_eq!(
        (&json["device"]["name"], &json["profile"], &json["passed"]),
        (&Value::from("cpu"), &Value::from("quick"), &Value::from(false))
    );
    let results = json["results"].as_array().unwrap();
    let failed: Vec<&Value> = results.iter().filter(|r| r["outcome"] == "failed").collect();
    assert_eq!(Value::from(failed.len()), json["counts"]["failed"]);
    let first = failed[0];
    assert_eq!(
        (&first["op"], &first["operand"], &first["rule"]),
        (&Value::from("rope"), &Value::from("out"), &Value::from("R2"))
    );
    assert_eq!(first["coordinate"].as_array().unwrap().len(), 3);
    assert!(first["ratio"].as_f64().unwrap() > 1.0 && first["bound"].is_f64() && first["got"].is_string());
    let embed = &json["ops"].as_array().unwrap()[0];
    assert_eq!(embed["op"], "embed");
    assert!(embed["largest_ratio"].as_f64().unwrap() <= 1.0, "{embed}");
    assert!(embed["declared"][0].as_str().unwrap().contains("accumulator of 24 bits"));
}

#[test]
fn the_matrix_and_junit_show_what_failed() {
    let report = run(&faulty(twice_too_large), &of(&["rope", "embed"]), &mut |_| true).unwrap();
    let matrix = report.matrix();
    let rope = matrix.lines().find(|line| line.starts_with("rope")).unwrap();
    assert_eq!(rope.split_whitespace().nth(2), Some(report.counts.failed.to_string().as_str()), "{matrix}");
    assert!(matrix.contains("FAILED rope/near/") && matrix.contains("NOT PASSED"), "{matrix}");
    let failures = report.counts.failed;
    let xml = junit(&[report]).unwrap();
    assert!(xml.contains(&format!("failures=\"{failures}\"")) && xml.contains("classname=\"rope\""), "{xml}");
}

#[test]
fn formats_are_a_dimension_of_the_matrix() {
    let report = run(&faulty(twice_too_large), &of(&["rope", "linear", "sparse_attention"]), &mut |_| true).unwrap();
    assert!(report.results.iter().all(|result| result.formats.is_some()));
    let total: usize = report.formats.iter().map(|summary| summary.cases).sum();
    assert_eq!(total, report.counts.selected);
    let json = serde_json::to_value(&report).unwrap();
    let of_op = |op: &str| {
        let all = json["formats"].as_array().unwrap().iter().filter(move |summary| summary["op"] == op);
        all.map(|s| (s["format"].as_str().unwrap(), s["state"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let linear = of_op("linear");
    for formats in ["e4m3.1x128 x e4m3.128x128 -> f32", "f32 x f32 -> f32"] {
        assert!(linear.contains(&(formats, "native")), "{formats}: {linear:?}");
    }
    let attention = of_op("sparse_attention");
    assert!(attention.iter().any(|(formats, _)| formats.contains(" x fp8 pool -> ")), "{attention:?}");
    assert!(of_op("rope").iter().any(|(_, state)| *state == "failed"));
    let text = report.format_matrix();
    let rope = text.split_once("rope\n").unwrap().1;
    assert!(rope.starts_with("  ") && rope.contains("FAILED "), "{text}");
    // The formats are those of the operands, not a part of the name.
    let failed = report.results.iter().find(|r| r.outcome.word() == "failed").unwrap();
    assert!(failed.formats.as_ref().unwrap().contains(" -> ") && !failed.case.contains("->"));
}

#[test]
fn what_is_unsupported_is_listed_with_its_reasons() {
    let report = run(&bare(), &of(&["linear", "rope"]), &mut |_| true).unwrap();
    let count = |op: &str| report.results.iter().filter(|result| result.op == op).count();
    for summary in &report.ops {
        let all: usize = summary.unsupported.iter().map(|why| why.cases).sum();
        assert_eq!(all, count(summary.op), "{summary:?}");
    }
    let matrix = report.matrix();
    assert!(matrix.contains("unsupported of linear:\n") && matrix.contains("got rope"), "{matrix}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["ops"][0]["unsupported"][0]["cases"], count("linear"));
    assert!(json["formats"].as_array().unwrap().iter().all(|s| {
        s["state"] == "unsupported" && s["unsupported"] == s["cases"] && s["reason"].as_str().unwrap().contains("got ")
    }));
}

#[test]
fn unknown_names_are_errors_before_anything_runs() {
    let cpu = anychip_cpu::open();
    let error = run(&*cpu, &of(&["atention"]), &mut |_| panic!("nothing is run")).unwrap_err();
    assert!(error.to_string().contains("dense_attention"), "{error}");
    let selection = Selection { case: Some("rope/near".into()), profile: Profile::Full, ..Selection::default() };
    let error = run(&*cpu, &selection, &mut |_| panic!("nothing is run")).unwrap_err();
    assert!(matches!(&error, SuiteError::UnknownCase { near, .. } if near.contains("rope/near/f32-f32/")), "{error}");
}

#[test]
fn a_case_of_ones_own_is_judged_like_any_other() {
    let build = |size: f32| {
        move |b: &mut Builder<'_>| {
            let x = b.values(DType::F32, &[3, 8], Family::Offset, size)?;
            Hadamard { x, out: b.output(DType::F32, &[3, 8])? }.build()
        }
    };
    let case = |name, size| Case::new("hadamard", name, Profile::Quick, 9, build(size));
    let cases = [case("mine/r3-n8", 1.0), case("broken/r3-n8", f32::NAN)];
    let report = run_cases(&*anychip_cpu::open(), &cases, &Selection::default(), &mut |_| true);
    assert_eq!(report.results[0].case, "hadamard/mine/r3-n8/seed9");
    assert_eq!((report.counts.passed, report.counts.failed), (1, 1));
    // The device gives NaN as it must, but the case has not said that it expects any.
    let message = &report.failures().next().unwrap().message;
    assert!(message.contains("the oracle gives NaN, which this case does not expect"), "{message}");
}
