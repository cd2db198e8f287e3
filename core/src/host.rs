//! Memory, streams and events for devices that compute in host memory: the oracle, the CPU, and a port's first day.
//!
//! A backend brings one thing, [`Kernels`]; [`HostDevice`] is the rest. Work runs within the call that queues it, one
//! operation at a time per device, so that kernels may use every core without asking who else does.

pub use crate::host_memory::{free_memory, total_memory};
use crate::{
    Buffer, Clock, Device, DeviceId, DeviceInfo, Error, Event, EventState, Memory, Numerics, Op, Result, Stream,
    Support, Tensor, Timestamp,
};
use bytemuck::{AnyBitPattern, NoUninit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Instant;

/// A cache line in bytes: buffers start at one, aligned for the widest vector loads.
const LINE: usize = 64;

/// The most aligned type for which the allocator asks the system for zeroed pages. For wider ones it writes the zeros, and
/// with that touches all of the memory.
type Block = u128;

struct HostMemory {
    blocks: RwLock<Vec<Block>>,
    /// Bytes before the first line. The blocks never move.
    skipped: usize,
    bytes: u64,
    heap: Arc<Heap>,
}

impl Memory for HostMemory {}

impl Drop for HostMemory {
    fn drop(&mut self) {
        self.heap.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Heap {
    limit: u64,
    used: AtomicU64,
}

/// The operations of a host device.
pub trait Kernels: Send + Sync + 'static {
    /// Whether there is a kernel for `op`; see [`Device::supports`].
    fn supports(&self, op: &Op) -> Support;

    /// What the kernel promises; see [`Device::numerics`].
    fn numerics(&self, op: &Op) -> Numerics;

    /// Computes `op`: reads its inputs with [`read()`], writes its outputs with [`write()`].
    ///
    /// # Errors
    /// Those of [`read()`] and [`write()`], or the kernel's own.
    fn run(&self, op: &Op) -> Result<()>;

    /// What time it is on the device's own clock, for kernels that have one: those of a simulated machine. Events are then
    /// timed by it, else by the host's.
    fn now(&self) -> Option<Timestamp> {
        None
    }
}

/// A device whose memory is the host's.
pub struct HostDevice<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    info: DeviceInfo,
    heap: Arc<Heap>,
    kernels: K,
    origin: Instant,
    // One operation at a time: kernels own all cores while they run, and no two ever contend for a buffer's lock.
    turn: Mutex<()>,
}

impl<K: Kernels> HostDevice<K> {
    /// Opens a device with at most `limit` bytes of memory.
    pub fn open(name: &str, description: &str, limit: u64, kernels: K) -> HostDevice<K> {
        let mut info = DeviceInfo::new(DeviceId::unique(), name, description);
        info.memory_bytes = Some(limit);
        info.max_allocation = limit;
        info.asynchronous = false;
        info.clock = kernels.now().map_or(Clock::Host, |now| now.clock);
        let heap = Arc::new(Heap { limit, used: AtomicU64::new(0) });
        HostDevice { shared: Arc::new(Shared { info, heap, kernels, origin: Instant::now(), turn: Mutex::new(()) }) }
    }

    /// Bytes allocated and not yet freed.
    pub fn used(&self) -> u64 {
        self.shared.heap.used.load(Ordering::Relaxed)
    }
}

impl<K: Kernels> Device for HostDevice<K> {
    fn info(&self) -> DeviceInfo {
        self.shared.info.clone()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        let Shared { info, heap, .. } = &*self.shared;
        let out_of_memory = |used: u64| Error::OutOfMemory {
            device: info.name.clone(),
            requested: bytes,
            available: heap.limit.saturating_sub(used),
        };
        let within = |used: u64| used.checked_add(bytes).filter(|&total| total <= heap.limit);
        heap.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).map_err(out_of_memory)?;
        let give_back = || {
            heap.used.fetch_sub(bytes, Ordering::Relaxed);
            out_of_memory(heap.used.load(Ordering::Relaxed))
        };
        let bytes_and_line = bytes.checked_add(LINE as u64).and_then(|all| usize::try_from(all).ok());
        let blocks = bytes_and_line.ok_or_else(give_back)?.div_ceil(size_of::<Block>());
        // Pages come zeroed from the system and are only touched when written: loading holds no second copy.
        let blocks: Vec<Block> = bytemuck::allocation::try_zeroed_vec(blocks).map_err(|()| give_back())?;
        let skipped = bytemuck::cast_slice::<Block, u8>(&blocks).as_ptr().align_offset(LINE).min(LINE);
        let memory = HostMemory { blocks: RwLock::new(blocks), skipped, bytes, heap: heap.clone() };
        Ok(Buffer::new(info.id, bytes, Box::new(memory)))
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        Ok(Box::new(HostStream { shared: self.shared.clone() }))
    }

    fn supports(&self, op: &Op) -> Support {
        self.shared.kernels.supports(op)
    }

    fn numerics(&self, op: &Op) -> Numerics {
        self.shared.kernels.numerics(op)
    }
}

