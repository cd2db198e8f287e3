//! Memory: sizes, slices, limits, and what happens to memory that was let go.

use super::delay::Delay;
use super::job::read;
use super::{Promise, Trial, broken, failed, same};
use crate::relation::Stop;
use crate::run::room;
use anychip_core::{Buffer, DType, Error, Tensor};
use std::collections::BTreeSet;

pub(super) const PROMISES: &[Promise] = &[
    Promise::quick("memory/sizes", sizes),
    Promise::quick("memory/slices", slices),
    Promise::quick("memory/too_large", too_large),
    Promise::quick("memory/churn", |trial| churn(trial, 500, 256 << 20)),
    Promise::quick("memory/freed_while_in_use", freed_while_in_use),
    Promise::full("memory/churn_through_all", churn_through_all),
    Promise::full("memory/exhausted", exhausted),
];

/// Memory of a trial.
fn allocate(trial: &Trial<'_>, bytes: u64) -> Result<Buffer, Stop> {
    let buffer = trial.device.allocate(bytes).map_err(|error| failed(&format!("{bytes} bytes of memory"), error))?;
    if buffer.bytes() != bytes {
        return Err(broken(format!(
            "a buffer must have the {bytes} bytes that were asked for, got {}",
            buffer.bytes()
        )));
    }
    if buffer.device() != trial.info.id {
        let (want, got) = (trial.info.id, buffer.device());
        return Err(broken(format!("a buffer must be of the device that gave it, {want:?}, got one of {got:?}")));
    }
    Ok(buffer)
}

fn tensor(buffer: &Buffer, offset: u64, len: usize) -> Result<Tensor, Stop> {
    Tensor::new(buffer, offset, DType::U8, &[len]).map_err(|error| failed("a view", error.into()))
}

/// Buffers of any size, held at once, have bytes of their own.
fn sizes(trial: &Trial<'_>) -> Result<(), Stop> {
    const SIZES: [usize; 12] = [0, 1, 2, 3, 5, 63, 64, 65, 255, 4096, 4097, 100_003];
    let mut stream = trial.stream()?;
    let mut held = Vec::new();
    for _ in 0..3 {
        for size in SIZES {
            let number = (held.len() + 1) as u64;
            let whole = tensor(&allocate(trial, size as u64)?, 0, size)?;
            let bytes = trial.bytes(number, size);
            stream.write(&whole, &bytes).map_err(|error| failed(&format!("writing {size} bytes"), error))?;
            held.push((whole, bytes));
        }
    }
    let ids: BTreeSet<u64> = held.iter().map(|(whole, _)| whole.buffer().id()).collect();
    if ids.len() != held.len() {
        return Err(broken("two buffers that are held at once have one identity"));
    }
    for (whole, bytes) in &held {
        let what = format!("a buffer of {} bytes among {} others", bytes.len(), held.len() - 1);
        same(&what, &read(&mut *stream, whole)?, bytes)?;
    }
    Ok(())
}

