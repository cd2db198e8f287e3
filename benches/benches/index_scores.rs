//! `index_scores` of V4-Flash's lightning indexer: FP4 queries and keys, steps rounded as served.
mod common;
use anychip_bench::prelude::*;

fn indexer(b: &mut Builder<'_>, rows: usize, entries: usize) -> Result<Op> {
    IndexScores {
        q: b.matrix(E2M1_ROWS, [1, rows * HEADS, INDEX_DIM], Family::Normal, 1.0)?,
        weights: b.values(DType::BF16, &[rows, HEADS], Family::Normal, 1.0)?,
        scale: ((INDEX_DIM * HEADS) as f32).sqrt().recip(),
        keys: b.paged(INDEX_KEYS, &[Stretch { start: 0, len: entries }], &vec![0; rows], Family::Normal, 1.0)?,
        visible: b.integers(&[rows], &vec![entries as i32; rows])?,
        rounding: Rounding::Bf16,
        out: b.output(DType::F32, &[rows, entries])?,
    }
    .build()
}

fn main() {
    common::main(IndexScores::NAME, |shapes| {
        // An entry stands for four tokens. A context of a million and thousands of rows were cut for the oracle.
        for (context, t, entries) in [("16k", 1, 4096), ("16k", 16, 4096), ("256k", 1, 65536)] {
            shapes.add(&format!("{context}/t{t}"), |b| indexer(b, t, entries));
        }
    });
}
