//! A tensor as the file holds it: element type, shape and borrowed bytes.

use std::fmt;

use half::{bf16, f16};
use safetensors::Dtype;

/// The element types that a DeepSeek V4 checkpoint may use, spelled as safetensors spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileDType {
    /// IEEE binary32, little endian.
    F32,
    /// bfloat16, little endian.
    BF16,
    /// IEEE binary16, little endian.
    F16,
    /// FP8 e4m3fn codes.
    F8E4M3,
    /// Scale exponents: byte `b` is `2^(b-127)`.
    F8E8M0,
    /// Signed bytes; the published FP4 weights are I8 `[o, i/2]`, two e2m1 codes to a byte, the even column low.
    I8,
    /// Bytes; some conversions store packed FP4 as U8.
    U8,
    /// Signed 32-bit integers, little endian.
    I32,
    /// Signed 64-bit integers, little endian.
    I64,
}

impl FileDType {
    /// The type that the file's `dtype` means, or `None` where no V4 tensor has it.
    pub(crate) fn of(dtype: Dtype) -> Option<FileDType> {
        Some(match dtype {
            Dtype::F32 => FileDType::F32,
            Dtype::BF16 => FileDType::BF16,
            Dtype::F16 => FileDType::F16,
            Dtype::F8_E4M3 => FileDType::F8E4M3,
            Dtype::F8_E8M0 => FileDType::F8E8M0,
            Dtype::I8 => FileDType::I8,
            Dtype::U8 => FileDType::U8,
            Dtype::I32 => FileDType::I32,
            Dtype::I64 => FileDType::I64,
            _ => return None,
        })
    }

    /// Bytes of one element as stored. A packed pair of FP4 codes is one element.
    pub const fn bytes(self) -> usize {
        match self {
            FileDType::F8E4M3 | FileDType::F8E8M0 | FileDType::I8 | FileDType::U8 => 1,
            FileDType::BF16 | FileDType::F16 => 2,
            FileDType::F32 | FileDType::I32 => 4,
            FileDType::I64 => 8,
        }
    }

    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            FileDType::F32 => "F32",
            FileDType::BF16 => "BF16",
            FileDType::F16 => "F16",
            FileDType::F8E4M3 => "F8_E4M3",
            FileDType::F8E8M0 => "F8_E8M0",
            FileDType::I8 => "I8",
            FileDType::U8 => "U8",
            FileDType::I32 => "I32",
            FileDType::I64 => "I64",
        }
    }

    /// Whether elements are numbers by themselves: F32, BF16 or F16.
    pub const fn is_float(self) -> bool {
        matches!(self, FileDType::F32 | FileDType::BF16 | FileDType::F16)
    }
}

impl fmt::Display for FileDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor, borrowed from the mapped file: nothing is copied or converted.
///
/// `bytes` holds the elements in row-major order, little endian, and exactly as many as `shape` and `dtype` need. It
/// need not be aligned to the element size: safetensors does not promise that.
#[derive(Clone)]
pub struct TensorData<'a> {
    /// The name it was asked for by.
    pub name: String,
    /// The name in the file; of an expert in a stack, the stack's.
    pub stored_as: &'a str,
    /// The element type in the file.
    pub dtype: FileDType,
    /// The shape in the file; packed FP4 counts bytes, so the last dimension is half the logical one.
    pub shape: &'a [usize],
    /// The elements.
    pub bytes: &'a [u8],
}

impl TensorData<'_> {
    /// The elements as f32, exactly. `None` unless the type [is a float](FileDType::is_float).
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let halves = || self.bytes.as_chunks::<2>().0.iter();
        Some(match self.dtype {
            FileDType::F32 => self.bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            FileDType::BF16 => halves().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            FileDType::F16 => halves().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            _ => return None,
        })
    }

    /// The elements as i64. `None` unless the type is I32 or I64.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            FileDType::I32 => self.bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
            FileDType::I64 => self.bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            _ => return None,
        })
    }
}

impl fmt::Debug for TensorData<'_> {
    // Not the bytes: a weight has millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {:?}, {} bytes)", self.name, self.dtype, self.shape, self.bytes.len())
    }
}
