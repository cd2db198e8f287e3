//! `newton_schulz`: Muon's ten steps.

mod common;

use anychip_conformance::{Builder, Family};
use anychip_core::ops::NewtonSchulz;
use anychip_core::{DType, Op, Operation, Result};

fn update(b: &mut Builder<'_>, sizes: [usize; 2]) -> Result<Op> {
    let g = b.values(DType::F32, &sizes, Family::Normal, 1.0)?;
    NewtonSchulz { g, steps: NewtonSchulz::V4_STEPS.to_vec(), out: b.output(DType::F32, &sizes)? }.build()
}

fn main() {
    common::main(NewtonSchulz::NAME, |shapes| {
        // An expert's matrix is 2048 x 4096: a million times a million products, for which the oracle would take a day.
        // Cut to a sixteenth of each side, and to an eighth.
        for sizes in [[128, 256], [256, 512]] {
            shapes.add(&format!("n{}-m{}", sizes[0], sizes[1]), |b| update(b, sizes));
        }
    });
}
