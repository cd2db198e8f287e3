//! What the tests of the kernels share: operands on a device of their own, and the golden vectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_core::ops::Operation;
use anychip_core::{DType, Device, Matrix, ScaleLayout, Tensor};
use half::{bf16, f16};
use safetensors::SafeTensors;

/// A CPU device with operands on it.
pub(crate) struct Lab(Box<dyn Device>);

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab(crate::open_with_limit(1 << 30))
    }

    /// A tensor of raw bytes.
    pub(crate) fn bytes(&self, dtype: DType, sizes: &[usize], bytes: &[u8]) -> Tensor {
        let tensor = self.0.tensor(dtype, sizes).unwrap();
        self.0.open_stream().unwrap().write(&tensor, bytes).unwrap();
        tensor
    }

    /// A float tensor, each value rounded to `dtype`.
    pub(crate) fn floats(&self, dtype: DType, sizes: &[usize], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = match dtype {
            DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.bytes(dtype, sizes, &bytes)
    }

    pub(crate) fn ints(&self, sizes: &[usize], values: &[i32]) -> Tensor {
        self.bytes(DType::I32, sizes, bytemuck::cast_slice(values))
    }

    /// A tensor to write into. It is full of ones, which are NaN in every float type: what stays unwritten is seen.
    pub(crate) fn output(&self, dtype: DType, sizes: &[usize]) -> Tensor {
        let tensor = self.0.tensor(dtype, sizes).unwrap();
        let ones = vec![0xFF; tensor.bytes() as usize];
        self.0.open_stream().unwrap().write(&tensor, &ones).unwrap();
        tensor
    }

    /// A matrix of codes with ue8m0 scales per row.
    pub(crate) fn scaled(&self, dtype: DType, sizes: &[usize], codes: &[u8], scales: &[u8], cols: usize) -> Matrix {
        let layout = ScaleLayout::per_row(cols);
        let [.., rows, width] = *sizes else { panic!("a matrix has rows and columns") };
        let groups = sizes.iter().product::<usize>() / (rows * width).max(1);
        let scales = self.bytes(DType::UE8M0, &[groups, rows, width.div_ceil(cols)], scales);
        Matrix::scaled(&self.bytes(dtype, sizes, codes), &scales, layout).unwrap()
    }

    pub(crate) fn run(&self, op: impl Operation) {
        self.0.open_stream().unwrap().enqueue(&op.build().unwrap()).unwrap();
    }

    /// The bytes of a tensor.
    pub(crate) fn raw(&self, tensor: &Tensor) -> Vec<u8> {
        let mut bytes = vec![0; tensor.bytes() as usize];
        self.0.open_stream().unwrap().read(tensor, &mut bytes).unwrap();
        bytes
    }

    /// The values of a float tensor.
    pub(crate) fn values(&self, tensor: &Tensor) -> Vec<f32> {
        let bytes = self.raw(tensor);
        match tensor.dtype() {
            DType::BF16 => bytes.chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            DType::F16 => bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        }
    }

    pub(crate) fn ints_of(&self, tensor: &Tensor) -> Vec<i32> {
        self.raw(tensor).chunks(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// `count` numbers in (-1, 1), the same for the same seed.
pub(crate) fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let next = || {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / (1u32 << 31) as f32
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// `count` bytes, the same for the same seed.
pub(crate) fn noise_bytes(seed: u32, count: usize) -> Vec<u8> {
    noise(seed, count).iter().map(|x| (x.to_bits() >> 7) as u8).collect()
}

/// The bytes of a golden vector of `golden/quant.safetensors`.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/quant.safetensors")).unwrap();
    SafeTensors::deserialize(&file).unwrap().tensor(name).unwrap().data().to_vec()
}

/// An f32 golden vector.
pub(crate) fn golden_floats(name: &str) -> Vec<f32> {
    golden(name).chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Checks that each value is within `tolerance` of the wanted one: relative to magnitudes beyond 1, absolute below.
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got as f64 - want).abs();
        assert!(error <= tolerance * want.abs().max(1.0), "element {i}: {got} is not {want}");
    }
}
