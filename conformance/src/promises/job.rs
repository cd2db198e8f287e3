//! An operation over operands of its own, and the judgement of what became of them.

use super::{Trial, failed};
use crate::builder::Laid;
use crate::case::Case;
use crate::relation::Stop;
use crate::run::one::{Seen, check};
use crate::run::room;
use anychip_core::{Access, Device, Numerics, Op, Stream, Tensor};

/// The operation, its operands on the device and what they are to hold before it runs.
pub(super) struct Job {
    pub(super) op: Op,
    laid: Laid,
    /// What the device declared about it.
    numerics: Numerics,
}

impl Job {
    /// The case's operands under the trial's seed plus `number`.
    pub(super) fn of(case: &Case, trial: &Trial<'_>, number: u64) -> Result<Job, Stop> {
        let case = case.with_seed(trial.seed.wrapping_add(number));
        let made = case.build(trial.device).and_then(|made| {
            let Some((op, mut built)) = made else { return Ok(None) };
            // With this the operands are every stream's, and the one that wrote them can go.
            built.stream.synchronize()?;
            let numerics = trial.device.numerics(&op);
            Ok(Some(Job { op, laid: built.laid, numerics }))
        });
        match made {
            Ok(Some(job)) => Ok(job),
            Ok(None) => Err(Stop::Unsupported("a case must be of an operation, got one of the device".into())),
            Err(error) => Err(match room::none_on_device(&trial.info, &error) {
                Some(reason) => Stop::Unsupported(reason),
                None => failed("the operands of the work could not be made", error),
            }),
        }
    }

    /// What each operand's buffer holds before the operation, guard bands included.
    pub(super) fn contents(&self) -> Vec<Vec<u8>> {
        self.laid.operands.iter().map(|operand| operand.before().to_vec()).collect()
    }

