//! The oracle: every operation of the contract in f64, plain loops, to be read beside the formulas.
//!
//! Each operation is written once, over a [`Real`]. With `f64` it computes values: that is the `reference` device. With
//! [`Bounded`] the same lines compute, for each value, how far a device that keeps its declared
//! [`Numerics`] may be from it: that is [`judge`], which the conformance suite calls. The
//! operands are the device's own bytes, dequantised exactly, so that quantisation error is never part of a tolerance.
//!
//! It is slow on purpose, single-threaded, and the last word.
#![forbid(unsafe_code)]

mod estimate;
mod operands;
mod ops;
mod real;
#[cfg(test)]
mod testing;
mod units;

pub use estimate::{Bounded, Estimate, Typical};
pub use operands::{Output, Values};
pub use real::Real;
pub use units::{Kind, Typically, Units, Worst};

use anychip_core::host::{HostDevice, Kernels};
use anychip_core::{Device, Numerics, Op, Result, Support};

/// Opens the `reference` device with at most `limit` bytes of memory.
pub fn open(limit: u64) -> Box<dyn Device> {
    Box::new(HostDevice::open("reference", "the oracle: f64 on one host thread, slow on purpose", limit, Oracle))
}

/// What `op` must give, value by value, with the largest error that `numerics` allows before the store into the output's
/// type. The operands must live in host memory; nothing is written.
///
/// # Errors
/// [`Error::Foreign`](anychip_core::Error::Foreign) when an operand is not in host memory.
pub fn judge(op: &Op, numerics: &Numerics) -> Result<Vec<Output<Bounded>>> {
    ops::evaluate(op, Units::of(numerics))
}

/// What `op` must give, value by value, with the root of the mean square of the errors that devices of `numerics` make
/// before the store: what [`judge`] bounds, as it typically is.
///
/// # Errors
/// Those of [`judge`].
pub fn typical(op: &Op, numerics: &Numerics) -> Result<Vec<Output<Typical>>> {
    ops::evaluate(op, Units::of(numerics))
}

struct Oracle;

impl Kernels for Oracle {
    fn supports(&self, _op: &Op) -> Support {
        Support::Native
    }

    fn numerics(&self, _op: &Op) -> Numerics {
        Numerics::f64()
    }

    fn run(&self, op: &Op) -> Result<()> {
        ops::evaluate::<f64>(op, ())?.iter().try_for_each(Output::store)
    }
}
