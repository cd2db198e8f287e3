//! `hyper_post` at V4-Flash's four residual streams.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::HyperPost;
use anychip_core::{DType, Op, Operation, Result};

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
        for rows in [1, 512] {
            shapes.add(&format!("n4/t{rows}"), |b| expand(b, rows));
        }
    });
}
