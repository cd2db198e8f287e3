//! The lightning indexer's scores and the choice of the best.

use super::Fault;
use super::bench::{Bench, bf};
use anychip_core::ops::{IndexScores, OpKind, Operation, Rounding};
use anychip_core::{DType, Op, Result};

const SCORES: &[&str] = &["index_scores"];
const TOP_K: &[&str] = &["top_k"];

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("indexer", name, ops, bug, run)
}

fn changed(b: &mut Bench<'_>, op: &Op, f: fn(&mut IndexScores)) -> Result<()> {
    let OpKind::IndexScores(scores) = op.kind() else { return b.run(op) };
    let mut scores = scores.clone();
    f(&mut scores);
    b.run(&scores.build()?)
}

/// A choice written out: `better` says whether a place's score goes before another's.
fn chosen(b: &mut Bench<'_>, op: &Op, key: fn(f32) -> Option<f32>, last_first: bool) -> Result<()> {
    let OpKind::TopK(top) = op.kind() else { return b.run(op) };
    let scores: Vec<f32> = b.floats(&top.scores)?.iter().map(|&s| s as f32).collect();
    let (n, k) = (top.scores.size(1), top.out.size(1));
    let mut out = Vec::with_capacity(top.out.count());
    for row in 0..top.out.size(0) {
        let mut all: Vec<(f32, usize)> = (0..n).filter_map(|i| Some((key(scores[row * n + i])?, i))).collect();
        if last_first {
            all.reverse();
        }
        all.sort_by(|(a, _), (b, _)| b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal));
        out.extend((0..k).map(|i| all.get(i).map_or(-1, |(_, place)| *place as i32)));
    }
    b.put(&top.out, &super::bench::bytes_of(&out))
}

fn right(score: f32) -> Option<f32> {
    (!score.is_nan() && score != f32::NEG_INFINITY).then_some(score)
}

