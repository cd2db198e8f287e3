//! Attention: sinks, masks, lists of keys, running maxima and the merging of scopes.

use super::Fault;
use super::bench::Bench;
use super::models::{Masking, Wrong, dense, sparse};
use anychip_core::ops::{OpKind, Operation, Rounding, SparseAttention};
use anychip_core::{Op, Result};

const SPARSE: &[&str] = &["sparse_attention"];
const DENSE: &[&str] = &["dense_attention"];
const BOTH: &[&str] = &["sparse_attention", "dense_attention"];
const LISTS: &[&str] = &["entries", "second entries"];

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("attention", name, ops, bug, run)
}

fn attention(b: &mut Bench<'_>, op: &Op, wrong: Wrong) -> Result<()> {
    match op.kind() {
        OpKind::SparseAttention(op) => sparse(b, op, wrong),
        OpKind::DenseAttention(op) => dense(b, op, &Masking::RIGHT, wrong),
        _ => b.run(op),
    }
}

fn masked(b: &mut Bench<'_>, op: &Op, masking: &Masking) -> Result<()> {
    let OpKind::DenseAttention(attention) = op.kind() else { return b.run(op) };
    dense(b, attention, masking, Wrong::default())
}

fn rounded(b: &mut Bench<'_>, op: &Op, from: Rounding, to: Rounding) -> Result<()> {
    match op.kind() {
        OpKind::SparseAttention(a) if a.rounding == from => {
            b.run(&SparseAttention { rounding: to, ..a.clone() }.build()?)
        }
        _ => b.run(op),
    }
}

fn scaled(b: &mut Bench<'_>, op: &Op, factor: impl Fn(usize) -> f32) -> Result<()> {
    match op.kind() {
        OpKind::SparseAttention(a) => {
            let mut a = a.clone();
            a.scale *= factor(a.q.size(2));
            b.run(&a.build()?)
        }
        OpKind::DenseAttention(a) => {
            let mut a = a.clone();
            a.scale *= factor(a.q.size(3));
            b.run(&a.build()?)
        }
        _ => b.run(op),
    }
}

/// Each row's list of each scope, changed.
fn lists(b: &mut Bench<'_>, op: &Op, f: fn(&mut [i32])) -> Result<()> {
    b.with_integers(op, LISTS, |t, all| all.chunks_mut(t.size(1).max(1)).for_each(f))
}

fn names_one(e: &i32) -> bool {
    (0..i32::MAX).contains(e)
}

