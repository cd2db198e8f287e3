use super::quantize::round_e4m3;
use super::swiglu::clamped;
use crate::gemm::{dots, tile_rows, work};
use crate::load::{Rows, Stores, Work, par_rows};
use anychip_core::formats::round_bf16;
use anychip_core::ops::{self, ExpertWeights, Intermediates};
use anychip_core::{Result, host};

/// A row of `x` that goes to an expert, and its weight there.
type Routed = (usize, f32);

/// `out = sum over the row's experts, ascending, of W2 (w * swiglu(W1 x, W3 x))`, the shared expert last.
pub(crate) fn run(op: &ops::ExpertFfn) -> Result<()> {
    let (rows, hidden) = (op.x.rows(), op.x.cols());
    // Transposed, `[d, T]`: the task that has a row of W2 owns its sums.
    let mut sums = vec![0.0; hidden * rows];
    let layer = Layer { x: Rows::of(&op.x)?, rows, limit: op.limit, intermediates: op.intermediates };
    let experts = Expert::of(&op.routed)?;
    for (expert, routed) in by_expert(op)? {
        layer.add(&experts, expert, &routed, &mut sums);
    }
    if let Some(shared) = &op.shared {
        let all: Vec<Routed> = (0..rows).map(|row| (row, 1.0)).collect();
        layer.add(&Expert::of(shared)?, 0, &all, &mut sums);
    }
    Stores::of(&op.out)?.rows(
        0..rows,
        hidden,
        Work::Each(hidden),
        || (),
        |(), row, out| {
            out.iter_mut().enumerate().for_each(|(n, out)| *out = sums[n * rows + row]);
        },
    );
    Ok(())
}

/// The rows of each expert that has any, experts ascending, rows and then places of a row ascending.
fn by_expert(op: &ops::ExpertFfn) -> Result<Vec<(usize, Vec<Routed>)>> {
    let (experts, weights) = (host::read(&op.experts)?, host::read(&op.weights)?);
    let (k, count) = (op.experts.size(1), op.routed.gate.groups());
    let mut rows = vec![Vec::new(); count];
    for (place, (&expert, &weight)) in experts.as_slice::<i32>().iter().zip(weights.as_slice::<f32>()).enumerate() {
        if let Some(rows) = usize::try_from(expert).ok().and_then(|expert| rows.get_mut(expert)) {
            rows.push((place / k, weight));
        }
    }
    Ok(rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).collect())
}

struct Expert<'a> {
    gate: Rows<'a>,
    up: Rows<'a>,
    down: Rows<'a>,
}

impl<'a> Expert<'a> {
    fn of(weights: &'a ExpertWeights) -> Result<Expert<'a>> {
        Ok(Expert { gate: Rows::of(&weights.gate)?, up: Rows::of(&weights.up)?, down: Rows::of(&weights.down)? })
    }
}

struct Layer<'a> {
    x: Rows<'a>,
    rows: usize,
    limit: f32,
    intermediates: Intermediates,
}

