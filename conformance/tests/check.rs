//! Reports on a machine that had no part in them: those that were left alone hold, and every lie is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{Checked, ExpectedFailures, Selection, SuiteError, check, check_file, run, run_cases};
use anychip_core::{Device, WithFallback};
use common::{bare, faulty, rope_backwards};
use serde_json::{Value, json};
use sha2::Digest;
use std::sync::LazyLock;

fn of(ops: &[&str]) -> Selection {
    Selection { ops: ops.iter().map(|op| op.to_string()).collect(), ..Selection::default() }
}

fn expecting(list: &str, selection: Selection) -> Selection {
    Selection { expected: ExpectedFailures::parse("test.toml", list).unwrap(), ..selection }
}

fn report(device: &dyn Device, selection: &Selection) -> Value {
    serde_json::to_value(run(device, selection, &mut |_| true).unwrap()).unwrap()
}

const ROPE: &str = "[[expected_failures]]\ncase = \"rope/near/\"\nreason = \"angles\"\n";

/// The CPU over two operations.
static RIGHT: LazyLock<Value> = LazyLock::new(|| report(&*anychip_cpu::open(), &of(&["embed", "rope"])));
/// One that turns the wrong way, and knows it of some cases.
static WRONG: LazyLock<Value> =
    LazyLock::new(|| report(&faulty(rope_backwards), &expecting(ROPE, of(&["rope", "embed"]))));

fn checked(report: &Value) -> Checked {
    check(&report.to_string()).unwrap()
}

/// What is found in a report after an edit, a line each.
fn found(report: &Value, edit: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut report = report.clone();
    edit(&mut report);
    checked(&report).devices[0].findings.iter().map(ToString::to_string).collect()
}

/// An edit of [`WRONG`] or [`RIGHT`] is found where it was made.
#[track_caller]
fn lie(report: &Value, said: &str, edit: impl FnOnce(&mut Value)) {
    let found = found(report, edit);
    assert!(found.iter().any(|line| line.contains(said)), "`{said}` is not in {found:#?}");
}

/// The number of the first result with an outcome.
fn first(report: &Value, outcome: &str) -> usize {
    report["results"].as_array().unwrap().iter().position(|result| result["outcome"] == outcome).unwrap()
}