pub(super) const FAULTS: &[Fault] = &[
    fault("sink_ignored", BOTH, "The sink is left out of the denominator.", |b, op| {
        b.with_floats(op, &["sink"], |_, sinks| sinks.fill(f64::NEG_INFINITY))
    }),
    fault("sink_has_a_value", BOTH, "The sink's weight multiplies the first key, as if it were one.", |b, op| {
        attention(b, op, Wrong { sink_has_value: true, ..Wrong::default() })
    }),
    fault("sink_scaled", BOTH, "The sink is multiplied by the scale of the scores.", |b, op| {
        let scale = match op.kind() {
            OpKind::SparseAttention(a) => a.scale,
            OpKind::DenseAttention(a) => a.scale,
            _ => 1.0,
        };
        b.with_floats(op, &["sink"], |_, sinks| sinks.iter_mut().for_each(|s| *s *= f64::from(scale)))
    }),
    fault("sink_of_the_first_head", BOTH, "All heads get the first one's sink.", |b, op| {
        b.with_floats(op, &["sink"], |_, sinks| {
            let first = sinks[0];
            sinks.fill(first);
        })
    }),
    fault("last_key_dropped", SPARSE, "A loop over the list ends at its last key.", |b, op| {
        lists(b, op, |list| list.iter_mut().rev().filter(|e| names_one(e)).take(1).for_each(|e| *e = -1))
    }),
    fault("window_short_by_one", SPARSE, "The oldest key of the window is not seen.", |b, op| {
        lists(b, op, |list| list.iter_mut().filter(|e| names_one(e)).take(1).for_each(|e| *e = -1))
    }),
    fault("entries_off_by_one", SPARSE, "The list is read as if it counted from 1.", |b, op| {
        lists(b, op, |list| list.iter_mut().filter(|e| **e > 0).for_each(|e| *e -= 1))
    }),
    fault("minus_one_is_the_first", SPARSE, "-1 is clamped to entry 0 instead of being skipped.", |b, op| {
        lists(b, op, |list| list.iter_mut().filter(|e| **e == -1).for_each(|e| *e = 0))
    }),
    fault("list_ends_at_minus_one", SPARSE, "The first -1 is taken as the end of the list.", |b, op| {
        lists(b, op, |list| {
            let end = list.iter().position(|&e| e == -1).unwrap_or(list.len());
            list[end..].fill(-1);
        })
    }),
    fault("repeats_dropped", SPARSE, "An entry that is listed twice counts once.", |b, op| {
        lists(b, op, |list| {
            (1..list.len()).for_each(|i| {
                if list[..i].contains(&list[i]) {
                    list[i] = -1
                }
            })
        })
    }),
    fault(
        "stale_tile",
        SPARSE,
        "The second tile of keys is computed before its copy has arrived: a missing barrier.",
        |b, op| {
            lists(b, op, |list| {
                (SparseAttention::BLOCK..list.len()).for_each(|i| list[i] = list[i - SparseAttention::BLOCK])
            })
        },
    ),
    fault("second_scope_ignored", SPARSE, "The compressed entries are not looked at.", |b, op| {
        b.with_integers(op, &["second entries"], |_, list| list.fill(-1))
    }),
    fault("scopes_averaged", SPARSE, "Results of the two scopes are averaged without their softmax sums.", |b, op| {
        let OpKind::SparseAttention(a) = op.kind() else { return b.run(op) };
        if a.scopes.len() < 2 {
            return b.run(op);
        }
        b.run(&SparseAttention { scopes: a.scopes[..1].to_vec(), ..a.clone() }.build()?)?;
        let first = b.floats(&a.out)?;
        b.run(&SparseAttention { scopes: a.scopes[1..].to_vec(), ..a.clone() }.build()?)?;
        let second = b.floats(&a.out)?;
        b.store(&a.out, &first.iter().zip(&second).map(|(a, b)| (a + b) / 2.0).collect::<Vec<_>>())
    }),
    fault(
        "no_maximum",
        BOTH,
        "Exponentials are taken of the scores themselves and leave the range of f32.",
        |b, op| attention(b, op, Wrong { no_maximum: true, ..Wrong::default() }),
    ),
    fault(
        "zero_in_maximum",
        BOTH,
        "Zero padding enters the maximum: weights of low scores vanish (llama.cpp 18487).",
        |b, op| attention(b, op, Wrong { zero_in_maximum: true, ..Wrong::default() }),
    ),
    fault("no_rescaling", SPARSE, "What earlier blocks gave is not scaled down when the maximum grows.", |b, op| {
        attention(b, op, Wrong { no_rescaling: true, ..Wrong::default() })
    }),
    fault("attention_in_bf16", BOTH, "The sum over keys is kept in bf16.", |b, op| {
        attention(b, op, Wrong { bf16_accumulator: true, ..Wrong::default() })
    }),
    fault("scores_in_bf16", BOTH, "Scores are rounded to bf16 before the softmax.", |b, op| {
        attention(b, op, Wrong { bf16_scores: true, ..Wrong::default() })
    }),
    fault(
        "rounded_denominator",
        SPARSE,
        "The denominator adds the weights after they were rounded to bf16.",
        |b, op| match op.kind() {
            OpKind::SparseAttention(a) if a.rounding == Rounding::Bf16 => {
                sparse(b, a, Wrong { rounded_denominator: true, ..Wrong::default() })
            }
            _ => b.run(op),
        },
    ),
    fault("weights_in_bf16_unasked", SPARSE, "Weights are rounded to bf16 where the call asks for none.", |b, op| {
        rounded(b, op, Rounding::None, Rounding::Bf16)
    }),
    fault("weights_not_rounded", SPARSE, "Weights keep f32 where the model rounds them to bf16.", |b, op| {
        rounded(b, op, Rounding::Bf16, Rounding::None)
    }),
    fault("scale_missing", BOTH, "Scores are not scaled.", |b, op| scaled(b, op, |dim| (dim as f32).sqrt())),
    fault("scale_of_half_the_head", BOTH, "The scale is that of a head without its rope part.", |b, op| {
        scaled(b, op, |dim| (dim as f32 / (dim as f32 - 8.0)).sqrt())
    }),
    fault("score_tail_dropped", BOTH, "The product of query and key leaves out the last element.", |b, op| {
        attention(b, op, Wrong { score_without_last: 1, ..Wrong::default() })
    }),
    fault(
        "value_without_rope_part",
        SPARSE,
        "Only the front of an entry is its value; the rope part is left out.",
        |b, op| {
            b.then_floats(op, |_, out, values| {
                values.chunks_mut(out.size(2)).for_each(|o| o[out.size(2) - 16..].fill(0.0))
            })
        },
    ),
    fault("empty_row_is_nan", BOTH, "A row without keys is 0 / 0.", |b, op| {
        b.then_floats(op, |_, out, values| {
            let width = out.sizes().last().copied().unwrap_or(1).max(1);
            values.chunks_mut(width).filter(|o| o.iter().all(|&x| x == 0.0)).for_each(|o| o.fill(f64::NAN));
        })
    }),
    fault("heads_swapped", BOTH, "Two heads change places in the store.", |b, op| {
        b.then_floats(op, |_, out, values| {
            let width = out.sizes().last().copied().unwrap_or(1);
            (0..width.min(values.len() - width)).for_each(|i| values.swap(i, width + i));
        })
    }),
    fault("groups_interleaved", DENSE, "Head h reads key head h mod G, not h G / H.", |b, op| {
        masked(b, op, &Masking { group: |head, _, groups| head % groups, ..Masking::RIGHT })
    }),
    fault("sees_the_next_key", DENSE, "The causal mask is one key too long.", |b, op| {
        masked(b, op, &Masking { visible: |t, rows, keys| t + 2 + keys - rows, ..Masking::RIGHT })
    }),
    fault("does_not_see_itself", DENSE, "The causal mask is one key too short.", |b, op| {
        masked(b, op, &Masking { visible: |t, rows, keys| t + keys - rows, ..Masking::RIGHT })
    }),
    fault("mask_from_the_top", DENSE, "The causal mask is aligned with the first key, not with the last.", |b, op| {
        masked(b, op, &Masking { visible: |t, _, _| t + 1, ..Masking::RIGHT })
    }),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Selection, run};

    #[test]
    fn attention_without_a_fault_is_right() {
        let fault = fault("none", BOTH, "None.", |b, op| attention(b, op, Wrong::default()));
        let device = super::super::faulty(anychip_cpu::open().into(), fault);
        let ops = BOTH.iter().map(|op| op.to_string()).collect();
        let report = run(&device, &Selection { ops, ..Selection::default() }, &mut |_| true).unwrap();
        assert!(report.passed, "{}", report.matrix());
    }
}
