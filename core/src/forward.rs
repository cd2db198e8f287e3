//! Wrappers that change a few things of a device and pass on the rest.
//!
//! A wrapper written by hand must name every method of [`Device`] and [`Stream`]. One that it leaves out, a provided one
//! above all, falls back to the contract's default without a word, and what the device does better is lost. Here the
//! forwards stand once: a wrapper says what it changes in its [`Hooks`], and [`Wrapped`] is the device.
//!
//! # Methods made of others
//! By default each call arrives at the inner device as the call that it was, so that nothing of the device's own is lost.
//! Some calls are made of others, and those others then happen inside, where no hook sees them:
//!
//! | passed on whole | does inside | who changes that |
//! | --- | --- | --- |
//! | [`Device::tensor`] | `allocate` | changes [`Hooks::tensor`] as well |
//! | [`Stream::copy`] | `read` and `write` | changes [`Hooks::copy`] as well |
//! | [`Stream::replay`] | `write` and `enqueue` | answers [`Recordings::ByOperation`] |
//!
//! For recordings there is no default: most of a model's work comes from them, so every wrapper says which it means.
//!
//! # Identity
//! The wrapper has the inner device's identity: buffers and events of one are the other's. A hook that changes what
//! [`info`](Hooks::info) says leaves `id` as it is. A recording is for streams of the wrapper that it was made with.
//!
//! # Example
//! A device without one of its operations. It refuses the operation when asked, when it is queued, and in a recording:
//! ```
//! use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
//! use anychip_core::{DType, Device, Error, Op, Result, Support, ops::{Hadamard, Operation}};
//! # use anychip_core::{Numerics, host::{HostDevice, Kernels}};
//! # struct Anything;
//! # impl Kernels for Anything {
//! #     fn supports(&self, _: &Op) -> Support { Support::Native }
//! #     fn numerics(&self, _: &Op) -> Numerics { Numerics::f32() }
//! #     fn run(&self, _: &Op) -> Result<()> { Ok(()) }
//! # }
//! # fn open() -> HostDevice<Anything> { HostDevice::open("toy", "an example", 1 << 20, Anything) }
//! struct Without(&'static str);
//!
//! impl Hooks for Without {
//!     fn recordings(&self, _: &dyn Device) -> Recordings {
//!         Recordings::ByOperation // each recorded operation comes through `enqueue` below
//!     }
//!
//!     fn supports(&self, inner: &dyn Device, op: &Op) -> Support {
//!         if op.name() == self.0 {
//!             return Support::unsupported("operation", "any other", op.name());
//!         }
//!         inner.supports(op)
//!     }
//!
//!     fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
//!         self.supports(inner.device, op).require(&inner.device.info().name, op.name())?;
//!         inner.stream.enqueue(op)
//!     }
//! }
//!
//! let device = Wrapped::new(Box::new(open()), Without("hadamard"));
//! let [x, out] = [device.tensor(DType::F32, &[1, 8])?, device.tensor(DType::F32, &[1, 8])?];
//! let op = Hadamard { x, out }.build()?;
//! assert!(!device.supports(&op).is_native());
//! let mut stream = device.open_stream()?;
//! let recording = stream.record(vec![op])?;
//! assert!(matches!(stream.replay(&recording, &[]), Err(Error::Unsupported { .. })));
//! # Ok::<(), Error>(())
//! ```

use crate::{
    Activity, Buffer, DType, Device, DeviceInfo, Event, Numerics, Op, Recording, Result, Stream, Support, Tensor,
};
use std::sync::Arc;

