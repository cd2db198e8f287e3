//! An operation of the catalogue for a device to be busy with.

use super::Trial;
use super::chain::link;
use super::job::Job;
use crate::case::{Case, Profile};
use crate::relation::Stop;
use anychip_core::Op;
use anychip_core::ops::NAMES;

/// Operands of a case in bytes, all together: more would be a test of something else.
const MOST_BYTES: usize = 1 << 20;
/// Seeds that a promise takes jobs of.
const SEEDS: u64 = 4;

/// A case that the device runs, of one shape and of other contents under each seed.
pub(super) struct Work {
    case: Case,
}

/// Whether a case can be the work, by its operation.
type Fits = fn(&Op) -> bool;

impl Work {
    /// The first of the catalogue that the device runs itself; where there is none, the first that it runs at all.
    pub(super) fn find(trial: &Trial<'_>) -> Result<Option<Work>, Stop> {
        Work::search(trial, |_| true)
    }

    /// One whose first result has the form of an operand, so that one call can go on from the other's result.
    pub(super) fn find_chain(trial: &Trial<'_>) -> Result<Option<Work>, Stop> {
        Work::search(trial, |op| link(op).is_some())
    }

    fn search(trial: &Trial<'_>, fits: Fits) -> Result<Option<Work>, Stop> {
        let mut elsewhere = None;
        let all = crate::cases::of_operations(Profile::Quick, trial.seed);
        // A port begins with the dense operations.
        let begin = NAMES.iter().position(|op| *op == "linear").unwrap_or_default();
        for op in NAMES[begin..].iter().chain(&NAMES[..begin]) {
            let plain = all.iter().find(|case| case.op_name == *op && case.is_plain());
            let Some(case) = plain else { continue };
            let work = Work { case: case.clone() };
            match work.try_on(trial, fits)? {
                Found::Itself => return Ok(Some(work)),
                Found::Elsewhere => elsewhere = elsewhere.or(Some(work)),
                Found::Nothing => {}
            }
        }
        Ok(elsewhere)
    }

    fn try_on(&self, trial: &Trial<'_>, fits: Fits) -> Result<Found, Stop> {
        let job = match self.job(trial, 0) {
            Ok(job) => job,
            // Too large for this device.
            Err(Stop::Unsupported(_)) => return Ok(Found::Nothing),
            Err(broken) => return Err(broken),
        };
        if !fits(&job.op) || !trial.device.supports(&job.op).is_native() {
            return Ok(Found::Nothing);
        }
        let first = job.contents();
        if first.iter().map(Vec::len).sum::<usize>() > MOST_BYTES {
            return Ok(Found::Nothing);
        }
        for number in 1..SEEDS {
            let other = self.job(trial, number)?.contents();
            if !first.iter().map(Vec::len).eq(other.iter().map(Vec::len)) || first == other {
                return Ok(Found::Nothing);
            }
        }
        let before = trial.device.fallbacks();
        let mut stream = trial.stream()?;
        // One that fails has cases of its own to fail.
        let ran =
            job.write(&mut *stream).and_then(|()| job.enqueue(&mut *stream)).is_ok() && stream.synchronize().is_ok();
        Ok(match trial.device.fallbacks() == before {
            _ if !ran => Found::Nothing,
            true => Found::Itself,
            false => Found::Elsewhere,
        })
    }

    /// The case.
    pub(super) fn case(&self) -> &Case {
        &self.case
    }

    /// Contents of three jobs, for one job's operands to hold in turn.
    pub(super) fn contents(&self, trial: &Trial<'_>) -> Result<Vec<Vec<Vec<u8>>>, Stop> {
        (1..SEEDS).map(|number| Ok(self.job(trial, number)?.contents())).collect()
    }

    /// The operation over operands of its own, whose contents are job `number`'s and lie there when this returns.
    pub(super) fn job(&self, trial: &Trial<'_>, number: u64) -> Result<Job, Stop> {
        Job::of(&self.case, trial, number)
    }
}

enum Found {
    Itself,
    Elsewhere,
    Nothing,
}
