//! Events: what orders two streams, and when it was.

use super::delay::Delay;
use super::job::finish;
use super::{Promise, Trial, broken, failed};
use crate::relation::Stop;
use anychip_core::{Event, Stream};

pub(super) const PROMISES: &[Promise] = &[
    Promise::quick("events/order", order),
    Promise::quick("events/around_a_ring", around_a_ring),
    Promise::quick("events/of_this_stream", of_this_stream),
    Promise::quick("events/times", times),
];

fn mark(stream: &mut dyn Stream) -> Result<Event, Stop> {
    stream.mark().map_err(|error| failed("an event", error))
}

fn wait(stream: &mut dyn Stream, event: &Event) -> Result<(), Stop> {
    stream.wait(event).map_err(|error| failed("waiting for an event", error))
}

/// One stream writes the operands, another computes with them, and the first overwrites them once that is done.
fn order(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let (ahead, between) = (Delay::new(trial, &work)?, Delay::new(trial, &work)?);
    let job = work.job(trial, 1)?;
    let (mut writer, mut worker) = (trial.stream()?, trial.stream()?);
    for turn in 1..=4 {
        job.poison(&mut *writer)?;
        finish(&mut *writer)?;
        ahead.on(&mut *writer)?;
        job.write(&mut *writer)?;
        let written = mark(&mut *writer)?;
        wait(&mut *worker, &written)?;
        // Early is who does not wait for the operands; late, by what lies between, who is not waited for.
        if turn % 2 == 0 {
            between.on(&mut *worker)?;
        }
        job.enqueue(&mut *worker)?;
        let kept = job.copied(trial, &mut *worker)?;
        let used = mark(&mut *worker)?;
        wait(&mut *writer, &used)?;
        job.poison(&mut *writer)?;
        let what = format!("a stream that was to wait for another's event, turn {turn}");
        job.judge_bytes(trial, &kept.read(&mut *worker)?, &what)?;
        finish(&mut *writer)?;
    }
    Ok(())
}

/// Three streams hand the same operands on to each other, each with contents of its own.
fn around_a_ring(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let contents = work.contents(trial)?;
    let mut job = work.job(trial, 0)?;
    let mut streams = [trial.stream()?, trial.stream()?, trial.stream()?];
    let mut kept = Vec::new();
    let mut before: Option<Event> = None;
    for turn in 0..6 {
        let stream = &mut *streams[turn % 3];
        if let Some(event) = &before {
            wait(stream, event)?;
        }
        job.becomes(&contents[turn % 3]);
        job.write(stream)?;
        delay.on(stream)?; // in which a stream that did not wait overwrites them
        job.enqueue(stream)?;
        kept.push(job.copied(trial, stream)?);
        before = Some(mark(stream)?);
    }
    for (turn, kept) in kept.iter().enumerate() {
        job.becomes(&contents[turn % 3]);
        let what = format!("operands that three streams hand on by events, turn {} of 6", turn + 1);
        job.judge_bytes(trial, &kept.read(&mut *streams[turn % 3])?, &what)?;
    }
    Ok(())
}

/// Waiting for one's own event, for one that is done, and twice for the same, is nothing.
fn of_this_stream(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let job = work.job(trial, 1)?;
    let (mut stream, mut other) = (trial.stream()?, trial.stream()?);
    let earliest = mark(&mut *other)?;
    finish(&mut *other)?;
    job.write(&mut *stream)?;
    let own = mark(&mut *stream)?;
    for event in [&own, &own, &earliest, &earliest.clone()] {
        wait(&mut *stream, event)?;
    }
    job.enqueue(&mut *stream)?;
    job.judge(trial, &mut *stream, "a stream that waited for events that it need not wait for")
}

/// An event is done when the work before it is, and says when, on the clock that the device names.
fn times(trial: &Trial<'_>) -> Result<(), Stop> {
    let work = trial.work()?;
    let delay = Delay::new(trial, &work)?;
    let mut stream = trial.stream()?;
    let first = mark(&mut *stream)?;
    delay.on(&mut *stream)?;
    let last = mark(&mut *stream)?;
    let at_once = last.done_at().map_err(|error| failed("when an event was done", error))?;
    if !trial.info.asynchronous && at_once.is_none() {
        return Err(broken(
            "a device that is not asynchronous must be done when mark returns, got an event that is not",
        ));
    }
    finish(&mut *stream)?;
    let after = mark(&mut *stream)?;
    finish(&mut *stream)?;
    drop(stream);
    let mut earlier = None;
    for (name, event) in [("the first", &first), ("the second", &last), ("the third", &after)] {
        let at = event.done_at().map_err(|error| failed("when an event was done", error))?;
        let Some(at) = at else {
            return Err(broken(format!("{name} of three events is not done though the stream was synchronized")));
        };
        if at.clock != trial.info.clock {
            let (got, want) = (at.clock, trial.info.clock);
            return Err(broken(format!("{name} of three events has a {got} time, the device's clock is {want}")));
        }
        if earlier.is_some_and(|earlier| at.nanos < earlier) {
            return Err(broken(format!("{name} of three events of a stream was done before the one before it")));
        }
        earlier = Some(at.nanos);
    }
    last.since(&first).map_err(|error| failed("the time between two events that are done", error))?;
    Ok(())
}
