//! Rule R1: sums that no order and no grouping changes, and operations that only move numbers.
//!
//! All products of a row are multiples of one step and their magnitudes sum to less than `2^p` steps, `p` the bits of the
//! declared accumulator: then every partial sum is a number that the accumulator holds, whatever the order, and the result
//! is the exact sum rounded once. As the sum comes near `2^p`, one bit less shows.

use super::*;
use crate::builder::HostMatrix;
use crate::random::Random;
use anychip_core::formats::{e2m1, e4m3};
use anychip_core::ops::{Dequantize, Embed, ExpertFfn, ExpertGemm, ExpertWeights, Intermediates, KvCompress, Linear, Rope};

/// Bits that hold `n`.
fn bits(n: usize) -> u32 {
    usize::BITS - n.saturating_sub(1).leading_zeros()
}

/// Rows of integers up to `most`, odd and near it. Every second row is of one sign, so that its sums are as large as their
/// magnitudes.
fn integers(random: &mut Random, [groups, rows, cols]: [usize; 3], most: u32) -> Vec<f32> {
    let mut one = |i: usize| {
        let below = random.below(most as usize / 4 + 1) as u32;
        let sign = if i / cols % 2 == 1 && random.below(2) == 0 { -1.0 } else { 1.0 };
        sign * ((most - below) | 1) as f32
    };
    (0..groups * rows * cols).map(&mut one).collect()
}

/// Largest integers of two operands whose products, `count` of them, stay below `2^p` together.
fn limits(p: u32, count: usize) -> [u32; 2] {
    let product = p.saturating_sub(bits(count));
    [product.div_ceil(2), product / 2].map(|bits| (1u32 << bits.min(24)).saturating_sub(1).max(1))
}

fn plain(b: &mut Builder<'_>, sizes: [usize; 3], most: u32) -> HostMatrix {
    let values = integers(b.random(), sizes, most);
    HostMatrix::of(F32, sizes, &values)
}

/// Integer codes up to `most` under scales that are all different powers of two; of one row, neighbouring ones but for
/// the last, which is `2^gap` further. What is read under another block's scale is off by a factor of two at least.
fn scaled(b: &mut Builder<'_>, format: Format, sizes: [usize; 3], most: u32, gap: i32) -> HostMatrix {
    let [groups, rows, cols] = sizes;
    let Some((layout, [_, tall, wide])) = format.layout().zip(format.scale_sizes(groups, rows, cols)) else {
        return plain(b, sizes, most);
    };
    let (values, is_fp4) = (integers(b.random(), sizes, most), format.dtype() == DType::E2M1);
    let codes: Vec<u8> = values.iter().map(|&x| if is_fp4 { e2m1::encode(x) } else { e4m3::encode(x) }).collect();
    let codes = match is_fp4 {
        true => codes.chunks(2).map(|pair| e2m1::pack(pair[0], pair.get(1).copied().unwrap_or(0))).collect(),
        false => codes,
    };
    let count = groups * tall;
    let exponents = (0..count * wide).map(|i| {
        let (row, col) = ((i / wide) as i32, (i % wide) as i32);
        let last = if col + 1 == wide as i32 { gap } else { 0 };
        (row - count as i32 / 2) * (wide as i32 + gap) + col + last
    });
    let scales = match layout.scale {
        ScaleType::Ue8m0 => exponents.map(|e| (127 + e).clamp(1, 254) as u8).collect(),
        ScaleType::F32 => exponents.flat_map(|e| 2f32.powi(e).to_le_bytes()).collect(),
    };
    HostMatrix { format, sizes, codes, scales }
}

