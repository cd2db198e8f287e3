//! The anychip contract: what a chip must offer so that a frontier sparse model runs on it.
//!
//! DeepSeek V4's operations (compressed sparse attention, the lightning indexer, FP4 x FP8 experts, manifold-constrained
//! hyper-connections, Muon) are defined here once. Backends implement them, the runtime calls them, and the conformance
//! suite judges them by the same definitions. There is no device code in this crate.
//!
//! - [`ops`]: every operation, as a value that can only be built valid.
//! - [`Device`], [`Stream`], [`Event`], [`Recording`]: the ten methods of a backend.
//! - [`Tensor`], [`Matrix`], [`KvPool`]: operands. A matrix's scale layout is part of its type.
//! - [`formats`]: FP8, FP4 and ue8m0 with exact conversions.
//! - [`Support`], [`Numerics`], [`Cost`], [`Clock`], [`Activity`]: what a device answers, promises, costs, how it is timed and
//!   what it counts.
//! - [`WithFallback`]: running elsewhere what a device does not, counted.
//! - [`forward`]: wrappers that change a few things of a device and pass on the rest.
//! - [`host`]: memory and streams for devices that compute in host memory.
//!
//! # Example
//! A valid operation is built once; a backend never checks it again:
//! ```
//! use anychip_core::{DType, Device, host, ops::{Operation, RmsNorm, Rounding}};
//! # use anychip_core::{Numerics, Op, Result, Support};
//! # struct Nothing;
//! # impl host::Kernels for Nothing {
//! #     fn supports(&self, op: &Op) -> Support { Support::unsupported("operation", "none", op.name()) }
//! #     fn numerics(&self, _: &Op) -> Numerics { Numerics::f32() }
//! #     fn run(&self, _: &Op) -> Result<()> { Ok(()) }
//! # }
//! let device: Box<dyn Device> = Box::new(host::HostDevice::open("toy", "an example", 1 << 20, Nothing));
//! let [x, out] = [device.tensor(DType::F32, &[2, 8])?, device.tensor(DType::BF16, &[2, 8])?];
//! let norm = RmsNorm { x: x.clone(), weight: None, eps: 1e-6, rounding: Rounding::None, out };
//! let op = norm.clone().build()?;
//! assert_eq!((op.name(), op.cost().written), ("rms_norm", 32));
//! assert!(!device.supports(&op).is_native());
//!
//! let aliased = RmsNorm { out: x, ..norm }.build();
//! assert_eq!(
//!     aliased.unwrap_err().to_string(),
//!     "`rms_norm`: out is written and shares its buffer with x; give the output a buffer of its own"
//! );
//! # Ok::<(), anychip_core::Error>(())
//! ```
#![forbid(unsafe_code)]

mod activity;
mod clock;
mod cost;
mod device;
mod dtype;
mod error;
mod fallback;
pub mod formats;
pub mod forward;
pub mod host;
mod host_memory;
mod kv;
mod matrix;
mod numerics;
pub mod ops;
mod recording;
mod rope_table;
mod support;
mod tensor;

pub use activity::Activity;
pub use clock::{Clock, Elapsed, Timestamp};
pub use cost::Cost;
pub use device::{Device, DeviceInfo, Event, EventState, Stream};
pub use dtype::DType;
pub use error::{Error, Invalid, Reason, Result};
pub use fallback::WithFallback;
pub use kv::{KvFormat, KvPool, PAGE_ENTRIES, Paged};
pub use matrix::{Format, Matrix, ScaleLayout, ScaleType};
pub use numerics::{Accumulator, Determinism, Numerics};
pub use ops::{Access, Op, Operation};
pub use recording::Recording;
pub use rope_table::{RopeTable, Yarn};
pub use support::Support;
pub use tensor::{Buffer, DeviceId, Memory, Shape, Tensor};
