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

mod calibrate;
pub mod ceilings;
mod measure;
mod operands;
pub mod record;
mod simulate;
mod subject;
mod v4_flash;

pub use anychip_ascend::bench::Shape;
pub use calibrate::{Calibration, Row, Sensitivity, calibrate, sensitivity};
pub use measure::{Measured, measure};
pub use operands::OPS;
pub use simulate::{Simulated, simulate, trace};
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
    #[error(
        "there is no device `{0}`; set ANYCHIP_BENCH_DEVICE to cpu, reference, ascend, ascend:PROFILE, wgpu or wgpu:N"
    )]
    UnknownDevice(String),
    /// The operation's description is invalid, or the device failed or does not run it.
    #[error(transparent)]
    Device(#[from] anychip_core::Error),
    /// There is no benchmark of this name for a device of this kind.
    #[error("there is no benchmark `{op}` of such a device; there are {known}")]
    UnknownOp {
        /// The name asked for.
        op: String,
        /// All names.
        known: String,
    },
    /// The shape, or what a simulated machine says of it.
    #[error(transparent)]
    Simulated(#[from] anychip_ascend::bench::BenchError),
    /// There is no profile of this name.
    #[error(transparent)]
    Profile(#[from] anychip_ascend::machine::ProfileError),
    /// The device's result is wrong, so its time says nothing: where, what is there, what is right.
    #[error("refused to time a wrong result: {0}")]
    Wrong(String),
}

/// Opens the device of a name: `cpu`, `reference`, `ascend`, `ascend:PROFILE`, `wgpu` or `wgpu:N`.
///
/// # Errors
/// [`BenchError::UnknownDevice`], [`BenchError::Device`] where the adapter cannot be opened.
pub fn open(name: &str) -> Result<Box<dyn anychip_core::Device>, BenchError> {
    match name {
        "cpu" => Ok(anychip_cpu::open()),
        "reference" => Ok(anychip_reference::open(u64::MAX / 2)),
        "ascend" => Ok(anychip_ascend::open(None)?),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(anychip_wgpu::open(None)?),
        other => match other.split_once(':') {
            Some(("ascend", profile)) => Ok(anychip_ascend::open(Some(profile))?),
            #[cfg(feature = "wgpu")]
            Some(("wgpu", number)) if number.parse::<usize>().is_ok() => Ok(anychip_wgpu::open(number.parse().ok())?),
            _ => Err(BenchError::UnknownDevice(name.into())),
        },
    }
}
