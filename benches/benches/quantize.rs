//! `quantize` of V4-Flash's activations to FP8, and of its indexer's queries to FP4.
mod common;
use anychip_bench::prelude::*;

fn rows(b: &mut Builder<'_>, codes: DType, block: usize, [rows, cols]: [usize; 2]) -> Result<Op> {
    let x = b.values(DType::BF16, &[rows, cols], Family::Outliers, 1.0)?;
    let codes = b.output(codes, &[1, rows, cols])?;
    let scales = b.output(DType::UE8M0, &[1, rows, cols.div_ceil(block)])?;
    Quantize { x, out: Matrix::scaled(&codes, &scales, ScaleLayout::per_row(block))? }.build()
}

fn main() {
    common::main(Quantize::NAME, |shapes| {
        for t in [1, 512] {
            shapes.add(&format!("activations/t{t}"), |b| rows(b, DType::E4M3, 128, [t, HIDDEN]));
            shapes.add(&format!("queries/t{t}"), |b| rows(b, DType::E2M1, 32, [t * HEADS, INDEX_DIM]));
        }
    });
}