/// Two operands for sums of `count` products: integers where both are plain, else codes under distinct scales.
fn operands(b: &mut Builder<'_>, formats: [Format; 2], [x, w]: [[usize; 3]; 2]) -> [HostMatrix; 2] {
    let (p, count) = (b.accumulator_bits(), w[2]);
    if formats == [F32, F32] {
        let [most_x, most_w] = limits(p, count);
        return [plain(b, x, most_x), plain(b, w, most_w)];
    }
    // Integers that the codes hold: e4m3 has four bits of significand, e2m1 not quite three.
    let most = |format: Format, bits: u32| match format.dtype() {
        DType::E2M1 if bits >= 2 => 3,
        DType::E4M3 => (1 << bits.min(4)) - 1,
        DType::E2M1 => 1,
        _ => (1 << bits.min(8)) - 1,
    };
    let blocks = |format: Format| format.layout().map_or(1, |l| w[2].div_ceil(l.cols));
    let span = (blocks(formats[0]) + blocks(formats[1])) as u32 - 2;
    let left = p.min(24).saturating_sub(bits(count) + span);
    let most = [most(formats[0], (left / 2).max(1)), most(formats[1], (left / 2).max(1))];
    // What the codes leave of the accumulator, the last block's scale takes.
    let gap = left.saturating_sub(most.iter().map(|&m: &u32| bits(m as usize + 1)).sum()) as i32;
    let in_x = formats[0].layout().is_some() && blocks(formats[0]) > 1;
    let gaps = if in_x { [gap, 0] } else { [0, gap] };
    [scaled(b, formats[0], x, most[0], gaps[0]), scaled(b, formats[1], w, most[1], gaps[1])]
}

fn linear(b: &mut Builder<'_>, formats: [Format; 2], out: DType, [rows, groups, n, k]: [usize; 4]) -> Result<Op> {
    let [x, w] = operands(b, formats, [[1, rows, groups * k], [groups, n, k]]);
    let (x, w) = (b.matrix_of(&x)?, b.matrix_of(&w)?);
    Linear { x, w, out: b.output(out, &[rows, groups * n])? }.build()
}

fn expert_gemm(b: &mut Builder<'_>, formats: [Format; 2], offsets: &[i32], [rows, n, k]: [usize; 3]) -> Result<Op> {
    let experts = offsets.len() - 1;
    let [x, w] = operands(b, formats, [[1, rows, k], [experts, n, k]]);
    let (x, w) = (b.matrix_of(&x)?, b.matrix_of(&w)?);
    let offsets = b.integers(&[experts + 1], offsets)?;
    ExpertGemm { x, w, offsets, out: b.output(DType::F32, &[rows, n])? }.build()
}

/// Angles of quarter turns: each pair is itself, or itself turned, in the bits that bf16 has.
fn rope(b: &mut Builder<'_>, inverse: bool, out: DType) -> Result<Op> {
    let x = b.values(DType::BF16, &[4, 3, 24], Normal, 1.0)?;
    let angles: Vec<f32> =
        (0..4 * 8).flat_map(|i| [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]][(i + i / 8) % 4]).collect();
    let angles = b.floats(DType::F32, &[4, 8, 2], &angles)?;
    Rope { x, angles, inverse, out: b.output(out, &[4, 3, 24])? }.build()
}

/// Numbers halfway between two bf16 numbers, and next to that: a store that does not round to nearest even shows.
fn halfway(random: &mut Random, count: usize) -> Vec<f32> {
    let one =
        |_| f32::from_bits((random.normal().to_bits() & 0xFFFF_0000) | [0x8000, 0x7FFF, 0x8001, 0][random.below(4)]);
    (0..count).map(one).collect()
}

fn embed(b: &mut Builder<'_>, out: DType) -> Result<Op> {
    let (rows, d) = (11, 37);
    let table = halfway(b.random(), rows * d);
    let ids: Vec<i32> = b.random().permutation(rows).iter().map(|&r| r as i32).collect();
    let table = b.floats(DType::F32, &[rows, d], &table)?;
    Embed { table, ids: b.integers(&[rows], &ids)?, out: b.output(out, &[rows, 2, d])? }.build()
}

fn dequantize(b: &mut Builder<'_>, format: Format, sizes: [usize; 3]) -> Result<Op> {
    let x = scaled(b, format, sizes, if format.dtype() == DType::E2M1 { 3 } else { 15 }, 0);
    Dequantize { x: b.matrix_of(&x)?, out: b.output(DType::F32, &sizes)? }.build()
}

