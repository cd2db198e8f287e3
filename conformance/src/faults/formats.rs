//! FP8 and FP4 codes: how they are read, and how values become codes.

use super::Fault;
use super::bench::Bench;
use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::ops::OpKind;
use anychip_core::{DType, Op, Result};

const CODED: &[&str] = &["linear", "expert_gemm", "dequantize"];
const QUANTIZE: &[&str] = &["quantize"];

const fn fault(name: &'static str, bug: &'static str, run: super::Run) -> Fault {
    Fault::new("formats", name, CODED, bug, run)
}

const fn quantiser(name: &'static str, bug: &'static str, run: super::Run) -> Fault {
    Fault::new("formats", name, QUANTIZE, bug, run)
}

/// Codes of one type changed, each by itself.
fn codes(b: &mut Bench<'_>, op: &Op, dtype: DType, f: fn(u8) -> u8) -> Result<()> {
    b.with(op, &["x", "w"], |t, bytes| {
        if t.dtype() == dtype {
            bytes.iter_mut().for_each(|code| *code = f(*code));
        }
    })
}

/// A quantiser written out: what a block's scale is and what a value's code is, by the block's scale.
#[derive(Clone, Copy)]
struct Rules {
    amax: fn(&[f32]) -> f32,
    /// Scale byte, of the largest magnitude and the format's largest number.
    scale: fn(f32, f32) -> u8,
    /// Code of a value that was divided by its scale.
    code: fn(f32, DType) -> u8,
}

fn right_scale(amax: f32, max: f32) -> u8 {
    if max == e2m1::MAX { scale::for_e2m1(amax) } else { scale::for_e4m3(amax) }
}

fn right_code(x: f32, dtype: DType) -> u8 {
    if dtype == DType::E2M1 { e2m1::encode(x) } else { e4m3::encode(x) }
}

const RIGHT: Rules = Rules { amax: scale::amax, scale: right_scale, code: right_code };

fn quantised(b: &mut Bench<'_>, op: &Op, rules: Rules) -> Result<()> {
    let OpKind::Quantize(quantize) = op.kind() else { return b.run(op) };
    let Some((scales, layout)) = quantize.out.scales() else { return b.run(op) };
    let dtype = quantize.out.codes().dtype();
    let max = if dtype == DType::E2M1 { e2m1::MAX } else { e4m3::MAX };
    let x: Vec<f32> = b.floats(&quantize.x)?.iter().map(|&x| x as f32).collect();
    let (mut codes, mut bytes) = (Vec::new(), Vec::new());
    for block in x.chunks(quantize.x.size(1).max(1)).flat_map(|row| row.chunks(layout.cols)) {
        let byte = (rules.scale)((rules.amax)(block), max);
        let code = |x: &f32| if byte == scale::NAN { 0 } else { (rules.code)(x / scale::decode(byte), dtype) };
        codes.extend(block.iter().map(code));
        bytes.push(byte);
    }
    if dtype == DType::E2M1 {
        codes = codes.chunks(2).map(|pair| e2m1::pack(pair[0], pair.get(1).copied().unwrap_or(0))).collect();
    }
    b.put(quantize.out.codes(), &codes)?;
    b.put(scales, &bytes)
}

/// The code below or at `x` in magnitude.
fn truncated(x: f32, dtype: DType) -> u8 {
    let (code, value): (u8, fn(u8) -> f32) =
        if dtype == DType::E2M1 { (e2m1::encode(x), e2m1::decode) } else { (e4m3::encode(x), e4m3::decode) };
    if value(code).abs() > x.abs() { code - 1 } else { code }
}

/// Ties to the larger magnitude, or to the smaller: nudged before the right rounding.
fn nudged(x: f32, dtype: DType, up: bool) -> u8 {
    let toward = if up { x.abs().next_up() } else { x.abs().next_down() };
    if x == 0.0 { right_code(x, dtype) } else { right_code(toward.copysign(x), dtype) }
}

