//! What the numbers of a random checkpoint are drawn from, and the drawing itself.
//!
//! The laws keep a forward pass finite and lively, so that every part of it decides something: a linear's weights have
//! standard deviation 1/sqrt(fan-in), norms vary around 1, sinks, position scores and router biases are large enough to
//! change which key or expert wins.

use anychip_core::DType;
use anychip_core::formats::{e2m1, e4m3};
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::inventory::TensorSpec;

/// Bytes made at a time.
const CHUNK: usize = 1 << 20;

/// Root mean square of the factors 1/2, 1, 1, 2 that scales are drawn from: sqrt((1/4 + 1 + 1 + 4) / 4).
const SPREAD: f64 = 1.25;

/// Largest standard deviation of e4m3 codes: their largest draw, 2.9 sigma, then stays below 448.
const FP8_SIGMA: f64 = 128.0;
/// Largest standard deviation of e2m1 codes. At half of it the largest draw still rounds to 6, so every code occurs; at
/// all of it 9 % of the draws saturate, which narrows the weights by 7 %.
const FP4_SIGMA: f64 = 3.5;

/// The law of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Law {
    /// Normal, in the tensor's own float type.
    Normal { mean: f32, sigma: f32 },
    /// Codes of a normal of this standard deviation, one byte each.
    Fp8 { sigma: f32 },
    /// Codes of a normal of this standard deviation, two to a byte.
    Fp4 { sigma: f32 },
    /// Exponent bytes: this one, or one less or more (a quarter of the blocks each).
    Scales { exponent: u8 },
    /// Rows of distinct expert ids.
    Experts { per_token: usize },
}

impl Law {
    /// The law of `spec`. `weight` is the tensor listed before it: scales follow the weight that they belong to.
    pub(super) fn of(spec: &TensorSpec, weight: Option<&TensorSpec>) -> Law {
        let sigma = linear_sigma(spec);
        match spec.dtype {
            DType::E4M3 => Law::Fp8 { sigma: split(sigma, FP8_SIGMA).1 },
            DType::E2M1 => Law::Fp4 { sigma: split(sigma, FP4_SIGMA).1 },
            DType::UE8M0 => {
                let top = if weight.is_some_and(|w| w.dtype == DType::E2M1) { FP4_SIGMA } else { FP8_SIGMA };
                Law::Scales { exponent: split(weight.map_or(1.0, linear_sigma), top).0 }
            }
            DType::I32 | DType::I64 => Law::Experts { per_token: spec.shape.last().map_or(1, |&k| k as usize) },
            _ => {
                let ends = |with: &str| spec.name.ends_with(with);
                let (mean, sigma) = if ends("norm.weight") {
                    (1.0, 0.2)
                } else if ends(".attn_sink") || spec.name == "embed.weight" {
                    (0.0, 1.0)
                } else if ends(".ape") {
                    (0.0, 0.7)
                } else if ends(".gate.bias") {
                    (0.0, 0.3)
                } else if ends("_base") {
                    (0.0, 0.5)
                } else if ends("_scale") {
                    (0.6, 0.2)
                } else if ends("_fn") {
                    (0.0, 2.0 * sigma)
                } else {
                    (0.0, sigma)
                };
                Law::Normal { mean, sigma: sigma as f32 }
            }
        }
    }
}

/// 1/sqrt(fan-in) of a matrix `[out, in]`.
fn linear_sigma(spec: &TensorSpec) -> f64 {
    1.0 / (spec.shape.last().map_or(1, |&n| n.max(1)) as f64).sqrt()
}

/// Weights of standard deviation `sigma` as (exponent byte of the usual scale, standard deviation of the codes). The
/// latter lies in (top/2, top], and is what is left over from powers of two.
fn split(sigma: f64, top: f64) -> (u8, f32) {
    let exponent = (sigma / (SPREAD * top)).log2().ceil().clamp(-120.0, 120.0);
    ((127.0 + exponent) as u8, (sigma / SPREAD / exponent.exp2()) as f32)
}

