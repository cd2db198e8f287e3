use super::swiglu::gated;
use crate::operands::{integers, matrix_row, matrix_rows, reals};
use crate::real::Grid;
use crate::{Output, Real};
use anychip_core::ops::{ExpertFfn, ExpertWeights, Intermediates};
use anychip_core::{Matrix, Result};

/// `out = sum of y_e over the row's experts, ascending, + y_shared`,   `y_e = W2_e h_e`,
/// `h_e = w_e * silu(min(W1_e x, limit)) * clamp(W3_e x, -limit, limit)`
pub(crate) fn evaluate<R: Real>(op: &ExpertFfn, units: R::Units) -> Result<Vec<Output<R>>> {
    let k = op.experts.size(1);
    let x = matrix_rows::<R>(&op.x, 0, units)?;
    let (experts, weights) = (integers(&op.experts)?, reals::<R>(&op.weights, units)?);
    let mut terms: Vec<Vec<Vec<R>>> = vec![Vec::new(); x.len()]; // of each row, the results of its experts
    for e in 0..op.routed.gate.groups() {
        let chosen: Vec<usize> = (0..experts.len()).filter(|&i| experts[i] == e as i32).collect();
        if chosen.is_empty() {
            continue;
        }
        let rows: Vec<(&[R], R)> = chosen.iter().map(|&i| (&x[i / k][..], weights[i])).collect();
        let results = expert(op, &op.routed, e, &rows, units)?;
        chosen.iter().zip(results).for_each(|(&i, y)| terms[i / k].push(y));
    }
    if let Some(shared) = &op.shared {
        let rows: Vec<(&[R], R)> = x.iter().map(|x| (&x[..], R::from(1.0))).collect();
        let results = expert(op, shared, 0, &rows, units)?;
        terms.iter_mut().zip(results).for_each(|(terms, y)| terms.push(y));
    }
    let mut out = Vec::with_capacity(op.out.count());
    for terms in &terms {
        for n in 0..op.out.size(1) {
            out.push(R::sum(&terms.iter().map(|y| y[n]).collect::<Vec<R>>()));
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

/// `y = W2 h` of one expert, for rows with their weights.
fn expert<R: Real>(
    op: &ExpertFfn,
    weights: &ExpertWeights,
    e: usize,
    rows: &[(&[R], R)],
    units: R::Units,
) -> Result<Vec<Vec<R>>> {
    let served = match op.intermediates {
        Intermediates::Exact => None,
        Intermediates::Served { block } => Some(block),
    };
    let rounded = |v: R| if served.is_some() { v.bf16() } else { v };
    let x: Vec<&[R]> = rows.iter().map(|&(x, _)| x).collect();
    let gate = products(&weights.gate, e, &x, units)?;
    let up = products(&weights.up, e, &x, units)?;
    let hidden = |((&(_, weight), gate), up): ((&(&[R], R), &Vec<R>), &Vec<R>)| -> Vec<R> {
        let one = |(&gate, &up): (&R, &R)| rounded(weight * gated(rounded(gate), rounded(up), op.limit));
        let h: Vec<R> = gate.iter().zip(up).map(one).collect();
        match served {
            Some(block) => h.chunks(block).flat_map(|block| R::quantized(block, Grid::E4M3)).collect(),
            None => h,
        }
    };
    let h: Vec<Vec<R>> = rows.iter().zip(&gate).zip(&up).map(hidden).collect();
    let mut y = products(&weights.down, e, &h, units)?;
    y.iter_mut().flatten().for_each(|y| *y = rounded(*y));
    Ok(y)
}

/// `w[e] x` for each row `x`.
fn products<R: Real, X: AsRef<[R]>>(w: &Matrix, e: usize, x: &[X], units: R::Units) -> Result<Vec<Vec<R>>> {
    let mut out = vec![Vec::with_capacity(w.rows()); x.len()];
    for n in 0..w.rows() {
        let w = matrix_row::<R>(w, e, n, units)?;
        x.iter().zip(&mut out).for_each(|(x, out)| out.push(R::dot(x.as_ref(), &w)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::*;
    use anychip_core::ops::{ExpertGemm, Quantize, Swiglu};
    use anychip_core::{DType, ScaleLayout, Tensor};

    fn quantized(x: &Tensor) -> Matrix {
        let out = unwritten_matrix(DType::E4M3, [x.size(0), x.size(1)], ScaleLayout::per_row(128));
        run(Quantize { x: x.clone(), out: out.clone() });
        out
    }

    fn golden_weights() -> ExpertWeights {
        let [gate, up, down] = ["w1", "w3", "w2"].map(|w| {
            golden(&format!("exp.{w}_packed")).matrix(DType::E2M1, &format!("exp.{w}_e8m0"), ScaleLayout::per_row(32))
        });
        ExpertWeights { gate, up, down }
    }

    #[test]
    fn the_golden_expert_bit_for_bit() {
        let x = golden("exp.x").tensor(DType::F32);
        let (rows, want) = (x.size(0), golden("exp.y_bf16"));
        let out = unwritten(DType::BF16, &want.sizes);
        run(ExpertFfn {
            x: quantized(&x),
            experts: int_tensor(&[rows, 1], &vec![0; rows]),
            weights: tensor(DType::F32, &[rows, 1], &golden("exp.route_w").floats()),
            routed: golden_weights(),
            shared: None,
            limit: 10.0,
            intermediates: Intermediates::Served { block: 128 },
            out: out.clone(),
        });
        assert_eq!(floats_of(&out), want.floats());
    }

    #[test]
    fn the_golden_expert_from_its_simpler_operations() {
        let x = quantized(&golden("exp.x").tensor(DType::F32));
        let rows = x.rows();
        let weights = golden_weights();
        let gemm = |x: &Matrix, w: &Matrix| {
            let out = unwritten(DType::BF16, &[rows, w.rows()]);
            let offsets = int_tensor(&[2], &[0, rows as i32]);
            run(ExpertGemm { x: x.clone(), w: w.clone(), offsets, out: out.clone() });
            out
        };
        let (gate, up) = (gemm(&x, &weights.gate), gemm(&x, &weights.up));
        let out = unwritten(DType::BF16, &[rows, weights.gate.rows()]);
        let factors = Some(golden("exp.route_w").tensor(DType::F32));
        run(Swiglu { gate, up, weights: factors, limit: 10.0, out: out.clone() });
        assert_eq!(floats_of(&out), golden("exp.mid_bf16").floats());
        assert_eq!(floats_of(&gemm(&quantized(&out), &weights.down)), golden("exp.y_bf16").floats());
    }

    struct Layer {
        x: Vec<f32>,
        experts: Vec<i32>,
        weights: Vec<f32>,
        op: ExpertFfn,
    }

    fn layer(seed: u64, [rows, d, inner, k]: [usize; 4], intermediates: Intermediates) -> Layer {
        let mut random = Random::new(seed);
        let mut group = |count: usize, inner: usize| {
            let mut one = |rows: usize, cols: usize| {
                let values = random.normals(count * rows * cols, (cols as f64).powf(-0.5));
                Matrix::plain(&tensor(DType::BF16, &[count, rows, cols], &values)).unwrap()
            };
            ExpertWeights { gate: one(inner, d), up: one(inner, d), down: one(d, inner) }
        };
        let (routed, shared) = (group(4, inner), group(1, inner / 2));
        let x = floats_of(&tensor(DType::BF16, &[rows, d], &random.normals(rows * d, 1.0)));
        let experts = random.below(4, rows * k);
        let weights: Vec<f32> = (0..rows * k).map(|_| random.uniform() as f32).collect();
        let op = ExpertFfn {
            x: Matrix::plain(&tensor(DType::BF16, &[rows, d], &x)).unwrap(),
            experts: int_tensor(&[rows, k], &experts),
            weights: tensor(DType::F32, &[rows, k], &weights),
            routed,
            shared: Some(shared),
            limit: 10.0,
            intermediates,
            out: unwritten(DType::F32, &[rows, d]),
        };
        Layer { x, experts, weights, op }
    }

    #[test]
    fn explore() {
        for (dims, inter) in [([3, 64, 48, 2], Intermediates::Exact), ([3, 512, 256, 2], Intermediates::Exact), ([3, 64, 48, 2], Intermediates::Served { block: 32 }), ([3, 512, 256, 2], Intermediates::Served { block: 128 }), ([2, 4096, 2048, 2], Intermediates::Served { block: 128 })] {
            let l = layer(1, dims, inter);
            let op = run(l.op);
            let b = bounds(&op, "out", &anychip_core::Numerics::f32());
            let rms = (b.iter().map(|b| b.value().powi(2)).sum::<f64>() / b.len() as f64).sqrt();
            let me = b.iter().map(|b| b.error()).sum::<f64>() / b.len() as f64;
            println!("{dims:?} {inter:?} rms {rms} mean bound {me} rel {}", me / rms);
        }
    }
}
