//! `expert_gemm` at the gate of V4-Flash's routed experts: FP8 rows, FP4 weights.
mod common;
use anychip_bench::prelude::*;

fn gate(b: &mut Builder<'_>, tokens: usize) -> Result<Op> {
    let (rows, chosen) = (tokens * EXPERTS_PER_TOKEN, chosen_experts(b, tokens));
    let before = |e| chosen.iter().filter(|&&chosen| chosen < e).count() as i32;
    let offsets: Vec<i32> = (0..=EXPERTS as i32).map(before).collect();
    ExpertGemm {
        x: b.matrix(E4M3_ROWS, [1, rows, HIDDEN], Family::Outliers, 1.0)?,
        w: expert_matrices(b, EXPERT_INNER, HIDDEN)?,
        offsets: b.integers(&[EXPERTS + 1], &offsets)?,
        out: b.output(DType::BF16, &[rows, EXPERT_INNER])?,
    }
    .build()
}

fn main() {
    common::main(ExpertGemm::NAME, |shapes| {
        // A prefill has thousands of tokens: cut for the oracle.
        for t in [1, 32] {
            shapes.add(&format!("gate/t{t}"), |b| gate(b, t));
        }
    });
}
