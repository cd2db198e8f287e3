//! Rotary embedding, norms and the Hadamard transform.

use super::Fault;
use super::bench::{Bench, bf};
use anychip_core::ops::{OpKind, Operation, RmsNorm, Rope, Rounding};
use anychip_core::{Op, Result, Tensor};

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("rotary", name, ops, bug, run)
}

/// Rotates with elements of each head taken from elsewhere: `from` gives, for element `i` of `dim` with `rope` rotated
/// ones, the element that is rotated in its place. The result goes back the same way.
fn rotated(b: &mut Bench<'_>, op: &Op, from: fn(usize, usize, usize) -> usize) -> Result<()> {
    let OpKind::Rope(rope) = op.kind() else { return b.run(op) };
    let (dim, width) = (rope.x.size(2), 2 * rope.angles.size(1));
    let moved = b.edited(op, &[], |_, _| {})?;
    let other = b.device.tensor(rope.x.dtype(), rope.x.sizes())?;
    let x = b.floats(&rope.x)?;
    let gathered: Vec<f64> = (0..x.len()).map(|i| x[i / dim * dim + from(i % dim, dim, width)]).collect();
    b.store(&other, &gathered)?;
    let OpKind::Rope(inner) = moved.kind() else { return b.run(op) };
    b.run(&Rope { x: other, ..inner.clone() }.build()?)?;
    let y = b.floats(&rope.out)?;
    let mut out = vec![0.0; y.len()];
    (0..y.len()).for_each(|i| out[i / dim * dim + from(i % dim, dim, width)] = y[i]);
    b.store(&rope.out, &out)
}

fn angles(b: &mut Bench<'_>, op: &Op, f: impl FnMut(&Tensor, &mut Vec<f64>)) -> Result<()> {
    b.with_floats(op, &["angles"], f)
}

fn norm(b: &mut Bench<'_>, op: &Op, f: fn(&mut RmsNorm)) -> Result<()> {
    let OpKind::RmsNorm(norm) = op.kind() else { return b.run(op) };
    let mut norm = norm.clone();
    f(&mut norm);
    b.run(&norm.build()?)
}

const ROPE: &[&str] = &["rope"];
const NORM: &[&str] = &["rms_norm"];

