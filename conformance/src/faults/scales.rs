//! Scales of FP8 and FP4 blocks: another layout, another block, another meaning of the byte.

use super::Fault;
use super::bench::Bench;
use super::models::{exact_scale, products};
use anychip_core::{DType, Op, Result, Tensor};

const SCALED: &[&str] = &["linear", "expert_gemm", "dequantize"];
const ALL: &[&str] = &["x scales", "w scales"];

const fn fault(name: &'static str, bug: &'static str, run: super::Run) -> Fault {
    Fault::new("scales", name, SCALED, bug, run)
}

/// Scales `[groups, rows, cols]` put where `from` finds them: given row, column and both sizes, an index.
fn moved(b: &mut Bench<'_>, op: &Op, from: fn([usize; 2], [usize; 2]) -> usize) -> Result<()> {
    b.with(op, ALL, |t, bytes| {
        let size = (t.dtype().bits() / 8) as usize;
        let [rows, cols] = [t.size(1), t.size(2)];
        for group in bytes.chunks_mut((rows * cols * size).max(1)) {
            let before = group.to_vec();
            for i in 0..rows * cols {
                let at = from([i / cols, i % cols], [rows, cols]) * size;
                group[i * size..][..size].copy_from_slice(&before[at..at + size]);
            }
        }
    })
}

/// Exponent bytes changed; f32 scales stay.
fn bytes(b: &mut Bench<'_>, op: &Op, mut f: impl FnMut(&Tensor, &mut [u8])) -> Result<()> {
    b.with(op, ALL, |t, bytes| {
        if t.dtype() == DType::UE8M0 {
            f(t, bytes);
        }
    })
}

pub(super) const FAULTS: &[Fault] = &[
    fault("one_scale_doubled", "One group's scale is off by one exponent.", |b, op| {
        bytes(b, op, |_, scales| {
            let middle = scales.len() / 2;
            scales[middle] = scales[middle].wrapping_add(1);
        })
    }),
    Fault::new(
        "scales",
        "byte_read_as_float",
        &["linear", "expert_gemm"],
        "The exponent byte 120 is copied as the number 120.0 (vLLM 43416).",
        |b, op| products(b, op, f64::from, &|x, w| x.iter().zip(w).map(|(x, w)| x * w).sum()),
    ),
    Fault::new(
        "scales",
        "zero_exponent_read_as_zero",
        &["dequantize"],
        "Scale byte 0 gives 0, where it is 2^-127.",
        |b, op| {
            b.with(op, ALL, |t, scales| {
                if t.dtype() == DType::UE8M0 && scales[0] == 1 {
                    scales[0] = 0;
                }
            })
        },
    ),
    fault(
        "f32_scale_truncated",
        "Only the exponent of an f32 scale is used, as if it were a power of two (SGLang 39193).",
        |b, op| {
            b.with(op, ALL, |t, scales| {
                if t.dtype() == DType::F32 {
                    for s in scales.chunks_exact_mut(4) {
                        (s[0], s[1], s[2]) = (0, 0, s[2] & 0x80);
                    }
                }
            })
        },
    ),
    fault("group_major", "Scales are read group by group where they lie row by row.", |b, op| {
        moved(b, op, |[row, col], [rows, _]| col * rows + row)
    }),
    fault("shifted_by_one_group", "Each group gets the next one's scale.", |b, op| {
        moved(b, op, |[row, col], [_, cols]| row * cols + (col + 1) % cols)
    }),
    fault("shifted_by_one_row", "Each row gets the next one's scales.", |b, op| {
        moved(b, op, |[row, col], [rows, cols]| (row + 1) % rows * cols + col)
    }),
    fault(
        "first_row_for_all",
        "All rows get the first one's scales, as a tensor of activations with one token has it.",
        |b, op| moved(b, op, |[_, col], _| col),
    ),
    fault("first_group_for_all", "A scale per row in place of one per group.", |b, op| {
        moved(b, op, |[row, _], [_, cols]| row * cols)
    }),
    fault("coarse_groups", "FP4's scale per 32 is looked up as one per 128.", |b, op| {
        moved(b, op, |[row, col], [_, cols]| row * cols + col / 4 * 4)
    }),
    fault("short_block_forgotten", "A short last block is multiplied by the scale before it.", |b, op| {
        moved(b, op, |[row, col], [_, cols]| row * cols + if col + 1 == cols { col.saturating_sub(1) } else { col })
    }),
    fault("bias_of_128", "The exponent's bias is taken as 128.", |b, op| {
        bytes(b, op, |_, scales| scales.iter_mut().filter(|s| **s != 255).for_each(|s| *s = s.saturating_sub(1)))
    }),
    Fault::new(
        "scales",
        "weight_scale_ignored",
        &["linear", "expert_gemm"],
        "Codes of weights are multiplied without their scale.",
        |b, op| {
            b.with(op, &["w scales"], |t, scales| {
                if t.dtype() == DType::UE8M0 {
                    scales.fill(127);
                }
            })
        },
    ),
    Fault::new(
        "scales",
        "activation_scale_twice",
        &["linear", "expert_gemm"],
        "The activation's scale is applied before and after the product.",
        |b, op| {
            b.with(op, &["x scales"], |_, scales| {
                scales
                    .iter_mut()
                    .filter(|s| **s != 255)
                    .for_each(|s| *s = (2 * i32::from(*s) - 127).clamp(0, 254) as u8);
            })
        },
    ),
    Fault::new(
        "scales",
        "nan_scale_is_a_number",
        &["dequantize"],
        "Scale 255 is taken as 2^127 where it is NaN.",
        |b, op| bytes(b, op, |_, scales| scales.iter_mut().filter(|s| **s == 255).for_each(|s| *s = 254)),
    ),
    Fault::new(
        "scales",
        "scale_rounded_to_bf16_products",
        &["linear", "expert_gemm"],
        "The two scales' product is applied to a sum that was rounded to bf16.",
        |b, op| {
            products(b, op, exact_scale, &|x, w| {
                let blocks = x.chunks(128).zip(w.chunks(128));
                blocks.map(|(x, w)| super::bench::bf(x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>())).sum()
            })
        },
    ),
];
