//! Benchmarks of anychip devices: nothing is timed that was not judged.
//!
//! A [`Subject`] is one operation on one device, over operands of the conformance suite's builder. The device runs it, then
//! the oracle says what is right, and only then is there a time; what the timed runs left behind is judged again. The
//! benchmarks, one file per operation under `benches/`, hand criterion the times:
//!
//! ```text
//! cargo bench -p anychip-bench --bench linear
//! ANYCHIP_BENCH_DEVICE=reference cargo bench -p anychip-bench --bench top_k -- --quick 16k
//! ```
//!
//! # Example
//! ```
//! use anychip_bench::prelude::*;
//!
//! let device = anychip_bench::open("cpu")?;
//! let mut subject = anychip_bench::Subject::new(&*device, "hadamard/t1", |b| {
//!     let x = b.values(DType::BF16, &[64, 128], Family::Normal, 1.0)?;
//!     Hadamard { x, out: b.output(DType::BF16, &[64, 128])? }.build()
//! })?;
//! assert_eq!(subject.label(), "hadamard/t1/cpu@host");
//! let time = subject.time(10)?;
//! assert!(!time.is_zero() && subject.finish()?.is_some_and(|worst| worst <= 1.0));
//! # Ok::<(), anychip_bench::BenchError>(())
//! ```
#![forbid(unsafe_code)]

pub mod ceilings;
pub mod record;
mod subject;
mod v4_flash;

pub use subject::Subject;

/// What a benchmark's file needs: operations, the builder, and sizes and formats of V4-Flash.
pub mod prelude {
    pub use crate::v4_flash::*;
    pub use anychip_conformance::{Builder, Family, Stretch};
    pub use anychip_core::{DType, Format, Matrix, Op, Result, ScaleLayout, ops::*};
}

/// Why something has no time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no device of this name.
    #[error("there is no device `{0}`; set ANYCHIP_BENCH_DEVICE to cpu, reference, wgpu or wgpu:N")]
    UnknownDevice(String),
    /// The operation's description is invalid, or the device failed or does not run it.
    #[error(transparent)]
    Device(#[from] anychip_core::Error),
    /// The device's result is wrong, so its time says nothing: where, what is there, what is right.
    #[error("refused to time a wrong result: {0}")]
    Wrong(String),
}

/// Opens the device of a name: `cpu`, `reference`, `wgpu` or `wgpu:N`.
///
/// # Errors
/// [`BenchError::UnknownDevice`], [`BenchError::Device`] where the adapter cannot be opened.
pub fn open(name: &str) -> Result<Box<dyn anychip_core::Device>, BenchError> {
    match name {
        "cpu" => Ok(anychip_cpu::open()),
        "reference" => Ok(anychip_reference::open(u64::MAX / 2)),
        "wgpu" => Ok(anychip_wgpu::open(None)?),
        other => match other.strip_prefix("wgpu:").and_then(|number| number.parse().ok()) {
            Some(number) => Ok(anychip_wgpu::open(Some(number))?),
            None => Err(BenchError::UnknownDevice(name.into())),
        },
    }
}
