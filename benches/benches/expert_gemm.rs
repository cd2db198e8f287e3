//! `expert_gemm` at the gate of V4-Flash's routed experts: FP8 rows, FP4 weights.

mod common;

use anychip_bench::v4_flash::*;
use anychip_conformance::{Builder, Family};
use anychip_core::ops::ExpertGemm;
use anychip_core::{DType, Op, Operation, Result};

/// Of 256 experts, for the sake of the time it takes to make and to judge them.
const EXPERTS_LOADED: usize = 32;

fn gate(b: &mut Builder<'_>, tokens: usize) -> Result<Op> {
    let mut load = [0; EXPERTS_LOADED];
    for _ in 0..tokens {
        b.random().permutation(EXPERTS_LOADED)[..EXPERTS_PER_TOKEN].iter().for_each(|&e| load[e] += 1);
    }
    let mut offsets = vec![0];
    load.iter().for_each(|rows| offsets.push(offsets[offsets.len() - 1] + rows));
    let rows = tokens * EXPERTS_PER_TOKEN;
    ExpertGemm {
        x: b.matrix(ACTIVATIONS, [1, rows, HIDDEN], Family::Outliers, 1.0)?,
        w: random_experts(b, [EXPERTS_LOADED, EXPERT_INNER, HIDDEN])?,
        offsets: b.integers(&[EXPERTS_LOADED + 1], &offsets)?,
        out: b.output(DType::BF16, &[rows, EXPERT_INNER])?,
    }
    .build()
}

fn main() {
    common::main(ExpertGemm::NAME, |shapes| {
        // The rows of one token, and of as many as the oracle judges in seconds.
        for tokens in [1, 32] {
            shapes.add(&format!("gate/r{}", tokens * EXPERTS_PER_TOKEN), |b| gate(b, tokens));
        }
    });
}