impl Layer<'_> {
    /// Adds the results of one expert to the sums of its rows.
    fn add(&self, expert: &Expert<'_>, group: usize, routed: &[Routed], sums: &mut [f32]) {
        let (hidden, inner) = (expert.gate.cols(), expert.gate.rows());
        for tile in routed.chunks(tile_rows(hidden.max(inner))) {
            let mut x = vec![0.0; tile.len() * hidden];
            par_rows(&mut x, hidden, work(hidden, 0), || (), |(), i, out| self.x.read(0, tile[i].0, out));
            let h = self.inner(expert, group, tile, &x);
            let scratch = || (vec![0.0; inner], vec![0.0; tile.len()]);
            par_rows(sums, self.rows, work(inner, tile.len()), scratch, |(w, y), n, sums| {
                expert.down.read(group, n, w);
                dots(&h, inner, w, y);
                y.iter().zip(tile).for_each(|(&y, &(row, _))| sums[row] += self.rounded(y));
            });
        }
    }

    /// `h` of the rows of a tile, `[rows, I]`: gate and up, the weighted SwiGLU and its roundings.
    fn inner(&self, expert: &Expert<'_>, group: usize, tile: &[Routed], x: &[f32]) -> Vec<f32> {
        let (hidden, inner, count) = (expert.gate.cols(), expert.gate.rows(), tile.len());
        let mut transposed = vec![0.0; inner * count];
        let scratch = || (vec![0.0; hidden], vec![0.0; count]);
        par_rows(&mut transposed, count, work(hidden, 2 * count), scratch, |(w, up), i, out| {
            expert.gate.read(group, i, w);
            dots(x, hidden, w, out);
            expert.up.read(group, i, w);
            dots(x, hidden, w, up);
            for ((out, &up), &(_, weight)) in out.iter_mut().zip(&*up).zip(tile) {
                *out = self.rounded(clamped(self.rounded(*out), self.rounded(up), weight, self.limit));
            }
        });
        let mut h = vec![0.0; count * inner];
        par_rows(
            &mut h,
            inner,
            work(inner, 8),
            || (),
            |(), row, h| {
                h.iter_mut().enumerate().for_each(|(i, h)| *h = transposed[i * count + row]);
                if let Intermediates::Served { block } = self.intermediates {
                    round_e4m3(h, block);
                }
            },
        );
        h
    }

    fn rounded(&self, x: f32) -> f32 {
        if self.intermediates == Intermediates::Exact { x } else { round_bf16(x) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, golden, golden_floats, noise};
    use anychip_core::ops::{ExpertFfn, Quantize};
    use anychip_core::{DType, Matrix, ScaleLayout, Tensor};

    fn weights(lab: &Lab, seed: u32, groups: usize, hidden: usize, inner: usize) -> ExpertWeights {
        let random = |seed, rows, cols| {
            let values: Vec<f32> = noise(seed, groups * rows * cols).iter().map(|x| x * 0.5).collect();
            Matrix::plain(&lab.floats(DType::BF16, &[groups, rows, cols], &values)).unwrap()
        };
        ExpertWeights {
            gate: random(seed, inner, hidden),
            up: random(seed + 1, inner, hidden),
            down: random(seed + 2, hidden, inner),
        }
    }

    /// `W2 h` of one row in f64.
    fn expert(w: &ExpertWeights, group: usize, x: &[f32], weight: f64, limit: f64) -> Vec<f64> {
        let product = |m: &Matrix, x: &[f64]| -> Vec<f64> {
            let (rows, mut row) = (Rows::of(m).unwrap(), vec![0.0; m.cols()]);
            (0..m.rows())
                .map(|i| {
                    rows.read(group, i, &mut row);
                    row.iter().zip(x).map(|(&w, x)| w as f64 * x).sum()
                })
                .collect()
        };
        let x: Vec<f64> = x.iter().map(|&x| x as f64).collect();
        let pairs = product(&w.gate, &x).into_iter().zip(product(&w.up, &x));
        let silu = |g: f64| g / (1.0 + (-g).exp());
        let h: Vec<f64> = pairs.map(|(g, u)| weight * silu(g.min(limit)) * u.clamp(-limit, limit)).collect();
        product(&w.down, &h)
    }

    struct Layer {
        rows: usize,
        hidden: usize,
        k: usize,
        x: Vec<f32>,
        experts: Vec<i32>,
        weights: Vec<f32>,
    }

    fn layer(rows: usize, experts: Vec<i32>) -> Layer {
        let (hidden, k) = (24, experts.len() / rows);
        Layer { rows, hidden, k, x: noise(9, rows * hidden), experts, weights: noise(10, rows * k) }
    }

    fn run_layer(lab: &Lab, l: &Layer, routed: &ExpertWeights, shared: Option<&ExpertWeights>) -> Tensor {
        let out = lab.output(DType::F32, &[l.rows, l.hidden]);
        lab.run(ExpertFfn {
            x: Matrix::plain(&lab.floats(DType::F32, &[l.rows, l.hidden], &l.x)).unwrap(),
            experts: lab.ints(&[l.rows, l.k], &l.experts),
            weights: lab.floats(DType::F32, &[l.rows, l.k], &l.weights),
            routed: routed.clone(),
            shared: shared.cloned(),
            limit: 1.0,
            intermediates: Intermediates::Exact,
            out: out.clone(),
        });
        out
    }

    #[test]
    fn the_sum_over_the_chosen_experts_and_the_shared_one() {
        let lab = Lab::new();
        let (routed, shared) = (weights(&lab, 1, 5, 24, 10), weights(&lab, 5, 1, 24, 14));
        // One named twice, strangers, a row without any.
        let l = layer(4, vec![0, 4, 2, 2, -1, 5, i32::MAX, 3]);
        let mut want = Vec::new();
        for row in 0..l.rows {
            let x = &l.x[row * l.hidden..][..l.hidden];
            let mut sum = expert(&shared, 0, x, 1.0, 1.0);
            for place in row * l.k..(row + 1) * l.k {
                if (0..5).contains(&l.experts[place]) {
                    let y = expert(&routed, l.experts[place] as usize, x, l.weights[place] as f64, 1.0);
                    sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
                }
            }
            want.extend(sum);
        }
        assert_close(&lab.values(&run_layer(&lab, &l, &routed, Some(&shared))), &want, 2e-6);
        let none = layer(2, vec![-1, 9]);
        assert_eq!(lab.values(&run_layer(&lab, &none, &routed, None)), [0.0; 48]);
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_a_batch() {
        let lab = Lab::new();
        let (routed, shared) = (weights(&lab, 1, 3, 24, 40), weights(&lab, 5, 1, 24, 14));
        let all = layer(300, (0..600).map(|i| i % 3).collect());
        let together = lab.values(&run_layer(&lab, &all, &routed, Some(&shared)));
        for row in [0, 1, 255, 256, 299] {
            let mut alone = layer(1, all.experts[2 * row..][..2].to_vec());
            alone.x = all.x[row * 24..][..24].to_vec();
            alone.weights = all.weights[2 * row..][..2].to_vec();
            let alone = lab.values(&run_layer(&lab, &alone, &routed, Some(&shared)));
            assert_eq!(alone, together[row * 24..][..24], "row {row}");
        }
    }

    #[test]
    fn the_golden_expert_in_served_precision() {
        let lab = Lab::new();
        let (rows, hidden, inner) = (5, 256, 128);
        let x = lab.floats(DType::BF16, &[rows, hidden], &golden_floats("exp.x"));
        let (codes, scales) = (lab.output(DType::E4M3, &[rows, hidden]), lab.output(DType::UE8M0, &[rows, 2]));
        let x8 = Matrix::scaled(&codes, &scales, ScaleLayout::per_row(128)).unwrap();
        lab.run(Quantize { x, out: x8.clone() });
        let matrix = |name: &str, rows, cols| {
            let (codes, scales) = (golden(&format!("exp.{name}_packed")), golden(&format!("exp.{name}_e8m0")));
            lab.scaled(DType::E2M1, &[rows, cols], &codes, &scales, 32)
        };
        let out = lab.output(DType::BF16, &[rows, hidden]);
        lab.run(ExpertFfn {
            x: x8,
            experts: lab.ints(&[rows, 1], &[0; 5]),
            weights: lab.floats(DType::F32, &[rows, 1], &golden_floats("exp.route_w")),
            routed: ExpertWeights {
                gate: matrix("w1", inner, hidden),
                up: matrix("w3", inner, hidden),
                down: matrix("w2", hidden, inner),
            },
            shared: None,
            limit: 10.0,
            intermediates: Intermediates::Served { block: 128 },
            out: out.clone(),
        });
        assert_eq!(lab.values(&out), golden_floats("exp.y_bf16"));
    }
}
