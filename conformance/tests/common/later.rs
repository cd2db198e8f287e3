//! A device whose streams run on after a call returned, each on a thread of its own, with one slip if asked for.
#![allow(dead_code)]

#[path = "later_stream.rs"]
mod stream;

use anychip_core::{Buffer, Device, DeviceId, DeviceInfo, Error, Memory, Op, Result, Stream, Support, Tensor};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stream::LaterStream;

/// What an operation takes at least: far more than to queue it.
const TAKES: Duration = Duration::from_micros(400);

/// What the device does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    Nothing,
    IgnoresEvents,
    FreesEarly,
    WritesOvertake,
    CopiesOvertake,
    OperationsSwap,
    DropsQueuedWork,
    MixesStreams,
    RunsForeignMemory,
    TakesForeignEvents,
    TakesShortWrites,
    WritesBeforeRefusing,
    Leaks,
    WordsOutOfMemoryOtherwise,
    GivesMoreThanItHas,
    SharesMemory,
    RoundsOffsets,
    SpillsWrites,
    ForgetsUpdates,
    UpdatesLate,
    EventsNeverDone,
    TimesOfAnotherClock,
    ChangesItsMind,
    BreaksAfterRefusal,
    RefusesOwnEvents,
    NeverGivesAgain,
    SaysOtherwiseOverNothing,
    RunsWhatIsUnsupported,
    EndsWithTheDevice,
    LosesItself,
    SaysDeviceInstead,
}

/// The device. `lost` is set from outside, or by the slip.
pub(crate) struct Later {
    shared: Arc<Shared>,
}

struct Shared {
    info: DeviceInfo,
    inner: Box<dyn Device>,
    slip: Slip,
    /// Memory that was let go, for the next allocation of the same size.
    pool: Arc<Mutex<Vec<Buffer>>>,
    last_op: Mutex<Option<Op>>,
    leaked: Mutex<Vec<Buffer>>,
    asked: AtomicU64,
    refused: AtomicBool,
    lost: Arc<AtomicBool>,
    origin: Instant,
}

struct Place {
    inner: Option<Buffer>,
    pool: Arc<Mutex<Vec<Buffer>>>,
}

impl Memory for Place {}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).extend(self.inner.take());
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if self.shared.slip == Slip::EndsWithTheDevice {
            self.shared.lost.store(true, Ordering::Relaxed);
        }
    }
}

impl Later {
    pub(crate) const MEMORY: u64 = 1 << 30;

    pub(crate) fn new(slip: Slip) -> Later {
        let inner = anychip_reference::open(Later::MEMORY);
        let mut info = DeviceInfo::new(DeviceId::unique(), "later", "threads that run on");
        info.memory_bytes = Some(Later::MEMORY);
        info.max_allocation = Later::MEMORY / 2;
        let shared = Shared {
            info,
            inner,
            slip,
            pool: Arc::default(),
            last_op: Mutex::default(),
            leaked: Mutex::default(),
            asked: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            lost: Arc::default(),
            origin: Instant::now(),
        };
        Later { shared: Arc::new(shared) }
    }

    /// What losing it takes.
    pub(crate) fn plug(&self) -> Arc<AtomicBool> {
        self.shared.lost.clone()
    }
}

impl Shared {
    fn alive(&self) -> Result<()> {
        let device = self.info.name.clone();
        match self.lost.load(Ordering::Relaxed) {
            true if self.slip == Slip::SaysDeviceInstead => Err(Error::Device { device, cause: "something".into() }),
            true => Err(Error::DeviceLost { device, cause: "the plug was pulled".into() }),
            false => Ok(()),
        }
    }

    /// The inner device's tensor behind one of this device's.
    fn inside(&self, tensor: &Tensor) -> Result<Tensor> {
        let foreign = || Error::Foreign { device: self.info.name.clone(), what: "a tensor" };
        let inner = tensor.buffer().memory::<Place>().and_then(|place| place.inner.as_ref()).ok_or_else(foreign)?;
        let offset = match self.slip {
            Slip::RoundsOffsets => tensor.offset() / 4 * 4,
            _ => tensor.offset(),
        };
        let offset = offset.min(inner.bytes() - tensor.bytes());
        Ok(Tensor::new(inner, offset, tensor.dtype(), tensor.sizes())?)
    }
}

impl Device for Later {
    fn info(&self) -> DeviceInfo {
        let mut info = self.shared.info.clone();
        if self.shared.slip == Slip::ChangesItsMind {
            info.max_allocation += self.shared.asked.fetch_add(1, Ordering::Relaxed);
        }
        info
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        let Shared { info, inner, slip, pool, .. } = &*self.shared;
        self.shared.alive()?;
        if *slip == Slip::NeverGivesAgain && self.shared.refused.load(Ordering::Relaxed) {
            return Err(Error::OutOfMemory { device: info.name.clone(), requested: bytes, available: 0 });
        }
        if bytes > info.max_allocation {
            let (device, requested, available) = (info.name.clone(), bytes, info.max_allocation);
            return match slip {
                Slip::WordsOutOfMemoryOtherwise => Err(Error::Device { device, cause: "no memory".into() }),
                Slip::GivesMoreThanItHas => self.allocate(64).map(|buffer| {
                    Buffer::new(
                        info.id,
                        bytes,
                        Box::new(Place {
                            inner: buffer.memory::<Place>().and_then(|place| place.inner.clone()),
                            pool: Arc::default(),
                        }),
                    )
                }),
                _ => Err(Error::OutOfMemory { device, requested, available }),
            };
        }
        let mut free = pool.lock().unwrap_or_else(PoisonError::into_inner);
        let known = free.iter().position(|buffer| buffer.bytes() == bytes);
        let buffer = match known {
            Some(at) if *slip == Slip::SharesMemory => free[at].clone(),
            Some(at) if *slip != Slip::Leaks => free.swap_remove(at),
            _ => {
                free.retain(|buffer| buffer.bytes() < 1 << 20 || *slip == Slip::Leaks);
                inner.allocate(bytes).inspect_err(|_| self.shared.refused.store(true, Ordering::Relaxed))?
            }
        };
        if *slip == Slip::SharesMemory {
            free.push(buffer.clone());
        }
        Ok(Buffer::new(info.id, bytes, Box::new(Place { inner: Some(buffer), pool: pool.clone() })))
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        self.shared.alive()?;
        Ok(Box::new(LaterStream::open(&self.shared)?))
    }

    fn supports(&self, op: &Op) -> Support {
        let phantom = op.device().is_some_and(|device| device != self.shared.info.id);
        let no = || Support::unsupported("operation", "any other", op.name());
        match self.shared.slip {
            Slip::SaysOtherwiseOverNothing if phantom => no(),
            Slip::RunsWhatIsUnsupported if op.name() == "rms_norm" => no(),
            _ => self.shared.inner.supports(op),
        }
    }
}
