//! What a device gave, after the `Device` value is gone.

use super::job::read;
use super::{Trial, broken, failed, in_words, same};
use crate::relation::Stop;
use anychip_core::{DType, Device, Result};

/// Judges whether buffers, streams, events and recordings outlive the `Device` value that they came from, as the contract
/// promises. No case of the catalogue does: a run only borrows its device. The feature `harness` has it among its tests.
///
/// # Errors
/// What does not work any more, in words; and that the device could not be opened.
///
/// # Example
/// ```
/// anychip_conformance::outlived(|| Ok(anychip_reference::open(1 << 30))).unwrap();
/// ```
pub fn outlived(open: impl FnOnce() -> Result<Box<dyn Device>>) -> Result<(), String> {
    let device = open().map_err(|error| format!("the device cannot be opened: {error}"))?;
    after_the_device(device).map_err(in_words)
}

fn after_the_device(device: Box<dyn Device>) -> Result<(), Stop> {
    let oracle = anychip_reference::open(1 << 30);
    let trial = Trial::new(&*device, &*oracle, 0);
    let (mut stream, mut other) = (trial.stream()?, trial.stream()?);
    let want = trial.bytes(1, 64);
    let tensor = device.tensor(DType::U8, &[64]).map_err(|error| failed("64 bytes of memory", error))?;
    stream.write(&tensor, &want).map_err(|error| failed("writing", error))?;
    let job = trial.job_if_any()?;
    let ops = job.iter().map(|job| job.op.clone()).collect();
    let recording = stream.record(ops).map_err(|error| failed("recording", error))?;
    let event = stream.mark().map_err(|error| failed("an event", error))?;
    drop(trial);
    drop(device);
    other.wait(&event).map_err(|error| failed("waiting for an event of a device that is gone", error))?;
    let what = "a buffer of a device that is gone";
    same(what, &read(&mut *other, &tensor)?, &want)?;
    if let Some(job) = job {
        job.write(&mut *other)?;
        job.enqueue(&mut *other)?;
        job.judge_by(&*oracle, &mut *other, "work on a stream of a device that is gone")?;
        job.write(&mut *other)?;
        other.replay(&recording, &[]).map_err(|error| failed("replaying", error))?;
        job.judge_by(&*oracle, &mut *other, "a recording of a device that is gone")?;
    }
    let done = event.done_at().map_err(|error| failed("when an event was done", error))?;
    done.map(drop).ok_or_else(|| broken("an event that was waited for must be done, got one that is not"))
}
