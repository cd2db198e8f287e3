//! `kv_compress` of V4-Flash: CSA's overlapping windows of 4 tokens, HCA's windows of 128, the indexer's keys.
mod common;
use anychip_bench::prelude::*;

/// Rows of one sequence, the last of which closes a window.
fn pool(b: &mut Builder<'_>, rows: usize, ratio: usize, dim: usize, overlap: bool) -> Result<Op> {
    let (channels, slots) = if overlap { (2 * dim, 2 * ratio) } else { (dim, ratio) };
    let position: Vec<i32> = (0..rows).map(|t| (rows.next_multiple_of(ratio) - rows + t) as i32).collect();
    let closes = |t: &usize| (position[*t] + 1) % ratio as i32 == 0;
    let closing: Vec<i32> = (0..rows).filter(closes).map(|t| t as i32).collect();
    let mut values = |sizes: &[usize]| b.values(DType::F32, sizes, Family::Normal, 1.0);
    KvCompress {
        kv: values(&[rows, channels])?,
        gate: values(&[rows, channels])?,
        ape: values(&[ratio, channels])?,
        state: values(&[1, 2, slots, channels])?,
        sequence: b.integers(&[rows], &vec![0; rows])?,
        position: b.integers(&[rows], &position)?,
        closing: b.integers(&[closing.len()], &closing)?,
        overlap,
        out: b.output(DType::BF16, &[closing.len(), dim])?,
    }
    .build()
}

fn main() {
    common::main(KvCompress::NAME, |shapes| {
        for t in [1, 512] {
            shapes.add(&format!("csa/t{t}"), |b| pool(b, t, 4, HEAD_DIM, true));
            shapes.add(&format!("hca/t{t}"), |b| pool(b, t, 128, HEAD_DIM, false));
            shapes.add(&format!("indexer/t{t}"), |b| pool(b, t, 4, INDEX_DIM, true));
        }
    });
}
