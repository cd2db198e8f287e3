//! `expert_ffn` at V4-Flash's MoE layer: FP4 routed experts, the FP8 shared one, roundings as served.
mod common;
use anychip_bench::prelude::*;

fn layer(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    let (k, inner, chosen) = (EXPERTS_PER_TOKEN, EXPERT_INNER, chosen_experts(b, rows));
    let mut shared = |n, k| b.matrix(E4M3_BLOCKS, [1, n, k], Family::Normal, (k as f32).sqrt().recip());
    let shared =
        ExpertWeights { gate: shared(inner, HIDDEN)?, up: shared(inner, HIDDEN)?, down: shared(HIDDEN, inner)? };
    let mut routed = |n, k| expert_matrices(b, n, k);
    let routed =
        ExpertWeights { gate: routed(inner, HIDDEN)?, up: routed(inner, HIDDEN)?, down: routed(HIDDEN, inner)? };
    ExpertFfn {
        x: b.matrix(E4M3_ROWS, [1, rows, HIDDEN], Family::Outliers, 1.0)?,
        experts: b.integers(&[rows, k], &chosen)?,
        weights: b.values(DType::F32, &[rows, k], Family::Normal, 0.25)?,
        routed,
        shared: Some(shared),
        limit: 10.0,
        intermediates: Intermediates::Served { block: 128 },
        out: b.output(DType::BF16, &[rows, HIDDEN])?,
    }
    .build()
}

fn main() {
    common::main(ExpertFfn::NAME, |shapes| {
        // A prefill has thousands of rows: cut for the oracle, which takes about a second for each.
        for t in [1, 16] {
            shapes.add(&format!("served/t{t}"), |b| layer(b, t));
        }
    });
}
