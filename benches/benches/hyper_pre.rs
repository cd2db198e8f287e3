//! `hyper_pre` at V4-Flash's four residual streams.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::HyperPre;
use anychip_core::{DType, Op, Operation, Result};

fn collapse(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    let (n, mixes) = (STREAMS, STREAMS * (2 + STREAMS));
    HyperPre {
        streams: b.values(DType::BF16, &[rows, n, HIDDEN], Family::Outliers, 1.0)?,
        mixer: b.values(DType::F32, &[mixes, n * HIDDEN], Family::Normal, ((n * HIDDEN) as f32).sqrt().recip())?,
        base: b.values(DType::F32, &[mixes], Family::Normal, 1.0)?,
        scale: b.floats(DType::F32, &[3], &[1.0, 0.5, 1.5])?,
        iterations: SINKHORN_ITERATIONS,
        norm_eps: EPS,
        eps: EPS,
        x: b.output(DType::BF16, &[rows, HIDDEN])?,
        post: b.output(DType::F32, &[rows, n])?,
        comb: b.output(DType::F32, &[rows, n, n])?,
    }
    .build()
}

fn main() {
    common::main(HyperPre::NAME, |shapes| {
        for rows in [1, 512] {
            shapes.add(&format!("n4/t{rows}"), |b| collapse(b, rows));
        }
    });
}
