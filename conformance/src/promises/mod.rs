//! Cases of the device itself: memory, streams, events, recordings and refusals, whatever operations it runs.
//!
//! Each is a promise of the contract's [`Device`] and [`Stream`](anychip_core::Stream) that shows only between calls: what
//! lies in memory once its owner let go, which of two streams was first, what a refusal leaves behind. Work that is needed
//! for it is an operation of the catalogue that the device runs, and its results are judged by the oracle as always.

mod chain;
mod delay;
mod events;
mod job;
mod lost;
mod memory;
mod outlive;
mod recordings;
mod refusals;
mod streams;
mod work;

pub use lost::when_lost;
pub use outlive::outlived;

use crate::case::{Case, Profile};
use crate::relation::Stop;
use crate::rules::{Broken, Rule};
use anychip_core::{Device, DeviceInfo, Error, Stream};
use job::Job;
use std::sync::{Mutex, PoisonError};
use work::Work;

/// What stands for the operation in the names of these cases.
pub(crate) const DEVICE: &str = "device";

/// Something that a device promises beside its operations.
#[derive(Clone, Copy)]
pub(crate) struct Promise {
    name: &'static str,
    profile: Profile,
    keep: fn(&Trial<'_>) -> Result<(), Stop>,
}

impl Promise {
    const fn quick(name: &'static str, keep: fn(&Trial<'_>) -> Result<(), Stop>) -> Promise {
        Promise { name, profile: Profile::Quick, keep }
    }

    const fn full(name: &'static str, keep: fn(&Trial<'_>) -> Result<(), Stop>) -> Promise {
        Promise { name, profile: Profile::Full, keep }
    }

    /// Whether `device` keeps it; `seed` is the case's. Gives the operations that another device ran for it.
    pub(crate) fn keep(self, device: &dyn Device, oracle: &dyn Device, seed: u64) -> Result<Vec<&'static str>, Stop> {
        let trial = Trial::new(device, oracle, seed);
        (self.keep)(&trial)?;
        let before = trial.before.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(device.fallbacks().into_iter().filter(|now| !before.contains(now)).map(|(op, _)| op).collect())
    }
}

/// The cases of a profile under a seed.
pub(crate) fn cases(profile: Profile, seed: u64) -> Vec<Case> {
    let all = [memory::PROMISES, streams::PROMISES, events::PROMISES, recordings::PROMISES, refusals::PROMISES];
    let of_profile = all.concat().into_iter().filter(|promise| promise.profile <= profile);
    of_profile.map(|promise| Case::of_device(promise, promise.name, promise.profile, seed)).collect()
}

/// The device that is tried, and what it is tried with.
struct Trial<'a> {
    device: &'a dyn Device,
    oracle: &'a dyn Device,
    info: DeviceInfo,
    seed: u64,
    /// What another device had run when the trial began in earnest.
    before: Mutex<Vec<(&'static str, u64)>>,
}

impl<'a> Trial<'a> {
    fn new(device: &'a dyn Device, oracle: &'a dyn Device, seed: u64) -> Trial<'a> {
        Trial { device, oracle, info: device.info(), seed, before: Mutex::new(device.fallbacks()) }
    }

    /// A stream. That a driver gives no more of them is within the contract.
    fn stream(&self) -> Result<Box<dyn Stream>, Stop> {
        self.device.open_stream().map_err(|error| match error {
            Error::Device { cause, .. } => {
                Stop::Unsupported(format!("streams at a time must be more than it gives: {cause}"))
            }
            error => failed("a stream could not be opened", error),
        })
    }

    /// An operation of the catalogue that the device runs. What was tried to find it does not count as the trial's.
    fn work(&self) -> Result<Work, Stop> {
        self.begun(Work::find(self)?)
    }

    /// The same, of one whose result has the form of an operand.
    fn work_in_chains(&self) -> Result<Work, Stop> {
        self.begun(Work::find_chain(self)?)
    }

    /// A job of it. `None` where the device runs none: then there is none to queue.
    fn job_if_any(&self) -> Result<Option<Job>, Stop> {
        match self.work().and_then(|work| work.job(self, 1)) {
            Ok(job) => Ok(Some(job)),
            Err(Stop::Unsupported(_)) => Ok(None),
            Err(broken) => Err(broken),
        }
    }

    fn begun(&self, found: Option<Work>) -> Result<Work, Stop> {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = self.device.fallbacks();
        found.ok_or_else(|| {
            Stop::Unsupported(
                "operations that it runs and that this can be shown with must be at least 1, got 0".into(),
            )
        })
    }

    /// Bytes that depend on `number`, and on nothing as short as a word.
    fn bytes(&self, number: u64, len: usize) -> Vec<u8> {
        let start = (self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(number);
        (0..len as u64).map(|i| ((start.wrapping_add(i)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 56) as u8).collect()
    }
}

/// A promise that was not kept.
fn broken(what: impl Into<String>) -> Stop {
    Stop::Broken(Broken::plain(Rule::R0, what))
}

/// A call that was to succeed and did not.
fn failed(what: &str, error: Error) -> Stop {
    Stop::Broken(Broken::plain(Rule::Ran, format!("{what}: {error}")))
}

/// For who has no case to report it in.
fn in_words(stop: Stop) -> String {
    match stop {
        Stop::Broken(broken) => broken.to_string(),
        Stop::Unsupported(reason) => reason,
    }
}

/// Bytes that are to be equal; `what` says of what.
fn same(what: &str, got: &[u8], want: &[u8]) -> Result<(), Stop> {
    let at = got.iter().zip(want).position(|(got, want)| got != want);
    let Some(at) = at.or((got.len() != want.len()).then(|| got.len().min(want.len()))) else { return Ok(()) };
    let show = |bytes: &[u8]| bytes.get(at).map_or("nothing".into(), |byte| format!("{byte:#04x}"));
    Err(Stop::Broken(Broken::at(Rule::R0, "bytes", vec![at], what, show(got), show(want))))
}
