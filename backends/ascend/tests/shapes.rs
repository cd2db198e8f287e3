//! Sizes beyond those of the catalogue, where kernels cut rows, blocks and entries into parts, against the oracle.
#![allow(missing_docs, clippy::unwrap_used)]

use anychip_core::ops::{
    Dequantize, ExpertFfn, ExpertWeights, Hadamard, Intermediates, KeyScope, KvStore, Operation, Quantize, Rope,
    Rounding, SparseAttention, Swiglu,
};
use anychip_core::{DType, Device, KvFormat, KvPool, Matrix, Op, Paged, RopeTable, ScaleLayout, ScaleType, Tensor};
use half::bf16;

/// A device and what was put on it.
struct Rig {
    device: Box<dyn Device>,
}

impl Rig {
    /// Both machines, and the oracle.
    fn all() -> [Rig; 3] {
        let ascend = |name| anychip_ascend::open(Some(name)).unwrap();
        [ascend("950dt"), ascend("910b"), anychip_reference::open(1 << 30)].map(|device| Rig { device })
    }

    fn tensor(&self, dtype: DType, sizes: &[usize], bytes: &[u8]) -> Tensor {
        let tensor = self.device.tensor(dtype, sizes).unwrap();
        self.device.open_stream().unwrap().write(&tensor, bytes).unwrap();
        tensor
    }

    fn floats(&self, dtype: DType, sizes: &[usize], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = match dtype {
            DType::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.tensor(dtype, sizes, &bytes)
    }

    fn integers(&self, sizes: &[usize], values: &[i32]) -> Tensor {
        self.tensor(DType::I32, sizes, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
    }

    fn output(&self, dtype: DType, sizes: &[usize]) -> Tensor {
        let tensor = self.device.tensor(dtype, sizes).unwrap();
        let bytes = vec![0xA5; tensor.bytes() as usize];
        self.tensor(dtype, sizes, &bytes)
    }

    fn run(&self, op: &Op, outputs: &[&Tensor]) -> Vec<Vec<u8>> {
        let mut stream = self.device.open_stream().unwrap();
        stream.enqueue(op).unwrap();
        let read = |out: &&Tensor| {
            let mut bytes = vec![0; out.bytes() as usize];
            stream.read(out, &mut bytes).unwrap();
            bytes
        };
        outputs.iter().map(read).collect()
    }
}

/// Runs an operation on all, and compares each result with the oracle's.
fn compare(op: impl Fn(&Rig) -> (Op, Vec<Tensor>), equal: impl Fn(&[u8], &[u8]) -> bool) {
    let [new, old, oracle] = Rig::all().map(|rig| {
        let (op, outputs) = op(&rig);
        rig.run(&op, &outputs.iter().collect::<Vec<_>>())
    });
    for (name, got) in [("950dt", new), ("910b", old)] {
        for (got, want) in got.iter().zip(&oracle) {
            assert!(equal(got, want), "{name}");
        }
    }
}

fn same(got: &[u8], want: &[u8]) -> bool {
    let wrong = got.iter().zip(want).position(|(got, want)| got != want);
    if let Some(at) = wrong {
        eprintln!("byte {at} is {}, not {}", got[at], want[at]);
    }
    wrong.is_none()
}

/// As f32, to five digits of the largest.
fn near(got: &[u8], want: &[u8]) -> bool {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect()
    };
    let (got, want) = (floats(got), floats(want));
    let largest = want.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-5 * largest)
}

/// Numbers of either sign and of many sizes, always the same.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        unit * 2f32.powi((state >> 5) as i32 % 9 - 4)
    };
    (0..count).map(next).collect()
}

fn quantize(x: DType, code: DType, block: usize, [rows, cols]: [usize; 2], scale: f32) {
    let values: Vec<f32> = values(rows * cols).iter().map(|x| x * scale).collect();
    compare(
        |rig| {
            let codes = rig.output(code, &[1, rows, cols]);
            let scales = rig.output(DType::UE8M0, &[1, rows, cols.div_ceil(block)]);
            let out = Matrix::scaled(&codes, &scales, ScaleLayout::per_row(block)).unwrap();
            (Quantize { x: rig.floats(x, &[rows, cols], &values), out }.build().unwrap(), vec![codes, scales])
        },
        same,
    );
}