/// Any slice can be written and read, wherever it begins, and nothing beside it changes.
fn slices(trial: &Trial<'_>) -> Result<(), Stop> {
    const LEN: usize = 1031;
    const SLICES: [(usize, usize); 10] =
        [(0, 1), (1, 1), (3, 2), (7, 64), (63, 2), (64, 65), (129, 3), (255, 258), (1030, 1), (517, 0)];
    let mut stream = trial.stream()?;
    let buffer = allocate(trial, LEN as u64)?;
    let whole = tensor(&buffer, 0, LEN)?;
    let mut want = trial.bytes(1, LEN);
    stream.write(&whole, &want).map_err(|error| failed("writing a buffer", error))?;
    for (number, (start, len)) in SLICES.into_iter().enumerate() {
        let what = format!("bytes {start}..{} of {LEN}", start + len);
        let slice = tensor(&buffer, start as u64, len)?;
        same(&format!("reading {what}"), &read(&mut *stream, &slice)?, &want[start..start + len])?;
        let new = trial.bytes(2 + number as u64, len);
        stream.write(&slice, &new).map_err(|error| failed(&format!("writing {what}"), error))?;
        want[start..start + len].copy_from_slice(&new);
        same(&format!("after writing {what}"), &read(&mut *stream, &whole)?, &want)?;
    }
    let to = tensor(&allocate(trial, 300)?, 0, 300)?;
    let mut copied = trial.bytes(20, 300);
    stream.write(&to, &copied).map_err(|error| failed("writing a buffer", error))?;
    for (from, start, len) in [(0, 0, 4), (5, 9, 1), (17, 101, 67), (64, 256, 44), (3, 3, 0)] {
        let what = format!("copying bytes {from}..{} to byte {start}", from + len);
        let (source, target) = (tensor(&buffer, from as u64, len)?, tensor(to.buffer(), start as u64, len)?);
        stream.copy(&source, &target).map_err(|error| failed(&what, error))?;
        copied[start..start + len].copy_from_slice(&want[from..from + len]);
        same(&format!("after {what}"), &read(&mut *stream, &to)?, &copied)?;
        same(&format!("the source after {what}"), &read(&mut *stream, &whole)?, &want)?;
    }
    Ok(())
}

/// Whether an allocation that cannot be was refused as the contract says.
fn refused(what: &str, bytes: u64, got: Result<Buffer, Error>) -> Result<(), Stop> {
    match got {
        Err(Error::OutOfMemory { requested, .. }) if requested == bytes => Ok(()),
        Err(other) => Err(broken(format!("{what} must be out of memory for {bytes} bytes, got: {other}"))),
        Ok(_) => Err(broken(format!("{what} must be out of memory, got a buffer of {bytes} bytes"))),
    }
}

/// More than the device can give is refused, and what it can give it gives afterwards.
fn too_large(trial: &Trial<'_>) -> Result<(), Stop> {
    let limit = trial.info.max_allocation;
    let all = trial.info.memory_bytes.unwrap_or(u64::MAX);
    let mut too_large = vec![u64::MAX, u64::MAX / 2];
    too_large.extend(limit.min(all).checked_add(1));
    for bytes in too_large {
        if bytes > limit.min(1 << 60) {
            refused("more than the largest allocation", bytes, trial.device.allocate(bytes))?;
        }
        let small = tensor(&allocate(trial, 64)?, 0, 64)?;
        let mut stream = trial.stream()?;
        let want = trial.bytes(bytes, 64);
        stream.write(&small, &want).map_err(|error| failed("writing after a refused allocation", error))?;
        same("after a refused allocation", &read(&mut *stream, &small)?, &want)?;
    }
    Ok(())
}

/// Memory is given, used and let go many times over; `in_all` bytes in the large ones.
fn churn(trial: &Trial<'_>, rounds: u64, in_all: u64) -> Result<(), Stop> {
    const USED: usize = 4096;
    // One round in 8 is large: a device may have to touch all of what it gives.
    let most = trial.info.max_allocation.min(trial.info.memory_bytes.unwrap_or(u64::MAX) / 4);
    let large = (in_all / (rounds / 8).max(1)).min(most).max(USED as u64);
    let mut stream = trial.stream()?;
    let keeper = tensor(&allocate(trial, USED as u64)?, 0, USED)?;
    let kept = trial.bytes(0, USED);
    stream.write(&keeper, &kept).map_err(|error| failed("writing", error))?;
    for round in 1..=rounds {
        let bytes = if round % 8 == 0 { large } else { USED as u64 };
        let what = format!("round {round} of {rounds}, {bytes} bytes");
        let buffer = trial.device.allocate(bytes).map_err(|error| failed(&what, error))?;
        let (first, last) = (tensor(&buffer, 0, USED)?, tensor(&buffer, bytes - USED as u64, USED)?);
        let want = trial.bytes(round, USED);
        for part in [&first, &last] {
            stream.write(part, &want).map_err(|error| failed(&what, error))?;
        }
        if round % 16 == 0 {
            same(&format!("its first bytes in {what}"), &read(&mut *stream, &first)?, &want)?;
            same(&format!("its last bytes in {what}"), &read(&mut *stream, &last)?, &want)?;
            // By now at the latest the stream gives up what it held of earlier rounds.
            stream.synchronize().map_err(|error| failed(&what, error))?;
        }
    }
    same("a buffer that was held all the time", &read(&mut *stream, &keeper)?, &kept)
}