/// The number of the first result that passed with an error of some size.
fn first_measured(report: &Value) -> usize {
    let measured = |result: &Value| result["nearest"]["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0);
    report["results"].as_array().unwrap().iter().position(measured).unwrap()
}

fn results(report: &mut Value) -> &mut Vec<Value> {
    report["results"].as_array_mut().unwrap()
}

#[test]
fn reports_that_were_left_alone_hold() {
    let cpu = || anychip_cpu::open();
    let all = [
        RIGHT.clone(),
        WRONG.clone(),
        report(&bare(), &Selection { strict: true, ..of(&["rope", "top_k"]) }),
        report(&WithFallback::new(Box::new(bare()), cpu()), &of(&["rope"])),
        report(&*cpu(), &expecting(ROPE, Selection { seed: u64::MAX, ..of(&["rope"]) })),
        report(&*cpu(), &Selection { case: Some(RIGHT["results"][0]["case"].as_str().unwrap().into()), ..of(&[]) }),
        report(&*cpu(), &of(&["device", "linear", "quantize", "sparse_attention", "newton_schulz"])),
    ];
    for report in &all {
        let checked = checked(report);
        assert!(checked.holds(), "{:#?}", checked.devices[0].findings);
        assert_eq!(checked.devices[0].passed, report["passed"] == true);
        let pretty = serde_json::to_string_pretty(report).unwrap();
        assert!(check(&pretty).unwrap().holds());
    }
    let passed = all.iter().all(|report| report["passed"] == true);
    let mut document = json!({"schema": "anychip.conformance/1", "passed": passed, "devices": all});
    let together = checked(&document);
    assert!(together.holds() && together.devices.len() == all.len());
    document["passed"] = true.into();
    assert_eq!(checked(&document).findings[0].place, "passed");
    assert!(!checked(&document).holds());
}

#[test]
fn a_run_that_was_stopped_holds_as_far_as_it_went() {
    let mut heard = 0;
    let stopped = run(&*anychip_cpu::open(), &of(&["embed"]), &mut |_| {
        heard += 1;
        heard < 3
    });
    let mut stopped = serde_json::to_value(stopped.unwrap()).unwrap();
    assert!(checked(&stopped).holds() && !checked(&stopped).devices[0].passed);
    stopped["reasons"][0] = format!("{}: the device was lost", stopped["reasons"][0].as_str().unwrap()).into();
    assert!(checked(&stopped).holds());
    // Results of the first cases, and no other.
    lie(&stopped, "results: 1 selected cases have none", |report| {
        let total = report["counts"]["selected"].as_u64().unwrap();
        *results(report) = RIGHT["results"].as_array().unwrap()[..total as usize].to_vec();
        results(report).remove(1);
        report["reasons"][0] = format!("stopped after {} of {total} cases", total - 1).into();
    });
}

#[test]
fn results_are_those_of_the_cases() {
    let last = RIGHT["results"].as_array().unwrap().len() - 1;
    for at in [0, 3, last] {
        let case = RIGHT["results"][at]["case"].as_str().unwrap();
        lie(&RIGHT, &format!("results: 1 selected cases have none: {case}"), |report| drop(results(report).remove(at)));
    }
    lie(&RIGHT, "results: 1 beside another of the same case", |report| {
        let again = results(report)[0].clone();
        results(report).push(again);
    });
    lie(&RIGHT, "results: 1 of cases that the statement does not select: rope/none/seed0", |report| {
        let mut another = results(report)[0].clone();
        another["case"] = "rope/none/seed0".into();
        results(report).push(another);
    });
    lie(&RIGHT, "results: in another order", |report| results(report).swap(0, 1));
    lie(&RIGHT, "the case is of embed, and the result of rope", |report| {
        let at = results(report).iter().position(|result| result["op"] == "embed").unwrap();
        results(report)[at]["op"] = "rope".into();
    });
}

#[test]
fn the_cases_are_those_of_the_statement() {
    let digest = "statement.suite_digest: the report says ";
    lie(&RIGHT, digest, |report| report["statement"]["suite_digest"] = "0".repeat(64).into());
    lie(&RIGHT, "statement.seed: the report says 7, and 0 follows", |report| report["statement"]["seed"] = 7.into());
    lie(&RIGHT, digest, |report| (report["seed"], report["statement"]["seed"]) = (7.into(), 7.into()));
    lie(&RIGHT, "of cases that the statement does not select", |report| report["seed"] = 7.into());
    lie(&RIGHT, "statement.profile", |report| report["statement"]["profile"] = "full".into());
    lie(&RIGHT, "statement.suite_version", |report| report["statement"]["suite_version"] = "0.0.9".into());
    let select = |ops: Value, case: Value| json!({"ops": ops, "case": case});
    lie(&RIGHT, digest, |report| report["statement"]["selection"] = select(json!([]), Value::Null));
    lie(&RIGHT, digest, |report| report["statement"]["selection"] = select(json!(["rope"]), Value::Null));
    lie(&RIGHT, "statement.selection: no case of this suite", |report| {
        report["statement"]["selection"] = select(json!(["roap"]), Value::Null);
    });
    lie(&RIGHT, "statement.selection: no case of this suite", |report| {
        report["statement"]["selection"] = select(json!([]), "x".repeat(1 << 20).into());
    });
}

#[test]
fn outcomes_are_those_of_the_numbers() {
    let failed = first(&WRONG, "failed");
    lie(&WRONG, ".message: the report says", |report| report["results"][failed]["outcome"] = "passed".into());
    // A forger who takes all traces of the failure out, but for its errors.
    let spread = WRONG["results"].as_array().unwrap().iter();
    let outside = spread.enumerate().find(|(_, r)| r["outcome"] == "failed" && r["spread"].is_array()).unwrap().0;
    for nearest in [Value::Null, RIGHT["results"][first_measured(&RIGHT)]["nearest"].clone()] {
        lie(&WRONG, "elements are outside their tolerance by the spread", |report| {
            let result = report["results"][outside].as_object_mut().unwrap();
            result.retain(|name, _| ["case", "op", "formats", "seconds", "spread"].contains(&name.as_str()));
            result.insert("outcome".into(), "passed".into());
            result.insert("nearest".into(), nearest);
        });
    }
    lie(&WRONG, "unsupported, and yet errors were measured", |report| {
        report["results"][outside]["outcome"] = "unsupported".into();
        report["results"][outside]["reason"] = "none".into();
    });
    lie(&WRONG, "and the message speaks of another rule", |report| report["results"][failed]["rule"] = "Hung".into());
    let bounded = WRONG["results"].as_array().unwrap().iter().position(|r| r["ratio"].is_f64()).unwrap();
    lie(&WRONG, "times what is allowed: within", |report| report["results"][bounded]["ratio"] = 0.5.into());

    let at = first_measured(&RIGHT);
    let ratio = |report: &mut Value, ratio: f64| report["results"][at]["nearest"]["ratio"] = ratio.into();
    lie(&RIGHT, "passed, and the error is 1.5 times its tolerance: at most 1 passes", |report| ratio(report, 1.5));
    lie(&RIGHT, "the ratio 0.001 does not follow from what was got", |report| ratio(report, 0.001));
    lie(&RIGHT, "its largest error is below others in the spread", |report| ratio(report, 1e-5));
    lie(&RIGHT, "its largest error is below", |report| report["results"][at]["nearest"] = Value::Null);
    let rows = RIGHT["results"].as_array().unwrap().iter().position(|result| result["row_ratio"].is_f64()).unwrap();
    lie(&RIGHT, "the row ratio is from 0 to 1", |report| report["results"][rows]["row_ratio"] = 1.01.into());
    lie(&RIGHT, "18446744073709551615 elements are outside their tolerance", |report| {
        report["results"][at]["spread"] = vec![u64::MAX; 23].into();
    });
    lie(&RIGHT, "has 23 bins", |report| report["results"][at]["spread"] = json!([1]));
    lie(&RIGHT, "formats of its operands are missing", |report| {
        report["results"][at].as_object_mut().unwrap().remove("formats");
    });
    lie(&RIGHT, "verdict: the report says \"good\", and nothing belongs", |report| {
        report["results"][at]["verdict"] = "good".into();
    });
}

#[test]
fn sums_and_the_verdict_follow_from_the_results() {
    for field in ["selected", "executed", "passed", "failed", "unsupported", "fallback", "expected"] {
        lie(&WRONG, &format!("counts.{field}: the report says 9999"), |r| r["counts"][field] = 9999.into());
        lie(&WRONG, &format!("ops[rope].counts.{field}: "), |r| r["ops"][1]["counts"][field] = 9999.into());
    }
    lie(&WRONG, "reasons: the report has 0 entries, and 1 follow", |report| report["reasons"] = json!([]));
    lie(&WRONG, "passed: the report says true, and false follows", |report| report["passed"] = true.into());
    lie(&WRONG, "statement.passed", |report| report["statement"]["passed"] = true.into());
    lie(&RIGHT, "ops[rope].largest_ratio: ", |report| report["ops"][1]["largest_ratio"] = 0.1.into());
    lie(&RIGHT, "formats[embed, ", |report| report["formats"][0]["state"] = "failed".into());
    lie(&RIGHT, "ops: the report has 1 entries", |report| drop(report["ops"].as_array_mut().unwrap().pop()));
    lie(&RIGHT, "statement.device", |report| report["device"]["name"] = "gpu".into());
    lie(&RIGHT, "certified: the report says true, and nothing", |report| report["certified"] = true.into());
    lie(&RIGHT, "counts: not in the report", |report| drop(report.as_object_mut().unwrap().remove("counts")));
    let strict = report(&bare(), &Selection { strict: true, ..of(&["embed"]) });
    lie(&strict, "reasons: the report has 2 entries, and 1 follow", |report| {
        (report["strict"], report["statement"]["strict"]) = (false.into(), false.into());
    });
    lie(&strict, "statement.strict", |report| report["statement"]["strict"] = false.into());
    lie(&strict, "ops[embed].unsupported[0].cases", |r| r["ops"][0]["unsupported"][0]["cases"] = 1.into());
}

/// Writes a failure as one that was expected.
fn excuse(result: &mut Value) {
    let members = result.as_object_mut().unwrap();
    let of_result = ["case", "op", "formats", "seconds", "spread", "row_ratio", "outcome"];
    let failure = members.iter().filter(|(name, _)| !of_result.contains(&name.as_str()));
    let failure = Value::Object(failure.map(|(name, value)| (name.clone(), value.clone())).collect());
    members.retain(|name, _| of_result.contains(&name.as_str()));
    members.extend(json!({"outcome": "expected", "reason": "angles", "failure": failure}).as_object().unwrap().clone());
}

#[test]
fn expected_failures_are_those_of_the_list() {
    let failed = first(&WRONG, "failed");
    let expected = first(&WRONG, "expected");
    lie(&WRONG, "it failed as expected, and the list of expected failures does not name it", |report| {
        excuse(&mut report["results"][failed]);
    });
    lie(&WRONG, "it failed as expected, and the list of", |r| r["statement"]["expected_failures"] = json!([]));
    lie(&WRONG, "it passed, and the list of expected failures names it", |report| {
        report["statement"]["expected_failures"] = json!(["rope", "embed"]);
    });
    lie(&WRONG, "it failed, and the list of expected failures names it", |report| {
        let result = report["results"][expected].as_object_mut().unwrap();
        let Some(Value::Object(failure)) = result.remove("failure") else { panic!("an expected failure has one") };
        result.extend(failure);
        result.remove("reason");
        result.insert("outcome".into(), "failed".into());
    });
    let against = report(&*anychip_cpu::open(), &expecting(ROPE, of(&["rope"])));
    lie(&against, "for being among the expected failures, and the list does not name it", |report| {
        report["statement"]["expected_failures"] = json!([]);
    });
    lie(&against, "it failed as expected, and by passing", |report| {
        excuse(results(report).iter_mut().find(|result| result["rule"] == "Expected").unwrap());
    });
}

#[test]
fn declared_arithmetic_is_that_of_the_operations() {
    let other = "accumulator of 14 bits, 1 products to a rounding; functions within 2 ulp; BatchInvariant";
    lie(&RIGHT, "statement.declared.rope[0]: ", |report| report["statement"]["declared"]["rope"][0] = other.into());
    lie(&RIGHT, "statement.declared.rope[0]: ", |report| report["ops"][1]["declared"][0] = other.into());
    let both = |report: &mut Value, declared: Value| {
        report["ops"][1]["declared"] = declared.clone();
        report["statement"]["declared"]["rope"] = declared;
    };
    lie(&RIGHT, "ops[rope].declared: nothing, and ", |report| both(report, json!([])));
    lie(&RIGHT, "is not how a device's arithmetic is written", |report| both(report, json!(["perfect"])));
    lie(&RIGHT, "ops[rope].declared: one statement stands there twice", |report| both(report, json!([other, other])));
}

/// What an error says.
fn refused(text: &str, said: &[&str]) {
    let error = check(text).unwrap_err().to_string();
    said.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in {error}"));
    assert!(error.len() < 1500 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn what_is_no_report_is_refused_with_the_mend() {
    let mend = "write it again with `anychip conformance --json FILE`";
    for text in ["", "{", "[]", "null", "7", "{\"schema\": 1}", "no JSON"] {
        refused(text, &["no conformance report that can be checked", mend]);
    }
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut report = RIGHT.clone();
        edit(&mut report);
        report.to_string()
    };
    refused(&edited(&|r| r["schema"] = "anychip.verify/1".into()), &["`anychip.verify/1`, not `anychip.conf", mend]);
    refused(&edited(&|r| r["devices"] = json!([])), &["`devices`", mend]);
    refused(&edited(&|r| drop(r.as_object_mut().unwrap().remove("seed"))), &["missing field `seed`", mend]);
    refused(&edited(&|r| r["seed"] = (-1).into()), &["no report", mend]);
    refused(&edited(&|r| r["results"][0]["outcome"] = "\u{1b}[2Jfine".into()), &["no report", mend]);
    refused(&edited(&|r| r["results"][0]["op"] = "x".repeat(65).into()), &["64 bytes at most", mend]);
    let many = || json!(vec!["x"; 5000]);
    refused(&edited(&|r| r["statement"]["expected_failures"] = many()), &["at most 4096 patterns", mend]);
    refused(&RIGHT.to_string().replacen("\"seed\":", "\"seed\":1,\"seed\":", 1), &["`seed` stands twice", mend]);
    refused(&"[".repeat(100_000), &["recursion limit", mend]);
    refused(&" ".repeat((32 << 20) + 1), &["at most 33554432 bytes", mend]);
    let dir = tempfile::tempdir().unwrap();
    for (file, said) in [(dir.path(), "not a regular file"), (&dir.path().join("none.json"), "none.json")] {
        let error = check_file(file).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("cannot be read") && error.contains("; name a file"), "{error}");
    }
}

#[test]
fn another_suite_is_named_with_this_one() {
    let mut report = RIGHT.clone();
    report["suite_version"] = "0.0.9".into();
    // What else an older version writes is no matter.
    report["results"] = json!({"of": "another form"});
    let error = check(&report.to_string()).unwrap_err();
    assert!(matches!(&error, SuiteError::OtherSuite { theirs, .. } if theirs == "0.0.9"));
    let error = error.to_string();
    assert!(error.contains("suite 0.0.9") && error.contains(env!("CARGO_PKG_VERSION")), "{error}");
}

/// A catalogue that grew has another digest, and a report from before is no lie.
#[test]
fn another_commit_of_this_suite_is_named() {
    let mut report = RIGHT.clone();
    report["statement"]["commit"] = "0123456".into();
    // What a suite writes that has not got the last case yet: `rope` and `embed` are selected.
    let results = report["results"].as_array_mut().unwrap();
    results.pop();
    let lines: String = results.iter().map(|result| format!("{}\n", result["case"].as_str().unwrap())).collect();
    let text = format!("{}\n{lines}", env!("CARGO_PKG_VERSION"));
    let digest: String = sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    report["statement"]["suite_digest"] = digest.into();
    let error = check(&report.to_string()).unwrap_err();
    assert!(matches!(&error, SuiteError::OtherCases { theirs, .. } if theirs == "0123456"), "{error}");
    assert!(error.to_string().contains("check it with that commit"), "{error}");
}

/// Names that a report brings along reach a terminal with nothing in them that it would act on.
#[test]
fn what_a_report_calls_things_is_escaped() {
    let mut report = RIGHT.clone();
    report["results"][0]["formats"] = "\u{1b}[2Jf32".into();
    report["formats"][0]["reason"] = "\u{1b}[2J".into();
    let found = checked(&report);
    assert!(!found.holds());
    for finding in found.devices.iter().flat_map(|device| &device.findings) {
        let text = format!("{}{}", finding.place, finding.what);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn cases_of_a_programs_own_are_not_checked() {
    let mut cases = of(&["rope"]).cases().unwrap();
    cases.truncate(3);
    let own = run_cases(&*anychip_cpu::open(), &cases, &of(&["rope"]), &mut |_| true);
    refused(&serde_json::to_string(&own).unwrap(), &["`selection`", "a program's own"]);
}

#[test]
fn no_spoiled_file_is_a_panic() {
    let text = report(&faulty(rope_backwards), &of(&["rope"])).to_string();
    for end in (0..text.len()).step_by(97) {
        assert!(check(text.get(..end).unwrap()).is_err());
    }
    let mut draw = 1u64;
    for _ in 0..400 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..3 {
            draw = draw.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (draw >> 33) as usize % bytes.len();
            bytes[at] = b"0123456789-eE.\"{}[],:nx \\"[(draw >> 20) as usize % 25];
        }
        // An edit may be of what nothing follows from, such as a time.
        let _ = check(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_it_says_and_what_it_cannot_show_is_told() {
    let found = &checked(&WRONG).devices[0];
    let says = found.says.join("\n");
    for said in
        ["of the quick profile under seed 0, of rope, embed", "rope/near/", "did not pass", "24 bits", "failed as"]
    {
        assert!(says.contains(said), "`{said}` is not in {says}");
    }
    assert!(found.cannot_show[0].contains("who can write a report") && found.cannot_show[0].contains("--device cpu"));
    let mut renamed = WRONG.clone();
    renamed["statement"]["host"] = "\u{1b}[31mhost".into();
    assert!(checked(&renamed).devices[0].says[0].contains("\\u{1b}[31mhost"));
    let bare = report(&bare(), &of(&["embed"]));
    assert!(checked(&bare).devices[0].cannot_show.iter().any(|text| text.contains("did not run itself")));
}
