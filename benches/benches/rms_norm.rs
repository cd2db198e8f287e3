//! `rms_norm` before V4-Flash's sublayers, and of its query heads.
mod common;
use anychip_bench::prelude::*;

fn norm(b: &mut Builder<'_>, sizes: [usize; 2], weighted: bool) -> Result<Op> {
    let x = b.values(DType::BF16, &sizes, Family::Outliers, 1.0)?;
    let weight = if weighted { Some(b.values(DType::BF16, &sizes[1..], Family::Normal, 1.0)?) } else { None };
    let rounding = if weighted { Rounding::None } else { Rounding::Bf16 };
    RmsNorm { x, weight, eps: EPS, rounding, out: b.output(DType::BF16, &sizes)? }.build()
}

fn main() {
    common::main(RmsNorm::NAME, |shapes| {
        for t in [1, 512] {
            shapes.add(&format!("sublayer/t{t}"), |b| norm(b, [t, HIDDEN], true));
            shapes.add(&format!("heads/t{t}"), |b| norm(b, [t * HEADS, HEAD_DIM], false));
        }
    });
}