/// What a wrapper changes of a device: each method is called in the place of its namesake of [`Device`] or [`Stream`] and
/// by default calls that of the inner one.
///
/// Only [`recordings`](Hooks::recordings) has no default. The module's page lists which methods happen inside others.
pub trait Hooks: Send + Sync + 'static {
    /// How recordings are made and replayed. The answer holds for the life of the wrapper.
    fn recordings(&self, inner: &dyn Device) -> Recordings;

    /// In the place of [`Device::info`].
    fn info(&self, inner: &dyn Device) -> DeviceInfo {
        inner.info()
    }

    /// In the place of [`Device::allocate`].
    ///
    /// # Errors
    /// Those of [`Device::allocate`].
    fn allocate(&self, inner: &dyn Device, bytes: u64) -> Result<Buffer> {
        inner.allocate(bytes)
    }

    /// In the place of [`Device::open_stream`]. The stream given is the inner one, and is wrapped afterwards.
    ///
    /// # Errors
    /// Those of [`Device::open_stream`].
    fn open_stream(&self, inner: &dyn Device) -> Result<Box<dyn Stream>> {
        inner.open_stream()
    }

    /// In the place of [`Device::supports`].
    fn supports(&self, inner: &dyn Device, op: &Op) -> Support {
        inner.supports(op)
    }

    /// In the place of [`Device::numerics`].
    fn numerics(&self, inner: &dyn Device, op: &Op) -> Numerics {
        inner.numerics(op)
    }

    /// In the place of [`Device::fallbacks`].
    fn fallbacks(&self, inner: &dyn Device) -> Vec<(&'static str, u64)> {
        inner.fallbacks()
    }

    /// In the place of [`Device::activity`].
    fn activity(&self, inner: &dyn Device) -> Option<Activity> {
        inner.activity()
    }

    /// In the place of [`Device::tensor`].
    ///
    /// # Errors
    /// Those of [`Device::tensor`].
    fn tensor(&self, inner: &dyn Device, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        inner.tensor(dtype, sizes)
    }

    /// In the place of [`Stream::write`].
    ///
    /// # Errors
    /// Those of [`Stream::write`].
    fn write(&self, inner: &mut Inner<'_>, to: &Tensor, bytes: &[u8]) -> Result<()> {
        inner.stream.write(to, bytes)
    }

    /// In the place of [`Stream::read`].
    ///
    /// # Errors
    /// Those of [`Stream::read`].
    fn read(&self, inner: &mut Inner<'_>, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        inner.stream.read(from, bytes)
    }

    /// In the place of [`Stream::enqueue`].
    ///
    /// # Errors
    /// Those of [`Stream::enqueue`].
    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        inner.stream.enqueue(op)
    }

    /// In the place of [`Stream::synchronize`].
    ///
    /// # Errors
    /// Those of [`Stream::synchronize`].
    fn synchronize(&self, inner: &mut Inner<'_>) -> Result<()> {
        inner.stream.synchronize()
    }

    /// In the place of [`Stream::mark`].
    ///
    /// # Errors
    /// Those of [`Stream::mark`].
    fn mark(&self, inner: &mut Inner<'_>) -> Result<Event> {
        inner.stream.mark()
    }

    /// In the place of [`Stream::wait`].
    ///
    /// # Errors
    /// Those of [`Stream::wait`].
    fn wait(&self, inner: &mut Inner<'_>, event: &Event) -> Result<()> {
        inner.stream.wait(event)
    }

    /// In the place of [`Stream::copy`].
    ///
    /// # Errors
    /// Those of [`Stream::copy`].
    fn copy(&self, inner: &mut Inner<'_>, from: &Tensor, to: &Tensor) -> Result<()> {
        inner.stream.copy(from, to)
    }

    /// In the place of [`Stream::record`]: as [`recordings`](Hooks::recordings) says.
    ///
    /// # Errors
    /// Those of [`Stream::record`].
    fn record(&self, inner: &mut Inner<'_>, ops: Vec<Op>) -> Result<Recording> {
        self.recordings(inner.device).record(inner, ops)
    }

    /// In the place of [`Stream::replay`]: as [`recordings`](Hooks::recordings) says.
    ///
    /// # Errors
    /// Those of [`Stream::replay`].
    fn replay(&self, inner: &mut Inner<'_>, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        self.recordings(inner.device).replay(self, inner, recording, updates)
    }
}

/// What a hook of a stream works with: one stream of the inner device, and that device.
#[non_exhaustive]
pub struct Inner<'a> {
    /// The inner device.
    pub device: &'a dyn Device,
    /// Its stream.
    pub stream: &'a mut dyn Stream,
}

/// How a wrapper's recordings are made and replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recordings {
    /// The inner device makes and replays them, in whatever form is fast there. The hooks `write` and `enqueue` see
    /// nothing of it: for wrappers that leave these two alone, or need not see every call.
    Whole,
    /// The list of operations is kept. A replay passes each update through the hook `write` and each operation through
    /// the hook `enqueue`, so that nothing gets around them; the speed of the device's own replay is lost. What cannot
    /// run is found out when it is replayed.
    ByOperation,
}

