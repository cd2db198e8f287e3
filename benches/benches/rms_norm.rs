//! `rms_norm` before V4-Flash's sublayers, and of its query heads.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::{RmsNorm, Rounding};
use anychip_core::{DType, Op, Operation, Result};

fn sublayer(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    RmsNorm {
        x: b.values(DType::BF16, &[rows, HIDDEN], Family::Outliers, 1.0)?,
        weight: Some(b.values(DType::BF16, &[HIDDEN], Family::Normal, 1.0)?),
        eps: EPS,
        rounding: Rounding::None,
        out: b.output(DType::BF16, &[rows, HIDDEN])?,
    }
    .build()
}

fn heads(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    let sizes = [rows * HEADS, HEAD_DIM];
    let x = b.values(DType::BF16, &sizes, Family::Normal, 1.0)?;
    RmsNorm { x, weight: None, eps: EPS, rounding: Rounding::Bf16, out: b.output(DType::BF16, &sizes)? }.build()
}

fn main() {
    common::main(RmsNorm::NAME, |shapes| {
        for rows in [1, 512] {
            shapes.add(&format!("sublayer/t{rows}"), |b| sublayer(b, rows));
            shapes.add(&format!("heads/t{rows}"), |b| heads(b, rows));
        }
    });
}
