//! Streams: commands that are recorded until somebody waits for them, and then submitted as one.
//!
//! The driver gives one queue. Each stream records commands of its own and submits them whole; an event submits what comes
//! before it, so that whoever waits for it is behind it in the queue.

use crate::dispatch::{self, Prepared};
use crate::event::{self, Marked};
use crate::plan::Plan;
use crate::shared::Shared;
use crate::staging::Staging;
use crate::{copies, ops};
use anychip_core::{Error, Event, Invalid, Op, Recording, Result, Stream, Tensor};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wgpu::{BufferUsages, CommandEncoder, CommandEncoderDescriptor, ComputePass, ComputePassDescriptor, MapMode};

/// Bytes of a piece of a large read or write.
const PIECE: usize = 16 << 20;
/// Staged bytes at which a stream submits.
const STAGED: u64 = 64 << 20;
/// Dispatches at which a stream submits what is queued one operation at a time, so that the device has something to do.
const DISPATCHES: usize = 256;

pub(crate) struct GpuStream {
    shared: Arc<Shared>,
    // Before the encoder, whose commands it records.
    pass: Option<ComputePass<'static>>,
    encoder: Option<CommandEncoder>,
    dispatches: usize,
    staging: Staging,
    events: Vec<Marked>,
    /// Memory between the kernels of one operation, used again by the next.
    scratch: Vec<wgpu::Buffer>,
    /// What reads come back through.
    readback: Option<wgpu::Buffer>,
    last: Option<wgpu::SubmissionIndex>,
    failed: Option<Error>,
}

/// What a recording keeps: everything but the commands themselves, which a driver's buffer holds only once.
struct Kept(Vec<Prepared>);

impl GpuStream {
    pub(crate) fn new(shared: Arc<Shared>) -> GpuStream {
        GpuStream {
            shared,
            pass: None,
            encoder: None,
            dispatches: 0,
            staging: Staging::default(),
            events: Vec::new(),
            scratch: Vec::new(),
            readback: None,
            last: None,
            failed: None,
        }
    }