impl Recordings {
    /// Records in this way; what [`Hooks::record`] does by default.
    ///
    /// # Errors
    /// Those of [`Stream::record`] for [`Whole`](Recordings::Whole); else none.
    pub fn record(self, inner: &mut Inner<'_>, ops: Vec<Op>) -> Result<Recording> {
        match self {
            Recordings::Whole => inner.stream.record(ops),
            Recordings::ByOperation => Ok(Recording::of_ops(ops)),
        }
    }

    /// Replays in this way; what [`Hooks::replay`] does by default, for hooks that do something more.
    ///
    /// # Errors
    /// Those of [`Stream::replay`] for [`Whole`](Recordings::Whole); else those of the hooks `write` and `enqueue`.
    pub fn replay<H: Hooks + ?Sized>(
        self,
        hooks: &H,
        inner: &mut Inner<'_>,
        recording: &Recording,
        updates: &[(&Tensor, &[u8])],
    ) -> Result<()> {
        match self {
            Recordings::Whole => inner.stream.replay(recording, updates),
            Recordings::ByOperation => {
                updates.iter().try_for_each(|(tensor, bytes)| hooks.write(inner, tensor, bytes))?;
                recording.ops().iter().try_for_each(|op| hooks.enqueue(inner, op))
            }
        }
    }
}

/// A device that is another one but for what its hooks change. See the [module's page](self).
pub struct Wrapped<H> {
    inner: Arc<dyn Device>,
    hooks: Arc<H>,
}

impl<H: Hooks> Wrapped<H> {
    /// `inner`, changed by `hooks`. Its streams share the hooks.
    pub fn new(inner: Box<dyn Device>, hooks: H) -> Wrapped<H> {
        Wrapped::shared(inner.into(), hooks)
    }

    /// As [`new`](Wrapped::new), over a device that others use as well.
    pub fn shared(inner: Arc<dyn Device>, hooks: H) -> Wrapped<H> {
        Wrapped { inner, hooks: Arc::new(hooks) }
    }
}

// The lint sees to it that a method which the contract gains, also one with a default, is forwarded here.
#[deny(clippy::missing_trait_methods)]
impl<H: Hooks> Device for Wrapped<H> {
    fn info(&self) -> DeviceInfo {
        self.hooks.info(&*self.inner)
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.hooks.allocate(&*self.inner, bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        let stream = self.hooks.open_stream(&*self.inner)?;
        Ok(Box::new(WrappedStream { device: self.inner.clone(), stream, hooks: self.hooks.clone() }))
    }

    fn supports(&self, op: &Op) -> Support {
        self.hooks.supports(&*self.inner, op)
    }

    fn numerics(&self, op: &Op) -> Numerics {
        self.hooks.numerics(&*self.inner, op)
    }

    fn fallbacks(&self) -> Vec<(&'static str, u64)> {
        self.hooks.fallbacks(&*self.inner)
    }

    fn activity(&self) -> Option<Activity> {
        self.hooks.activity(&*self.inner)
    }

    fn tensor(&self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.hooks.tensor(&*self.inner, dtype, sizes)
    }
}

struct WrappedStream<H> {
    device: Arc<dyn Device>,
    stream: Box<dyn Stream>,
    hooks: Arc<H>,
}

impl<H> WrappedStream<H> {
    fn parts(&mut self) -> (&H, Inner<'_>) {
        (&self.hooks, Inner { device: &*self.device, stream: &mut *self.stream })
    }
}

#[deny(clippy::missing_trait_methods)]
impl<H: Hooks> Stream for WrappedStream<H> {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.write(&mut inner, to, bytes)
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.read(&mut inner, from, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.enqueue(&mut inner, op)
    }

    fn synchronize(&mut self) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.synchronize(&mut inner)
    }

    fn mark(&mut self) -> Result<Event> {
        let (hooks, mut inner) = self.parts();
        hooks.mark(&mut inner)
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.wait(&mut inner, event)
    }

    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.copy(&mut inner, from, to)
    }

    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        let (hooks, mut inner) = self.parts();
        hooks.record(&mut inner, ops)
    }

    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        let (hooks, mut inner) = self.parts();
        hooks.replay(&mut inner, recording, updates)
    }
}
