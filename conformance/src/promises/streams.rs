//! Streams: each in order, several at once, from any thread.

use super::chain::Chain;
use super::delay::Delay;
use super::{Promise, Trial, broken, failed};
use crate::relation::Stop;
use crate::run::one::said;
use anychip_core::Stream;

pub(super) const PROMISES: &[Promise] = &[
    Promise::quick("streams/in_order", in_order),
    Promise::quick("streams/one_from_the_other", one_from_the_other),
    Promise::quick("streams/bytes_are_taken", bytes_are_taken),
    Promise::quick("streams/two_in_flight", |trial| in_flight(trial, 2, 6)),
    Promise::quick("streams/many_in_flight", |trial| in_flight(trial, 12, 2)),
    Promise::quick("streams/dropped_with_work", dropped_with_work),
    Promise::quick("streams/threads", threads),
    Promise::quick("streams/without_events", without_events),
];

/// Writes, operations and copies of one stream take effect one after the other.
fn in_order(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let contents = work.contents(trial)?;
    let mut job = work.job(trial, 0)?;
    let mut stream = trial.stream()?;
    let mut kept = Vec::new();
    for contents in &contents {
        delay.on(&mut *stream)?;
        job.becomes(contents);
        job.write(&mut *stream)?;
        job.enqueue(&mut *stream)?;
        kept.push(job.copied(trial, &mut *stream)?);
        // Whoever reads late reads this.
        job.poison(&mut *stream)?;
    }
    for (at, (contents, kept)) in contents.iter().zip(&kept).enumerate() {
        job.becomes(contents);
        let what = format!("the result of turn {} of 3 on one stream, each over the same operands", at + 1);
        job.judge_bytes(trial, &kept.read(&mut *stream)?, &what)?;
    }
    Ok(())
}

/// Each operation of a chain reads what the one before it wrote.
fn one_from_the_other(trial: &Trial<'_>) -> Result<(), Stop> {
    let mut stream = trial.stream()?;
    let chain = Chain::new(trial, &mut *stream)?;
    chain.ops.iter().try_for_each(|op| stream.enqueue(op)).map_err(|error| failed("the operation", error))?;
    chain.judge(trial, &mut *stream, "a chain of operations, each over the result of the one before")
}

/// The host's bytes are its own again when the call returns.
fn bytes_are_taken(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let job = work.job(trial, 1)?;
    let mut stream = trial.stream()?;
    job.poison(&mut *stream)?;
    delay.on(&mut *stream)?;
    for (whole, mut bytes) in job.buffers().iter().zip(job.contents()) {
        stream.write(whole, &bytes).map_err(|error| failed("writing an operand", error))?;
        bytes.fill(0xFF);
    }
    job.enqueue(&mut *stream)?;
    job.judge(trial, &mut *stream, "operands whose bytes were changed on the host after they were written")
}

/// Streams with work of their own at the same time.
fn in_flight(trial: &Trial<'_>, streams: u64, turns: usize) -> Result<(), Stop> {
    let work = trial.work()?;
    let mut all = Vec::new();
    for number in 0..streams {
        all.push((work.job(trial, number)?, trial.stream()?, Vec::new()));
    }
    for _ in 0..turns {
        for (job, stream, kept) in &mut all {
            job.write(&mut **stream)?;
            job.enqueue(&mut **stream)?;
            kept.push(job.copied(trial, &mut **stream)?);
            job.poison(&mut **stream)?;
        }
    }
    // The last one first: no stream owes its progress to another's.
    for (number, (job, stream, kept)) in all.iter_mut().enumerate().rev() {
        for (turn, kept) in kept.iter().enumerate() {
            let what = format!("stream {} of {streams} in flight, turn {} of {turns}", number + 1, turn + 1);
            job.judge_bytes(trial, &kept.read(&mut **stream)?, &what)?;
        }
    }
    Ok(())
}

/// Work that is queued is done, also where its stream is dropped.
fn dropped_with_work(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let job = work.job(trial, 1)?;
    let (mut first, mut second) = (trial.stream()?, trial.stream()?);
    job.poison(&mut *first)?;
    delay.on(&mut *first)?;
    job.write(&mut *first)?;
    job.enqueue(&mut *first)?;
    let done = first.mark().map_err(|error| failed("an event", error))?;
    drop(first);
    second.wait(&done).map_err(|error| failed("waiting for an event of a stream that was dropped", error))?;
    job.judge(trial, &mut *second, "work of a stream that was dropped before it was done")
}

/// A device is used from several threads, and a stream goes from one to another.
fn threads(trial: &Trial<'_>) -> Result<(), Stop> {
    const THREADS: u64 = 4;
    let work = trial.work()?;
    let work = &work;
    let on_a_thread = |number: u64, mut stream: Box<dyn Stream>| {
        for turn in 0..3 {
            let job = work.job(trial, number)?;
            job.write(&mut *stream)?;
            job.enqueue(&mut *stream)?;
            job.judge(trial, &mut *stream, &format!("thread {} of {THREADS}, turn {}", number + 1, turn + 1))?;
        }
        Ok(stream)
    };
    let streams = (0..THREADS).map(|_| trial.stream()).collect::<Result<Vec<_>, Stop>>()?;
    let streams = std::thread::scope(|scope| {
        let numbered = (0..THREADS).zip(streams);
        let all: Vec<_> = numbered.map(|(number, stream)| scope.spawn(move || on_a_thread(number, stream))).collect();
        let ended = all
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| Err(broken(format!("a thread {}", said(&*panic))))));
        ended.collect::<Result<Vec<_>, Stop>>()
    })?;
    for (number, mut stream) in (0..THREADS).zip(streams) {
        let job = work.job(trial, number)?;
        job.write(&mut *stream)?;
        job.enqueue(&mut *stream)?;
        job.judge(trial, &mut *stream, "a stream that came back from another thread")?;
    }
    Ok(())
}

/// Two streams write and use the same operands without an event between them. What lies there is undefined until written
/// again; nothing else may suffer, and then all is as it was.
fn without_events(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let (contested, beside) = (work.job(trial, 1)?, work.job(trial, 2)?);
    let (mut first, mut second) = (trial.stream()?, trial.stream()?);
    beside.write(&mut *first)?;
    for _ in 0..8 {
        for stream in [&mut first, &mut second] {
            contested.write(&mut **stream)?;
            contested.enqueue(&mut **stream)?;
        }
        beside.enqueue(&mut *first)?;
        contested.poison(&mut *second)?;
    }
    for stream in [&mut first, &mut second] {
        stream.synchronize().map_err(|error| failed("streams that used one operand without an event", error))?;
    }
    beside.judge(trial, &mut *first, "work beside what two streams wrote without an event")?;
    contested.write(&mut *second)?;
    contested.enqueue(&mut *second)?;
    contested.judge(
        trial,
        &mut *second,
        "operands that were written again after two streams wrote them without an event",
    )?;
    // Buffers go on whichever thread lets go last.
    let dropped = std::thread::scope(|scope| scope.spawn(move || drop((contested, beside))).join());
    dropped.map_err(|panic| broken(format!("letting go of buffers on another thread {}", said(&*panic))))
}
