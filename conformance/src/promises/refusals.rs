//! Refusals: what a device must not take, the error that says so, and nothing else happening.

use super::job::{Job, read};
use super::{Promise, Trial, broken, failed, same};
use crate::relation::Stop;
use anychip_core::{Buffer, DType, Error, Invalid, Stream, Tensor};

pub(super) const PROMISES: &[Promise] = &[
    Promise::quick("refusals/lengths", lengths),
    Promise::quick("refusals/foreign_memory", foreign_memory),
    Promise::quick("refusals/foreign_work", foreign_work),
    Promise::quick("refusals/info", info),
];

/// Whether a call was refused as belonging to another device.
fn is_foreign<T>(what: &str, got: Result<T, Error>) -> Result<(), Stop> {
    match got {
        Err(Error::Foreign { .. }) => Ok(()),
        Err(other) => Err(broken(format!("{what} must be refused as another device's, got: {other}"))),
        Ok(_) => Err(broken(format!("{what} must be refused as another device's, got no error"))),
    }
}

/// Whether a call was refused for the number of bytes.
fn is_too_long_or_short(what: &str, got: Result<(), Error>) -> Result<(), Stop> {
    match got {
        Err(Error::Invalid(Invalid::WrongLength { .. })) => Ok(()),
        Err(other) => Err(broken(format!("{what} must be refused for its length, got: {other}"))),
        Ok(()) => Err(broken(format!("{what} must be refused for its length, got no error"))),
    }
}

/// Eight bytes of the device, written.
fn eight(trial: &Trial<'_>, stream: &mut dyn Stream) -> Result<(Tensor, Vec<u8>), Stop> {
    let bytes = trial.bytes(1, 8);
    let tensor = trial.device.tensor(DType::U8, &[8]).map_err(|error| failed("8 bytes of memory", error))?;
    stream.write(&tensor, &bytes).map_err(|error| failed("writing 8 bytes", error))?;
    Ok((tensor, bytes))
}

/// Too few and too many bytes are refused, and none of them is written.
fn lengths(trial: &Trial<'_>) -> Result<(), Stop> {
    let mut stream = trial.stream()?;
    let (tensor, want) = eight(trial, &mut *stream)?;
    for len in [0, 7, 9, 64] {
        let mut bytes = vec![0xFF; len];
        is_too_long_or_short(&format!("writing {len} bytes over 8"), stream.write(&tensor, &bytes))?;
        is_too_long_or_short(&format!("reading 8 bytes into {len}"), stream.read(&tensor, &mut bytes))?;
        same(&format!("after {len} bytes were refused for 8"), &read(&mut *stream, &tensor)?, &want)?;
        let other = trial.device.tensor(DType::U8, &[len]).map_err(|error| failed(&format!("{len} bytes"), error))?;
        is_too_long_or_short(&format!("copying {len} bytes over 8"), stream.copy(&other, &tensor))?;
        same(&format!("after a copy of {len} bytes was refused for 8"), &read(&mut *stream, &tensor)?, &want)?;
    }
    Ok(())
}

/// Memory of another device, and of none, is refused, and the own is as it was.
fn foreign_memory(trial: &Trial<'_>) -> Result<(), Stop> {
    let of_suite = |error| failed("memory of the suite's own device", error);
    let theirs = trial.oracle.tensor(DType::U8, &[8]).map_err(of_suite)?;
    let nobodys = Tensor::new(&Buffer::phantom(8), 0, DType::U8, &[8]).map_err(|error| of_suite(error.into()))?;
    let mut stream = trial.stream()?;
    let (own, want) = eight(trial, &mut *stream)?;
    for (whose, tensor) in [("another device's memory", &theirs), ("memory of no device", &nobodys)] {
        is_foreign(&format!("writing {whose}"), stream.write(tensor, &[0; 8]))?;
        is_foreign(&format!("reading {whose}"), stream.read(tensor, &mut [0; 8]))?;
        is_foreign(&format!("copying from {whose}"), stream.copy(tensor, &own))?;
        is_foreign(&format!("copying to {whose}"), stream.copy(&own, tensor))?;
        same(&format!("the device's own after {whose} was refused"), &read(&mut *stream, &own)?, &want)?;
    }
    Ok(())
}

/// Operations, events and updates of another device are refused, and the stream goes on.
fn foreign_work(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let job = work.job(trial, 1)?;
    let theirs = Job::of(work.case(), &Trial::new(trial.oracle, trial.oracle, trial.seed), 1)?;
    let phantom = |tensor: &Tensor| {
        Tensor::new(&Buffer::phantom(tensor.offset() + tensor.bytes()), tensor.offset(), tensor.dtype(), tensor.sizes())
    };
    let nobodys = job.op.rebind(&mut |_, _, tensor| Ok(phantom(tensor)?));
    let nobodys = nobodys.map_err(|error| failed("the operation over nothing", error))?;
    let event = trial.oracle.open_stream().and_then(|mut stream| stream.mark());
    let event = event.map_err(|error| failed("an event of the suite's own device", error))?;
    let mut stream = trial.stream()?;
    for turn in 1..=2 {
        job.write(&mut *stream)?;
        is_foreign("an operation over another device's memory", stream.enqueue(&theirs.op))?;
        is_foreign("an operation over memory of no device", stream.enqueue(&nobodys))?;
        is_foreign("an event of another device", stream.wait(&event))?;
        // A recording may be refused when it is made or when it is replayed.
        let recorded = stream.record(vec![theirs.op.clone()]).and_then(|recorded| stream.replay(&recorded, &[]));
        is_foreign("a recording of another device's operation", recorded)?;
        let theirs_recorded = trial.oracle.open_stream().and_then(|mut stream| stream.record(vec![theirs.op.clone()]));
        let theirs_recorded =
            theirs_recorded.map_err(|error| failed("a recording of the suite's own device", error))?;
        is_foreign("a recording that another device made", stream.replay(&theirs_recorded, &[]))?;
        let own = stream.record(vec![job.op.clone()]).map_err(|error| failed("recording", error))?;
        let (buffers, contents) = (theirs.buffers(), theirs.contents());
        if let (Some(buffer), Some(bytes)) = (buffers.first(), contents.first()) {
            is_foreign("an update of another device's memory", stream.replay(&own, &[(buffer, bytes)]))?;
        }
        if let (Some(buffer), Some(bytes)) = (job.buffers().first(), job.contents().first()) {
            let short = &bytes[..bytes.len() - 1];
            is_too_long_or_short(
                "an update of one byte less than its tensor",
                stream.replay(&own, &[(buffer, short)]),
            )?;
        }
        job.write(&mut *stream)?;
        job.enqueue(&mut *stream)?;
        job.judge(trial, &mut *stream, &format!("work after what was refused, turn {turn}"))?;
    }
    Ok(())
}

/// What the device says of itself is the same every time, and can be.
fn info(trial: &Trial<'_>) -> Result<(), Stop> {
    let (first, again) = (&trial.info, trial.device.info());
    if *first != again {
        return Err(broken(format!("it describes itself as {first:?} and then as {again:?}")));
    }
    if first.name.trim().is_empty() || first.description.trim().is_empty() {
        return Err(broken("name and description must say something, got nothing"));
    }
    if first.alignment == 0 || first.max_allocation == 0 {
        let (alignment, most) = (first.alignment, first.max_allocation);
        return Err(broken(format!("alignment and max_allocation must be above 0, got {alignment} and {most}")));
    }
    Ok(())
}
