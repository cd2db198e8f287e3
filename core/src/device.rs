//! Devices, streams and events: the ten methods of a new backend, and what it gets for them.

use crate::{
    Activity, Buffer, Clock, DType, DeviceId, Elapsed, Error, Invalid, Numerics, Op, Recording, Result, Shape, Support,
    Tensor, Timestamp,
};
use std::any::Any;
use std::sync::Arc;

/// What a device is. Made by [`DeviceInfo::new`], so that the contract can grow fields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Identity of this opened device.
    pub id: DeviceId,
    /// Name on the command line: `cpu`, `wgpu:1`, `ascend:910b`.
    pub name: String,
    /// What it is in words: the chip, the driver and its version.
    pub description: String,
    /// Memory in bytes, all of it, where known.
    pub memory_bytes: Option<u64>,
    /// Largest single allocation in bytes.
    pub max_allocation: u64,
    /// Operands of operations begin at multiples of this many bytes; so does every buffer. The runtime and the suite keep
    /// to it. An operand elsewhere (a view that begins inside a buffer) may be unsupported, by the rule "alignment".
    /// Reading and writing have no such rule.
    pub alignment: u64,
    /// The clock of its events.
    pub clock: Clock,
    /// Whether streams run on after a call returned. A device that computes within the call is allowed, and says so.
    pub asynchronous: bool,
}

impl DeviceInfo {
    /// A device of no known memory, whose streams are asynchronous, timed by the host, that takes operands anywhere.
    pub fn new(id: DeviceId, name: impl Into<String>, description: impl Into<String>) -> DeviceInfo {
        DeviceInfo {
            id,
            name: name.into(),
            description: description.into(),
            memory_bytes: None,
            max_allocation: u64::MAX,
            alignment: 1,
            clock: Clock::Host,
            asynchronous: true,
        }
    }

    /// What [`Stream::write`] and [`Stream::read`] check first: the tensor is this device's and has `len` bytes.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Invalid::WrongLength`].
    pub fn check_tensor(&self, tensor: &Tensor, len: usize) -> Result<()> {
        if tensor.buffer().device() != self.id {
            return Err(Error::Foreign { device: self.name.clone(), what: "a tensor" });
        }
        if tensor.bytes() != len as u64 {
            return Err(Invalid::WrongLength { want: tensor.bytes(), got: len as u64 }.into());
        }
        Ok(())
    }

    /// What [`Stream::enqueue`] checks first: the operands are this device's.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn check_op(&self, op: &Op) -> Result<()> {
        match op.device() {
            Some(device) if device != self.id => {
                Err(Error::Foreign { device: self.name.clone(), what: "an operation's operands" })
            }
            _ => Ok(()),
        }
    }

    /// What [`Stream::wait`] checks first: the event is this device's.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn check_event(&self, event: &Event) -> Result<()> {
        if event.device() == self.id {
            return Ok(());
        }
        Err(Error::Foreign { device: self.name.clone(), what: "an event" })
    }
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
/// A device may be used from any thread. A stream belongs to one thread at a time. Buffers may be dropped on any thread.
///
/// # Lifetimes
/// A stream keeps a clone of each queued [`Op`] and [`Buffer`] until the work is done (cloning is a reference count), so
/// that callers may drop theirs at once; it gives them up at the latest in [`Stream::synchronize`]. Buffers, streams,
/// events and recordings outlive the `Device` value that they came from. Dropping a stream lets queued work finish and
/// may wait for it.
///
/// # Order between streams
/// Two streams of a device are ordered by events, and by the host: what is queued anywhere after
/// [`synchronize`](Stream::synchronize) or [`read`](Stream::read) returned comes after all that these waited for. Where
/// they use one buffer without either in between and one of them writes it, its contents are undefined until written
/// again; nothing worse may happen. The unit is the buffer, not the byte: a device may move whole lines.
///
/// Several devices share nothing but the host: what goes from one to another is read and written. Collectives are not
/// part of the contract yet.
pub trait Device: Send + Sync {
    /// Identity, name and limits. Cheap, never fails, also after the device was lost.
    fn info(&self) -> DeviceInfo;

    /// Memory of `bytes` bytes; zero is allowed. The contents are undefined until written.
    ///
    /// The memory is freed when the last clone of the [`Buffer`] is dropped, which a stream's queued work also holds; a
    /// device that could reclaim memory of finished work does so before it answers that there is none.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], with nothing allocated; [`Error::DeviceLost`].
    fn allocate(&self, bytes: u64) -> Result<Buffer>;

    /// A new in-order queue.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::Device`] when the driver gives no more queues.
    fn open_stream(&self) -> Result<Box<dyn Stream>>;

    /// Whether the device runs `op`, for exactly these formats, shapes and offsets. Cheap: asked before a model is
    /// loaded, over buffers that hold nothing ([`Buffer::phantom`]); so it neither looks into memory nor at whose it is.
    /// The answer holds for the life of the device.
    fn supports(&self, op: &Op) -> Support {
        Support::unsupported("operation", "one the device has a kernel for", op.name())
    }

    /// What the device promises about its arithmetic in `op`; by default f32 within 2 ulp, and no determinism.
    fn numerics(&self, _op: &Op) -> Numerics {
        Numerics { determinism: crate::Determinism::None, ..Numerics::f32() }
    }

