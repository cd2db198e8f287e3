//! Compression: windows that overlap, position offsets, carried state.

use super::Fault;
use super::bench::{Bench, bf};
use anychip_core::ops::{KvCompress, OpKind};
use anychip_core::{Op, Result};

const OPS: &[&str] = &["kv_compress"];

const fn fault(name: &'static str, bug: &'static str, run: super::Run) -> Fault {
    Fault::new("compress", name, OPS, bug, run)
}

/// What may be wrong with a step.
#[derive(Clone, Copy, Default)]
struct Wrong {
    /// The previous window gives its last channels and the current one its first.
    halves_swapped: bool,
    /// The overlap's slots are not carried on.
    overlap_not_carried: bool,
    /// One softmax for all channels, by their first.
    one_softmax: bool,
    /// The mean of the window.
    mean: bool,
    /// Exponentials of the scores themselves, in f32.
    no_maximum: bool,
    /// The last slot has no part.
    short: bool,
    /// `p` is the row's place in the call, not its position.
    position_is_row: bool,
    /// The entry is rounded to bf16 on its way.
    bf16: bool,
    /// The offset does not go into the state.
    state_without_ape: bool,
    /// The overlap's first window counts, with a score of zero.
    first_window_counts: bool,
}

/// [`KvCompress`] written out, with something wrong.
fn compressed(b: &mut Bench<'_>, op: &Op, wrong: Wrong) -> Result<()> {
    let OpKind::KvCompress(op) = op.kind() else { return b.run(op) };
    let (m, channels, slots) = (op.ratio(), op.channels(), op.slots());
    let (dim, half) = (if op.overlap { channels / 2 } else { channels }, slots * channels);
    let [kv, gate, ape] = [b.floats(&op.kv)?, b.floats(&op.gate)?, b.floats(&op.ape)?];
    let [sequence, position, closing] =
        [b.integers(&op.sequence)?, b.integers(&op.position)?, b.integers(&op.closing)?];
    let mut state = b.floats(&op.state)?;
    let mut entries = vec![vec![0.0; dim]; sequence.len()];
    for row in 0..sequence.len() {
        let (s, p) = (sequence[row], if wrong.position_is_row { row as i32 } else { position[row] });
        if s < 0 || s as usize >= op.state.size(0) || position[row] < 0 {
            continue;
        }
        let p = p as usize;
        let state = &mut state[s as usize * 2 * half..][..2 * half];
        let slot = p % m + if op.overlap { m } else { 0 };
        for c in 0..channels {
            state[slot * channels + c] = kv[row * channels + c];
            // Sums of two f32 are rounded once, as the state holds them.
            let offset = if wrong.state_without_ape { 0.0 } else { ape[p % m * channels + c] };
            state[half + slot * channels + c] = f64::from((gate[row * channels + c] + offset) as f32);
        }
        if !(p + 1).is_multiple_of(m) {
            continue;
        }
        for d in 0..dim {
            let mut pool: Vec<(f64, f64)> = (0..slots)
                .map(|j| {
                    let front = (j < m) != wrong.halves_swapped;
                    let c = if op.overlap && !front { dim + d } else { d };
                    let by = if wrong.one_softmax { c / dim * dim } else { c };
                    (state[half + j * channels + by], state[j * channels + c])
                })
                .collect();
            if wrong.short {
                pool.pop();
            }
            if wrong.first_window_counts {
                pool.iter_mut().filter(|(g, _)| *g == f64::NEG_INFINITY).for_each(|(g, _)| *g = 0.0);
            }
            let largest = pool.iter().fold(f64::NEG_INFINITY, |m, (g, _)| m.max(*g));
            let weight = |g: f64| match (wrong.mean, wrong.no_maximum) {
                (true, _) => 1.0,
                (_, true) => f64::from((g as f32).exp()),
                _ => (g - largest).exp(),
            };
            let sum: f64 = pool.iter().map(|(g, _)| weight(*g)).sum();
            let entry = pool.iter().map(|(g, c)| weight(*g) * c).sum::<f64>() / sum;
            entries[row][d] = if wrong.bf16 { bf(entry) } else { entry };
        }
        if op.overlap && !wrong.overlap_not_carried {
            for part in state.chunks_mut(half) {
                part.copy_within(m * channels.., 0);
            }
        }
    }
    let none = vec![0.0; dim];
    let out =
        closing.iter().flat_map(|&row| usize::try_from(row).ok().and_then(|r| entries.get(r)).unwrap_or(&none).clone());
    let out: Vec<f64> = out.collect();
    b.store(&op.state, &state)?;
    b.store(&op.out, &out)
}

