//! Streams: commands that are recorded until somebody waits for them, and then submitted as one.
//!
//! The driver gives one queue. Each stream records commands of its own and submits them whole; an event submits what comes
//! before it, so that whoever waits for it is behind it in the queue.

use crate::dispatch::{self, Prepared};
use crate::event::{GpuEvent, Marked, Stamp};
use crate::plan::Plan;
use crate::shared::{Shared, Submission};
use crate::staging::Staging;
use crate::{copies, ops};
use anychip_core::{Error, Event, Invalid, Op, Recording, Result, Stream, Tensor};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use wgpu::{BufferUsages, CommandEncoder, CommandEncoderDescriptor, ComputePass, ComputePassDescriptor, MapMode};

/// Bytes of a piece of a large read or write, at most.
const PIECE: u64 = 16 << 20;
/// Staged bytes at which a stream submits.
const STAGED: u64 = 64 << 20;
/// Dispatches at which a stream submits what is queued one operation at a time, so that the device has something to do.
const DISPATCHES: usize = 256;
/// Submissions of a stream that may be under way, and what they may hold of staging memory: beyond, it waits for the first.
const UNDER_WAY: usize = 32;
const STAGED_UNDER_WAY: u64 = 2 * STAGED;

pub(crate) struct GpuStream {
    shared: Arc<Shared>,
    // Before the encoder, whose commands it records.
    pass: Option<ComputePass<'static>>,
    encoder: Option<CommandEncoder>,
    dispatches: usize,
    staging: Staging,
    /// Memory between the kernels of one operation, used again by the next.
    scratch: Vec<wgpu::Buffer>,
    /// What reads come back through.
    readback: Option<wgpu::Buffer>,
    /// Submissions that nobody has waited for, with what each has of staging memory.
    under_way: VecDeque<(Submission, u64)>,
    failed: Option<Error>,
}

/// What a recording keeps: everything but the commands themselves, which a driver's buffer holds only once.
struct Kept {
    steps: Vec<Prepared>,
    moved: u64,
}

impl GpuStream {
    pub(crate) fn new(shared: Arc<Shared>) -> GpuStream {
        GpuStream {
            shared,
            pass: None,
            encoder: None,
            dispatches: 0,
            staging: Staging::default(),
            scratch: Vec::new(),
            readback: None,
            under_way: VecDeque::new(),
            failed: None,
        }
    }

    /// Bytes of a piece of a large read or write: within one buffer of an allocation that has several.
    fn piece(&self) -> u64 {
        PIECE.min(self.shared.limits.part_bytes())
    }

    /// Whether calls may go on.
    fn ready(&self) -> Result<()> {
        self.shared.alive()?;
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// What is queued cannot be done, and every later call says so.
    fn fail(&mut self, why: &Error) {
        (self.pass, self.encoder, self.dispatches) = (None, None, 0);
        self.failed.get_or_insert(why.clone());
    }

    /// Where commands other than dispatches are recorded.
    pub(crate) fn encoder(&mut self) -> Result<&mut CommandEncoder> {
        if let Some(pass) = self.pass.take() {
            self.shared.guarded(0, || drop(pass))?;
        }
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => {
                let device = &self.shared.device;
                self.shared.guarded(0, || device.create_command_encoder(&CommandEncoderDescriptor::default()))?
            }
        };
        Ok(self.encoder.insert(encoder))
    }