struct HostStream<K> {
    shared: Arc<Shared<K>>,
}

impl<K> HostStream<K> {
    fn turn(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data of its own, so a kernel that panicked elsewhere leaves nothing broken behind.
        self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kernels> Stream for HostStream<K> {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.shared.info.check_tensor(to, bytes.len())?;
        let _turn = self.turn();
        write(to)?.bytes_mut().copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.shared.info.check_tensor(from, bytes.len())?;
        let _turn = self.turn();
        bytes.copy_from_slice(read(from)?.bytes());
        Ok(())
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        let info = &self.shared.info;
        info.check_op(op)?;
        self.shared.kernels.supports(op).require(&info.name, op.name())?;
        let _turn = self.turn();
        self.shared.kernels.run(op)
    }

    fn synchronize(&mut self) -> Result<()> {
        Ok(())
    }

    fn mark(&mut self) -> Result<Event> {
        let host = || Timestamp { clock: Clock::Host, nanos: self.shared.origin.elapsed().as_nanos() as u64 };
        let state = HostEvent(self.shared.kernels.now().unwrap_or_else(host));
        Ok(Event::new(self.shared.info.id, Arc::new(state)))
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        // An event exists only once the work before it has run.
        self.shared.info.check_event(event)
    }
}

struct HostEvent(Timestamp);

impl EventState for HostEvent {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        Ok(Some(self.0))
    }
}

/// A tensor's bytes, held for reading.
pub struct Read<'a> {
    blocks: RwLockReadGuard<'a, Vec<Block>>,
    start: usize,
    len: usize,
}

/// A tensor's bytes, held for writing.
pub struct Write<'a> {
    blocks: RwLockWriteGuard<'a, Vec<Block>>,
    start: usize,
    len: usize,
}

impl Read<'_> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[self.start..self.start + self.len]
    }

    /// The bytes as elements of `T`, which is no wider than the tensor's own elements: a tensor is aligned for those. A
    /// `T` that does not fit gives an empty slice.
    pub fn as_slice<T: AnyBitPattern>(&self) -> &[T] {
        bytemuck::try_cast_slice(self.bytes()).unwrap_or_default()
    }
}

impl Write<'_> {
    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[self.start..self.start + self.len]
    }

    /// The bytes as elements of `T`; see [`Read::as_slice`].
    pub fn as_mut_slice<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        bytemuck::try_cast_slice_mut(self.bytes_mut()).unwrap_or_default()
    }
}

fn memory(tensor: &Tensor) -> Result<(&HostMemory, usize, usize)> {
    let memory = tensor.buffer().memory::<HostMemory>();
    let memory = memory.ok_or_else(|| Error::Foreign { device: "host memory".into(), what: "a tensor" })?;
    // The tensor's constructor has checked that both fit the buffer, which fits this address space.
    Ok((memory, memory.skipped + tensor.offset() as usize, tensor.bytes() as usize))
}

fn busy<T>(_: TryLockError<T>) -> Error {
    // Unreachable through a stream: an operation's written buffers are its own, and the device runs one at a time.
    Error::Device { device: "host memory".into(), cause: "a buffer is read and written at the same time".into() }
}

/// The elements of a host tensor.
///
/// # Errors
/// [`Error::Foreign`] when the tensor is not in host memory.
pub fn read(tensor: &Tensor) -> Result<Read<'_>> {
    let (memory, start, len) = memory(tensor)?;
    let blocks = match memory.blocks.try_read() {
        Ok(blocks) => blocks,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(error) => return Err(busy(error)),
    };
    Ok(Read { blocks, start, len })
}

/// The elements of a host tensor, to be overwritten.
///
/// # Errors
/// [`Error::Foreign`] when the tensor is not in host memory.
pub fn write(tensor: &Tensor) -> Result<Write<'_>> {
    let (memory, start, len) = memory(tensor)?;
    let blocks = match memory.blocks.try_write() {
        Ok(blocks) => blocks,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(error) => return Err(busy(error)),
    };
    Ok(Write { blocks, start, len })
}
