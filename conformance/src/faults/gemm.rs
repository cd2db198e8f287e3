//! Matrix products: sums that end too soon, accumulators that are too narrow, edges of tiles, rows of other experts.

use super::Fault;
use super::bench::{Bench, bf, significant};
use super::models::{exact_scale, products};
use anychip_core::ops::{ExpertGemm, OpKind};
use anychip_core::{DType, Op, Result, Tensor};
use half::f16;

const GEMMS: &[&str] = &["linear", "expert_gemm"];

const fn fault(name: &'static str, bug: &'static str, run: super::Run) -> Fault {
    Fault::new("gemm", name, GEMMS, bug, run)
}

/// Takes columns `from..` of each row of an operand out of every sum.
fn without_columns(b: &mut Bench<'_>, op: &Op, from: fn(usize) -> usize) -> Result<()> {
    b.with(op, &["x"], |x, bytes| {
        let cols = x.size(2);
        for (i, nibble) in (0..x.count()).filter(|i| i % cols >= from(cols)).map(|i| (i, i % 2)) {
            match x.dtype().bits() {
                4 => bytes[i / 2] &= if nibble == 0 { 0xF0 } else { 0x0F },
                bits => bytes[i * bits as usize / 8..][..bits as usize / 8].fill(0),
            }
        }
    })
}

/// Adds up with an accumulator that `narrow` rounds after `terms` products.
fn accumulated(b: &mut Bench<'_>, op: &Op, terms: usize, narrow: fn(f64) -> f64) -> Result<()> {
    products(b, op, exact_scale, &move |x, w| {
        x.chunks(terms)
            .zip(w.chunks(terms))
            .fold(0.0, |sum, (x, w)| narrow(sum + x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>()))
    })
}

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|x| x * x).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

fn offsets(b: &mut Bench<'_>, op: &Op, f: fn(&mut Vec<i32>)) -> Result<()> {
    b.with_integers(op, &["offsets"], |_, offsets| f(offsets))
}

fn quietest(out: &Tensor, values: &[f64]) -> usize {
    let n = out.size(1).max(1);
    let loud = |row: usize| rms(&values[row * n..][..n]);
    (0..out.size(0)).min_by(|&a, &b| loud(a).total_cmp(&loud(b))).unwrap_or(0)
}