#[test]
fn blocks_of_any_size_are_quantised() {
    for (block, sizes) in [(5, [3, 23]), (7, [2, 9000]), (1, [3, 40]), (12, [9, 40]), (20_000, [2, 20_001])] {
        quantize(DType::F32, DType::E4M3, block, sizes, 1.0);
    }
    for (block, sizes) in [(5, [3, 28]), (3, [2, 9000]), (1, [3, 40]), (12, [9, 44]), (20_000, [2, 30_002])] {
        quantize(DType::BF16, DType::E2M1, block, sizes, 1.0);
    }
    quantize(DType::BF16, DType::E4M3, 128, [700, 512], 1.0);
    quantize(DType::F32, DType::E2M1, 32, [700, 96], 1.0);
}

#[test]
fn subnormal_numbers_have_codes() {
    for dtype in [DType::F32, DType::BF16] {
        for scale in [1e-39, 3e-38, 1e-37] {
            quantize(dtype, DType::E2M1, 32, [4, 72], scale);
        }
    }
}

#[test]
fn blocks_of_any_size_are_dequantised() {
    let cases = [
        (DType::E4M3, ScaleType::Ue8m0, [128, 128], [2, 300, 200]),
        (DType::E4M3, ScaleType::F32, [3, 5], [2, 7, 33]),
        (DType::E4M3, ScaleType::Ue8m0, [1, 7], [1, 2, 9000]),
        (DType::E2M1, ScaleType::Ue8m0, [1, 5], [2, 3, 28]),
        (DType::E2M1, ScaleType::Ue8m0, [64, 10_000], [1, 3, 20_002]),
        (DType::E2M1, ScaleType::Ue8m0, [1, 32], [1, 700, 96]),
    ];
    for (code, scale, [high, wide], [groups, rows, cols]) in cases {
        compare(
            |rig| {
                let codes = rig.device.tensor(code, &[groups, rows, cols]).unwrap();
                // No code of these is a NaN.
                let bytes: Vec<u8> = (0..codes.bytes()).map(|i| (i * 37 % 113) as u8).collect();
                let codes = rig.tensor(code, &[groups, rows, cols], &bytes);
                let sizes = [groups, rows.div_ceil(high), cols.div_ceil(wide)];
                let count = sizes.iter().product::<usize>();
                let scales = match scale {
                    ScaleType::Ue8m0 => {
                        let bytes: Vec<u8> = (0..count).map(|i| 120 + (i % 11) as u8).collect();
                        rig.tensor(DType::UE8M0, &sizes, &bytes)
                    }
                    ScaleType::F32 => rig.floats(DType::F32, &sizes, &values(count)),
                };
                let x = Matrix::scaled(&codes, &scales, ScaleLayout { scale, rows: high, cols: wide }).unwrap();
                let out = rig.output(DType::F32, &[groups, rows, cols]);
                (Dequantize { x, out: out.clone() }.build().unwrap(), vec![out])
            },
            same,
        );
    }
}

/// So many rows that steps are as large as they ever get: all of them have room in UB.
#[test]
fn the_largest_steps_have_room() {
    for rig in Rig::all().into_iter().take(2) {
        let zeros = |dtype, sizes: &[usize]| rig.device.tensor(dtype, sizes).unwrap();
        let matrix = |code, [rows, cols]: [usize; 2], block: usize| {
            let scales = zeros(DType::UE8M0, &[1, rows, cols.div_ceil(block)]);
            Matrix::scaled(&zeros(code, &[1, rows, cols]), &scales, ScaleLayout::per_row(block)).unwrap()
        };
        for (dtype, code, sizes, block) in
            [(DType::F32, DType::E2M1, [33_000, 30], 32), (DType::F32, DType::E4M3, [140, 8191], 8192)]
        {
            let (x, coded) = (zeros(dtype, &sizes), matrix(code, sizes, block));
            rig.run(&Quantize { x, out: coded.clone() }.build().unwrap(), &[]);
            let out = zeros(DType::F32, &[1, sizes[0], sizes[1]]);
            rig.run(&Dequantize { x: coded, out }.build().unwrap(), &[]);
        }
        for (format, rows) in [(KvFormat::Fp8 { nope: 448, rope: 64 }, 1200), (KvFormat::Fp4 { dim: 30 }, 17_000)] {
            let pages = rows / 64 + 1;
            let table: Vec<i32> = (0..pages as i32).collect();
            let entries: Vec<i32> = (0..rows as i32).collect();
            let pool = KvPool::new(format, &zeros(DType::U8, &[pages, format.page_bytes()])).unwrap();
            let kv = Paged { pool, table: rig.integers(&[1, pages], &table), sequence: zeros(DType::I32, &[rows]) };
            let x = zeros(DType::F32, &[rows, format.dim()]);
            rig.run(&KvStore { x, kv, entries: rig.integers(&[rows], &entries) }.build().unwrap(), &[]);
        }
        let [x, out] = [DType::F32, DType::BF16].map(|dtype| zeros(dtype, &[3000, 2, 130]));
        rig.run(&Rope { x, angles: zeros(DType::F32, &[3000, 32, 2]), inverse: false, out }.build().unwrap(), &[]);
        let [x, out] = [DType::BF16, DType::F32].map(|dtype| zeros(dtype, &[9000, 64]));
        rig.run(&Hadamard { x, out }.build().unwrap(), &[]);
        let [gate, up, out] = [DType::F32, DType::BF16, DType::F32].map(|dtype| zeros(dtype, &[33_000, 17]));
        let weights = Some(zeros(DType::F32, &[33_000]));
        rig.run(&Swiglu { gate, up, weights, limit: 7.0, out }.build().unwrap(), &[]);
    }
}

