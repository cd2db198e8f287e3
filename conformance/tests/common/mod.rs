//! A device that does everything right, but for one planted fault.
#![allow(dead_code)]

use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
use anychip_core::{Access, DType, Device, Op, Result, Stream, Support, Tensor};

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

/// The CPU, every operation of which goes through the fault.
pub(crate) fn faulty(fault: Fault) -> impl Device {
    Wrapped::new(anychip_cpu::open(), Faulty(fault))
}

/// A fault of `rope` alone.
pub(crate) fn rope_backwards(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let op = match op.name() {
        "rope" => &bench.with_other(op, "x", |_, bytes| bytes.iter_mut().skip(1).step_by(2).for_each(|b| *b ^= 1))?,
        _ => op,
    };
    bench.run(op)
}

struct Faulty(Fault);

impl Hooks for Faulty {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::ByOperation
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        (self.0)(&mut Bench { device: inner.device, stream: &mut *inner.stream }, op)
    }
}

/// A device that has memory and no operation.
pub(crate) fn bare() -> impl Device {
    Wrapped::new(anychip_cpu::open(), Bare)
}

struct Bare;

impl Hooks for Bare {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::ByOperation
    }

    fn supports(&self, _: &dyn Device, op: &Op) -> Support {
        Support::unsupported("operation", "one the device has a kernel for", op.name())
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        self.supports(inner.device, op).require("bare", op.name())
    }
}