pub(super) const FAULTS: &[Fault] = &[
    fault("k_last_dropped", "A loop over K ends one element too soon.", |b, op| without_columns(b, op, |k| k - 1)),
    fault("k_tail_dropped", "A loop over tiles of 32 has no remainder: what is left of K is not added.", |b, op| {
        without_columns(b, op, |k| k / 32 * 32)
    }),
    fault("k_half_dropped", "Split-K adds up only the first of two halves.", |b, op| {
        without_columns(b, op, |k| k.div_ceil(2))
    }),
    fault("k_first_twice", "Two slices of split-K overlap by one element.", |b, op| {
        products(b, op, exact_scale, &|x, w| x.iter().zip(w).chain(x.iter().zip(w).take(1)).map(|(x, w)| x * w).sum())
    }),
    fault("bf16_accumulator", "Sums are kept in bf16.", |b, op| accumulated(b, op, 1, bf)),
    fault("f16_accumulator", "Sums are kept in f16, as a half-precision matrix unit does by default.", |b, op| {
        accumulated(b, op, 16, |x| f16::from_f64(x).to_f64())
    }),
    fault("accumulator_of_13_bits", "FP8 tensor cores truncate sums to 13 bits, undeclared.", |b, op| {
        accumulated(b, op, 16, |x| significant(x, 13, true))
    }),
    fault("accumulator_of_14_bits", "FP8 tensor cores keep 14 bits of a sum of 32 products, undeclared.", |b, op| {
        accumulated(b, op, 32, |x| significant(x, 14, true))
    }),
    fault(
        "accumulator_of_20_bits",
        "Sums are rounded to 20 bits, undeclared: far within what f32 may do at worst.",
        |b, op| accumulated(b, op, 1, |x| significant(x, 20, false)),
    ),
    fault("accumulator_truncates", "Sums are kept in f32 and cut off instead of rounded, undeclared.", |b, op| {
        accumulated(b, op, 1, |x| significant(x, 24, true))
    }),
    fault("bf16_partial_sums", "Split-K stores partial sums of 32 products as bf16.", |b, op| {
        products(b, op, exact_scale, &|x, w| {
            x.chunks(32).zip(w.chunks(32)).map(|(x, w)| bf(x.iter().zip(w).map(|(x, w)| x * w).sum())).sum()
        })
    }),
    fault("tf32_products", "f32 operands are truncated to the ten mantissa bits of TF32, undeclared.", |b, op| {
        products(b, op, exact_scale, &|x, w| {
            x.iter().zip(w).map(|(x, w)| significant(*x, 11, true) * significant(*w, 11, true)).sum()
        })
    }),
    fault("store_truncates", "The store cuts mantissa bits off instead of rounding to nearest.", |b, op| {
        let dtype = op.operands().last().map_or(DType::F32, |(_, _, out)| out.dtype());
        let bits = [(DType::BF16, 8), (DType::F16, 11)].iter().find(|(d, _)| *d == dtype).map_or(24, |(_, bits)| *bits);
        products(b, op, exact_scale, &move |x, w| significant(x.iter().zip(w).map(|(x, w)| x * w).sum(), bits, true))
    }),
    fault("store_through_bf16", "An f32 result goes through a bf16 staging tile.", |b, op| {
        b.then_floats(op, |_, _, values| values.iter_mut().for_each(|x| *x = bf(*x)))
    }),
    fault("weights_transposed", "Weights are read as [K, N] where they are [N, K].", |b, op| {
        b.with(op, &["w"], |w, bytes| {
            let (n, k, size) = (w.size(1), w.size(2), (w.dtype().bits() / 8) as usize);
            if size == 0 {
                return bytes.rotate_left(k / 2); // two codes to a byte: read from the next row on
            }
            for group in bytes.chunks_mut((n * k * size).max(1)) {
                let before = group.to_vec();
                for i in 0..n * k {
                    let from = (i % k * n + i / k) * size;
                    group[i * size..][..size].copy_from_slice(&before[from..from + size]);
                }
            }
        })
    }),
    fault("column_tail_repeats", "The last column of a ragged tile repeats the one before it.", |b, op| {
        b.then_floats(op, |_, out, values| {
            let n = out.size(1);
            values.chunks_mut(n.max(1)).filter(|row| row.len() > 1).for_each(|row| row[n - 1] = row[n - 2]);
        })
    }),
    fault("row_tail_zero", "The last row of a ragged tile is masked out.", |b, op| {
        b.then_floats(op, |_, out, values| {
            let n = values.len() - out.size(1);
            values[n..].fill(0.0);
        })
    }),
    fault(
        "quiet_row_zero",
        "A row of small values is lost under a scale that is shared by the whole tensor.",
        |b, op| {
            b.then_floats(op, |_, out, values| {
                let (n, row) = (out.size(1), quietest(out, values));
                values[row * n..][..n].fill(0.0);
            })
        },
    ),
    fault("quiet_row_swapped", "Two rows change places in a permuted store.", |b, op| {
        b.then_floats(op, |_, out, values| {
            let (n, row, rows) = (out.size(1), quietest(out, values), out.size(0));
            (0..n).for_each(|i| values.swap(row * n + i, (row + 1) % rows * n + i));
        })
    }),
    fault("one_element_zero", "One thread of a tile does not store.", |b, op| {
        b.then_floats(op, |_, _, values| {
            let middle = values.len() / 2;
            let found = (middle..values.len()).chain(0..middle).find(|&i| values[i] != 0.0);
            found.into_iter().for_each(|i| values[i] = 0.0);
        })
    }),
    fault("one_element_off", "One element is off by a tenth, as after a lost partial sum.", |b, op| {
        b.then_floats(op, |_, _, values| {
            let largest = (0..values.len()).max_by(|&i, &j| values[i].abs().total_cmp(&values[j].abs()));
            largest.into_iter().for_each(|i| values[i] *= 1.1);
        })
    }),
    fault(
        "bias_of_half_a_percent",
        "Rounding leans to one side: every result is too large by 0.5 % of the rms.",
        |b, op| {
            b.then_floats(op, |_, _, values| {
                let lean = 0.005 * rms(values);
                values.iter_mut().for_each(|x| *x += lean);
            })
        },
    ),
    Fault::new(
        "gemm",
        "groups_read_the_first",
        &["linear"],
        "A grouped projection gives each group the columns of the first.",
        |b, op| {
            let OpKind::Linear(linear) = op.kind() else { return b.run(op) };
            let (k, groups, bits) = (linear.w.cols(), linear.w.groups(), linear.x.codes().dtype().bits() as usize);
            b.with(op, &["x"], |_, bytes| {
                let size = k * bits / 8;
                bytes
                    .chunks_mut((size * groups).max(1))
                    .for_each(|row| (1..groups).for_each(|g| row.copy_within(..size, g * size)));
            })
        },
    ),
    Fault::new("gemm", "expert_shifted", &["expert_gemm"], "Rows get the weights of the next expert.", |b, op| {
        let OpKind::ExpertGemm(gemm) = op.kind() else { return b.run(op) };
        let experts = gemm.w.groups().max(1);
        b.with(op, &["w", "w scales"], |_, bytes| {
            let size = bytes.len() / experts;
            bytes.rotate_left(size)
        })
    }),
    Fault::new(
        "gemm",
        "expert_boundary_off",
        &["expert_gemm"],
        "The first row of each expert goes to the expert before.",
        |b, op| offsets(b, op, |o| (1..o.len() - 1).for_each(|i| o[i] = o[i].saturating_add(1))),
    ),
    Fault::new(
        "gemm",
        "rows_without_expert_unwritten",
        &["expert_gemm"],
        "Rows outside every expert's range keep what memory held.",
        |b, op| {
            let OpKind::ExpertGemm(ExpertGemm { offsets, out, .. }) = op.kind() else { return b.run(op) };
            let (offsets, before) = (b.integers(offsets)?, b.bytes(out)?);
            let size = out.bytes() as usize / out.size(0).max(1);
            b.then_bytes(op, |_, out, bytes| {
                for row in (0..out.size(0)).filter(|&r| !offsets.windows(2).any(|o| (o[0]..o[1]).contains(&(r as i32))))
                {
                    bytes[row * size..][..size].copy_from_slice(&before[row * size..][..size]);
                }
            })
        },
    ),
    Fault::new(
        "gemm",
        "expert_capacity",
        &["expert_gemm"],
        "An expert takes four rows at most; the others of a skewed load are dropped.",
        |b, op| {
            let OpKind::ExpertGemm(gemm) = op.kind() else { return b.run(op) };
            let offsets = b.integers(&gemm.offsets)?;
            b.then_floats(op, |_, out, values| {
                let n = out.size(1);
                for row in 0..out.size(0) {
                    let first = offsets
                        .windows(2)
                        .rfind(|o| (o[0]..o[1]).contains(&(row as i32)))
                        .map_or(row, |o| o[0].max(0) as usize);
                    if row >= first + 4 {
                        values[row * n..][..n].fill(0.0);
                    }
                }
            })
        },
    ),
    Fault::new(
        "gemm",
        "last_expert_takes_the_rest",
        &["expert_gemm"],
        "The last offset is taken to be the number of rows.",
        |b, op| offsets(b, op, |o| o.iter_mut().rev().take(1).for_each(|end| *end = i32::MAX)),
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Selection, run};

    #[test]
    fn products_without_a_fault_are_right() {
        let fault = fault("none", "None.", |b, op| accumulated(b, op, usize::MAX, |x| x));
        let device = super::super::faulty(anychip_cpu::open().into(), fault);
        let ops = GEMMS.iter().map(|op| op.to_string()).collect();
        let report = run(&device, &Selection { ops, ..Selection::default() }, &mut |_| true).unwrap();
        assert!(report.passed, "{}", report.matrix());
    }
}