#[test]
fn long_rows_are_transformed_in_factors() {
    for (x, sizes) in [(DType::F32, [3, 4096]), (DType::BF16, [2, 8192]), (DType::F32, [37, 8])] {
        let values = values(sizes[0] * sizes[1]);
        compare(
            |rig| {
                let out = rig.output(DType::F32, &sizes);
                (Hadamard { x: rig.floats(x, &sizes, &values), out: out.clone() }.build().unwrap(), vec![out])
            },
            near,
        );
    }
}

/// Of a row that is zero but for one element, the transform is a row of the matrix itself: three factors, no oracle.
#[test]
fn a_very_long_row_is_transformed() {
    let (n, one) = (1usize << 21, 0x1A_CE35);
    let mut values = vec![0.0; n];
    values[one] = 3.0;
    for rig in Rig::all().into_iter().take(2) {
        let out = rig.output(DType::BF16, &[1, n]);
        let op = Hadamard { x: rig.floats(DType::F32, &[1, n], &values), out: out.clone() };
        let got = rig.run(&op.build().unwrap(), &[&out]).remove(0);
        let size = bf16::from_f32(3.0 / (n as f32).sqrt());
        let sign = |i: usize| if (i & one).count_ones().is_multiple_of(2) { size } else { -size };
        assert!(got.chunks_exact(2).enumerate().all(|(i, got)| got == sign(i).to_le_bytes()));
    }
}

#[test]
fn many_heads_and_long_heads_turn() {
    for [tokens, heads, dim, rope] in [[300, 1, 96, 64], [3, 70, 40, 40], [2, 3, 9000, 6000], [9, 4, 10_001, 2]] {
        let values = values(tokens * heads * dim);
        let angles = RopeTable::new(rope, 10_000.0, None).angles((0..tokens as u32).map(|t| t * 1001));
        compare(
            |rig| {
                let x = rig.floats(DType::F32, &[tokens, heads, dim], &values);
                let angles = rig.floats(DType::F32, &[tokens, rope / 2, 2], &angles);
                let out = rig.output(DType::F32, &[tokens, heads, dim]);
                (Rope { x, angles, inverse: false, out: out.clone() }.build().unwrap(), vec![out])
            },
            near,
        );
    }
}

#[test]
fn rows_of_any_width_are_gated() {
    for sizes in [[1, 20_000], [700, 3], [300, 1], [5, 4100]] {
        let values = values(sizes[0] * sizes[1]);
        compare(
            |rig| {
                let [gate, up] = [(); 2].map(|()| rig.floats(DType::F32, &sizes, &values));
                let weights = Some(rig.floats(DType::F32, &sizes[..1], &values[..sizes[0]]));
                let out = rig.output(DType::F32, &sizes);
                (Swiglu { gate, up, weights, limit: 7.0, out: out.clone() }.build().unwrap(), vec![out])
            },
            near,
        );
    }
}

/// Blocks of which a vector half takes its keys in parts, and results as wide as UB has room for.
#[test]
fn long_lists_of_wide_keys_are_attended_to() {
    let (rows, heads, dim, listed, pages) = (3, 40, 512, 700, 11);
    let format = KvFormat::F32 { dim };
    let entries: Vec<i32> =
        (0..rows * listed).map(|i| (i * 37 % (64 * pages)) as i32 - i32::from(i % 90 == 7)).collect();
    let (q, keys) = (values(rows * heads * dim), values(64 * pages * dim));
    compare(
        |rig| {
            let bytes: Vec<u8> = keys.iter().flat_map(|x| x.to_le_bytes()).collect();
            let pool = KvPool::new(format, &rig.tensor(DType::U8, &[pages, format.page_bytes()], &bytes)).unwrap();
            let table: Vec<i32> = (0..pages as i32).rev().collect();
            let kv = Paged { pool, table: rig.integers(&[1, pages], &table), sequence: rig.integers(&[rows], &[0; 3]) };
            let scopes = vec![KeyScope { kv, entries: rig.integers(&[rows, listed], &entries) }];
            let out = rig.output(DType::F32, &[rows, heads, dim]);
            let op = SparseAttention {
                q: rig.floats(DType::F32, &[rows, heads, dim], &q),
                scopes,
                sink: rig.floats(DType::F32, &[heads], &q[..heads]),
                scale: 1e-3,
                rounding: Rounding::None,
                out: out.clone(),
            };
            (op.build().unwrap(), vec![out])
        },
        near,
    );
}

