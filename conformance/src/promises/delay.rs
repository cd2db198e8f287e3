//! Something for a stream to be busy with.

use super::job::Job;
use super::work::Work;
use super::{Trial, failed};
use crate::relation::Stop;
use anychip_core::{DType, Stream, Tensor};

/// Work of another kind ahead of what follows on a stream, so that whoever does not wait for it is early.
pub(super) struct Delay {
    job: Job,
    block: Tensor,
    bytes: Vec<u8>,
}

impl Delay {
    /// Of each write at most.
    const BYTES: u64 = 1 << 20;
    const WRITES: usize = 8;
    const CALLS: usize = 24;

    pub(super) fn new(trial: &Trial<'_>, work: &Work) -> Result<Delay, Stop> {
        let no_memory = |error| failed("memory for other work", error);
        let len = Delay::BYTES.min(trial.info.max_allocation) as usize;
        let block = trial.device.tensor(DType::U8, &[len]).map_err(no_memory)?;
        Ok(Delay { job: work.job(trial, 0)?, block, bytes: trial.bytes(99, len) })
    }

    /// Queues it.
    pub(super) fn on(&self, stream: &mut dyn Stream) -> Result<(), Stop> {
        for _ in 0..Delay::WRITES {
            stream.write(&self.block, &self.bytes).map_err(|error| failed("a large write", error))?;
        }
        (0..Delay::CALLS).try_for_each(|_| self.job.enqueue(stream))
    }
}
