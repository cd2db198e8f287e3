//! `newton_schulz`: Muon's ten steps.
mod common;
use anychip_bench::prelude::*;

fn update(b: &mut Builder<'_>, sizes: [usize; 2]) -> Result<Op> {
    let g = b.values(DType::F32, &sizes, Family::Normal, 1.0)?;
    NewtonSchulz { g, steps: NewtonSchulz::V4_STEPS.to_vec(), out: b.output(DType::F32, &sizes)? }.build()
}

fn main() {
    common::main(NewtonSchulz::NAME, |shapes| {
        // An expert's matrix is 2048 x 4096. The oracle would take an hour: cut to a sixteenth and an eighth of each side.
        for [n, m] in [[128, 256], [256, 512]] {
            shapes.add(&format!("n{n}-m{m}"), |b| update(b, [n, m]));
        }
    });
}
