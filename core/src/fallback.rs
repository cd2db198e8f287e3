//! Running what a device cannot on another one, visibly.

use crate::{
    Access, Activity, Buffer, DType, Device, DeviceInfo, Error, Event, Numerics, Op, Recording, Result, Stream,
    Support, Tensor,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

type Counts = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// A device that sends what it does not support to another device, and counts it.
///
/// Operands are copied over through the host and results back, so a fallback is slow and is meant to be seen:
/// [`Device::fallbacks`] lists every operation that took this way, and reports stamp their numbers with it.
///
/// The wrapper has the primary's identity: buffers and events of one are the other's. A recording is the primary's own
/// where it runs all of it.
pub struct WithFallback {
    primary: Arc<dyn Device>,
    fallback: Arc<dyn Device>,
    counts: Counts,
}

impl WithFallback {
    /// `primary`, with `fallback` for what it does not support.
    pub fn new(primary: Box<dyn Device>, fallback: Box<dyn Device>) -> WithFallback {
        WithFallback { primary: primary.into(), fallback: fallback.into(), counts: Counts::default() }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Device for WithFallback {
    fn info(&self) -> DeviceInfo {
        self.primary.info()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.primary.allocate(bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        Ok(Box::new(FallbackStream {
            name: self.info().name,
            primary: self.primary.open_stream()?,
            primary_device: self.primary.clone(),
            fallback: self.fallback.open_stream()?,
            device: self.fallback.clone(),
            counts: self.counts.clone(),
        }))
    }

    fn supports(&self, op: &Op) -> Support {
        match self.primary.supports(op) {
            Support::Native => Support::Native,
            Support::Unsupported(reason) => match self.fallback.supports(op) {
                Support::Native => Support::Native,
                Support::Unsupported(_) => Support::Unsupported(reason),
            },
        }
    }

    fn numerics(&self, op: &Op) -> Numerics {
        if self.primary.supports(op).is_native() { self.primary.numerics(op) } else { self.fallback.numerics(op) }
    }

    fn fallbacks(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (op, count) in self.primary.fallbacks().into_iter().chain(self.fallback.fallbacks()) {
            *all.entry(op).or_default() += count;
        }
        all.into_iter().collect()
    }

    /// The primary's, what it reads and writes for operations that run elsewhere included.
    fn activity(&self) -> Option<Activity> {
        self.primary.activity()
    }

    fn tensor(&self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.primary.tensor(dtype, sizes)
    }
}

struct FallbackStream {
    name: String,
    primary: Box<dyn Stream>,
    primary_device: Arc<dyn Device>,
    fallback: Box<dyn Stream>,
    device: Arc<dyn Device>,
    counts: Counts,
}

impl FallbackStream {
    /// Copies the operands over, runs `op` there and copies back what it wrote.
    fn run_elsewhere(&mut self, op: &Op) -> Result<()> {
        let mut copies: Vec<(Tensor, Tensor, Access)> = Vec::new();
        let device = &self.device;
        let moved = op.rebind(&mut |_, access, own| {
            let there = device.tensor(own.dtype(), own.sizes())?;
            copies.push((own.clone(), there.clone(), access));
            Ok(there)
        })?;
        device.supports(&moved).require(&self.name, op.name())?;
        for (own, there, _) in copies.iter().filter(|(_, _, access)| *access != Access::Write) {
            let mut bytes = vec![0; own.bytes() as usize];
            self.primary.read(own, &mut bytes)?;
            self.fallback.write(there, &bytes)?;
        }
        self.fallback.enqueue(&moved)?;
        for (own, there, _) in copies.iter().filter(|(_, _, access)| *access != Access::Read) {
            let mut bytes = vec![0; own.bytes() as usize];
            self.fallback.read(there, &mut bytes)?;
            self.primary.write(own, &bytes)?;
        }
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(op.name()).or_default() += 1;
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
impl Stream for FallbackStream {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.primary.write(to, bytes)
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.primary.read(from, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        // Only a refusal is sent elsewhere. Any other failure is the device's own and must be seen.
        match self.primary.enqueue(op) {
            Err(Error::Unsupported { .. }) => self.run_elsewhere(op),
            other => other,
        }
    }

    fn synchronize(&mut self) -> Result<()> {
        self.primary.synchronize()
    }

    fn mark(&mut self) -> Result<Event> {
        self.primary.mark()
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.primary.wait(event)
    }

    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        self.primary.copy(from, to)
    }

    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        if ops.iter().all(|op| self.primary_device.supports(op).is_native()) {
            return self.primary.record(ops);
        }
        Ok(Recording::kept_as(ops, Box::new(Mixed)))
    }

    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        if recording.kept::<Mixed>().is_none() {
            return self.primary.replay(recording, updates);
        }
        for (tensor, bytes) in updates {
            self.write(tensor, bytes)?;
        }
        recording.ops().iter().try_for_each(|op| self.enqueue(op))
    }
}

/// Marks a recording that the primary does not run on its own.
struct Mixed;