pub(super) const FAULTS: &[Fault] = &[
    fault("nibbles_swapped", "The even element of FP4 is read from the high nibble.", |b, op| {
        codes(b, op, DType::E2M1, |c| c.rotate_left(4))
    }),
    fault("fp4_read_as_integers", "An FP4 code is read as a small integer, in halves.", |b, op| {
        codes(b, op, DType::E2M1, |c| {
            let one = |n: u8| n & 8 | [0, 1, 2, 3, 4, 4, 5, 5][(n & 7) as usize];
            one(c & 15) | one(c >> 4) << 4
        })
    }),
    fault("fp4_largest_is_four", "The FP4 table ends at 4, the code of 6 included.", |b, op| {
        codes(b, op, DType::E2M1, |c| {
            let one = |n: u8| if n & 7 == 7 { n - 1 } else { n };
            one(c & 15) | one(c >> 4) << 4
        })
    }),
    fault("fp8_subnormals_flushed", "FP8's subnormal codes are read as zero.", |b, op| {
        codes(b, op, DType::E4M3, |c| if c & 0x78 == 0 { c & 0x80 } else { c })
    }),
    fault("fp8_read_as_fnuz", "e4m3fn codes are read as e4m3fnuz, whose bias is 8: all values are halved.", |b, op| {
        codes(b, op, DType::E4M3, |c| if c & 0x7F == 0x7F { c } else { e4m3::encode(e4m3::decode(c) / 2.0) })
    }),
    fault("fp8_read_as_e5m2", "e4m3 codes are read as e5m2.", |b, op| {
        codes(b, op, DType::E4M3, |c| {
            let e5m2 = half::f16::from_bits(u16::from(c) << 8).to_f32();
            if e5m2.is_finite() { e4m3::encode(e5m2) } else { c }
        })
    }),
    Fault::new("formats", "fp8_nan_is_480", &["dequantize"], "Code 0x7F is read as 480 where it is NaN.", |b, op| {
        codes(b, op, DType::E4M3, |c| if c & 0x7F == 0x7F { c & 0xFE } else { c })
    }),
    quantiser("quantise_truncates", "Codes are cut off towards zero.", |b, op| {
        quantised(b, op, Rules { code: truncated, ..RIGHT })
    }),
    quantiser("ties_round_up", "Ties go to the larger code (roundf, not rint).", |b, op| {
        quantised(b, op, Rules { code: |x, t| nudged(x, t, true), ..RIGHT })
    }),
    quantiser(
        "ties_round_down",
        "Ties go to the smaller code, as a chain of strict comparisons has it (DeepGEMM's helper).",
        |b, op| quantised(b, op, Rules { code: |x, t| nudged(x, t, false), ..RIGHT }),
    ),
    quantiser("minus_zero_dropped", "The sign of zero is lost.", |b, op| {
        quantised(
            b,
            op,
            Rules {
                code: |x, t| match right_code(x, t) {
                    0x80 if t == DType::E4M3 => 0,
                    8 if t == DType::E2M1 => 0,
                    code => code,
                },
                ..RIGHT
            },
        )
    }),
    quantiser(
        "scale_by_floor_plus_one",
        "The scale's exponent is floor(log2) + 1: an exact power of two is doubled.",
        |b, op| {
            quantised(
                b,
                op,
                Rules {
                    scale: |amax, max| {
                        let byte = right_scale(amax, max);
                        let exact = amax.max(1e-4) * (1.0 / max) == scale::decode(byte);
                        if exact && byte < 254 { byte + 1 } else { byte }
                    },
                    ..RIGHT
                },
            )
        },
    ),
    quantiser("scale_to_nearest", "The scale is the nearest power of two, and large values saturate.", |b, op| {
        quantised(b, op, Rules { scale: |amax, max| right_scale(amax / std::f32::consts::SQRT_2, max), ..RIGHT })
    }),
    quantiser("no_floor", "amax has no floor: a block of zeros gets a scale of its own.", |b, op| {
        quantised(
            b,
            op,
            Rules {
                scale: |amax, max| {
                    if amax.is_finite() {
                        scale::encode_ceil((amax * (1.0 / max)).max(f32::MIN_POSITIVE))
                    } else {
                        scale::NAN
                    }
                },
                ..RIGHT
            },
        )
    }),
    quantiser(
        "floor_on_the_ratio",
        "The floor of 1e-4 is taken of amax / 448 (FlashMLA's helper), not of amax.",
        |b, op| {
            quantised(
                b,
                op,
                Rules {
                    scale: |amax, max| match max == e2m1::MAX || !amax.is_finite() {
                        true => right_scale(amax, max),
                        false => scale::encode_ceil((amax * (1.0 / max)).max(1e-4)),
                    },
                    ..RIGHT
                },
            )
        },
    ),
    quantiser(
        "amax_without_magnitude",
        "The largest value stands for the largest magnitude: a negative outlier saturates.",
        |b, op| {
            quantised(
                b,
                op,
                Rules {
                    amax: |block| {
                        let signed = block.iter().fold(f32::MIN, |m, x| m.max(*x)).max(0.0);
                        if scale::amax(block).is_finite() { signed } else { f32::NAN }
                    },
                    ..RIGHT
                },
            )
        },
    ),
    quantiser("nan_ignored_in_amax", "max() drops the NaN of a block, which then reads as numbers.", |b, op| {
        quantised(b, op, Rules { amax: |block| block.iter().fold(0.0, |m: f32, x| m.max(x.abs())), ..RIGHT })
    }),
    quantiser("infinity_saturates", "A block with an infinity gets the largest scale, not NaN.", |b, op| {
        quantised(
            b,
            op,
            Rules { scale: |amax, max| if amax == f32::INFINITY { 254 } else { right_scale(amax, max) }, ..RIGHT },
        )
    }),
    quantiser("short_block_shares_scale", "A short last block keeps the scale before it.", |b, op| {
        let cols = match op.kind() {
            OpKind::Quantize(q) if q.out.format().layout().is_some_and(|l| q.x.size(1) % l.cols != 0) => q.x.size(1),
            _ => 0,
        };
        b.then_bytes(op, |name, t, bytes| {
            if name == "out scales" && cols > 0 && t.size(2) > 1 {
                bytes.chunks_mut(t.size(2)).for_each(|row| row[t.size(2) - 1] = row[t.size(2) - 2]);
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
    fn the_quantiser_without_a_fault_is_right() {
        let fault = quantiser("none", "None.", |b, op| quantised(b, op, RIGHT));
        let device = super::super::faulty(anychip_cpu::open().into(), fault);
        let report = run(&device, &Selection { ops: vec!["quantize".into()], ..Selection::default() }, &mut |_| true);
        assert!(report.unwrap().passed);
    }
}