/// Draws tensors, chunk by chunk, with one set of tables and buffers for all of them.
pub(super) struct Drawer {
    seed: u64,
    experts: usize,
    /// The normal's quantiles at (n + 1/2) / 65536: a random 16-bit number picks one.
    normal: Vec<f32>,
    random: Vec<u8>,
    out: Vec<u8>,
}

impl Drawer {
    /// For a model of `experts` routed experts; the same `seed` draws the same bytes.
    pub(super) fn new(seed: u64, experts: usize) -> Drawer {
        let normal = (0..1 << 16).map(|n| quantile((f64::from(n) + 0.5) / 65536.0) as f32).collect();
        Drawer { seed, experts, normal, random: Vec::new(), out: Vec::new() }
    }

    /// Draws the stored bytes of `spec` and hands them to `write` in order, about a mebibyte at a time.
    ///
    /// # Errors
    /// The first error of `write`, after which nothing more is drawn.
    pub(super) fn draw<E>(
        &mut self,
        spec: &TensorSpec,
        law: Law,
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // A stream of its own per tensor: its bytes do not depend on which other tensors the model has.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(fnv1a(spec.name.as_bytes()));

        let width = (spec.dtype.bits() as usize / 8).max(1);
        let codes = match law {
            Law::Fp8 { sigma } => table(|z| e4m3::encode(z * sigma)),
            Law::Fp4 { sigma } => table(|z| e2m1::encode(z * sigma)),
            _ => [0; 256],
        };
        let mut ids: Vec<u32> = (0..self.experts as u32).collect();
        // A row of expert ids is drawn at once.
        let unit = if let Law::Experts { per_token } = law { per_token.max(1) * width } else { width };
        let total = spec.file_bytes();
        let mut done = 0;
        while done < total {
            let size = (total - done).min((CHUNK / unit).max(1) as u64 * unit as u64) as usize;
            self.out.resize(size, 0);
            let out = &mut self.out[..];
            let needed = match law {
                Law::Normal { .. } => size / width * 2,
                Law::Fp8 { .. } | Law::Scales { .. } => size,
                Law::Fp4 { .. } => 2 * size,
                Law::Experts { .. } => 0,
            };
            self.random.resize(needed, 0);
            rng.fill_bytes(&mut self.random);
            let random = &self.random[..];
            match law {
                Law::Normal { mean, sigma } => {
                    let draws = random.as_chunks::<2>().0.iter();
                    let values = draws.map(|&d| mean + sigma * self.normal[usize::from(u16::from_le_bytes(d))]);
                    store(spec.dtype, out, values);
                }
                Law::Fp8 { .. } => {
                    out.iter_mut().zip(random).for_each(|(o, &r)| *o = codes[usize::from(r)]);
                }
                Law::Fp4 { .. } => {
                    let pairs = random.as_chunks::<2>().0;
                    let packed = |[low, high]: [u8; 2]| e2m1::pack(codes[usize::from(low)], codes[usize::from(high)]);
                    out.iter_mut().zip(pairs).for_each(|(o, &pair)| *o = packed(pair));
                }
                Law::Scales { exponent } => {
                    let near = [exponent - 1, exponent, exponent, exponent + 1];
                    out.iter_mut().zip(random).for_each(|(o, &r)| *o = near[usize::from(r % 4)]);
                    if done == 0 {
                        // However few the blocks, if there are two their scales differ: a scale that is read from the
                        // wrong block then shows.
                        out.iter_mut().zip([exponent, exponent - 1]).for_each(|(o, e)| *o = e);
                    }
                }
                Law::Experts { .. } => {
                    for row in out.chunks_mut(unit) {
                        for (place, o) in row.chunks_mut(width).enumerate() {
                            let left = ids.len().saturating_sub(place).max(1);
                            let pick = (place + rng.next_u32() as usize % left).min(ids.len().saturating_sub(1));
                            if place < ids.len() {
                                ids.swap(place, pick);
                            }
                            let id = u64::from(ids.get(place).copied().unwrap_or_default());
                            o.copy_from_slice(&id.to_le_bytes()[..o.len()]);
                        }
                    }
                }
            }
            write(out)?;
            done += size as u64;
        }
        Ok(())
    }
}

