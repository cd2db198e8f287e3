//! What the tests of operations share: tensors on the oracle's device, golden vectors, and the judgement of an f32 result.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::operands::{self, Values};
use crate::{Bounded, judge, open, ops};
use anychip_core::{DType, Device, Matrix, Numerics, Op, Operation, ScaleLayout, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::f64::consts::TAU;
use std::sync::OnceLock;

/// The device that all test tensors live on.
pub(crate) fn device() -> &'static dyn Device {
    static DEVICE: OnceLock<Box<dyn Device>> = OnceLock::new();
    &**DEVICE.get_or_init(|| open(4 << 30))
}

/// A tensor of any type from its bytes.
pub(crate) fn raw(dtype: DType, sizes: &[usize], bytes: &[u8]) -> Tensor {
    let tensor = device().tensor(dtype, sizes).unwrap();
    device().open_stream().unwrap().write(&tensor, bytes).unwrap();
    tensor
}

/// A float tensor, each value rounded to `dtype`.
pub(crate) fn tensor(dtype: DType, sizes: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = match dtype {
        DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    raw(dtype, sizes, &bytes)
}

/// An i32 tensor.
pub(crate) fn int_tensor(sizes: &[usize], values: &[i32]) -> Tensor {
    raw(DType::I32, sizes, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
}

/// An output that no operation has written yet: every float reads as NaN, every integer as -1.
pub(crate) fn unwritten(dtype: DType, sizes: &[usize]) -> Tensor {
    let tensor = device().tensor(dtype, sizes).unwrap();
    raw(dtype, sizes, &vec![0xFF; tensor.bytes() as usize])
}

/// A matrix of codes and scales that no operation has written yet.
pub(crate) fn unwritten_matrix(dtype: DType, [rows, cols]: [usize; 2], layout: ScaleLayout) -> Matrix {
    let scales = [rows.div_ceil(layout.rows), cols.div_ceil(layout.cols)];
    Matrix::scaled(&unwritten(dtype, &[rows, cols]), &unwritten(layout.scale.dtype(), &scales), layout).unwrap()
}

/// Elements of a float tensor.
pub(crate) fn floats_of(t: &Tensor) -> Vec<f32> {
    operands::floats(t).unwrap()
}

/// Elements of an i32 tensor.
pub(crate) fn integers_of(t: &Tensor) -> Vec<i32> {
    operands::integers(t).unwrap()
}

/// Bytes of a tensor.
pub(crate) fn bytes_of(t: &Tensor) -> Vec<u8> {
    operands::bytes(t).unwrap()
}

/// Builds an operation and runs it through a stream of the oracle's device.
pub(crate) fn run(op: impl Operation) -> Op {
    let op = op.build().unwrap();
    device().open_stream().unwrap().enqueue(&op).unwrap();
    op
}

/// What the oracle gives for one operand in f64, before the store.
pub(crate) fn exact(op: &Op, operand: &str) -> Vec<f64> {
    let all = ops::evaluate::<f64>(op, ()).unwrap();
    match all.into_iter().find(|o| o.operand == operand).expect("an operand of that name").values {
        Values::Real(values) => values,
        other => panic!("{operand} holds no reals: {other:?}"),
    }
}

/// Values and bounds of one operand for a device of `numerics`.
pub(crate) fn bounds(op: &Op, operand: &str, numerics: &Numerics) -> Vec<Bounded> {
    let all = judge(op, numerics).unwrap();
    match all.into_iter().find(|o| o.operand == operand).expect("an operand of that name").values {
        Values::Real(values) => values,
        other => panic!("{operand} holds no reals: {other:?}"),
    }
}

/// Asserts that `got`, computed in f32 and not yet stored, keeps the bound of an f32 device, and returns the largest
/// share of the bound that it uses.
pub(crate) fn share_of_bound(op: &Op, operand: &str, got: &[f32]) -> f64 {
    use crate::Real;
    let want = bounds(op, operand, &Numerics::f32());
    assert_eq!(want.len(), got.len());
    let mut share: f64 = 0.0;
    for (i, (want, &got)) in want.iter().zip(got).enumerate() {
        let off = (got as f64 - want.value()).abs();
        let within = off <= want.error() || want.value().is_nan() && got.is_nan();
        assert!(within, "{operand}[{i}] is {got:e}, off by {off:e} from {:e}, bound {:e}", want.value(), want.error());
        if off > 0.0 {
            share = share.max(off / want.error());
        }
    }
    share
}

/// As [`share_of_bound`], and that the bound is narrow enough to mean something.
pub(crate) fn assert_bound(op: &Op, operand: &str, got: &[f32]) {
    let share = share_of_bound(op, operand, got);
    assert!(share >= 0.005, "{operand} of {} uses {share:e} of its bound, which then says nothing", op.name());
}

/// `sum_i a_i b_i` as a plain f32 loop: what a device with an f32 accumulator may do.
pub(crate) fn dot32(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A tensor of `golden/quant.safetensors`.
pub(crate) struct Golden {
    /// Sizes as stored; packed FP4 counts bytes.
    pub(crate) sizes: Vec<usize>,
    /// Little-endian elements.
    pub(crate) bytes: Vec<u8>,
    dtype: Dtype,
}

/// Reads a golden vector by name.
pub(crate) fn golden(name: &str) -> Golden {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/quant.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let view = tensors.tensor(name).unwrap();
    Golden { sizes: view.shape().to_vec(), bytes: view.data().to_vec(), dtype: view.dtype() }
}

impl Golden {
    /// The elements, which are f32.
    pub(crate) fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// On the device: floats rounded to `dtype`, codes and scales byte for byte.
    pub(crate) fn tensor(&self, dtype: DType) -> Tensor {
        if dtype.is_float() {
            return tensor(dtype, &self.sizes, &self.floats());
        }
        let mut sizes = self.sizes.clone();
        if dtype == DType::E2M1 {
            *sizes.last_mut().unwrap() *= 2;
        }
        raw(dtype, &sizes, &self.bytes)
    }

    /// With the ue8m0 scales of another golden vector, a matrix.
    pub(crate) fn matrix(&self, dtype: DType, scales: &str, layout: ScaleLayout) -> Matrix {
        Matrix::scaled(&self.tensor(dtype), &golden(scales).tensor(DType::UE8M0), layout).unwrap()
    }
}

/// A seeded source of numbers, the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Random {
        let mut random = Random(seed);
        random.uniform(); // small seeds differ in their low bits only, which the first output does not show
        random
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `count` normal numbers of standard deviation `scale`.
    pub(crate) fn normals(&mut self, count: usize, scale: f64) -> Vec<f32> {
        let mut one = || (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (TAU * self.uniform()).cos();
        (0..count).map(|_| (one() * scale) as f32).collect()
    }

    /// `count` integers below `end`.
    pub(crate) fn below(&mut self, end: usize, count: usize) -> Vec<i32> {
        (0..count).map(|_| (self.uniform() * end as f64) as i32).collect()
    }
}
