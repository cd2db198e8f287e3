//! `expert_ffn` at V4-Flash's MoE layer: FP4 routed experts, the FP8 shared one, roundings as served.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::{ExpertFfn, ExpertWeights, Intermediates};
use anychip_core::{DType, Op, Operation, Result};

/// Of 256 experts: so many that the rows below share few, and that their bytes are made and judged in seconds.
const EXPERTS_LOADED: usize = 32;

fn layer(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    let k = EXPERTS_PER_TOKEN;
    let chosen: Vec<i32> = (0..rows)
        .flat_map(|_| b.random().permutation(EXPERTS_LOADED)[..k].iter().map(|&e| e as i32).collect::<Vec<_>>())
        .collect();
    let weights: Vec<f32> = (0..rows * k).map(|_| 0.1 + b.random().uniform() as f32 / 2.0).collect();
    let mut shared = |sizes: [usize; 3]| b.matrix(WEIGHTS, sizes, Family::Normal, (sizes[2] as f32).sqrt().recip());
    let shared = ExpertWeights {
        gate: shared([1, EXPERT_INNER, HIDDEN])?,
        up: shared([1, EXPERT_INNER, HIDDEN])?,
        down: shared([1, HIDDEN, EXPERT_INNER])?,
    };
    let routed = ExpertWeights {
        gate: random_experts(b, [EXPERTS_LOADED, EXPERT_INNER, HIDDEN])?,
        up: random_experts(b, [EXPERTS_LOADED, EXPERT_INNER, HIDDEN])?,
        down: random_experts(b, [EXPERTS_LOADED, HIDDEN, EXPERT_INNER])?,
    };
    ExpertFfn {
        x: b.matrix(ACTIVATIONS, [1, rows, HIDDEN], Family::Outliers, 1.0)?,
        experts: b.integers(&[rows, k], &chosen)?,
        weights: b.floats(DType::F32, &[rows, k], &weights)?,
        routed,
        shared: Some(shared),
        limit: SWIGLU_LIMIT,
        intermediates: Intermediates::Served { block: 128 },
        out: b.output(DType::BF16, &[rows, HIDDEN])?,
    }
    .build()
}

fn main() {
    common::main(ExpertFfn::NAME, |shapes| {
        // A prefill has thousands of rows; the oracle takes about a second for each.
        for rows in [1, 16] {
            shapes.add(&format!("served/t{rows}"), |b| layer(b, rows));
        }
    });
}
