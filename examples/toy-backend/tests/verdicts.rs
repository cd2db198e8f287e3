//! What the suite's tests say of a device: right, wrong, doing nothing, or promising too much.

use anychip_conformance::Tests;
use anychip_core::forward::{Hooks, Recordings, Wrapped};
use anychip_core::{Device, Error, Op, Result, Support};
use libtest_mimic::{Arguments, Conclusion};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs those of the tests whose names hold `filter`. What they print goes to a file: some of them are to fail.
fn run(tests: Tests, filter: &str) -> Conclusion {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let log = format!("{}/verdicts-{}.log", env!("CARGO_TARGET_TMPDIR"), RUNS.fetch_add(1, Ordering::Relaxed));
    let arguments = Arguments { filter: Some(filter.into()), logfile: Some(log), ..Arguments::default() };
    libtest_mimic::run(&arguments, tests.trials().expect("the promises name cases"))
}

fn toy() -> Result<Box<dyn Device>> {
    Ok(toy_backend::open(anychip_cpu::open()))
}

/// A device that allocates and nothing else.
struct Bare;

impl Hooks for Bare {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::Whole
    }

    fn supports(&self, _: &dyn Device, op: &Op) -> Support {
        Support::unsupported("operation", "none", op.name())
    }
}

#[test]
fn own_kernels_pass_and_fallbacks_are_ignored() {
    let own = run(Tests::of(toy), "swiglu/");
    assert!(own.num_passed > 4 && own.num_ignored == 0 && !own.has_failed(), "{own:?}");
    let left = run(Tests::of(toy), "rope/");
    assert!(left.num_ignored > 4 && left.num_passed == 0 && !left.has_failed(), "{left:?}");
}

#[test]
fn a_promised_case_that_falls_back_fails() {
    let broken = run(Tests::of(toy).native(["rope/"]), "rope/");
    assert!(broken.num_failed > 4 && broken.num_passed + broken.num_ignored == 0, "{broken:?}");
}

#[test]
fn a_device_that_runs_nothing_fails() {
    let something = "device/runs_something_itself";
    assert!(!run(Tests::of(toy), something).has_failed());
    let nothing = Tests::of(|| Ok(Box::new(Wrapped::new(anychip_cpu::open(), Bare)) as Box<dyn Device>));
    assert_eq!(run(nothing, something).num_failed, 1);
    let absent = || Err(Error::Device { device: "toy".into(), cause: "no such chip".into() });
    assert!(run(Tests::of(absent), "embed/").num_failed > 2);
}

#[test]
fn a_promise_that_names_no_case_is_refused() {
    let Err(why) = Tests::of(toy).native(["swigloo/"]).trials() else { panic!("it was taken") };
    assert!(why.contains("swigloo/"), "{why}");
}

#[test]
fn the_names_are_those_of_the_catalogue() {
    let trials = Tests::of(toy).seed(7).trials().expect("nothing is promised");
    let names: Vec<&str> = trials.iter().map(|trial| trial.name()).collect();
    let cases = anychip_conformance::cases(anychip_conformance::Profile::Quick, 7);
    assert_eq!(names.len(), cases.len() + 2);
    assert!(cases.iter().zip(&names).all(|(case, name)| case.name == *name));
}
