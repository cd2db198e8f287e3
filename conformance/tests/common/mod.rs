//! A device that does everything right, but for one planted fault.
#![allow(dead_code)]

use anychip_core::{Access, Buffer, DType, Device, DeviceInfo, Event, Numerics, Op, Result, Stream, Support, Tensor};
use std::sync::Arc;

/// Runs an operation wrongly.
pub(crate) type Fault = fn(&mut Bench<'_>, &Op) -> Result<()>;

/// The device and the stream that a fault works with.
pub(crate) struct Bench<'a> {
    device: &'a dyn Device,
    stream: &'a mut dyn Stream,
}

impl Bench<'_> {
    /// Runs it rightly.
    pub(crate) fn run(&mut self, op: &Op) -> Result<()> {
        self.stream.enqueue(op)
    }

    /// Changes the bytes of a tensor.
    pub(crate) fn change(&mut self, tensor: &Tensor, f: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut bytes = vec![0; tensor.bytes() as usize];
        self.stream.read(tensor, &mut bytes)?;
        f(&mut bytes);
        self.stream.write(tensor, &bytes)
    }

    /// The operation over a copy of one operand, its bytes changed.
    pub(crate) fn with_other(&mut self, op: &Op, operand: &str, f: impl Fn(&Tensor, &mut Vec<u8>)) -> Result<Op> {
        let (device, stream) = (self.device, &mut *self.stream);
        op.rebind(&mut |name, _, tensor| {
            if name != operand {
                return Ok(tensor.clone());
            }
            let other = device.tensor(tensor.dtype(), tensor.sizes())?;
            let mut bytes = vec![0; tensor.bytes() as usize];
            stream.read(tensor, &mut bytes)?;
            f(tensor, &mut bytes);
            stream.write(&other, &bytes)?;
            Ok(other)
        })
    }
}

/// The first operand of one kind that has any bytes.
pub(crate) fn operand(op: &Op, is: impl Fn(Access, &Tensor) -> bool) -> Option<Tensor> {
    op.operands().into_iter().find(|(_, access, t)| t.bytes() > 0 && is(*access, t)).map(|(_, _, tensor)| tensor)
}

/// A byte next to a tensor, in the same buffer.
pub(crate) fn beside(tensor: &Tensor, offset: u64) -> Result<Tensor> {
    Ok(Tensor::new(tensor.buffer(), offset, DType::U8, &[1])?)
}

pub(crate) struct Faulty {
    inner: Arc<dyn Device>,
    fault: Fault,
}

impl Faulty {
    pub(crate) fn new(fault: Fault) -> Faulty {
        Faulty { inner: anychip_cpu::open().into(), fault }
    }
}

impl Device for Faulty {
    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.inner.allocate(bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        Ok(Box::new(FaultyStream { device: self.inner.clone(), stream: self.inner.open_stream()?, fault: self.fault }))
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
}

impl Stream for FaultyStream {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.stream.write(to, bytes)
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.stream.read(from, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        (self.fault)(&mut Bench { device: &*self.device, stream: &mut *self.stream }, op)
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

/// A device that has memory and no operation.
pub(crate) struct Bare(pub(crate) Box<dyn Device>);

impl Device for Bare {
    fn info(&self) -> DeviceInfo {
        self.0.info()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.0.allocate(bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        Ok(Box::new(BareStream(self.0.open_stream()?)))
    }
}

struct BareStream(Box<dyn Stream>);

impl Stream for BareStream {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.0.write(to, bytes)
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.0.read(from, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        Support::unsupported("operation", "none", op.name()).require("bare", op.name())
    }

    fn synchronize(&mut self) -> Result<()> {
        self.0.synchronize()
    }

    fn mark(&mut self) -> Result<Event> {
        self.0.mark()
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.0.wait(event)
    }
}