    /// Which of [`buffers`](Job::buffers) a replay can be given anew: a few kilobytes in all, the smallest first.
    pub(super) fn updatable(&self) -> Vec<usize> {
        const MOST: u64 = 8 << 10;
        let buffers = self.buffers();
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&at| buffers[at].bytes());
        let mut total = 0;
        order.retain(|&at| {
            total += buffers[at].bytes();
            total <= MOST
        });
        order
    }

    /// Takes another job's contents for its own. Nothing is written yet.
    pub(super) fn becomes(&mut self, contents: &[Vec<u8>]) {
        for (operand, bytes) in self.laid.operands.iter_mut().zip(contents) {
            let whole = operand.whole().clone();
            operand.set(&whole, bytes);
        }
    }

    /// The buffers, whole.
    pub(super) fn buffers(&self) -> Vec<Tensor> {
        self.laid.operands.iter().map(|operand| operand.whole().clone()).collect()
    }

    /// Whether the operation only reads each of [`buffers`](Job::buffers).
    pub(super) fn read_only(&self) -> Vec<bool> {
        let written: Vec<u64> = self.written().iter().map(|tensor| tensor.buffer().id()).collect();
        self.buffers().iter().map(|whole| !written.contains(&whole.buffer().id())).collect()
    }

    /// The operands that the operation writes.
    fn written(&self) -> Vec<Tensor> {
        let all = self.op.operands().into_iter().filter(|(_, access, _)| *access != Access::Read);
        all.map(|(_, _, tensor)| tensor).collect()
    }

    /// Takes other bytes for the contents of one operand, in which they lay before and after the operation.
    pub(super) fn holds(&mut self, operand: &Tensor, bytes: &[u8], after: &mut [Vec<u8>]) {
        let Some(index) = self.laid.operand(operand) else { return };
        self.laid.operands[index].set(operand, bytes);
        after[index] = self.laid.operands[index].before().to_vec();
    }

    /// Queues writing all contents.
    pub(super) fn write(&self, stream: &mut dyn Stream) -> Result<(), Stop> {
        for operand in &self.laid.operands {
            stream.write(operand.whole(), operand.before()).map_err(|error| failed("writing an operand", error))?;
        }
        Ok(())
    }

    /// Queues writing bytes that are NaN as numbers and no index over all operands.
    pub(super) fn poison(&self, stream: &mut dyn Stream) -> Result<(), Stop> {
        for operand in &self.laid.operands {
            let bytes = vec![0xFF; operand.before().len()];
            stream.write(operand.whole(), &bytes).map_err(|error| failed("overwriting an operand", error))?;
        }
        Ok(())
    }

    /// Queues the operation.
    pub(super) fn enqueue(&self, stream: &mut dyn Stream) -> Result<(), Stop> {
        stream.enqueue(&self.op).map_err(|error| failed("the operation", error))
    }

    /// Waits and reads every buffer.
    pub(super) fn read(&self, stream: &mut dyn Stream) -> Result<Vec<Vec<u8>>, Stop> {
        self.buffers().iter().map(|whole| read(stream, whole)).collect()
    }

    /// Judges what is in its buffers by all rules for a single run; `what` was tried.
    pub(super) fn judge(&self, trial: &Trial<'_>, stream: &mut dyn Stream, what: &str) -> Result<(), Stop> {
        self.judge_by(trial.oracle, stream, what)
    }

    /// The same where the device is no longer at hand.
    pub(super) fn judge_by(&self, oracle: &dyn Device, stream: &mut dyn Stream, what: &str) -> Result<(), Stop> {
        let after = self.read(stream)?;
        self.judged(oracle, &after, what)
    }

    /// The same of bytes that were read before, buffer by buffer.
    pub(super) fn judge_bytes(&self, trial: &Trial<'_>, after: &[Vec<u8>], what: &str) -> Result<(), Stop> {
        self.judged(trial.oracle, after, what)
    }

    fn judged(&self, oracle: &dyn Device, after: &[Vec<u8>], what: &str) -> Result<(), Stop> {
        let judged = check(oracle, &self.op, &self.laid, after, &self.numerics, &mut Seen::default());
        judged.map(|_| ()).map_err(|mut broken| {
            let op = self.op.name();
            broken.what = format!("{what}: {op}: {}", broken.what);
            // In the place of what patterns say of kernels.
            broken.cause = Some(format!("order or memory, not the kernel, where the cases of {op} pass"));
            Stop::Broken(broken)
        })
    }

    /// Queues copying every buffer into one of its own, for a look at it later.
    pub(super) fn copied(&self, trial: &Trial<'_>, stream: &mut dyn Stream) -> Result<Copies, Stop> {
        let copies = copies(trial.device, &self.buffers())?;
        for (whole, copy) in self.buffers().iter().zip(&copies) {
            stream.copy(whole, copy).map_err(|error| failed("a copy on the device", error))?;
        }
        Ok(Copies(copies))
    }
}

/// Copies of a job's buffers.
pub(super) struct Copies(Vec<Tensor>);

impl Copies {
    /// Waits and reads them.
    pub(super) fn read(&self, stream: &mut dyn Stream) -> Result<Vec<Vec<u8>>, Stop> {
        self.0.iter().map(|copy| read(stream, copy)).collect()
    }
}

/// Memory of the same sizes.
fn copies(device: &dyn Device, of: &[Tensor]) -> Result<Vec<Tensor>, Stop> {
    let copy = |whole: &Tensor| device.tensor(whole.dtype(), whole.sizes());
    of.iter().map(copy).collect::<Result<_, _>>().map_err(|error| failed("memory for a copy", error))
}

/// Waits for all that is queued.
pub(super) fn finish(stream: &mut dyn Stream) -> Result<(), Stop> {
    stream.synchronize().map_err(|error| failed("synchronize", error))
}

/// Waits and reads a tensor.
pub(super) fn read(stream: &mut dyn Stream, tensor: &Tensor) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; tensor.bytes() as usize];
    stream.read(tensor, &mut bytes).map_err(|error| failed("reading", error))?;
    Ok(bytes)
}
