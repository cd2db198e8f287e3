//! A correct device with one fault.

use super::Fault;
use super::bench::{Bench, Remembered};
use anychip_core::{Buffer, Device, DeviceInfo, Event, Numerics, Op, Result, Stream, Support, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// A device that does everything right but for one fault. It declares what the correct device declares.
pub struct Faulty {
    inner: Arc<dyn Device>,
    fault: Fault,
    remembered: Arc<Mutex<Remembered>>,
}

/// `correct` with a fault.
pub fn faulty(correct: Arc<dyn Device>, fault: Fault) -> Faulty {
    Faulty { inner: correct, fault, remembered: Arc::default() }
}

impl Device for Faulty {
    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.inner.allocate(bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        let (device, stream) = (self.inner.clone(), self.inner.open_stream()?);
        Ok(Box::new(FaultyStream { device, stream, fault: self.fault, remembered: self.remembered.clone() }))
    }

    fn supports(&self, op: &Op) -> Support {
        self.inner.supports(op)
    }

    fn numerics(&self, op: &Op) -> Numerics {
        self.inner.numerics(op)
    }
}

struct FaultyStream {
    device: Arc<dyn Device>,
    stream: Box<dyn Stream>,
    fault: Fault,
    remembered: Arc<Mutex<Remembered>>,
}

impl Stream for FaultyStream {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.stream.write(to, bytes)
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.stream.read(from, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        if !self.fault.ops.contains(&op.name()) {
            return self.stream.enqueue(op);
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = &mut *self.stream;
        (self.fault.run)(&mut Bench { device: &*self.device, stream, remembered: &mut remembered }, op)
    }

    fn synchronize(&mut self) -> Result<()> {
        self.stream.synchronize()
    }

    fn mark(&mut self) -> Result<Event> {
        self.stream.mark()
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.stream.wait(event)
    }
}
