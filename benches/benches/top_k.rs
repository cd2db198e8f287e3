//! `top_k` of V4-Flash's indexer, an entry for four tokens.
mod common;
use anychip_bench::prelude::*;

fn choice(b: &mut Builder<'_>, rows: usize, entries: usize) -> Result<Op> {
    let scores = b.values(DType::F32, &[rows, entries], Family::Normal, 1.0)?;
    TopK { scores, out: b.output(DType::I32, &[rows, INDEX_TOP_K])? }.build()
}

fn main() {
    common::main(TopK::NAME, |shapes| {
        for (context, t, entries) in [("16k", 1, 4096), ("16k", 128, 4096), ("1m", 1, 262_144)] {
            shapes.add(&format!("{context}/t{t}"), |b| choice(b, t, entries));
        }
    });
}
