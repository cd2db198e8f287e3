//! Devices, streams and events: the ten methods of a new backend, and what it gets for them.

use crate::{Buffer, Clock, DeviceId, Elapsed, Error, Numerics, Op, Recording, Result, Support, Tensor, Timestamp};
use std::any::Any;
use std::sync::Arc;

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Identity of this opened device.
    pub id: DeviceId,
    /// Name on the command line: `cpu`, `wgpu:1`, `ascend:910b`.
    pub name: String,
    /// What it is in words: the chip, the driver and its version.
    pub description: String,
    /// Memory in bytes, where known.
    pub memory_bytes: Option<u64>,
    /// Largest single allocation in bytes.
    pub max_allocation: u64,
    /// The clock of its events.
    pub clock: Clock,
    /// Whether streams run on after a call returned. A device that computes within the call is allowed, and says so.
    pub asynchronous: bool,
}

/// An opened device: it owns memory, opens streams and answers questions.
///
/// # What a new backend implements
/// Three methods here ([`info`](Device::info), [`allocate`](Device::allocate), [`open_stream`](Device::open_stream)),
/// six of [`Stream`] and one of [`EventState`]: ten in all, before any kernel. Each operation is then unsupported, with
/// that as the reason, until [`supports`](Device::supports) says otherwise; a port grows operation by operation.
/// A device that computes in host memory gets the streams and the memory from [`host`](crate::host).
///
/// # Threads
/// A device may be used from any thread. A stream belongs to one thread at a time.
pub trait Device: Send + Sync {
    /// Identity, name and limits. Cheap, never fails, also after the device was lost.
    fn info(&self) -> DeviceInfo;

    /// Memory of `bytes` bytes; zero is allowed. The contents are undefined until written.
    ///
    /// The memory is freed when the last clone of the [`Buffer`] is dropped and all work that uses it is done.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], with nothing allocated; [`Error::DeviceLost`].
    fn allocate(&self, bytes: u64) -> Result<Buffer>;

    /// A new in-order queue.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::Device`] when the driver gives no more queues.
    fn open_stream(&self) -> Result<Box<dyn Stream>>;

    /// Whether the device runs `op`, for exactly these formats and shapes. Cheap: asked before a model is loaded.
    fn supports(&self, op: &Op) -> Support {
        Support::unsupported("operation", "one the device has a kernel for", op.name())
    }

    /// What the device promises about its arithmetic in `op`.
    fn numerics(&self, _op: &Op) -> Numerics {
        Numerics::f32()
    }

    /// Operations that ran on another device on this one's behalf, with how often. Empty unless the device is a
    /// [`WithFallback`](crate::WithFallback).
    fn fallbacks(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl dyn Device + '_ {
    /// Allocates a tensor in a buffer of its own. Its contents are undefined.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`](crate::Invalid::TooLarge) for the shape, and those of [`Device::allocate`].
    pub fn tensor(&self, dtype: crate::DType, sizes: &[usize]) -> Result<Tensor> {
        let count = crate::Shape::new(sizes)?.count() as u64;
        let bytes = dtype.bytes(count).ok_or_else(|| crate::Invalid::TooLarge { got: format!("{sizes:?}") })?;
        Ok(Tensor::new(&self.allocate(bytes)?, 0, dtype, sizes)?)
    }
}

/// An in-order queue of one device: each call takes effect after all earlier ones on the same stream.
///
/// # Failure
/// A call that returns an error has queued nothing. A device that fails later, in the midst of queued work, reports it
/// at the next call on the stream, and from then on at every call.
pub trait Stream: Send {
    /// Queues writing `bytes` over the whole of `to`. `bytes` may be reused when the call returns.
    ///
    /// # Errors
    /// [`Invalid::WrongLength`](crate::Invalid::WrongLength), [`Error::Foreign`], [`Error::DeviceLost`].
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()>;

    /// Waits for all earlier work and reads the whole of `from` into `bytes`.
    ///
    /// # Errors
    /// As [`write`](Stream::write).
    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()>;

    /// Queues an operation.
    ///
    /// # Errors
    /// [`Error::Unsupported`] as [`Device::supports`] says, [`Error::Foreign`], [`Error::OutOfMemory`] for scratch
    /// memory, [`Error::DeviceLost`].
    fn enqueue(&mut self, op: &Op) -> Result<()>;

    /// Waits until all queued work is done.
    ///
    /// # Errors
    /// The first failure of queued work; [`Error::DeviceLost`].
    fn synchronize(&mut self) -> Result<()>;

    /// Marks this place in the queue. The event is done when all earlier work is.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    fn mark(&mut self) -> Result<Event>;

    /// Queues waiting for an event of another stream of the same device: later work here runs after it is done.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::DeviceLost`].
    fn wait(&mut self, event: &Event) -> Result<()>;

    /// Turns operations into something that can be run again at little cost.
    ///
    /// By default the list itself is kept. A backend that can keep more (a command buffer, a graph) puts it into the
    /// recording and overrides [`replay`](Stream::replay) as well.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a backend already knows it cannot run one of them.
    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        Ok(Recording::of_ops(ops))
    }

    /// Queues the `updates`, which replace the contents of small tensors (positions, tokens, index lists), and then
    /// the recorded operations.
    ///
    /// # Errors
    /// As [`write`](Stream::write) and [`enqueue`](Stream::enqueue).
    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        for (tensor, bytes) in updates {
            self.write(tensor, bytes)?;
        }
        recording.ops().iter().try_for_each(|op| self.enqueue(op))
    }
}

/// What a backend keeps for an event.
pub trait EventState: Any + Send + Sync {
    /// When the event was done, on the device's clock; `None` while it is not.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    fn done_at(&self) -> Result<Option<Timestamp>>;
}

/// A place in a stream. Cloning shares it.
#[derive(Clone)]
pub struct Event {
    device: DeviceId,
    state: Arc<dyn EventState>,
}

impl Event {
    /// Wraps a backend's record; called by [`Stream::mark`].
    pub fn new(device: DeviceId, state: Arc<dyn EventState>) -> Event {
        Event { device, state }
    }

    /// The device that the event belongs to.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The backend's own record, if `S` is its type.
    pub fn state<S: EventState>(&self) -> Option<&S> {
        let any: &dyn Any = &*self.state;
        any.downcast_ref()
    }

    /// When the event was done; `None` while it is not.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn done_at(&self) -> Result<Option<Timestamp>> {
        self.state.done_at()
    }

    /// Time between two events that are done.
    ///
    /// # Errors
    /// [`Error::Device`] while one of them is not done, [`Error::ClockMismatch`] across devices with different clocks.
    pub fn since(&self, earlier: &Event) -> Result<Elapsed> {
        match (self.done_at()?, earlier.done_at()?) {
            (Some(end), Some(start)) => end.since(start),
            _ => Err(Error::Device {
                device: "event".into(),
                cause: "not done yet; synchronize the stream first".into(),
            }),
        }
    }
}
