//! `kv_compress` of V4-Flash: CSA's overlapping windows of 4 tokens, HCA's windows of 128, the indexer's keys.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::KvCompress;
use anychip_core::{DType, Op, Operation, Result};

/// Rows of one sequence, the last of which closes a window.
fn pool(b: &mut Builder<'_>, rows: usize, ratio: usize, dim: usize, overlap: bool) -> Result<Op> {
    let (channels, slots) = if overlap { (2 * dim, 2 * ratio) } else { (dim, ratio) };
    let first = rows.next_multiple_of(ratio) - rows;
    let closing: Vec<i32> = (0..rows).filter(|t| (first + t + 1).is_multiple_of(ratio)).map(|t| t as i32).collect();
    let position: Vec<i32> = (0..rows).map(|t| (first + t) as i32).collect();
    KvCompress {
        kv: b.values(DType::F32, &[rows, channels], Family::Normal, 1.0)?,
        gate: b.values(DType::F32, &[rows, channels], Family::Normal, 1.0)?,
        ape: b.values(DType::F32, &[ratio, channels], Family::Normal, 1.0)?,
        state: b.values(DType::F32, &[1, 2, slots, channels], Family::Normal, 1.0)?,
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
        for rows in [1, 512] {
            shapes.add(&format!("csa/t{rows}"), |b| pool(b, rows, 4, HEAD_DIM, true));
            shapes.add(&format!("hca/t{rows}"), |b| pool(b, rows, 128, HEAD_DIM, false));
            shapes.add(&format!("indexer/t{rows}"), |b| pool(b, rows, 4, INDEX_DIM, true));
        }
    });
}
