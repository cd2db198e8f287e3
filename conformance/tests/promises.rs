//! Cases of the device itself: a device whose streams run on keeps every promise, and each slip breaks one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/later.rs"]
mod later;

use anychip_conformance::{Outcome, Profile, Report, Selection, outlived, run, when_lost};
use later::{Later, Slip};
use std::sync::atomic::Ordering;

fn of_device(profile: Profile) -> Selection {
    Selection { ops: vec!["device".into()], profile, ..Selection::default() }
}

fn tried(slip: Slip, profile: Profile) -> Report {
    run(&Later::new(slip), &of_device(profile), &mut |_| true).unwrap()
}

#[test]
fn a_device_whose_streams_run_on_keeps_every_promise() {
    for seed in 0..3 {
        let selection = Selection { seed, ..of_device(Profile::Full) };
        let report = run(&Later::new(Slip::Nothing), &selection, &mut |_| true).unwrap();
        assert!(report.passed && report.counts.passed == report.counts.selected, "{}", report.matrix());
    }
    let ops = vec!["linear".into(), "rms_norm".into()];
    let report = run(&Later::new(Slip::Nothing), &Selection { ops, ..Selection::default() }, &mut |_| true).unwrap();
    assert!(report.passed, "{}", report.matrix());
}

/// Each slip, with a case that it fails. Other cases may fail with it.
#[test]
fn each_slip_is_caught_by_the_case_that_is_about_it() {
    for (slip, case) in [
        (Slip::IgnoresEvents, "events/order"),
        (Slip::IgnoresEvents, "events/around_a_ring"),
        (Slip::FreesEarly, "memory/freed_while_in_use"),
        (Slip::WritesOvertake, "streams/in_order"),
        (Slip::WritesOvertake, "streams/two_in_flight"),
        (Slip::WritesOvertake, "recordings/replayed"),
        (Slip::CopiesOvertake, "streams/in_order"),
        (Slip::OperationsSwap, "streams/one_from_the_other"),
        (Slip::OperationsSwap, "recordings/one_from_the_other"),
        (Slip::DropsQueuedWork, "streams/dropped_with_work"),
        (Slip::MixesStreams, "streams/many_in_flight"),
        (Slip::RunsForeignMemory, "refusals/foreign_memory"),
        (Slip::TakesForeignEvents, "refusals/foreign_work"),
        (Slip::TakesShortWrites, "refusals/lengths"),
        (Slip::WritesBeforeRefusing, "refusals/lengths"),
        (Slip::BreaksAfterRefusal, "refusals/lengths"),
        (Slip::Leaks, "memory/churn_through_all"),
        (Slip::WordsOutOfMemoryOtherwise, "memory/too_large"),
        (Slip::GivesMoreThanItHas, "memory/too_large"),
        (Slip::SharesMemory, "memory/sizes"),
        (Slip::RoundsOffsets, "memory/slices"),
        (Slip::SpillsWrites, "memory/slices"),
        (Slip::ForgetsUpdates, "recordings/replayed"),
        (Slip::ForgetsUpdates, "recordings/several"),
        (Slip::UpdatesLate, "recordings/replayed"),
        (Slip::EventsNeverDone, "events/times"),
        (Slip::TimesOfAnotherClock, "events/times"),
        (Slip::ChangesItsMind, "refusals/info"),
        (Slip::RefusesOwnEvents, "events/of_this_stream"),
        (Slip::NeverGivesAgain, "memory/exhausted"),
        (Slip::Leaks, "memory/exhausted"),
    ] {
        // A host that is busy elsewhere may give a slip time to go unnoticed: not five times over.
        let tries = (0..5).map(|seed| {
            let selection = Selection { case: Some(format!("device/{case}/seed{seed}")), ..of_device(Profile::Full) };
            run(&Later::new(slip), &selection, &mut |_| true).unwrap()
        });
        assert!(tries.into_iter().any(|report| report.counts.failed == 1), "{slip:?} is not caught by {case}");
    }
}

/// What a device says of an operation it says over buffers that hold nothing too, and acts on.
#[test]
fn a_device_is_held_to_what_it_says_it_runs() {
    for (slip, said) in [
        (
            Slip::SaysOtherwiseOverNothing,
            "and over buffers that hold nothing that operation must be any other, got rms_norm",
        ),
        (Slip::RunsWhatIsUnsupported, "when it was queued all the same, it took it"),
    ] {
        let selection = Selection { ops: vec!["rms_norm".into()], ..Selection::default() };
        let report = run(&Later::new(slip), &selection, &mut |_| true).unwrap();
        assert_eq!(report.counts.failed, report.counts.selected, "{slip:?}: {}", report.matrix());
        assert!(report.failures().all(|failure| failure.message.contains(said)), "{}", report.matrix());
    }
}

#[test]
fn a_device_that_is_lost_ends_the_run_and_not_the_process() {
    let ops = ["hadamard", "linear"].map(String::from).to_vec();
    let report =
        run(&Later::new(Slip::LosesItself), &Selection { ops, ..Selection::default() }, &mut |_| true).unwrap();
    assert!(!report.passed && report.counts.failed == 1 && report.results.len() < report.counts.selected);
    let why = report.reasons.join("; ");
    assert!(why.contains("later was lost (the plug was pulled)") && why.contains("--isolate"), "{why}");
    let Outcome::Failed(failure) = &report.results.last().unwrap().outcome else { panic!("no failure is last") };
    assert!(failure.op == "hadamard" && failure.message.contains("was lost"), "{failure}");
}

#[test]
fn what_a_lost_device_answers_is_judged() {
    let device = Later::new(Slip::Nothing);
    let plug = device.plug();
    when_lost(&device, || plug.store(true, Ordering::Relaxed)).unwrap();
    let why = when_lost(&device, || ()).unwrap_err();
    assert!(why.contains("before the device was lost"), "{why}");
    let why = when_lost(&Later::new(Slip::Nothing), || ()).unwrap_err();
    assert!(why.contains("the first synchronize on a lost device must say that it is lost, got no error"), "{why}");
    let device = Later::new(Slip::SaysDeviceInstead);
    let plug = device.plug();
    let why = when_lost(&device, || plug.store(true, Ordering::Relaxed)).unwrap_err();
    assert!(why.contains("something"), "{why}");
}

#[test]
fn what_a_device_gave_outlives_it() {
    outlived(|| Ok(Box::new(Later::new(Slip::Nothing)))).unwrap();
    outlived(|| Ok(anychip_cpu::open())).unwrap();
    let why = outlived(|| Ok(Box::new(Later::new(Slip::EndsWithTheDevice)))).unwrap_err();
    assert!(why.contains("event of a device that is gone") && why.contains("was lost"), "{why}");
}

/// A failure of the device itself is reported as any other: rule, case and what happened.
#[test]
fn a_broken_promise_is_told_in_words() {
    let report = tried(Slip::TakesShortWrites, Profile::Quick);
    let failure = report.failures().find(|failure| failure.case == "device/refusals/lengths/seed0").unwrap();
    assert_eq!(failure.message, "R0 writing 0 bytes over 8 must be refused for its length, got no error");
    let report = tried(Slip::RoundsOffsets, Profile::Quick);
    let failure = report.failures().find(|failure| failure.case == "device/memory/slices/seed0").unwrap();
    assert_eq!((failure.op, failure.operand), ("device", Some("bytes")));
    assert!(failure.message.starts_with("R0 bytes[0]: reading bytes 1..2 of 1031: got 0x"), "{}", failure.message);
}