/// Stores floats in `dtype`, little endian.
fn store(dtype: DType, out: &mut [u8], values: impl Iterator<Item = f32>) {
    match dtype {
        DType::BF16 => {
            out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(o, v)| *o = bf16::from_f32(v).to_le_bytes());
        }
        DType::F16 => {
            out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(o, v)| *o = f16::from_f32(v).to_le_bytes());
        }
        _ => out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(o, v)| *o = v.to_le_bytes()),
    }
}

/// Codes of the normal's quantiles at (n + 1/2) / 256: a random byte picks one.
fn table(code: impl Fn(f32) -> u8) -> [u8; 256] {
    std::array::from_fn(|n| code(quantile((n as f64 + 0.5) / 256.0) as f32))
}

/// The standard normal's quantile at `p` in (0, 1) by P. J. Acklam's rational approximation (relative error 1.2e-9).
fn quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e+01,
        2.209460984245205e+02,
        -2.759285104469687e+02,
        1.38357751867269e+02,
        -3.066479806614716e+01,
        2.506628277459239e+00,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e+01,
        1.615858368580409e+02,
        -1.556989798598866e+02,
        6.680131188771972e+01,
        -1.328068155288572e+01,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-03,
        -3.223964580411365e-01,
        -2.400758277161838e+00,
        -2.549732539343734e+00,
        4.374664141464968e+00,
        2.938163982698783e+00,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00, 1.0];
    let horner = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = p.min(1.0 - p);
    let z = if tail < 0.02425 {
        let q = (-2.0 * tail.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    } else {
        let q = tail - 0.5;
        q * horner(&A, q * q) / horner(&B, q * q)
    };
    if p < 0.5 { z } else { -z }
}

