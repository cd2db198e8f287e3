//! An operation of the catalogue for a device to be busy with.

use super::job::Job;
use super::{Trial, failed};
use crate::case::{Case, Profile};
use crate::relation::Stop;
use anychip_core::ops::NAMES;
use anychip_core::{Access, Op, Stream, Tensor};

/// Operands of a case in bytes, all together: more would be a test of something else.
const MOST_BYTES: usize = 1 << 20;
/// Seeds that a promise takes jobs of.
const SEEDS: u64 = 4;

/// A case that the device runs, of one shape under every seed, with an output that every seed changes.
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
        let job = self.job(trial, 0)?;
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
        job.write(&mut *stream)?;
        job.enqueue(&mut *stream)?;
        stream.synchronize().map_err(|error| failed("the work that was queued", error))?;
        Ok(if trial.device.fallbacks() == before { Found::Itself } else { Found::Elsewhere })
    }

    /// The case.
    pub(super) fn case(&self) -> &Case {
        &self.case
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

/// The first operand that is written, and one that is read and has the same form, by their names.
pub(super) fn link(op: &Op) -> Option<(&'static str, &'static str)> {
    let all = op.operands();
    let (out, _, result) = all.iter().find(|(_, access, t)| *access == Access::Write && t.bytes() > 0)?;
    let same = |t: &Tensor| (t.dtype(), t.sizes()) == (result.dtype(), result.sizes());
    let (input, ..) = all.iter().find(|(_, access, t)| *access == Access::Read && same(t))?;
    Some((out, input))
}

/// Work of another kind ahead of what follows on a stream, so that whoever does not wait for it is early.
pub(super) struct Delay {
    job: Job,
    block: Tensor,
    bytes: Vec<u8>,
}

impl Delay {
    const BYTES: usize = 1 << 20;
    const WRITES: usize = 8;
    const CALLS: usize = 24;

    pub(super) fn new(trial: &Trial<'_>, work: &Work) -> Result<Delay, Stop> {
        let no_memory = |error| failed("memory for other work", error);
        let block = trial.device.tensor(anychip_core::DType::U8, &[Delay::BYTES]).map_err(no_memory)?;
        Ok(Delay { job: work.job(trial, 0)?, block, bytes: trial.bytes(99, Delay::BYTES) })
    }

    /// Queues it.
    pub(super) fn on(&self, stream: &mut dyn Stream) -> Result<(), Stop> {
        for _ in 0..Delay::WRITES {
            stream.write(&self.block, &self.bytes).map_err(|error| failed("a large write", error))?;
        }
        (0..Delay::CALLS).try_for_each(|_| self.job.enqueue(stream))
    }
}
