//! Operations of which each reads what the one before it wrote.

use super::job::{Job, read};
use super::{Trial, failed};
use crate::relation::Stop;
use anychip_core::{Access, Op, Stream, Tensor};

/// Operations that read each other's results.
pub(super) struct Chain {
    pub(super) ops: Vec<Op>,
    jobs: Vec<Job>,
    input: &'static str,
}

impl Chain {
    const LEN: u64 = 6;

    /// Its operands, whose writing is queued. What is later to be another's result is NaN or no index.
    pub(super) fn new(trial: &Trial<'_>, stream: &mut dyn Stream) -> Result<Chain, Stop> {
        let work = trial.work_in_chains()?;
        let mut chain = Chain { ops: Vec::new(), jobs: Vec::new(), input: "" };
        let mut result: Option<Tensor> = None;
        for number in 0..Chain::LEN {
            let job = work.job(trial, number)?;
            let Some((out, input)) = link(&job.op) else { break };
            job.write(stream)?;
            let over = |name: &str, own: &Tensor| match &result {
                Some(result) if name == input => result.clone(),
                _ => own.clone(),
            };
            let op = job.op.rebind(&mut |name, _, own| Ok(over(name, own)));
            chain.ops.push(op.map_err(|error| failed("an operation over another's result", error))?);
            result = job.op.operands().into_iter().find(|(name, ..)| *name == out).map(|(_, _, tensor)| tensor);
            chain.input = input;
            chain.jobs.push(job);
        }
        Ok(chain)
    }

    /// Judges each result by the one before, as it lies there.
    pub(super) fn judge(self, trial: &Trial<'_>, stream: &mut dyn Stream, what: &str) -> Result<(), Stop> {
        let mut given: Option<Vec<u8>> = None;
        for (at, mut job) in self.jobs.into_iter().enumerate() {
            let mut after = job.read(stream)?;
            let input = job.op.operands().into_iter().find(|(name, ..)| *name == self.input).map(|(_, _, t)| t);
            if let Some((given, input)) = given.zip(input) {
                job.holds(&input, &given, &mut after);
            }
            job.judge_bytes(trial, &after, &format!("{what}: number {}", at + 1))?;
            let Some((out, _)) = link(&job.op) else { break };
            let out = job.op.operands().into_iter().find(|(name, ..)| *name == out);
            given = match out {
                Some((_, _, tensor)) => Some(read(stream, &tensor)?),
                None => None,
            };
        }
        Ok(())
    }
}

/// The first operand that is written, and one that is read and has the same form, by their names.
pub(super) fn link(op: &Op) -> Option<(&'static str, &'static str)> {
    let all = op.operands();
    let (out, _, result) = all.iter().find(|(_, access, t)| *access == Access::Write && t.bytes() > 0)?;
    let same = |t: &Tensor| (t.dtype(), t.sizes()) == (result.dtype(), result.sizes());
    let (input, ..) = all.iter().find(|(_, access, t)| *access == Access::Read && same(t))?;
    Some((out, input))
}