    /// Operations that ran on another device on this one's behalf, with how often. Empty unless the device is a
    /// [`WithFallback`](crate::WithFallback).
    fn fallbacks(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// What the device asked of its driver since it was opened, all of its streams together; `None`, the default, where it
    /// does not count. For reports: what a token costs beside arithmetic shows here.
    fn activity(&self) -> Option<Activity> {
        None
    }

    /// Allocates a tensor in a buffer of its own. Its contents are undefined.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] for the shape, and those of [`Device::allocate`].
    fn tensor(&self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        let count = Shape::new(sizes)?.count() as u64;
        let bytes = dtype.bytes(count).ok_or_else(|| Invalid::TooLarge { got: format!("{sizes:?}") })?;
        Ok(Tensor::new(&self.allocate(bytes)?, 0, dtype, sizes)?)
    }
}

/// An in-order queue of one device: each call takes effect after all earlier ones on the same stream.
///
/// # Bytes
/// Tensors are written and read as the host holds them: row-major, little-endian, packed types in their packing. Any
/// tensor can be, whole or a slice, wherever it begins; a device with stricter rules copies through memory of its own.
///
/// # Failure
/// A call other than [`replay`](Stream::replay) that returns an error has queued nothing. Queued work that fails later is
/// reported by the first call after the failure is known, at the latest by [`synchronize`](Stream::synchronize) or
/// [`read`](Stream::read), and by every later call on the stream: [`Error::Device`], or [`Error::DeviceLost`] when the
/// whole device is gone. Other streams go on, unless they wait for an event that can no longer happen: those fail with it.
pub trait Stream: Send {
    /// Queues writing `bytes` over the whole of `to`. `bytes` may be reused when the call returns, which may wait for
    /// staging memory but for no other stream.
    ///
    /// # Errors
    /// [`Invalid::WrongLength`], [`Error::Foreign`], [`Error::OutOfMemory`] for staging memory, [`Error::DeviceLost`],
    /// [`Error::Device`].
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()>;

    /// Waits for all earlier work and reads the whole of `from` into `bytes`.
    ///
    /// # Errors
    /// As [`write`](Stream::write).
    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()>;

    /// Queues an operation. An operation without output elements is no work, and a sum over nothing is 0.
    ///
    /// # Errors
    /// [`Error::Unsupported`] exactly where [`Device::supports`] says so, [`Error::Foreign`], [`Error::OutOfMemory`] for
    /// scratch memory, [`Error::DeviceLost`], [`Error::Device`].
    fn enqueue(&mut self, op: &Op) -> Result<()>;

    /// Waits until all queued work is done.
    ///
    /// # Errors
    /// The first failure of queued work; [`Error::DeviceLost`].
    fn synchronize(&mut self) -> Result<()>;

    /// Marks this place in the queue. The event is done when all earlier work is.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Device`].
    fn mark(&mut self) -> Result<Event>;

    /// Queues waiting for an event of a stream of the same device: later work here runs after it is done. The call itself
    /// need not wait. For an event of this very stream it is nothing.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::DeviceLost`], [`Error::Device`].
    fn wait(&mut self, event: &Event) -> Result<()>;

    /// Queues copying the whole of `from` over the whole of `to`, which has as many bytes and another buffer. By default
    /// through the host.
    ///
    /// # Errors
    /// As [`write`](Stream::write).
    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        let mut bytes = vec![0; from.bytes() as usize];
        self.read(from, &mut bytes)?;
        self.write(to, &bytes)
    }

    /// Turns operations into something that can be run again at little cost, on any stream of this device.
    ///
    /// By default the list itself is kept, and what cannot run is found out when it is replayed. A backend that can keep
    /// more (a command buffer, a graph) puts it into the recording and overrides [`replay`](Stream::replay) as well. Work
    /// in flight survives dropping its recording.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a backend already knows it cannot run one of them.
    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        Ok(Recording::of_ops(ops))
    }

    /// Queues the `updates` in order, each replacing the contents of a tensor of this device (positions, tokens, index
    /// lists: a few kilobytes in all), and then the recorded operations.
    ///
    /// # Errors
    /// As [`write`](Stream::write) and [`enqueue`](Stream::enqueue). After an error a beginning of the work may have been
    /// queued.
    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        for (tensor, bytes) in updates {
            self.write(tensor, bytes)?;
        }
        recording.ops().iter().try_for_each(|op| self.enqueue(op))
    }
}

/// What a backend keeps for an event.
pub trait EventState: Any + Send + Sync {
    /// When the event was done, on the device's clock; `None` while it is not. Never waits.
    ///
    /// # Errors
    /// The failure of the work before the event, when it can no longer happen; [`Error::DeviceLost`].
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
    /// As [`EventState::done_at`].
    pub fn done_at(&self) -> Result<Option<Timestamp>> {
        self.state.done_at()
    }

    /// Time between two events of one device that are done.
    ///
    /// # Errors
    /// [`Error::Foreign`] for events of two devices, whose clocks have no common origin; [`Error::Device`] while one of
    /// them is not done.
    pub fn since(&self, earlier: &Event) -> Result<Elapsed> {
        if self.device != earlier.device {
            return Err(Error::Foreign { device: "the later event's device".into(), what: "the earlier event" });
        }
        match (self.done_at()?, earlier.done_at()?) {
            (Some(end), Some(start)) => end.since(start),
            _ => Err(Error::Device {
                device: "event".into(),
                cause: "not done yet; synchronize the stream first".into(),
            }),
        }
    }
}
