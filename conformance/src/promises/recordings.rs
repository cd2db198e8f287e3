//! Recordings: the same as queueing their operations, as often as they are replayed.

use super::chain::Chain;
use super::delay::Delay;
use super::job::{Job, finish};
use super::{Promise, Trial, failed};
use crate::relation::Stop;
use anychip_core::{Access, Tensor};

pub(super) const PROMISES: &[Promise] = &[
    Promise::quick("recordings/replayed", replayed),
    Promise::quick("recordings/one_from_the_other", one_from_the_other),
    Promise::quick("recordings/several", several),
];

/// A recording is replayed in flight over new contents, on its own stream and another, and dropped before it has run.
fn replayed(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let contents = work.contents(trial)?;
    let mut job = work.job(trial, 0)?;
    let mut streams = [trial.stream()?, trial.stream()?];
    for (which, stream) in ["the stream that recorded", "another stream"].iter().zip(0..) {
        let recording = streams[0].record(vec![job.op.clone()]).map_err(|error| failed("recording", error))?;
        let stream = &mut *streams[stream];
        let (buffers, updatable) = (job.buffers(), job.updatable());
        let mut kept = Vec::new();
        delay.on(stream)?;
        for contents in &contents {
            // The bytes are the caller's again when the call returns, as with a write.
            let mut bytes = contents.clone();
            let mut updates: Vec<(&Tensor, &[u8])> = Vec::new();
            for (at, (whole, bytes)) in buffers.iter().zip(&bytes).enumerate() {
                match updatable.contains(&at) {
                    true => updates.push((whole, bytes)),
                    false => stream.write(whole, bytes).map_err(|error| failed("writing an operand", error))?,
                }
            }
            stream.replay(&recording, &updates).map_err(|error| failed("replaying", error))?;
            bytes.iter_mut().for_each(|bytes| bytes.fill(0xFF));
            kept.push(job.copied(trial, stream)?);
            job.poison(stream)?;
        }
        drop(recording);
        for (turn, (contents, kept)) in contents.iter().zip(&kept).enumerate() {
            job.becomes(contents);
            let what = format!("replay {} of 3 on {which}, over new contents", turn + 1);
            job.judge_bytes(trial, &kept.read(stream)?, &what)?;
        }
        finish(&mut *stream)?;
    }
    Ok(())
}

/// A recorded chain: each operation reads what the one before it wrote.
fn one_from_the_other(trial: &Trial<'_>) -> Result<(), Stop> {
    let mut stream = trial.stream()?;
    let chain = Chain::new(trial, &mut *stream)?;
    let recording = stream.record(chain.ops.clone()).map_err(|error| failed("recording", error))?;
    stream.replay(&recording, &[]).map_err(|error| failed("replaying", error))?;
    chain.judge(trial, &mut *stream, "a recorded chain, each over the result of the one before")
}

/// An empty recording is nothing; one replayed with nothing new gives the same again; a later update of one tensor counts.
fn several(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let jobs = [work.job(trial, 1)?, work.job(trial, 2)?, work.job(trial, 3)?];
    let mut stream = trial.stream()?;
    let empty = stream.record(Vec::new()).map_err(|error| failed("recording nothing", error))?;
    stream.replay(&empty, &[]).map_err(|error| failed("replaying nothing", error))?;
    let ops = jobs.iter().map(|job| job.op.clone()).collect();
    let recording = stream.record(ops).map_err(|error| failed("recording", error))?;
    let (buffers, contents, updatable) = (jobs[0].buffers(), jobs[0].contents(), jobs[0].updatable());
    let wrong: Vec<Vec<u8>> = contents.iter().map(|bytes| vec![0xFF; bytes.len()]).collect();
    // Each twice: the later update counts.
    let mut updates: Vec<(&Tensor, &[u8])> = Vec::new();
    for bytes in [&wrong, &contents] {
        updates.extend(updatable.iter().map(|&at| (&buffers[at], bytes[at].as_slice())));
    }
    jobs[1].write(&mut *stream)?;
    jobs[2].write(&mut *stream)?;
    // Where an operation goes on from what it left, only its first turn starts from the contents.
    let carries = |job: &Job| job.op.operands().iter().any(|(_, access, _)| *access == Access::ReadWrite);
    let turns = if jobs.iter().any(carries) { 1 } else { 3 };
    for turn in 1..=turns {
        jobs[0].write(&mut *stream)?;
        for &at in &updatable {
            stream.write(&buffers[at], &wrong[at]).map_err(|error| failed("overwriting an operand", error))?;
        }
        stream.replay(&recording, &updates).map_err(|error| failed("replaying", error))?;
        for (at, job) in jobs.iter().enumerate() {
            let what = format!("operation {} of 3 in a recording, turn {turn}", at + 1);
            job.judge(trial, &mut *stream, &what)?;
        }
    }
    Ok(())
}
