//! The catalogue as tests of a backend's own repository: `cargo test` and nextest list and run it case by case.

use crate::report::{CaseResult, Outcome};
use crate::run::{Selection, run_cases};
use crate::{Case, ExpectedFailures, Profile, outlived};
use anychip_core::{Device, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// The name of the test of what outlives the device.
const OUTLIVED: &str = "device/outlived_by_what_it_gave";
/// The name of the test that fails where the device ran nothing itself.
const RUNS_SOMETHING: &str = "device/runs_something_itself";

/// The catalogue as tests of one device.
///
/// In the backend's repository, `tests/conformance.rs`:
/// ```no_run
/// use anychip_conformance::Tests;
/// use std::process::ExitCode;
///
/// # mod my_chip { pub fn open() -> anychip_core::Result<Box<dyn anychip_core::Device>> { Ok(anychip_reference::open(1 << 30)) } }
/// fn main() -> ExitCode {
///     Tests::of(my_chip::open).native(["linear/", "rms_norm/plain/"]).main()
/// }
/// ```
/// and in its `Cargo.toml`, because these tests bring their own `main`:
/// ```toml
/// [dev-dependencies]
/// anychip-conformance = { version = "0.1", features = ["harness"] }
///
/// [[test]]
/// name = "conformance"
/// harness = false
/// ```
/// Each case is a test by its own name. What the device leaves to another or does not support is reported as ignored, with
/// the reason, unless it was promised by [`native`](Tests::native); nextest, which knows only the exit code of the process
/// that it runs a case in, counts an ignored case as passed and shows the reason with `--no-capture`. The test `device/runs_something_itself` fails where the
/// device itself ran no operation at all, and `device/outlived_by_what_it_gave` where buffers, streams, events or recordings do not
/// outlive the device.
///
/// The environment chooses what is tested: `ANYCHIP_PROFILE` is `quick` or `full`, `ANYCHIP_SEED` a number; a failing
/// case's seed is the end of its name.
pub struct Tests {
    devices: Devices,
    selection: Selection,
    native: Vec<String>,
}

impl Tests {
    /// The quick profile under seed 0. `open` is called once for each case that runs at the same time.
    pub fn of(open: impl Fn() -> Result<Box<dyn Device>> + Send + Sync + 'static) -> Tests {
        let devices = Devices { open: Box::new(open), idle: Mutex::default() };
        Tests { devices, selection: Selection::default(), native: Vec::new() }
    }

    /// Which profile is tested, if the environment does not say.
    pub fn profile(mut self, profile: Profile) -> Tests {
        self.selection.profile = profile;
        self
    }

    /// Which seed is tested, if the environment does not say.
    pub fn seed(mut self, seed: u64) -> Tests {
        self.selection.seed = seed;
        self
    }

    /// Cases that are known to fail, with reasons. They are reported as ignored; one that passes fails.
    pub fn expect(mut self, failures: ExpectedFailures) -> Tests {
        self.selection.expected = failures;
        self
    }

    /// Beginnings of the names of those cases that the device itself must run: one that it does not support, or that
    /// falls back to another device, fails. This is how a kernel that is lost shows.
    pub fn native(self, beginnings: impl IntoIterator<Item = impl Into<String>>) -> Tests {
        Tests { native: beginnings.into_iter().map(Into::into).collect(), ..self }
    }

    /// Takes `ANYCHIP_PROFILE` and `ANYCHIP_SEED` from the environment and the rest from the command line, as any test
    /// binary does, and runs. Exit code 2 says that nothing could be run, 101 that a test failed.
    pub fn main(self) -> ExitCode {
        let arguments = Arguments::from_args();
        let variable = |name: &str| std::env::var(name).ok();
        match self.chosen(variable("ANYCHIP_PROFILE"), variable("ANYCHIP_SEED")).and_then(Tests::trials) {
            Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
            Err(why) => {
                eprintln!("error: {why}");
                ExitCode::from(2)
            }
        }
    }

    fn chosen(mut self, profile: Option<String>, seed: Option<String>) -> Result<Tests, String> {
        match profile.as_deref() {
            None => {}
            Some("quick") => self.selection.profile = Profile::Quick,
            Some("full") => self.selection.profile = Profile::Full,
            Some(other) => return Err(format!("ANYCHIP_PROFILE is quick or full, got `{other}`")),
        }
        if let Some(seed) = seed {
            self.selection.seed = seed.parse().map_err(|_| format!("ANYCHIP_SEED is a number from 0, got `{seed}`"))?;
        }
        Ok(self)
    }

    /// The tests, for a `main` of one's own.
    ///
    /// # Errors
    /// What is wrong with [`native`](Tests::native): a beginning that no case has.
    pub fn trials(self) -> Result<Vec<Trial>, String> {
        let cases = crate::cases(self.selection.profile, self.selection.seed);
        if let Some(stray) = self.native.iter().find(|start| !cases.iter().any(|c| c.name.starts_with(start.as_str())))
        {
            return Err(format!("no case begins with `{stray}`, which the device is said to run itself"));
        }
        let is_native = |case: &Case| self.native.iter().any(|start| case.name.starts_with(start.as_str()));
        // The promised ones first: where there are any, one case answers.
        let mut candidates: Vec<Case> = cases.iter().filter(|case| case.promise().is_none()).cloned().collect();
        candidates.sort_by_key(|case| !is_native(case));
        let (devices, selection) = (Arc::new(self.devices), Arc::new(self.selection));
        let mut trials = Vec::with_capacity(cases.len() + 2);
        for case in cases {
            let (devices, selection, native) = (devices.clone(), selection.clone(), is_native(&case));
            trials.push(Trial::ignorable_test(case.name.clone(), move || {
                verdict(devices.run(&case, &selection)?, native)
            }));
        }
        let openers = devices.clone();
        trials.push(Trial::test(OUTLIVED, move || Ok(outlived(&openers.open)?)));
        trials.push(Trial::test(RUNS_SOMETHING, move || {
            for case in &candidates {
                if matches!(devices.run(case, &selection)?.outcome, Outcome::Passed { .. }) {
                    return Ok(());
                }
            }
            Err("the device passed no case of an operation itself, and what was not run has not passed".into())
        }));
        Ok(trials)
    }
}

/// Devices that are not in use. Cases run on several threads and each has a device alone, because what fell back is
/// counted by the device and not by the case.
struct Devices {
    open: Box<dyn Fn() -> Result<Box<dyn Device>> + Send + Sync>,
    idle: Mutex<Vec<Box<dyn Device>>>,
}

impl Devices {
    fn run(&self, case: &Case, selection: &Selection) -> Result<CaseResult, Failed> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let device = match idle {
            Some(device) => device,
            None => (self.open)().map_err(|error| Failed::from(format!("the device cannot be opened: {error}")))?,
        };
        let mut result = None;
        run_cases(&*device, std::slice::from_ref(case), selection, &mut |heard| {
            result = Some(heard.clone());
            true
        });
        let result = result.ok_or("the case was not run")?;
        // A device that failed may be lost: the next case gets another.
        if !matches!(result.outcome, Outcome::Failed(_) | Outcome::Expected { .. }) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(device);
        }
        Ok(result)
    }
}

fn verdict(result: CaseResult, native: bool) -> Result<Completion, Failed> {
    let elsewhere = match result.outcome {
        Outcome::Passed { .. } => return Ok(Completion::Completed),
        Outcome::Failed(failure) => return Err(failure.message.into()),
        Outcome::Expected { reason, .. } => return Ok(Completion::ignored_with(format!("expected failure: {reason}"))),
        Outcome::Unsupported { reason } => format!("unsupported: {reason}"),
        Outcome::Fallback { ops, .. } => format!("fallback: another device ran {}", ops.join(", ")),
    };
    match native {
        true => Err(format!("{elsewhere}; the device is said to run this case itself").into()),
        false => Ok(Completion::ignored_with(elsewhere)),
    }
}
