//! `dense_attention` with the heads of an 8B Llama 3: 32 query heads over 8 key-value heads of 128.
mod common;
use anychip_bench::prelude::*;

const QUERY_HEADS: usize = 32;
const KEY_HEADS: usize = 8;
const SIZE: usize = 128;

/// The last `rows` of `keys` tokens, in `batch` sequences.
fn layer(b: &mut Builder<'_>, batch: usize, rows: usize, keys: usize) -> Result<Op> {
    let mut values = |tokens, heads| b.values(DType::BF16, &[batch, tokens, heads, SIZE], Family::Normal, 1.0);
    let (q, k, v) = (values(rows, QUERY_HEADS)?, values(keys, KEY_HEADS)?, values(keys, KEY_HEADS)?);
    let out = b.output(DType::BF16, &[batch, rows, QUERY_HEADS, SIZE])?;
    let scale = (SIZE as f32).sqrt().recip();
    DenseAttention { q, k, v, scale, causal: true, sink: None, out }.build()
}

fn main() {
    common::main(DenseAttention::NAME, |shapes| {
        // A prefill has thousands of rows: cut for the oracle.
        for (batch, rows, keys) in [(1, 1, 4096), (8, 1, 512), (1, 8, 1024), (1, 256, 256), (1, 64, 1024)] {
            shapes.add(&format!("b{batch}-t{rows}-n{keys}"), |b| layer(b, batch, rows, keys));
        }
    });
}
