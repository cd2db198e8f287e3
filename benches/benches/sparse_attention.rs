//! `sparse_attention` of V4-Flash: the window, alone, with the indexer's choice (CSA), or with all entries (HCA).
mod common;
use anychip_bench::prelude::*;

const WINDOW: usize = 128;

/// Rows of one sequence, each over its own window and over `listed` of the `compressed` entries.
fn layer(b: &mut Builder<'_>, rows: usize, compressed: usize, listed: usize) -> Result<Op> {
    let q = b.values(DType::BF16, &[rows, HEADS, HEAD_DIM], Family::Normal, 1.0)?;
    let mut scope = |len, width, entry: fn(usize, usize) -> usize| -> Result<KeyScope> {
        let kv = b.paged(KV, &[Stretch { start: 0, len }], &vec![0; rows], Family::Normal, 1.0)?;
        let list: Vec<i32> = (0..rows * width).map(|i| (entry(i / width, i % width) % len) as i32).collect();
        Ok(KeyScope { kv, entries: b.integers(&[rows, width], &list)? })
    };
    let mut scopes = vec![scope(rows + WINDOW, WINDOW, |row, i| row + i)?];
    if listed > 0 {
        // An odd step reaches each of 2^n entries once, and entries from everywhere.
        scopes.push(scope(compressed, listed, |row, i| row + 1999 * i)?);
    }
    let sink = b.values(DType::F32, &[HEADS], Family::Normal, 1.0)?;
    let out = b.output(DType::BF16, &[rows, HEADS, HEAD_DIM])?;
    let scale = (HEAD_DIM as f32).sqrt().recip();
    SparseAttention { q, scopes, sink, scale, rounding: Rounding::Bf16, out }.build()
}

fn main() {
    common::main(SparseAttention::NAME, |shapes| {
        // A prefill has thousands of rows: cut for the oracle.
        for t in [1, 16] {
            shapes.add(&format!("window/t{t}"), |b| layer(b, t, 0, 0));
            shapes.add(&format!("csa-16k/t{t}"), |b| layer(b, t, 4096, INDEX_TOP_K));
        }
        shapes.add("csa-16k/t8", |b| layer(b, 8, 4096, INDEX_TOP_K));
        shapes.add("hca-1m/t1", |b| layer(b, 1, 8192, 8192));
    });
}