pub(super) const FAULTS: &[Fault] = &[
    fault("rope_not_inverted", ROPE, "Attention's result is rotated on instead of back.", |b, op| {
        let OpKind::Rope(rope) = op.kind() else { return b.run(op) };
        b.run(&Rope { inverse: false, ..rope.clone() }.build()?)
    }),
    fault("rope_in_halves", ROPE, "Pairs are (i, i + R), as in GPT-NeoX, not neighbours.", |b, op| {
        rotated(b, op, |i, dim, width| match i.checked_sub(dim - width) {
            Some(j) => dim - width + j % 2 * (width / 2) + j / 2,
            None => i,
        })
    }),
    fault("rope_in_front", ROPE, "The first elements of a head are rotated, not the last.", |b, op| {
        rotated(b, op, |i, dim, width| (i + width) % dim)
    }),
    fault("rope_skipped", ROPE, "Queries and keys are stored without their rotation.", |b, op| {
        angles(b, op, |_, a| a.chunks_mut(2).for_each(|cs| cs.copy_from_slice(&[1.0, 0.0])))
    }),
    fault("rope_angles_in_bf16", ROPE, "Cosines and sines are rounded to bf16 (transformers in bf16).", |b, op| {
        angles(b, op, |_, a| a.iter_mut().for_each(|x| *x = bf(*x)))
    }),
    fault("rope_position_of_the_next_row", ROPE, "Each row is rotated by the next one's position.", |b, op| {
        angles(b, op, |t, a| a.rotate_left(2 * t.size(1)))
    }),
    fault("rope_last_pair_skipped", ROPE, "The last pair is not rotated.", |b, op| {
        angles(b, op, |t, a| {
            let row = 2 * t.size(1);
            a.chunks_mut(row.max(1)).for_each(|r| r[row - 2..].copy_from_slice(&[1.0, 0.0]));
        })
    }),
    fault("norm_eps_missing", NORM, "The norm has no epsilon.", |b, op| norm(b, op, |n| n.eps = f32::MIN_POSITIVE)),
    fault("norm_eps_of_1e_5", NORM, "The norm's epsilon is another model's 1e-5.", |b, op| {
        norm(b, op, |n| n.eps = 1e-5)
    }),
    fault("norm_steps_not_rounded", NORM, "The query norm's bf16 steps are computed in f32.", |b, op| {
        norm(b, op, |n| n.rounding = Rounding::None)
    }),
    fault("norm_weight_plus_one", NORM, "The weight is 1 + w, as in Gemma.", |b, op| {
        b.with_floats(op, &["weight"], |_, w| w.iter_mut().for_each(|w| *w += 1.0))
    }),
    fault("norm_rounds_before_weight", NORM, "The normalised row is rounded to bf16 before the weight.", |b, op| {
        let OpKind::RmsNorm(norm) = op.kind() else { return b.run(op) };
        let Some(weight) = &norm.weight else { return b.run(op) };
        let w = b.floats(weight)?;
        b.then_floats(op, |_, _, y| {
            let d = w.len();
            y.iter_mut()
                .enumerate()
                .for_each(|(i, y)| *y = if w[i % d] == 0.0 { 0.0 } else { bf(*y / w[i % d]) * w[i % d] });
        })
    }),
    fault("norm_tail_dropped", NORM, "The mean square leaves out what is beyond a multiple of 32.", |b, op| {
        let OpKind::RmsNorm(norm) = op.kind() else { return b.run(op) };
        let (x, d) = (b.floats(&norm.x)?, norm.x.size(1));
        let eps = f64::from(norm.eps);
        b.then_floats(op, |_, _, y| {
            for (y, x) in y.chunks_mut(d).zip(x.chunks(d)) {
                let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>() / d as f64 + eps;
                let factor = (square(x) / square(&x[..d / 32 * 32])).sqrt();
                y.iter_mut().for_each(|y| *y *= factor);
            }
        })
    }),
    fault("hadamard_not_scaled", &["hadamard"], "The transform lacks its factor of 1 / sqrt(n).", |b, op| {
        b.then_floats(op, |_, out, y| y.iter_mut().for_each(|y| *y *= (out.size(1) as f64).sqrt()))
    }),
    fault("hadamard_stage_missing", &["hadamard"], "One stage of the butterfly is left out.", |b, op| {
        b.then_floats(op, |_, out, y| {
            if out.size(1) > 1 {
                let root = 0.5f64.sqrt();
                for pair in y.chunks_mut(2) {
                    (pair[0], pair[1]) = ((pair[0] + pair[1]) * root, (pair[0] - pair[1]) * root);
                }
            }
        })
    }),
    fault(
        "hadamard_sequency_order",
        &["hadamard"],
        "Rows of the matrix come in another order than Sylvester's.",
        |b, op| {
            b.then_floats(op, |_, out, y| {
                let n = out.size(1);
                for row in y.chunks_mut(n).filter(|_| n > 2) {
                    let before = row.to_vec();
                    (0..n).for_each(|i| row[i] = before[i ^ (i >> 1)]);
                }
            })
        },
    ),
    fault("embed_row_off_by_one", &["embed"], "Tokens are read as if they counted from 1.", |b, op| {
        b.with_integers(op, &["ids"], |_, ids| ids.iter_mut().filter(|i| **i > 0).for_each(|i| *i -= 1))
    }),
    fault(
        "embed_first_copy_only",
        &["embed"],
        "Only the first of the residual streams is filled; the rest is zero.",
        |b, op| {
            b.then_floats(op, |_, out, y| {
                y.chunks_mut((out.size(1) * out.size(2)).max(1)).for_each(|t| t[out.size(2)..].fill(0.0))
            })
        },
    ),
    fault("embed_outside_clamped", &["embed"], "A token outside the table gives the table's last row.", |b, op| {
        let OpKind::Embed(embed) = op.kind() else { return b.run(op) };
        let last = embed.table.size(0) as i32 - 1;
        b.with_integers(op, &["ids"], |_, ids| ids.iter_mut().for_each(|i| *i = (*i).clamp(0, last)))
    }),
];