/// Experts of whose steps none rounds anything: a row of `x` has two elements, the gates they add up to are so far above
/// zero that their sigmoid is 1 to all digits that bf16 keeps, and what is multiplied has few bits.
fn expert_ffn(b: &mut Builder<'_>, formats: [Format; 3], shared: bool, [rows, d, inner]: [usize; 3]) -> Result<Op> {
    let ([of_x, routed, of_shared], experts) = (formats, 3);
    let mut x = vec![0.0; rows * d];
    for (t, row) in x.chunks_mut(d).enumerate() {
        // The first and the last column are among them.
        let [one, other] = [t * (d - 1) / (rows - 1), (1 + b.random().below(d - 2)) * usize::from(t % 2 == 1)];
        row[other] = 2.0;
        row[one] += 1.0;
    }
    let mut any = |count: usize, values: &[f32]| -> Vec<f32> {
        (0..count).map(|_| values[b.random().below(values.len())]).collect()
    };
    let mut weights = |count: usize| {
        let gate = any(count * inner * d, &[16.0, 32.0]);
        [gate, any(count * inner * d, &[-1.0, 0.0, 1.0]), any(count * d * inner, &[-2.0, -1.0, 0.0, 1.0, 3.0])]
    };
    let (of_routed, of_all) = (weights(experts), weights(1));
    let shares = any(rows * 2, &[0.25, 0.5, 1.0]);
    let chosen: Vec<i32> = (0..rows).flat_map(|t| [t as i32 % 3, (t as i32 + 1) % 3]).collect();
    let x = b.matrix_of(&HostMatrix::of(of_x, [1, rows, d], &x))?;
    let experts_of_rows = b.integers(&[rows, 2], &chosen)?;
    let shares = b.floats(DType::F32, &[rows, 2], &shares)?;
    let mut matrices = |format: Format, count: usize, values: &[Vec<f32>; 3]| -> Result<ExpertWeights> {
        let mut one = |rows, cols, values| b.matrix_of(&HostMatrix::of(format, [count, rows, cols], values));
        let [gate, up, down] = values;
        Ok(ExpertWeights { gate: one(inner, d, gate)?, up: one(inner, d, up)?, down: one(d, inner, down)? })
    };
    let routed = matrices(routed, experts, &of_routed)?;
    let shared = if shared { Some(matrices(of_shared, 1, &of_all)?) } else { None };
    let (limit, intermediates) = (f32::INFINITY, Intermediates::Served { block: 128 });
    let out = b.output(DType::F32, &[rows, d])?;
    ExpertFfn { x, experts: experts_of_rows, weights: shares, routed, shared, limit, intermediates, out }.build()
}

/// Rows that close no window: the state takes them as they are, scores with `ape` added, and moves nothing else.
fn kv_compress(b: &mut Builder<'_>, overlap: bool) -> Result<Op> {
    let (sequences, ratio, dim) = (2, 4, 9);
    let (channels, slots) = if overlap { (2 * dim, 2 * ratio) } else { (dim, ratio) };
    let (sequence, position) = ([1, 0, 1, 0, 1], [8, 5, 9, 6, 10]);
    let rows = sequence.len();
    let mut whole = |count: usize| integers(b.random(), [1, 1, count], 1 << 10);
    let [kv, gate, ape] = [rows, rows, ratio].map(|n| whole(n * channels));
    let state = whole(sequences * 2 * slots * channels);
    let [kv, gate] = [kv, gate].map(|values| b.floats(DType::F32, &[rows, channels], &values));
    let ape = b.floats(DType::F32, &[ratio, channels], &ape)?;
    let state = b.floats(DType::F32, &[sequences, 2, slots, channels], &state)?;
    let [sequence, position] = [b.integers(&[rows], &sequence)?, b.integers(&[rows], &position)?];
    let out = b.output(DType::F32, &[2, dim])?;
    let closing = b.integers(&[2], &[-1, 0])?;
    KvCompress { kv: kv?, gate: gate?, ape, state, sequence, position, closing, overlap, out }.build()
}

