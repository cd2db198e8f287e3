//! Benchmarks of anychip devices: nothing is timed that was not judged.
//!
//! A [`Subject`] is one operation over operands of the conformance suite's [`Builder`](anychip_conformance::Builder), on
//! one device. The device runs it first, then the oracle says what is right, and only then is there a time; afterwards
//! what the timed runs left behind is judged again. The benchmarks themselves, one file per operation under `benches/`,
//! hand criterion the times.
//!
//! ```text
//! cargo bench -p anychip-bench --bench linear
//! ANYCHIP_BENCH_DEVICE=reference cargo bench -p anychip-bench --bench top_k -- --quick n4096
//! ```
//!
//! # Example
//! ```
//! use anychip_bench::Subject;
//! use anychip_conformance::Family;
//! use anychip_core::{DType, ops::{Hadamard, Operation}};
//!
//! let device = anychip_bench::open("cpu")?;
//! let mut subject = Subject::new(&*device, "hadamard/t1", |b| {
//!     let x = b.values(DType::BF16, &[64, 128], Family::Normal, 1.0)?;
//!     Hadamard { x, out: b.output(DType::BF16, &[64, 128])? }.build()
//! })?;
//! let time = subject.time(10)?;
//! assert!(!time.is_zero() && subject.label() == "hadamard/t1/cpu@host");
//! assert!(subject.finish()?.is_some_and(|worst| worst <= 1.0));
//! # Ok::<(), anychip_bench::BenchError>(())
//! ```
#![forbid(unsafe_code)]

mod subject;
pub mod v4_flash;
mod verdict;

pub use subject::Subject;
pub use verdict::Wrong;

use anychip_core::{Clock, Device};

/// The variable that names the device of the benchmarks; `cpu` where it is not set.
pub const DEVICE_VARIABLE: &str = "ANYCHIP_BENCH_DEVICE";

/// Memory of an oracle that is benchmarked or that judges: more than any machine has, since it takes only what it uses.
pub(crate) const ORACLE_BYTES: u64 = 1 << 40;

/// Why something has no time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no device of this name.
    #[error("there is no device `{0}`; set {DEVICE_VARIABLE} to one of: cpu, reference")]
    UnknownDevice(String),
    /// The device, or the operation's description, failed.
    #[error("{subject}: {cause}")]
    Failed {
        /// Operation, shape and device.
        subject: String,
        /// What the device said.
        cause: anychip_core::Error,
    },
    /// The result is wrong, so its time says nothing.
    #[error("{subject}: refused to time a wrong result: {wrong}")]
    Wrong {
        /// Operation, shape and device.
        subject: String,
        /// Where it is wrong.
        wrong: Wrong,
    },
    /// Events carry times of another clock than the device says it has.
    #[error("{subject}: an event has a {got} time, the device declares its {declared} clock")]
    OtherClock {
        /// Operation, shape and device.
        subject: String,
        /// Clock that the device declares.
        declared: Clock,
        /// Clock of the event.
        got: Clock,
    },
}

/// Opens the device that [`DEVICE_VARIABLE`] names.
///
/// # Errors
/// [`BenchError::UnknownDevice`].
pub fn open_from_env() -> Result<Box<dyn Device>, BenchError> {
    open(&std::env::var(DEVICE_VARIABLE).unwrap_or_else(|_| "cpu".into()))
}

/// Opens a device by name.
///
/// # Errors
/// [`BenchError::UnknownDevice`].
pub fn open(name: &str) -> Result<Box<dyn Device>, BenchError> {
    match name {
        "cpu" => Ok(anychip_cpu::open()),
        "reference" => Ok(anychip_reference::open(ORACLE_BYTES)),
        _ => Err(BenchError::UnknownDevice(name.into())),
    }
}
