//! A backend in full, outside anychip's repository: memory, a queue, and its first three operations.
//!
//! [`open`] puts it under [`WithFallback`], so that whole models run on it from the first kernel on. What ran elsewhere is
//! counted, and the suite shows it.

use anychip_core::ops::{Embed, OpKind, RmsNorm, Rounding, Swiglu};
use anychip_core::{
    Buffer, Clock, DType, Device, DeviceId, DeviceInfo, Error, Event, EventState, Memory, Op, Result, Stream, Support,
    Tensor, Timestamp, WithFallback,
};
use half::{bf16, f16};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The toy, with `fallback` for what it has no kernel for.
pub fn open(fallback: Box<dyn Device>) -> Box<dyn Device> {
    Box::new(WithFallback::new(Box::new(Toy { id: DeviceId::unique(), opened: Instant::now() }), fallback))
}

/// The device. A real one keeps a driver's handle here.
struct Toy {
    id: DeviceId,
    opened: Instant,
}

/// An allocation. A real one is a handle or an address, freed in `Drop`.
struct Block(Mutex<Vec<u8>>);

impl Memory for Block {}

impl Device for Toy {
    fn info(&self) -> DeviceInfo {
        let mut info = DeviceInfo::new(self.id, "toy", "an example: host memory, one thread");
        info.max_allocation = 8 << 30;
        info.asynchronous = false; // work runs within the call that queues it
        info
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        let info = self.info();
        if bytes > info.max_allocation {
            let (requested, available) = (bytes, info.max_allocation);
            return Err(Error::OutOfMemory { device: info.name, requested, available });
        }
        Ok(Buffer::new(self.id, bytes, Box::new(Block(Mutex::new(vec![0; bytes as usize])))))
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        Ok(Box::new(Queue { info: self.info(), opened: self.opened }))
    }

    fn supports(&self, op: &Op) -> Support {
        supports(op)
    }
}

/// What there is a kernel for. The reason of a refusal is what people read in a report.
fn supports(op: &Op) -> Support {
    match op.kind() {
        OpKind::Embed(_) | OpKind::Swiglu(_) => Support::Native,
        OpKind::RmsNorm(norm) if norm.rounding == Rounding::None => Support::Native,
        OpKind::RmsNorm(_) => Support::unsupported("rounding", "none", "bf16"),
        _ => Support::unsupported("operation", "embed, rms_norm or swiglu", op.name()),
    }
}

/// A stream without a queue.
struct Queue {
    info: DeviceInfo,
    opened: Instant,
}

impl Stream for Queue {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.info.check_tensor(to, bytes.len())?;
        block(to)?[range(to)].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.info.check_tensor(from, bytes.len())?;
        bytes.copy_from_slice(&block(from)?[range(from)]);
        Ok(())
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        self.info.check_op(op)?;
        supports(op).require(&self.info.name, op.name())?;
        match op.kind() {
            OpKind::Embed(op) => embed(op),
            OpKind::RmsNorm(op) => rms_norm(op),
            OpKind::Swiglu(op) => swiglu(op),
            _ => Ok(()), // not supported, so not reached
        }
    }

    fn synchronize(&mut self) -> Result<()> {
        Ok(())
    }

    fn mark(&mut self) -> Result<Event> {
        let nanos = self.opened.elapsed().as_nanos() as u64;
        Ok(Event::new(self.info.id, Arc::new(Done(Timestamp { clock: Clock::Host, nanos }))))
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.info.check_event(event)
    }
}

struct Done(Timestamp);

impl EventState for Done {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        Ok(Some(self.0))
    }
}

fn block(tensor: &Tensor) -> Result<MutexGuard<'_, Vec<u8>>> {
    let foreign = || Error::Foreign { device: "toy".into(), what: "a tensor" };
    let block: &Block = tensor.buffer().memory().ok_or_else(foreign)?;
    Ok(block.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A tensor is a part of its buffer.
fn range(tensor: &Tensor) -> Range<usize> {
    tensor.offset() as usize..(tensor.offset() + tensor.bytes()) as usize
}

/// Elements of a float tensor, exact.
fn load(tensor: &Tensor) -> Result<Vec<f32>> {
    let block = block(tensor)?;
    let bytes = &block[range(tensor)];
    Ok(match tensor.dtype() {
        DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    })
}

/// Rounds each element once into the tensor.
fn store(tensor: &Tensor, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = match tensor.dtype() {
        DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    block(tensor)?[range(tensor)].copy_from_slice(&bytes);
    Ok(())
}

fn embed(op: &Embed) -> Result<()> {
    let (table, d, copies) = (load(&op.table)?, op.table.size(1), op.out.size(1));
    let ids = block(&op.ids)?[range(&op.ids)].to_vec();
    let mut out = Vec::with_capacity(op.out.count());
    for id in ids.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])) {
        let row = usize::try_from(id).ok().filter(|&id| id < op.table.size(0));
        for _ in 0..copies {
            match row {
                Some(row) => out.extend_from_slice(&table[row * d..][..d]),
                None => out.resize(out.len() + d, 0.0), // a number outside the table gives zeros
            }
        }
    }
    store(&op.out, &out)
}

fn rms_norm(op: &RmsNorm) -> Result<()> {
    let (x, d) = (load(&op.x)?, op.x.size(1));
    let weight = op.weight.as_ref().map(load).transpose()?.unwrap_or_else(|| vec![1.0; d]);
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(d) {
        let mean = row.iter().map(|x| x * x).sum::<f32>() / d as f32;
        let factor = 1.0 / (mean + op.eps).sqrt();
        out.extend(row.iter().zip(&weight).map(|(x, w)| x * factor * w));
    }
    store(&op.out, &out)
}

fn swiglu(op: &Swiglu) -> Result<()> {
    let (gate, up, width) = (load(&op.gate)?, load(&op.up)?, op.gate.size(1));
    let weights = op.weights.as_ref().map(load).transpose()?.unwrap_or_else(|| vec![1.0; op.gate.size(0)]);
    // `min` and `clamp` of the standard library lose or keep a NaN; the contract passes it on.
    let most = |x: f32, limit: f32| if x > limit { limit } else { x };
    let one = |(i, (&gate, &up)): (usize, (&f32, &f32))| {
        let gate = most(gate, op.limit);
        weights[i / width] * (gate / (1.0 + (-gate).exp())) * -most(-most(up, op.limit), op.limit)
    };
    store(&op.out, &gate.iter().zip(&up).enumerate().map(one).collect::<Vec<f32>>())
}
