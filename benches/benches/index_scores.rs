//! `index_scores` of V4-Flash's lightning indexer: FP4 queries and keys, steps rounded as served.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family, Stretch};
use anychip_core::ops::{IndexScores, Rounding};
use anychip_core::{DType, Op, Operation, Result};

fn indexer(b: &mut Builder<'_>, rows: usize, entries: usize) -> Result<Op> {
    IndexScores {
        q: b.matrix(EXPERTS, [1, rows * INDEX_HEADS, INDEX_DIM], Family::Normal, 1.0)?,
        weights: b.values(DType::BF16, &[rows, INDEX_HEADS], Family::Normal, 1.0)?,
        scale: ((INDEX_DIM * INDEX_HEADS) as f32).sqrt().recip(),
        keys: b.paged(INDEX_KEYS, &[Stretch { start: 0, len: entries }], &vec![0; rows], Family::Normal, 1.0)?,
        visible: b.integers(&[rows], &vec![entries as i32; rows])?,
        rounding: Rounding::Bf16,
        out: b.output(DType::F32, &[rows, entries])?,
    }
    .build()
}

fn main() {
    common::main(IndexScores::NAME, |shapes| {
        // Four tokens to an entry. At a million tokens, or with thousands of rows, the oracle takes minutes.
        for (context, rows) in [("16k", 1), ("16k", 16), ("256k", 1)] {
            let entries = if context == "16k" { 4096 } else { 65536 };
            shapes.add(&format!("{context}/t{rows}"), |b| indexer(b, rows, entries));
        }
    });
}