/// The exact cases of an operation.
pub(super) fn list(cases: &mut Cases) {
    match cases.op_name {
        "linear" => {
            for (x, w, out, sizes) in [
                (F32, F32, DType::F32, [3, 1, 17, 63]),
                (F32, F32, DType::BF16, [2, 2, 9, 32]),
                (E4M3_ROWS, E4M3_BLOCKS, DType::F32, [3, 1, 160, 255]),
                (E4M3_ROWS, E2M1_ROWS, DType::F32, [3, 1, 9, 96]),
                (E4M3_ROWS, E2M1_ROWS, DType::F32, [2, 1, 6, 160]),
                (BF16, E4M3_F32_BLOCKS, DType::F32, [3, 1, 132, 160]),
                (BF16, E4M3_BLOCKS, DType::F32, [2, 2, 140, 130]),
            ] {
                let [rows, groups, n, k] = sizes;
                let name = format!("{}-{}-{out}/t{rows}-g{groups}-n{n}-k{k}", tag(x), tag(w));
                cases.exact(Check::Exact, name, move |b| linear(b, [x, w], out, sizes));
            }
        }
        "expert_gemm" => {
            for (x, w, sizes) in
                [(F32, F32, [7, 9, 63]), (E4M3_ROWS, E2M1_ROWS, [5, 4, 96]), (E4M3_ROWS, E4M3_BLOCKS, [6, 136, 200])]
            {
                let ([rows, n, k], offsets) = (sizes, [0, 1, 1, sizes[0] as i32]);
                let name = format!("{}-{}-f32/e3-r{rows}-n{n}-k{k}", tag(x), tag(w));
                cases.exact(Check::Exact, name, move |b| expert_gemm(b, [x, w], &offsets, sizes));
            }
        }
        "expert_ffn" => {
            for (formats, shared, sizes) in [
                ([E4M3_ROWS, E2M1_ROWS, E4M3_BLOCKS], false, [3, 64, 32]),
                ([E4M3_ROWS, E2M1_ROWS, E4M3_BLOCKS], true, [2, 66, 40]),
                ([BF16, BF16, BF16], true, [4, 65, 33]),
            ] {
                let ([x, routed, of_shared], [rows, d, inner]) = (formats, sizes);
                let both = if shared { format!("-{}", tag(of_shared)) } else { String::new() };
                let name = format!("{}-{}{both}-f32/e3-k2-t{rows}-d{d}-i{inner}", tag(x), tag(routed));
                cases.exact(Check::Exact, name, move |b| expert_ffn(b, formats, shared, sizes));
            }
        }
        "kv_compress" => {
            cases.exact(Check::Identity, "carried/plain/f32/m4-d9-s2-t5", |b| kv_compress(b, false));
            cases.exact(Check::Identity, "carried/overlap/f32/m4-d9-s2-t5", |b| kv_compress(b, true));
        }
        "rope" => {
            cases.exact(Check::Identity, "turns/bf16-f32/t4-h3-d24-r16", |b| rope(b, false, DType::F32));
            cases.exact(Check::Identity, "turns_back/bf16-bf16/t4-h3-d24-r16", |b| rope(b, true, DType::BF16));
        }
        "embed" => {
            cases.exact(Check::Identity, "gather/f32-f32/v11-t11-c2-d37", |b| embed(b, DType::F32));
            cases.exact(Check::Identity, "halfway/f32-bf16/v11-t11-c2-d37", |b| embed(b, DType::BF16));
        }
        "dequantize" => {
            for (format, sizes) in
                [(E4M3_ROWS, [1, 5, 300]), (E2M1_ROWS, [2, 3, 160]), (E4M3_F32_BLOCKS, [1, 140, 300])]
            {
                let [groups, rows, cols] = sizes;
                let name = format!("{}-f32/scales/g{groups}-r{rows}-k{cols}", tag(format));
                cases.exact(Check::Identity, name, move |b| dequantize(b, format, sizes));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use anychip_core::Numerics;
    use anychip_reference::{Real, Values};

    /// An exact case says something: of an f32 device the bound is 0 nearly everywhere.
    #[test]
    fn exact_cases_are_exact() {
        let oracle = anychip_reference::open(1 << 30);
        for case in cases(Quick, 0).into_iter().filter(|case| case.check() == Check::Exact) {
            let (op, _) = case.build_for(&*oracle, None).unwrap().unwrap();
            let all = anychip_reference::judge(&op, &Numerics::f32()).unwrap();
            let Values::Real(values) = &all[0].values else { panic!("{}: no numbers", case.name) };
            let exact = values.iter().filter(|v| v.error() == 0.0).count();
            assert!(exact * 20 >= values.len() * 19, "{}: {exact} of {}", case.name, values.len());
        }
    }

    #[test]
    fn sums_stay_below_the_accumulator_and_come_near_it() {
        for p in [8, 11, 14, 22, 24, 30, 53] {
            for count in [32, 63] {
                let [x, w] = limits(p, count).map(f64::from);
                let largest = x * w * count as f64;
                assert!(largest < 2f64.powi(p as i32), "{p} {count}");
                assert!(!(14..=50).contains(&p) || largest > 2f64.powi(p as i32 - 2), "{p} {count}: {largest}");
            }
        }
        assert_eq!((bits(1), bits(32), bits(33)), (0, 5, 6));
    }
}
