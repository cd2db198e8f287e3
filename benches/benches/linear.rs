//! `linear` at V4-Flash's projections.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::Linear;
use anychip_core::{DType, Format, Op, Operation, Result};

fn linear(b: &mut Builder<'_>, x: Format, w: Format, [rows, groups, n, k]: [usize; 4]) -> Result<Op> {
    let x = b.matrix(x, [1, rows, groups * k], Family::Outliers, 1.0)?;
    let w = b.matrix(w, [groups, n, k], Family::Normal, (k as f32).sqrt().recip())?;
    Linear { x, w, out: b.output(DType::BF16, &[rows, groups * n])? }.build()
}

fn main() {
    common::main(Linear::NAME, |shapes| {
        // A prefill has thousands of rows; the oracle multiplies 16 of them in seconds.
        for rows in [1, 16] {
            let (q, group) = (HEADS * HEAD_DIM, HEADS * HEAD_DIM / O_GROUPS);
            shapes.add(&format!("wq_b/t{rows}"), |b| linear(b, ACTIVATIONS, WEIGHTS, [rows, 1, q, Q_RANK]));
            shapes.add(&format!("wo_a/t{rows}"), |b| linear(b, BF16, WEIGHTS, [rows, O_GROUPS, O_RANK, group]));
            shapes.add(&format!("wo_b/t{rows}"), |b| {
                linear(b, ACTIVATIONS, WEIGHTS, [rows, 1, HIDDEN, O_GROUPS * O_RANK])
            });
            // The square that other libraries are measured on.
            shapes.add(&format!("bf16/t{rows}"), |b| linear(b, BF16, BF16, [rows, 1, HIDDEN, HIDDEN]));
        }
    });
}