    fn dispatch(&mut self, steps: &[Prepared], moved: u64) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => self.encoder()?.begin_compute_pass(&ComputePassDescriptor::default()).forget_lifetime(),
        };
        steps.iter().for_each(|step| step.record(&mut pass));
        self.pass = Some(pass);
        self.dispatches += steps.len();
        self.shared.counters.dispatches.fetch_add(steps.len() as u64, Ordering::Relaxed);
        self.shared.counters.moved.fetch_add(moved, Ordering::Relaxed);
        Ok(())
    }

    /// Submits what is recorded, if anything is.
    fn submit(&mut self) -> Result<Option<Submission>> {
        self.ready().and_then(|()| self.submit_recorded()).inspect_err(|error| self.fail(error))
    }

    fn submit_recorded(&mut self) -> Result<Option<Submission>> {
        let shared = self.shared.clone();
        let (pass, Some(encoder)) = (self.pass.take(), self.encoder.take()) else { return Ok(None) };
        self.dispatches = 0;
        let staged = self.staging.bytes();
        let closed = self.staging.close();
        // What is wrong with a command is told when all are finished.
        let commands = shared.guarded(0, || {
            drop(pass);
            encoder.finish()
        })?;
        let submission = shared.submit(commands)?;
        self.staging.take_back(closed);
        self.under_way.push_back((submission.clone(), staged));
        let too_many = |all: &VecDeque<(Submission, u64)>| {
            all.len() > UNDER_WAY || all.iter().map(|(_, staged)| staged).sum::<u64>() > STAGED_UNDER_WAY
        };
        while too_many(&self.under_way) {
            let Some((first, _)) = self.under_way.pop_front() else { break };
            shared.wait(&first)?;
        }
        Ok(Some(submission))
    }

    /// Bytes of staging memory that the device may still copy from, or will.
    #[cfg(test)]
    pub(crate) fn staged(&self) -> u64 {
        self.staging.bytes() + self.under_way.iter().map(|(_, staged)| staged).sum::<u64>()
    }

    /// Submissions that nobody has waited for.
    #[cfg(test)]
    pub(crate) fn submissions(&self) -> usize {
        self.under_way.len()
    }

    /// Waits for all that was submitted.
    fn finish(&mut self) -> Result<()> {
        let last = self.under_way.drain(..).next_back();
        let waited = match last {
            Some((last, _)) => self.shared.wait(&last),
            None => self.shared.poll(),
        };
        waited.inspect_err(|error| self.fail(error))
    }

    /// Runs the kernels of a plan.
    fn run(&mut self, plan: &Plan) -> Result<()> {
        dispatch::grow(&self.shared, plan, &mut self.scratch)?;
        let steps = dispatch::prepare(&self.shared, plan, &self.scratch)?;
        self.dispatch(&steps, plan.moved)
    }

    fn write_piece(&mut self, to: &Tensor, at: u64, bytes: &[u8]) -> Result<()> {
        let shared = self.shared.clone();
        let (start, len) = (to.offset() + at, bytes.len() as u64);
        let words = copies::whole_words(start, len, to.buffer().bytes());
        let (staged, from) = self.staging.put(&shared, bytes)?;
        let staged = staged.clone();
        match words {
            Some(len) => {
                let (buffer, start) = shared.located(to.buffer(), start, len)?;
                self.encoder()?.copy_buffer_to_buffer(&staged, from, buffer, start, len);
            }
            None => {
                // Kernels do not read staging memory.
                let between = shared.buffer(len)?;
                let plan = copies::plan(shared.limits, to.buffer(), start, len);
                let steps = dispatch::prepare(&shared, &plan, std::slice::from_ref(&between))?;
                self.encoder()?.copy_buffer_to_buffer(&staged, from, &between, 0, len.next_multiple_of(4));
                self.dispatch(&steps, plan.moved)?;
            }
        }
        // One batch is filled while the device copies from the one before.
        if self.staging.bytes() >= STAGED { self.submit().map(drop) } else { Ok(()) }
    }

    fn read_piece(&mut self, from: &Tensor, at: u64, bytes: &mut [u8]) -> Result<()> {
        let shared = self.shared.clone();
        let (start, len) = (from.offset() + at, bytes.len() as u64);
        let (first, end) = (start / 4 * 4, (start + len).next_multiple_of(4));
        let (buffer, place) = shared.located(from.buffer(), first, end - first)?;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let readback = match self.readback.take() {
            Some(readback) if readback.size() >= end - first => readback,
            _ => shared.buffer_for((end - first).max(4096), usage, false)?,
        };
        self.encoder()?.copy_buffer_to_buffer(buffer, place, &readback, 0, end - first);
        self.submit()?;
        shared.counters.read_back.fetch_add(len, Ordering::Relaxed);
        let slice = readback.slice(..end - first);
        let (done, mapped) = std::sync::mpsc::channel();
        shared.guarded(0, || {
            slice.map_async(MapMode::Read, move |result| {
                // Nobody waits any more where the stream is gone.
                let _ = done.send(result);
            })
        })?;
        self.finish()?;
        // Another thread that looked at the same time may be the one that is told, and tells us.
        let mapped = loop {
            match mapped.recv_timeout(Duration::from_millis(1)) {
                Err(RecvTimeoutError::Timeout) => shared.poll()?,
                other => break other,
            }
        };
        mapped.map_err(|error| shared.refused(error))?.map_err(|error| shared.refused(error))?;
        let skipped = (start - first) as usize;
        {
            let view = slice.get_mapped_range().map_err(|error| shared.refused(error))?;
            bytes.copy_from_slice(&view[skipped..skipped + bytes.len()]);
        }
        readback.unmap();
        self.readback = Some(readback);
        Ok(())
    }

    fn plan(&self, op: &Op) -> Result<Plan> {
        self.shared.info.check_op(op)?;
        ops::plan(op, &self.shared.limits).map_err(|reason| {
            let device = self.shared.info.name.clone();
            Error::Unsupported { device, op: op.name(), reason }
        })
    }
}