/// The 64-bit FNV-1a hash: fixed for ever, unlike the standard library's.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, shape: &[u64]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn drawn(seed: u64, spec: &TensorSpec, weight: Option<&TensorSpec>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut drawer = Drawer::new(seed, 8);
        drawer
            .draw(spec, Law::of(spec, weight), |chunk| {
                bytes.extend_from_slice(chunk);
                Ok::<(), ()>(())
            })
            .unwrap();
        assert_eq!(bytes.len() as u64, spec.file_bytes());
        bytes
    }

    /// Mean and standard deviation.
    fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
        let values: Vec<f64> = values.collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn quantiles_are_those_of_the_normal() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959963984540054), (0.001, -3.090232306167813), (0.84134474606854, 1.0)] {
            assert!((quantile(p) - z).abs() < 1e-8, "{p}: {}", quantile(p));
        }
    }

    #[test]
    fn floats_have_the_moments_of_their_law() {
        let cases = [
            ("layers.0.attn_norm.weight", DType::BF16, vec![40_000], 1.0, 0.2),
            ("layers.0.attn.attn_sink", DType::F32, vec![40_000], 0.0, 1.0),
            ("layers.0.attn.compressor.ape", DType::F32, vec![4, 10_000], 0.0, 0.7),
            ("layers.0.ffn.gate.bias", DType::F32, vec![40_000], 0.0, 0.3),
            ("layers.0.ffn.gate.weight", DType::BF16, vec![100, 400], 0.0, 0.05),
            ("hc_head_fn", DType::F32, vec![100, 400], 0.0, 0.1),
            ("hc_head_scale", DType::F32, vec![40_000], 0.6, 0.2),
            ("layers.0.hc_ffn_base", DType::F16, vec![40_000], 0.0, 0.5),
            ("embed.weight", DType::BF16, vec![100, 400], 0.0, 1.0),
        ];
        for (name, dtype, shape, mean, sigma) in cases {
            let bytes = drawn(1, &spec(name, dtype, &shape), None);
            let values: Vec<f64> = match dtype {
                DType::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b).into()).collect(),
                DType::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).into()).collect(),
                _ => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).into()).collect(),
            };
            let got = moments(values.into_iter());
            assert!((got.0 - mean).abs() < 0.02 * sigma && (got.1 / sigma - 1.0).abs() < 0.02, "{name}: {got:?}");
        }
    }

    #[test]
    fn quantised_weights_have_the_spread_of_their_fan_in() {
        for columns in [128u64, 384, 1024] {
            let weight = spec("layers.0.attn.wq_a.weight", DType::E4M3, &[2048, columns]);
            let scale = spec("layers.0.attn.wq_a.scale", DType::UE8M0, &[16, columns / 128]);
            let (codes, scales) = (drawn(3, &weight, None), drawn(3, &scale, Some(&weight)));
            assert!(codes.iter().all(|c| c & 0x7F != 0x7F));
            let (rows, per_row) = (columns as usize, columns as usize / 128);
            let value = |(n, &c): (usize, &u8)| {
                let block = n / rows / 128 * per_row + n % rows / 128;
                f64::from(e4m3::decode(c)) * 2f64.powi(i32::from(scales[block]) - 127)
            };
            let (mean, sigma) = moments(codes.iter().enumerate().map(value));
            let target = 1.0 / (columns as f64).sqrt();
            // Few blocks decide the overall spread, so it is only near its expectation.
            assert!(mean.abs() < 0.05 * target && (0.6..1.5).contains(&(sigma / target)), "{columns}: {mean} {sigma}");
        }
        let weight = spec("layers.0.ffn.experts.0.w1.weight", DType::E2M1, &[512, 256]);
        let scale = spec("layers.0.ffn.experts.0.w1.scale", DType::UE8M0, &[512, 8]);
        let (codes, scales) = (drawn(3, &weight, None), drawn(3, &scale, Some(&weight)));
        let value = |n: usize| {
            let code = codes[n / 2] >> (4 * (n % 2)) & 15;
            f64::from(e2m1::decode(code)) * 2f64.powi(i32::from(scales[n / 32]) - 127)
        };
        let (mean, sigma) = moments((0..512 * 256).map(value));
        assert!(mean.abs() < 1e-3 && (sigma * 16.0 - 1.0).abs() < 0.1, "{mean} {sigma}");
        assert!((0..16).all(|code| codes.iter().any(|byte| byte & 15 == code)), "every code occurs");
    }

    #[test]
    fn two_blocks_have_two_scales() {
        let weight = spec("a.weight", DType::E4M3, &[256, 100]);
        for seed in 0..20 {
            let scales = drawn(seed, &spec("a.scale", DType::UE8M0, &[2, 1]), Some(&weight));
            assert!(scales[0] != scales[1]);
        }
    }

    #[test]
    fn rows_of_expert_ids_are_distinct_and_use_all_experts() {
        let bytes = drawn(5, &spec("layers.0.ffn.gate.tid2eid", DType::I64, &[60_000, 3]), None);
        let ids: Vec<u64> = bytes.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
        let mut count = [0; 8];
        for row in ids.as_chunks::<3>().0 {
            assert!(row[0] != row[1] && row[1] != row[2] && row[0] != row[2]);
            row.iter().for_each(|&id| count[id as usize] += 1);
        }
        assert!(count.iter().all(|n| (21_500..23_500).contains(n)), "{count:?}");
    }

    #[test]
    fn bytes_depend_on_seed_and_name_alone() {
        let a = spec("layers.0.attn.wq_a.weight", DType::E4M3, &[300, 7000]);
        let b = TensorSpec { name: "layers.1.attn.wq_a.weight".into(), ..a.clone() };
        assert!(drawn(1, &a, None) == drawn(1, &a, Some(&b)));
        assert!(drawn(1, &a, None) != drawn(2, &a, None));
        assert!(drawn(1, &a, None) != drawn(1, &b, None));
    }
}