/// As many rows in a step of the last sum as there ever are, of routed experts, a shared one, and choices that name none.
#[test]
fn results_of_experts_are_summed_rows_at_a_time() {
    let (tokens, hidden, inner, count, top) = (400, 80, 16, 3, 2);
    let x = values(tokens * hidden);
    let chosen: Vec<i32> =
        (0..tokens * top).map(|i| if i % 11 == 5 { -1 } else { ((i / top + i % top) % count) as i32 }).collect();
    compare(
        |rig| {
            let weights = |count: usize| {
                let matrix = |rows: usize, cols: usize| {
                    let values: Vec<f32> = values(count * rows * cols).iter().map(|x| x / 16.0).collect();
                    Matrix::plain(&rig.floats(DType::F32, &[count, rows, cols], &values)).unwrap()
                };
                ExpertWeights { gate: matrix(inner, hidden), up: matrix(inner, hidden), down: matrix(hidden, inner) }
            };
            let out = rig.output(DType::F32, &[tokens, hidden]);
            let op = ExpertFfn {
                x: Matrix::plain(&rig.floats(DType::F32, &[1, tokens, hidden], &x)).unwrap(),
                experts: rig.integers(&[tokens, top], &chosen),
                weights: rig.floats(DType::F32, &[tokens, top], &x[..tokens * top]),
                routed: weights(count),
                shared: Some(weights(1)),
                limit: 7.0,
                intermediates: Intermediates::Exact,
                out: out.clone(),
            };
            (op.build().unwrap(), vec![out])
        },
        near,
    );
}

#[test]
fn entries_of_any_size_are_stored() {
    let cases = [
        (KvFormat::Fp8 { nope: 448, rope: 64 }, DType::F32, 300, 1.0),
        (KvFormat::Fp8 { nope: 448, rope: 64 }, DType::F32, 20, 1e-39),
        (KvFormat::Fp8 { nope: 0, rope: 64 }, DType::F32, 70, 1.0),
        (KvFormat::Fp8 { nope: 64, rope: 0 }, DType::BF16, 70, 1.0),
        (KvFormat::Fp8 { nope: 9000, rope: 5001 }, DType::F32, 3, 1.0),
        (KvFormat::Fp4 { dim: 128 }, DType::F32, 300, 1.0),
        (KvFormat::Fp4 { dim: 10_010 }, DType::BF16, 3, 1e-38),
        (KvFormat::F32 { dim: 5000 }, DType::BF16, 3, 1.0),
        (KvFormat::F32 { dim: 40 }, DType::BF16, 3, 1e-39),
        (KvFormat::F32 { dim: 3 }, DType::F32, 200, 1.0),
    ];
    for (format, dtype, rows, scale) in cases {
        let values: Vec<f32> = values(rows * format.dim()).iter().map(|x| x * scale).collect();
        let pages = 9;
        // Entries follow one another for a while; some come again, in other rows and by way of another sequence.
        let entries: Vec<i32> = (0..rows as i32).map(|t| if t % 50 < 40 { t } else { t - 33 }).collect();
        let sequence: Vec<i32> = (0..rows as i32).map(|t| i32::from(t % 70 > 60)).collect();
        compare(
            |rig| {
                let sizes = [pages, format.page_bytes()];
                let bytes: Vec<u8> = (0..pages * format.page_bytes()).map(|i| (i % 251) as u8).collect();
                let pages = rig.tensor(DType::U8, &sizes, &bytes);
                let table = rig.integers(&[2, 5], &[3, 0, 8, 1, 2, 3, 7, 8, 6, 1]);
                let sequence = rig.integers(&[rows], &sequence);
                let kv = Paged { pool: KvPool::new(format, &pages).unwrap(), table, sequence };
                let x = rig.floats(dtype, &[rows, format.dim()], &values);
                let op = KvStore { x, kv, entries: rig.integers(&[rows], &entries) };
                (op.build().unwrap(), vec![pages])
            },
            same,
        );
    }
}
