//! Correct devices that add up in other orders. Whoever fails one of them, judges wrongly.
//!
//! f32 sums in any order are legal, as are all of these: a loop, the loop backwards, a tree, and lanes whose sums are
//! added at the end, split over K. Each is put into matrix products, attention and experts, written out.

use super::Fault;
use super::bench::{Bench, bf};
use super::models::{Wrong, dense, exact_scale, products, sparse};
use anychip_core::formats::{e4m3, scale};
use anychip_core::ops::{ExpertFfn, ExpertWeights, Intermediates, OpKind};
use anychip_core::{Matrix, Op, Result};

/// Operations that the orders are written out for.
const OPS: &[&str] = &["linear", "expert_gemm", "sparse_attention", "dense_attention", "expert_ffn"];

/// How the products of a sum are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// In f64: no rounding that f32 would see.
    #[default]
    Wide,
    Forward,
    Backward,
    Tree,
    /// Eight lanes in each of four slices of K.
    Sliced,
}

impl Order {
    /// `sum_i a_i b_i`.
    pub(super) fn dot(self, a: &[f64], b: &[f64]) -> f64 {
        let products = || a.iter().zip(b).map(|(a, b)| (a * b) as f32);
        let sum = |sum: f32, x: f32| sum + x;
        f64::from(match self {
            Order::Wide => return a.iter().zip(b).map(|(a, b)| a * b).sum(),
            Order::Forward => products().fold(0.0, sum),
            Order::Backward => products().rev().fold(0.0, sum),
            Order::Tree => tree(&products().collect::<Vec<_>>()),
            Order::Sliced => {
                let products: Vec<f32> = products().collect();
                let lane = |slice: &[f32], lane: usize| slice.iter().skip(lane).step_by(8).copied().fold(0.0, sum);
                let slice = |slice: &[f32]| (0..8).map(|l| lane(slice, l)).fold(0.0, sum);
                products.chunks(products.len().div_ceil(4).max(1)).map(slice).fold(0.0, sum)
            }
        })
    }

    /// A number as the order's arithmetic holds it.
    pub(super) fn held(self, x: f64) -> f64 {
        if self == Order::Wide { x } else { f64::from(x as f32) }
    }
}

fn tree(x: &[f32]) -> f32 {
    match x {
        [] => 0.0,
        [one] => *one,
        _ => {
            let (left, right) = x.split_at(x.len() / 2);
            tree(left) + tree(right)
        }
    }
}

fn run(b: &mut Bench<'_>, op: &Op, order: Order) -> Result<()> {
    let right = Wrong { order, ..Wrong::default() };
    match op.kind() {
        OpKind::SparseAttention(attention) => sparse(b, attention, right),
        OpKind::DenseAttention(attention) => dense(b, attention, &super::models::Masking::RIGHT, right),
        OpKind::ExpertFfn(ffn) => experts(b, ffn, order),
        _ => products(b, op, exact_scale, &move |x, w| order.dot(x, w)),
    }
}

/// [`ExpertFfn`], written out.
fn experts(b: &mut Bench<'_>, op: &ExpertFfn, order: Order) -> Result<()> {
    let (rows, hidden, k) = (op.x.rows(), op.x.cols(), op.experts.size(1));
    let x = b.matrix_by(&op.x, exact_scale)?;
    let (chosen, weights) = (b.integers(&op.experts)?, b.floats(&op.weights)?);
    let mut out = vec![0.0; rows * hidden];
    let mut add = |b: &mut Bench<'_>, of: &ExpertWeights, row: usize, e: usize, weight: f64| -> Result<()> {
        let y = expert(b, op, of, &x[row * hidden..][..hidden], e, weight, order)?;
        out[row * hidden..].iter_mut().zip(y).for_each(|(out, y)| *out = order.held(*out + y));
        Ok(())
    };
    for row in 0..rows {
        let mut own: Vec<(i32, f64)> = (0..k).map(|j| (chosen[row * k + j], weights[row * k + j])).collect();
        own.retain(|(e, _)| (0..op.routed.gate.groups() as i32).contains(e));
        own.sort_by_key(|(e, _)| *e);
        for (e, weight) in own {
            add(b, &op.routed, row, e as usize, weight)?;
        }
        if let Some(shared) = &op.shared {
            add(b, shared, row, 0, 1.0)?;
        }
    }
    b.store(&op.out, &out)
}