/// A leak shows, where the device says how much memory it has: all rounds together take twice as much.
fn churn_through_all(trial: &Trial<'_>) -> Result<(), Stop> {
    let Some(all) = trial.info.memory_bytes else { return Err(unknown_memory()) };
    churn(trial, 10_000, all.saturating_mul(2))
}

/// Operands whose owner lets go of them as soon as the operation is queued stay until it has run; memory that is given out
/// in the meantime is other memory.
fn freed_while_in_use(trial: &Trial<'_>) -> Result<(), Stop> {
    const REUSED: usize = 24;
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let (mut stream, mut other) = (trial.stream()?, trial.stream()?);
    for number in 1..4 {
        // The same in other memory, to judge by.
        let twin = work.job(trial, number)?;
        let job = work.job(trial, number)?;
        let (buffers, read_only) = (job.buffers(), job.read_only());
        job.write(&mut *stream)?;
        delay.on(&mut *stream)?; // in which its memory is somebody else's where it was given up
        job.enqueue(&mut *stream)?;
        let mut results = Vec::new();
        let mut lens = Vec::new();
        for (whole, read_only) in buffers.into_iter().zip(read_only) {
            lens.push(whole.bytes());
            results.push((!read_only).then_some(whole));
        }
        drop(job);
        // Many: a device may have memory of these sizes left that was let go earlier.
        let mut places = Vec::new();
        for len in lens.iter().cycle().take(REUSED * lens.len()) {
            let place = tensor(&allocate(trial, *len)?, 0, *len as usize)?;
            let bytes = vec![0xFF; *len as usize];
            other.write(&place, &bytes).map_err(|error| failed("writing on a second stream", error))?;
            places.push(place);
        }
        let mut after = twin.contents();
        for (bytes, result) in after.iter_mut().zip(&results) {
            if let Some(whole) = result {
                *bytes = read(&mut *stream, whole)?;
            }
        }
        other.synchronize().map_err(|error| failed("the second stream", error))?;
        twin.judge_bytes(trial, &after, "operands that were dropped once the operation was queued")?;
    }
    Ok(())
}

fn unknown_memory() -> Stop {
    Stop::Unsupported("memory_bytes must be known, got nothing".into())
}

/// A device whose memory is used up refuses in words, and gives again what is let go. One that gives more than it has by its
/// own account may: memory that nobody has touched yet need not be anywhere.
fn exhausted(trial: &Trial<'_>) -> Result<(), Stop> {
    const PARTS: u64 = 48;
    let Some(all) = trial.info.memory_bytes else { return Err(unknown_memory()) };
    let part = (all / PARTS).min(trial.info.max_allocation).max(1);
    let _alone = room::alone();
    let mut held = Vec::new();
    while held.len() as u64 <= 2 * PARTS {
        match trial.device.allocate(part) {
            Ok(buffer) => held.push(buffer),
            refusal => {
                refused("memory that is used up", part, refusal)?;
                break;
            }
        }
    }
    if held.is_empty() {
        return Err(Stop::Unsupported(format!("free memory of the device must be at least {part} bytes, got less")));
    }
    held.truncate(held.len() / 2);
    let buffer = allocate(trial, part)?;
    let len = part.min(4096) as usize;
    let (slice, want, mut stream) = (tensor(&buffer, 0, len)?, trial.bytes(1, len), trial.stream()?);
    stream.write(&slice, &want).map_err(|error| failed("writing to memory that was given back", error))?;
    same("memory that was given back", &read(&mut *stream, &slice)?, &want)
}
