//! `sparse_attention` of V4-Flash's layers: the window, with the indexer's choice (CSA) or all entries (HCA).

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family, Stretch};
use anychip_core::ops::{KeyScope, Rounding, SparseAttention};
use anychip_core::{DType, Op, Operation, Result};

/// Rows of one sequence; each lists `WINDOW` entries of its own window and `listed` of the `compressed` ones.
fn layer(b: &mut Builder<'_>, rows: usize, compressed: usize, listed: usize) -> Result<Op> {
    let q = b.values(DType::BF16, &[rows, HEADS, HEAD_DIM], Family::Normal, 1.0)?;
    let sequence = vec![0; rows];
    let mut scope = |len, width, list: Vec<i32>| -> Result<KeyScope> {
        let kv = b.paged(KV, &[Stretch { start: 0, len }], &sequence, Family::Normal, 1.0)?;
        Ok(KeyScope { kv, entries: b.integers(&[rows, width], &list)? })
    };
    let window = (0..rows).flat_map(|t| (t..t + WINDOW).map(|e| e as i32)).collect();
    let mut scopes = vec![scope(rows + WINDOW, WINDOW, window)?];
    if listed > 0 {
        // Steps without a common factor with the number of entries: each row lists entries from everywhere, each once.
        let list = (0..rows).flat_map(|t| (0..listed).map(move |i| ((t + i * 1_999) % compressed) as i32)).collect();
        scopes.push(scope(compressed, listed, list)?);
    }
    let sink = b.values(DType::F32, &[HEADS], Family::Normal, 1.0)?;
    let out = b.output(DType::BF16, &[rows, HEADS, HEAD_DIM])?;
    let scale = (HEAD_DIM as f32).sqrt().recip();
    SparseAttention { q, scopes, sink, scale, rounding: Rounding::Bf16, out }.build()
}

fn main() {
    common::main(SparseAttention::NAME, |shapes| {
        // A prefill has thousands of rows; the oracle takes about a second for each.
        for rows in [1, 16] {
            shapes.add(&format!("window/t{rows}"), |b| layer(b, rows, 0, 0));
            shapes.add(&format!("csa-16k/t{rows}"), |b| layer(b, rows, 4096, INDEX_TOP_K));
        }
        // All entries of a context of a million.
        shapes.add("hca-1m/t1", |b| layer(b, 1, 8192, 8192));
    });
}