fn expert(
    b: &mut Bench<'_>,
    op: &ExpertFfn,
    of: &ExpertWeights,
    x: &[f64],
    e: usize,
    weight: f64,
    order: Order,
) -> Result<Vec<f64>> {
    let served = op.intermediates != Intermediates::Exact;
    let rounded = |x: f64| if served { bf(order.held(x)) } else { order.held(x) };
    let mut times = |w: &Matrix, x: &[f64]| -> Result<Vec<f64>> {
        let values = b.matrix_by(w, exact_scale)?;
        let (rows, cols) = (w.rows(), w.cols());
        Ok((0..rows).map(|n| rounded(order.dot(x, &values[(e * rows + n) * cols..][..cols]))).collect())
    };
    let limit = f64::from(op.limit);
    let one = |gate: f64, up: f64| {
        // NaN stays NaN: comparisons with it are false.
        let a = if gate > limit { limit } else { gate };
        let up = if up > limit {
            limit
        } else if up < -limit {
            -limit
        } else {
            up
        };
        rounded(weight * order.held(order.held(a / (1.0 + (-a).exp())) * up))
    };
    let (gate, up) = (times(&of.gate, x)?, times(&of.up, x)?);
    let mut h: Vec<f64> = gate.iter().zip(&up).map(|(&gate, &up)| one(gate, up)).collect();
    if let Intermediates::Served { block } = op.intermediates {
        for h in h.chunks_mut(block) {
            let values: Vec<f32> = h.iter().map(|&h| h as f32).collect();
            let byte = scale::for_e4m3(scale::amax(&values));
            let factor = scale::decode(byte);
            let code = |x: f32| if byte == scale::NAN { 0 } else { e4m3::encode(x / factor) };
            h.iter_mut().zip(values).for_each(|(h, x)| *h = f64::from(e4m3::decode(code(x))) * f64::from(factor));
        }
    }
    times(&of.down, &h)
}

const fn order(name: &'static str, how: &'static str, run: super::Run) -> Fault {
    Fault::new("correct", name, OPS, how, run)
}

/// Correct devices, beside the one that faults are planted in.
pub(super) const ORDERS: &[Fault] = &[
    order("sums_forwards", "A loop from the first product to the last.", |b, op| run(b, op, Order::Forward)),
    order("sums_backwards", "A loop from the last product to the first.", |b, op| run(b, op, Order::Backward)),
    order("sums_as_a_tree", "Halves added up by themselves, down to single products.", |b, op| run(b, op, Order::Tree)),
    order("sums_in_slices", "Eight lanes in each of four slices of K.", |b, op| run(b, op, Order::Sliced)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn orders_are_orders_of_the_same_sum() {
        let a: Vec<f64> = (0..1001).map(|i| f64::from(((i * 37) % 101) as f32 / 7.0 - 6.0)).collect();
        let b: Vec<f64> = (0..1001).map(|i| f64::from(((i * 53) % 97) as f32 / 11.0 - 4.0)).collect();
        let want = Order::Wide.dot(&a, &b);
        let all = [Order::Forward, Order::Backward, Order::Tree, Order::Sliced].map(|order| order.dot(&a, &b));
        assert!(all.iter().all(|got| (got - want).abs() < 1e-2), "{all:?} are not {want}");
        let distinct: BTreeSet<u64> = all.iter().map(|got| got.to_bits()).collect();
        assert!(distinct.len() >= 3, "orders round alike: {all:?}");
        assert_eq!((Order::Tree.dot(&[], &[]), Order::Sliced.dot(&[], &[])), (0.0, 0.0));
    }
}