fn state_after(b: &mut Bench<'_>, op: &Op, f: fn(&KvCompress, &[u8], &mut Vec<u8>)) -> Result<()> {
    let OpKind::KvCompress(compress) = op.kind() else { return b.run(op) };
    let before = b.bytes(&compress.state)?;
    b.run(op)?;
    b.change(&compress.state, |after| f(compress, &before, after))
}

pub(super) const FAULTS: &[Fault] = &[
    fault(
        "wrong_half_of_the_overlap",
        "The previous window gives the last channels, as the paper's names suggest.",
        |b, op| compressed(b, op, Wrong { halves_swapped: true, ..Wrong::default() }),
    ),
    fault("ape_skipped", "The position offset is not added to the scores.", |b, op| {
        b.with_floats(op, &["ape"], |_, ape| ape.fill(0.0))
    }),
    fault("ape_not_in_the_state", "Scores go into the state without their offset.", |b, op| {
        compressed(b, op, Wrong { state_without_ape: true, ..Wrong::default() })
    }),
    fault("ape_off_by_one", "Offsets are those of the next place in the window.", |b, op| {
        b.with_floats(op, &["ape"], |t, ape| ape.rotate_left(t.size(1)))
    }),
    fault("position_is_row", "The place in the window is the row's number in the call.", |b, op| {
        compressed(b, op, Wrong { position_is_row: true, ..Wrong::default() })
    }),
    fault("overlap_not_carried", "The current window does not become the previous one.", |b, op| {
        compressed(b, op, Wrong { overlap_not_carried: true, ..Wrong::default() })
    }),
    fault("first_window_counts", "The missing predecessor of the first window weighs as a score of 0.", |b, op| {
        compressed(b, op, Wrong { first_window_counts: true, ..Wrong::default() })
    }),
    fault("one_softmax_for_all_channels", "The softmax is one per token, not one per channel.", |b, op| {
        compressed(b, op, Wrong { one_softmax: true, ..Wrong::default() })
    }),
    fault("window_mean", "Windows are averaged without their scores.", |b, op| {
        compressed(b, op, Wrong { mean: true, ..Wrong::default() })
    }),
    fault("window_short_by_a_token", "The token that closes a window is not part of it.", |b, op| {
        compressed(b, op, Wrong { short: true, ..Wrong::default() })
    }),
    fault("pool_without_maximum", "Exponentials are taken of scores without their maximum.", |b, op| {
        compressed(b, op, Wrong { no_maximum: true, ..Wrong::default() })
    }),
    fault("pool_in_bf16", "Entries are rounded to bf16 before the store.", |b, op| {
        compressed(b, op, Wrong { bf16: true, ..Wrong::default() })
    }),
    fault("state_not_written", "The state stays as it was before the call.", |b, op| {
        state_after(b, op, |_, before, after| after.copy_from_slice(before))
    }),
    fault("state_of_the_first_sequence", "All sequences share the first one's state.", |b, op| {
        b.with_integers(op, &["sequence numbers"], |_, s| s.iter_mut().filter(|s| **s > 0).for_each(|s| *s = 0))
    }),
    fault("entry_of_the_next_row", "Entries are taken from the row after the one that closes the window.", |b, op| {
        b.with_integers(op, &["closing rows"], |_, c| {
            c.iter_mut().filter(|c| **c > 0).for_each(|c| *c = c.saturating_add(1))
        })
    }),
    fault("no_rows_no_entries", "Rows that close no window keep what memory held.", |b, op| {
        let OpKind::KvCompress(compress) = op.kind() else { return b.run(op) };
        let before = b.bytes(&compress.out)?;
        b.run(op)?;
        let values = b.floats(&compress.out)?;
        let size = (compress.out.dtype().bits() / 8) as usize * compress.out.size(1);
        b.change(&compress.out, |bytes| {
            for (row, v) in values.chunks(compress.out.size(1).max(1)).enumerate() {
                if v.iter().all(|&x| x == 0.0) {
                    bytes[row * size..][..size].copy_from_slice(&before[row * size..][..size]);
                }
            }
        })
    }),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Selection, run};

    #[test]
    fn compression_without_a_fault_is_right() {
        let fault = fault("none", "None.", |b, op| compressed(b, op, Wrong::default()));
        let device = super::super::faulty(anychip_cpu::open().into(), fault);
        let report =
            run(&device, &Selection { ops: vec!["kv_compress".into()], ..Selection::default() }, &mut |_| true);
        let report = report.unwrap();
        assert!(report.passed, "{}", report.matrix());
    }
}
