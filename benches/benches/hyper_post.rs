//! `hyper_post` at V4-Flash's residual streams.
mod common;
use anychip_bench::prelude::*;

fn expand(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    let n = STREAMS;
    HyperPost {
        y: b.values(DType::BF16, &[rows, HIDDEN], Family::Outliers, 1.0)?,
        streams: b.values(DType::BF16, &[rows, n, HIDDEN], Family::Outliers, 1.0)?,
        post: b.values(DType::F32, &[rows, n], Family::Normal, 1.0)?,
        comb: b.values(DType::F32, &[rows, n, n], Family::Normal, 0.25)?,
        out: b.output(DType::BF16, &[rows, n, HIDDEN])?,
    }
    .build()
}

fn main() {
    common::main(HyperPost::NAME, |shapes| {
        for t in [1, 512] {
            shapes.add(&format!("t{t}"), |b| expand(b, t));
        }
    });
}