pub(super) const FAULTS: &[Fault] = &[
    fault("relu_missing", SCORES, "Negative products count.", |b, op| {
        let OpKind::IndexScores(scores) = op.kind() else { return b.run(op) };
        b.run(op)?;
        let plus = b.floats(&scores.out)?;
        b.with(op, &["q"], |t, bytes| match t.dtype() {
            DType::E2M1 => bytes.iter_mut().for_each(|c| *c ^= 0x88),
            DType::E4M3 => bytes.iter_mut().for_each(|c| *c ^= 0x80),
            dtype => bytes
                .iter_mut()
                .skip(dtype.bits() as usize / 8 - 1)
                .step_by(dtype.bits() as usize / 8)
                .for_each(|c| *c ^= 0x80),
        })?;
        let minus = b.floats(&scores.out)?;
        let all = plus.iter().zip(&minus).map(|(p, m)| if p.is_finite() { p - m } else { *p });
        b.store(&scores.out, &all.collect::<Vec<_>>())
    }),
    fault("weights_without_sign", SCORES, "A head's weight is taken by its magnitude.", |b, op| {
        b.with_floats(op, &["weights"], |_, w| w.iter_mut().for_each(|w| *w = w.abs()))
    }),
    fault(
        "negative_weights_dropped",
        SCORES,
        "The relu is taken after the weight: heads of negative weight vanish.",
        |b, op| b.with_floats(op, &["weights"], |_, w| w.iter_mut().for_each(|w| *w = w.max(0.0))),
    ),
    fault("index_scale_missing", SCORES, "The heads' weights are not scaled.", |b, op| {
        changed(b, op, |s| s.scale = 1.0)
    }),
    fault("index_scale_of_heads_only", SCORES, "The scale leaves out the head's size.", |b, op| {
        changed(b, op, |s| s.scale *= (s.keys.pool.format().dim() as f32).sqrt())
    }),
    fault("sees_an_unfinished_entry", SCORES, "An entry is visible one token too soon.", |b, op| {
        b.with_integers(op, &["visible"], |_, v| v.iter_mut().for_each(|v| *v = v.saturating_add(1)))
    }),
    fault("last_entry_hidden", SCORES, "The entry that a token just finished is not visible to it.", |b, op| {
        b.with_integers(op, &["visible"], |_, v| v.iter_mut().for_each(|v| *v = v.saturating_sub(1)))
    }),
    fault("masked_is_zero", SCORES, "Entries that are not visible score 0, above the negative ones.", |b, op| {
        b.then_floats(op, |_, _, s| s.iter_mut().filter(|s| s.is_infinite()).for_each(|s| *s = 0.0))
    }),
    fault("masked_is_large", SCORES, "The mask is -1e9 and not -inf, so that it can be chosen.", |b, op| {
        b.then_floats(op, |_, _, s| s.iter_mut().filter(|s| s.is_infinite()).for_each(|s| *s = -1e9))
    }),
    fault("last_head_dropped", SCORES, "The sum over heads leaves out the last.", |b, op| {
        b.with_floats(op, &["weights"], |t, w| w.chunks_mut(t.size(1)).for_each(|w| w[t.size(1) - 1] = 0.0))
    }),
    fault("scores_rounded_unasked", SCORES, "Scores are bf16 where the call asks for f32.", |b, op| {
        changed(b, op, |s| s.rounding = Rounding::Bf16)
    }),
    fault(
        "scores_not_rounded",
        SCORES,
        "Scores keep f32 where the model's steps are bf16: other entries win.",
        |b, op| changed(b, op, |s| s.rounding = Rounding::None),
    ),
    fault("top_k_short_by_one", TOP_K, "The last of the k is not found.", |b, op| {
        b.then_integers(op, |t, out| out.chunks_mut(t.size(1)).for_each(|row| row[t.size(1) - 1] = -1))
    }),
    fault("ties_to_the_highest", TOP_K, "Of equal scores the last place is taken.", |b, op| chosen(b, op, right, true)),
    fault("top_k_in_bf16", TOP_K, "Scores are compared as bf16.", |b, op| {
        chosen(b, op, |s| right(s).map(|s| bf(f64::from(s)) as f32), false)
    }),
    fault("top_k_by_bits", TOP_K, "Scores are compared by their bits: -0 is below 0.", |b, op| {
        chosen(
            b,
            op,
            |s| right(s).map(|s| if s == 0.0 && s.is_sign_negative() { -f32::MIN_POSITIVE } else { s }),
            false,
        )
    }),
    fault("top_k_takes_masked", TOP_K, "Places of -inf fill up the list.", |b, op| {
        chosen(b, op, |s| (!s.is_nan()).then_some(s), false)
    }),
    fault("top_k_takes_nan", TOP_K, "NaN counts as the largest score.", |b, op| {
        chosen(b, op, |s| if s.is_nan() { Some(f32::INFINITY) } else { right(s) }, false)
    }),
    fault("top_k_in_list_order", TOP_K, "The best come in the order of their places, not best first.", |b, op| {
        b.then_integers(op, |t, out| {
            out.chunks_mut(t.size(1)).for_each(|row| row.sort_by_key(|&i| if i < 0 { i32::MAX } else { i }));
        })
    }),
    fault("top_k_of_one_tile", TOP_K, "Only the first 4096 scores are looked at.", |b, op| {
        b.with_floats(op, &["scores"], |t, s| {
            s.chunks_mut(t.size(1).max(1))
                .for_each(|row| row.iter_mut().skip(4096).for_each(|s| *s = f64::NEG_INFINITY));
        })
    }),
    fault("places_of_a_tile", TOP_K, "Places count from the start of a tile of 512, not of the row.", |b, op| {
        b.then_integers(op, |_, out| out.iter_mut().filter(|i| **i >= 0).for_each(|i| *i %= 512))
    }),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Selection, run};

    #[test]
    fn the_choice_without_a_fault_is_right() {
        let fault = fault("none", TOP_K, "None.", |b, op| chosen(b, op, right, false));
        let device = super::super::faulty(anychip_cpu::open().into(), fault);
        let report = run(&device, &Selection { ops: vec!["top_k".into()], ..Selection::default() }, &mut |_| true);
        assert!(report.unwrap().passed);
    }
}