impl Stream for GpuStream {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.ready()?;
        self.shared.info.check_tensor(to, bytes.len())?;
        for (at, len) in copies::pieces([to.offset()], to.bytes(), self.piece()) {
            let written = self.write_piece(to, at, &bytes[at as usize..(at + len) as usize]);
            // The first piece fails with nothing queued. A later one leaves half of a write behind.
            written.inspect_err(|error| {
                if at > 0 {
                    self.fail(error)
                }
            })?;
        }
        Ok(())
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.ready()?;
        self.shared.info.check_tensor(from, bytes.len())?;
        if bytes.is_empty() {
            return self.synchronize();
        }
        let mut pieces = copies::pieces([from.offset()], from.bytes(), self.piece());
        pieces.try_for_each(|(at, len)| self.read_piece(from, at, &mut bytes[at as usize..(at + len) as usize]))
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        self.ready()?;
        let plan = self.plan(op)?;
        self.run(&plan)?;
        if self.dispatches >= DISPATCHES { self.submit().map(drop) } else { Ok(()) }
    }

    fn synchronize(&mut self) -> Result<()> {
        self.submit()?;
        self.finish()
    }

    fn mark(&mut self) -> Result<Event> {
        self.ready()?;
        let shared = self.shared.clone();
        let stamp = Stamp::new(&shared)?;
        let marked = Marked::here(stamp, self.encoder()?);
        let submission = self.submit()?.ok_or_else(|| shared.failed("an event without commands"))?;
        Ok(Event::new(shared.info.id, marked.submitted(&shared, &submission)))
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.ready()?;
        self.shared.info.check_event(event)?;
        // In one queue nothing has to be done: what comes before the event was submitted when it was marked, and all that
        // this stream submits from now on is behind it. Only what will never happen is not waited for.
        match event.state::<GpuEvent>().and_then(GpuEvent::failure) {
            Some(why) => {
                self.fail(&why);
                Err(why)
            }
            None => Ok(()),
        }
    }

    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        self.ready()?;
        let shared = self.shared.clone();
        // That both are this device's is said before what else is wrong with them.
        for tensor in [from, to] {
            shared.memory(tensor.buffer())?;
        }
        if from.bytes() != to.bytes() {
            return Err(Invalid::WrongLength { want: to.bytes(), got: from.bytes() }.into());
        }
        if from.buffer().id() == to.buffer().id() {
            let (written, other) = ("the target".into(), "the source".into());
            return Err(Invalid::Aliased { op: "copy", written, other }.into());
        }
        if from.bytes() == 0 {
            return Ok(());
        }
        match copies::whole_words(to.offset(), to.bytes(), to.buffer().bytes()) {
            Some(len) if from.offset().is_multiple_of(4) => {
                for (at, len) in copies::pieces([from.offset(), to.offset()], len, shared.limits.part_bytes()) {
                    let (source, start) = shared.located(from.buffer(), from.offset() + at, len)?;
                    let (target, place) = shared.located(to.buffer(), to.offset() + at, len)?;
                    self.encoder()?.copy_buffer_to_buffer(source, start, target, place, len);
                }
                Ok(())
            }
            _ => self.run(&copies::between(shared.limits, from, to)),
        }
    }

    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        self.ready()?;
        let plans = ops.iter().map(|op| self.plan(op)).collect::<Result<Vec<_>>>()?;
        // Operations of a stretch run one after the other: they share scratch memory.
        let mut scratch = Vec::new();
        plans.iter().try_for_each(|plan| dispatch::grow(&self.shared, plan, &mut scratch))?;
        let mut steps = Vec::new();
        for plan in &plans {
            steps.extend(dispatch::prepare(&self.shared, plan, &scratch)?);
        }
        let moved = plans.iter().map(|plan| plan.moved).fold(0, u64::saturating_add);
        Ok(Recording::kept_as(ops, Box::new(Kept { steps, moved })))
    }

    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        self.ready()?;
        if recording.device().is_some_and(|device| device != self.shared.info.id) {
            return Err(Error::Foreign { device: self.shared.info.name.clone(), what: "a recording" });
        }
        if self.dispatches >= DISPATCHES {
            self.submit()?;
        }
        for (tensor, bytes) in updates {
            self.write(tensor, bytes)?;
        }
        match recording.kept::<Kept>() {
            // Submitted whole, by whoever waits for it: a token is one submission.
            Some(Kept { steps, moved }) => self.dispatch(steps, *moved),
            None => recording.ops().iter().try_for_each(|op| self.enqueue(op)),
        }
    }
}

impl Drop for GpuStream {
    fn drop(&mut self) {
        // Queued work is done also where its stream goes. That it fails concerns nobody any more.
        let _ = self.submit();
    }
}
