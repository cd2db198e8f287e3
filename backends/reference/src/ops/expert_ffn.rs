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
    let x = matrix_rows::<R>("x", &op.x, 0, units)?;
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
    let gate = products("gate", &weights.gate, e, &x, units)?;
    let up = products("up", &weights.up, e, &x, units)?;
    let mut h = Vec::with_capacity(rows.len());
    for (r, &(_, weight)) in rows.iter().enumerate() {
        let one = |(&gate, &up)| rounded(weight * gated(rounded(gate), rounded(up), op.limit));
        let row: Vec<R> = gate[r].iter().zip(&up[r]).map(one).collect();
        let row: Vec<R> = match served {
            Some(block) => row.chunks(block).flat_map(|block| R::quantized(block, Grid::E4M3)).collect(),
            None => row,
        };
        h.push(row.into_iter().map(|h| h.held("h", units)).collect::<Vec<R>>());
    }
    let mut y = products("down", &weights.down, e, &h, units)?;
    y.iter_mut().flatten().for_each(|y| *y = rounded(*y));
    Ok(y)
}

/// `w[e] x` for each row `x`.
fn products<R: Real>(name: &str, w: &Matrix, e: usize, x: &[impl AsRef<[R]>], units: R::Units) -> Result<Vec<Vec<R>>> {
    let mut out = vec![Vec::with_capacity(w.rows()); x.len()];
    for n in 0..w.rows() {
        let w = matrix_row::<R>(name, w, e, n, units)?;
        x.iter().zip(&mut out).for_each(|(x, out)| out.push(R::inner(x.as_ref(), &w)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::*;
    use anychip_core::formats::{round_bf16, scale};
    use anychip_core::ops::{ExpertGemm, Quantize, Swiglu};
    use anychip_core::{DType, Numerics, ScaleLayout, Tensor};

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
        let op = run(ExpertFfn {
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
        // Every sum of these codes is exact in f32 and no rounding is near a midpoint: an f32 device has no choice.
        assert!(bounds(&op, "out", &Numerics::f32()).iter().all(|y| y.error() <= 1e-6 * y.value().abs()));
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

    /// One or more experts of random bf16 weights.
    fn random_weights(random: &mut Random, groups: usize, d: usize, inner: usize) -> ExpertWeights {
        let mut one = |rows: usize, cols: usize| {
            let values = random.normals(groups * rows * cols, (cols as f64).powf(-0.5));
            Matrix::plain(&tensor(DType::BF16, &[groups, rows, cols], &values)).unwrap()
        };
        ExpertWeights { gate: one(inner, d), up: one(inner, d), down: one(d, inner) }
    }

    const GROUPS: usize = 4;

    fn layer(intermediates: Intermediates) -> ExpertFfn {
        let (rows, d, k, mut random) = (3, 64, 3, Random::new(1));
        let weights: Vec<f32> = (0..rows * k).map(|_| random.uniform() as f32).collect();
        ExpertFfn {
            x: Matrix::plain(&tensor(DType::BF16, &[rows, d], &random.normals(rows * d, 1.0))).unwrap(),
            experts: int_tensor(&[rows, k], &random.below(GROUPS, rows * k)),
            weights: tensor(DType::F32, &[rows, k], &weights),
            routed: random_weights(&mut random, GROUPS, d, 48),
            shared: Some(random_weights(&mut random, 1, d, 32)),
            limit: 1.5,
            intermediates,
            out: unwritten(DType::F32, &[rows, d]),
        }
    }

    /// The definition as a device with f32 arithmetic may compute it.
    fn f32_loop(op: &ExpertFfn) -> Vec<f32> {
        let block = if let Intermediates::Served { block } = op.intermediates { Some(block) } else { None };
        let rounded = |v: f32| if block.is_some() { round_bf16(v) } else { v };
        let rows_of = |m: &Matrix, e: usize| -> Vec<Vec<f32>> {
            let rows = matrix_rows::<f64>("w", m, e, ()).unwrap();
            rows.iter().map(|row| row.iter().map(|&v| v as f32).collect()).collect()
        };
        let times = |m: &Matrix, e: usize, x: &[f32]| -> Vec<f32> {
            rows_of(m, e).iter().map(|w| rounded(dot32(w, x))).collect()
        };
        let expert = |w: &ExpertWeights, e: usize, x: &[f32], weight: f32| {
            let pairs = times(&w.gate, e, x).into_iter().zip(times(&w.up, e, x));
            let one = |(gate, up): (f32, f32)| {
                let a = gate.min(op.limit);
                rounded(weight * (a / (1.0 + (-a).exp()) * up.clamp(-op.limit, op.limit)))
            };
            let mut h: Vec<f32> = pairs.map(one).collect();
            for block in h.chunks_mut(block.unwrap_or(usize::MAX)).filter(|_| block.is_some()) {
                let byte = Grid::E4M3.scale_byte(scale::amax(block));
                block.iter_mut().for_each(|h| *h = Grid::E4M3.round(*h, byte) as f32);
            }
            times(&w.down, e, &h)
        };
        let (experts, weights, k) = (integers_of(&op.experts), floats_of(&op.weights), op.experts.size(1));
        let mut out = Vec::new();
        for (t, x) in rows_of(&op.x, 0).iter().enumerate() {
            let mut sum = vec![0.0; x.len()];
            let mut add = |y: Vec<f32>| sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
            for e in 0..GROUPS {
                let chosen = (t * k..(t + 1) * k).filter(|&i| experts[i] == e as i32);
                chosen.for_each(|i| add(expert(&op.routed, e, x, weights[i])));
            }
            op.shared.iter().for_each(|shared| add(expert(shared, 0, x, 1.0)));
            out.extend(sum);
        }
        out
    }

    #[test]
    fn an_f32_loop_keeps_the_bound() {
        // Two products deep, so of the bound, which lets the errors of `h` all pull one way, little is used; but it is narrow.
        // Most of the served one is for roundings that may flip, of which this loop flips few or none.
        for (intermediates, widest) in [(Intermediates::Exact, 5e-4), (Intermediates::Served { block: 32 }, 1e-3)] {
            let op = layer(intermediates);
            let got = f32_loop(&op);
            let op = run(op);
            share_of_bound(&op, "out", &got);
            let bounds = bounds(&op, "out", &Numerics::f32());
            let [error, value] =
                [bounds.iter().map(|b| b.error()).sum::<f64>(), bounds.iter().map(|b| b.value().abs()).sum()];
            assert!(error <= widest * value, "{intermediates:?}: {error:e} of {value}");
        }
    }

    #[test]
    fn strangers_contribute_nothing_and_twins_count_twice() {
        let one = |experts: &[i32; 3], weights: &[f32; 3], shared: bool| {
            let mut op = layer(Intermediates::Exact);
            let d = op.x.cols();
            op.x = Matrix::plain(&op.x.codes().reshape(&[3, d]).unwrap().slice(0, 1).unwrap()).unwrap();
            op.experts = int_tensor(&[1, 3], experts);
            op.weights = tensor(DType::F32, &[1, 3], weights);
            op.out = unwritten(DType::F32, &[1, d]);
            op.shared = op.shared.filter(|_| shared);
            exact(&run(op), "out")
        };
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let nothing = one(&[-1, GROUPS as i32, i32::MIN], &[f32::NAN; 3], false);
        assert!(nothing.iter().all(|y| y.to_bits() == 0), "+0, whatever the weights: {nothing:?}");
        let [lone, shared] = [one(&[2, -1, -1], &[0.5, 1.0, 1.0], false), one(&[-1; 3], &[1.0; 3], true)];
        assert_eq!(one(&[9, 2, -1], &[1.0, 0.5, 1.0], false), lone);
        assert!(close(&one(&[2, 2, -1], &[0.25, 0.25, 0.0], false), &lone), "the weight is linear");
        let both: Vec<f64> = lone.iter().zip(&shared).map(|(a, b)| a + b).collect();
        assert!(close(&one(&[2, -1, -1], &[0.5, 0.0, 0.0], true), &both));
    }
}