    /// Whether calls may go on.
    fn ready(&self) -> Result<()> {
        self.shared.alive()?;
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Where commands other than dispatches are recorded.
    fn encoder(&mut self) -> &mut CommandEncoder {
        self.pass = None;
        let device = &self.shared.device;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&CommandEncoderDescriptor::default()))
    }

    fn dispatch(&mut self, steps: &[Prepared]) {
        if steps.is_empty() {
            return;
        }
        if self.pass.is_none() {
            let pass = self.encoder().begin_compute_pass(&ComputePassDescriptor::default()).forget_lifetime();
            self.pass = Some(pass);
        }
        if let Some(pass) = &mut self.pass {
            steps.iter().for_each(|step| step.record(pass));
        }
        self.dispatches += steps.len();
        self.shared.counters.dispatches.fetch_add(steps.len() as u64, Ordering::Relaxed);
    }

    /// Submits what is recorded.
    fn submit(&mut self) -> Result<()> {
        self.ready()?;
        self.pass = None;
        let closed = self.staging.close();
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        self.dispatches = 0;
        let shared = self.shared.clone();
        match shared.guarded(0, || shared.queue.submit([encoder.finish()])) {
            Ok(index) => self.last = Some(index),
            Err(error) => {
                self.events.drain(..).for_each(|event| event.failed(&error));
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        shared.counters.submits.fetch_add(1, Ordering::Relaxed);
        self.staging.take_back(closed);
        self.events.drain(..).for_each(|event| event.submitted(&shared));
        shared.alive()
    }

    /// Runs the kernels of a plan.
    fn run(&mut self, plan: &Plan) -> Result<()> {
        dispatch::grow(&self.shared, plan, &mut self.scratch)?;
        let steps = dispatch::prepare(&self.shared, plan, &self.scratch)?;
        self.dispatch(&steps);
        Ok(())
    }

    fn write_piece(&mut self, to: &Tensor, at: u64, bytes: &[u8]) -> Result<()> {
        let shared = self.shared.clone();
        let buffer = shared.buffer_under(to)?;
        let (start, len) = (to.offset() + at, bytes.len() as u64);
        let words = copies::whole_words(start, len, to.buffer().bytes());
        let (staged, from) = self.staging.put(&shared, bytes)?;
        let staged = staged.clone();
        match words {
            Some(len) => self.encoder().copy_buffer_to_buffer(&staged, from, buffer, start, len),
            None => {
                // Kernels do not read staging memory.
                let between = shared.buffer(len)?;
                let plan = copies::plan(shared.limits, &between, to.buffer(), start, len)?;
                let steps = dispatch::prepare(&shared, &plan.0, &plan.1)?;
                self.encoder().copy_buffer_to_buffer(&staged, from, &between, 0, len.next_multiple_of(4));
                self.dispatch(&steps);
            }
        }
        if self.staging.bytes() >= STAGED {
            // One batch is filled while the device copies from the one before.
            let before = self.last.take();
            self.submit()?;
            if before.is_some() {
                shared.wait(before)?;
            }
        }
        Ok(())
    }

    fn read_piece(&mut self, from: &Tensor, at: u64, bytes: &mut [u8]) -> Result<()> {
        let shared = self.shared.clone();
        let buffer = shared.buffer_under(from)?;
        let (start, len) = (from.offset() + at, bytes.len() as u64);
        let (first, end) = (start / 4 * 4, (start + len).next_multiple_of(4));
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let readback = match self.readback.take() {
            Some(readback) if readback.size() >= end - first => readback,
            _ => shared.buffer_for((end - first).max(4096), usage, false)?,
        };
        self.encoder().copy_buffer_to_buffer(buffer, first, &readback, 0, end - first);
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
        shared.wait(self.last.clone())?;
        match mapped.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(shared.failed(error)),
            Err(error) => return Err(shared.failed(format!("a read was not done when its work was: {error}"))),
        }
        let skipped = (start - first) as usize;
        {
            let view = slice.get_mapped_range().map_err(|error| shared.failed(error))?;
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
        let pieces = bytes.chunks(PIECE).enumerate();
        pieces.map(|(i, piece)| (i * PIECE, piece)).try_for_each(|(at, piece)| self.write_piece(to, at as u64, piece))
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.ready()?;
        self.shared.info.check_tensor(from, bytes.len())?;
        if bytes.is_empty() {
            return self.synchronize();
        }
        let pieces = bytes.chunks_mut(PIECE).enumerate();
        pieces.map(|(i, piece)| (i * PIECE, piece)).try_for_each(|(at, piece)| self.read_piece(from, at as u64, piece))
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        self.ready()?;
        let plan = self.plan(op)?;
        self.run(&plan)?;
        if self.dispatches >= DISPATCHES { self.submit() } else { Ok(()) }
    }

    fn synchronize(&mut self) -> Result<()> {
        self.submit()?;
        match self.last.take() {
            Some(last) => self.shared.wait(Some(last)),
            None => self.shared.poll(),
        }
    }

    fn mark(&mut self) -> Result<Event> {
        self.ready()?;
        let shared = self.shared.clone();
        let (event, marked) = event::mark(&shared, self.encoder())?;
        self.events.push(marked);
        self.submit()?;
        Ok(Event::new(shared.info.id, event))
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        // There is one queue, and what comes before the event was submitted when it was marked: all that is submitted from now on
        // is behind it.
        self.ready()?;
        self.shared.info.check_event(event)
    }

    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        self.ready()?;
        let shared = self.shared.clone();
        let (source, target) = (shared.buffer_under(from)?, shared.buffer_under(to)?);
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
                self.encoder().copy_buffer_to_buffer(source, from.offset(), target, to.offset(), len);
                Ok(())
            }
            _ => {
                let plan = copies::between(shared.limits, from, to)?;
                self.run(&plan)
            }
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
        Ok(Recording::kept_as(ops, Box::new(Kept(steps))))
    }

    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        self.ready()?;
        if recording.device().is_some_and(|device| device != self.shared.info.id) {
            return Err(Error::Foreign { device: self.shared.info.name.clone(), what: "a recording" });
        }
        for (tensor, bytes) in updates {
            self.write(tensor, bytes)?;
        }
        match recording.kept::<Kept>() {
            Some(Kept(steps)) => {
                self.dispatch(steps);
                Ok(())
            }
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
