//! Element types of tiles.

use super::{e5m2, hif8};
use crate::machine::CubeType;
use anychip_core::DType;
use anychip_core::formats::{e2m1, e4m3, scale};
use half::{bf16, f16};
use std::fmt;

/// What the elements of a tile are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elem {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// FP8 e4m3fn.
    E4M3,
    /// FP8 e5m2.
    E5M2,
    /// HiFloat8: see [`hif8`].
    HiF8,
    /// FP4 e2m1, two codes to a byte, the even element in the low nibble.
    E2M1,
    /// Scale exponents: byte `b` is `2^(b-127)`, 255 is NaN.
    E8M0,
    /// Signed 32-bit integers.
    I32,
    /// Signed bytes.
    I8,
    /// Bytes.
    U8,
    /// Signed integers of 4 bits, two to a byte, the even element in the low nibble. FixPipe of the 910B gives them.
    I4,
}

impl Elem {
    /// Bits of an element.
    pub const fn bits(self) -> usize {
        match self {
            Elem::E2M1 | Elem::I4 => 4,
            Elem::E4M3 | Elem::E5M2 | Elem::HiF8 | Elem::E8M0 | Elem::I8 | Elem::U8 => 8,
            Elem::F16 | Elem::BF16 => 16,
            Elem::F32 | Elem::I32 => 32,
        }
    }

    /// Elements of 32 bytes: the width of a fractal, `C0`.
    pub const fn c0(self) -> usize {
        256 / self.bits()
    }

    /// Bytes of `count` elements; a half byte counts as whole.
    pub const fn bytes(self, count: usize) -> usize {
        count.saturating_mul(self.bits()).div_ceil(8)
    }

    /// The cube's type for operands of this one.
    pub const fn cube(self) -> Option<CubeType> {
        match self {
            Elem::F32 => Some(CubeType::F32),
            Elem::F16 => Some(CubeType::F16),
            Elem::BF16 => Some(CubeType::BF16),
            Elem::E4M3 | Elem::E5M2 | Elem::HiF8 => Some(CubeType::Fp8),
            Elem::E2M1 => Some(CubeType::Fp4),
            Elem::I8 => Some(CubeType::Int8),
            Elem::E8M0 | Elem::I32 | Elem::U8 | Elem::I4 => None,
        }
    }

    /// Whether elements are integers, which vectors compute on as such.
    pub const fn is_integer(self) -> bool {
        matches!(self, Elem::I32 | Elem::I8 | Elem::U8 | Elem::I4)
    }

    /// Whether vectors convert and move elements, but do not compute on them.
    pub const fn is_storage(self) -> bool {
        matches!(self, Elem::E5M2 | Elem::HiF8 | Elem::I4)
    }

    /// The number at place `index` of `bytes`. Integers beyond 2^24 lose digits: those are read as integers.
    pub(crate) fn number(self, bytes: &[u8], index: usize) -> f32 {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        match self {
            Elem::F32 => f32::from_bits(self.word(bytes, index)),
            Elem::F16 => f16::from_bits(half(2 * index)).to_f32(),
            Elem::BF16 => bf16::from_bits(half(2 * index)).to_f32(),
            Elem::E4M3 => e4m3::decode(bytes[index]),
            Elem::E5M2 => e5m2::decode(bytes[index]),
            Elem::HiF8 => hif8::decode(bytes[index]),
            Elem::E2M1 => e2m1::decode(bytes[index / 2] >> (index % 2 * 4) & 15),
            Elem::E8M0 => scale::decode(bytes[index]),
            Elem::I32 => self.word(bytes, index) as i32 as f32,
            Elem::I8 => f32::from(bytes[index] as i8),
            Elem::U8 => f32::from(bytes[index]),
            Elem::I4 => self.integer(bytes, index) as f32,
        }
    }

    /// The integer at place `index` of `bytes`: of 4, 1 or 2 bytes, the latter without a sign.
    pub(crate) fn integer(self, bytes: &[u8], index: usize) -> i32 {
        match self.bits() {
            32 => self.word(bytes, index) as i32,
            16 => i32::from(u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])),
            8 if self == Elem::I8 => i32::from(bytes[index] as i8),
            8 => i32::from(bytes[index]),
            // The sign is the nibble's upper bit.
            _ if self == Elem::I4 => i32::from((bytes[index / 2] << (4 - index % 2 * 4)) as i8 >> 4),
            _ => i32::from(bytes[index / 2] >> (index % 2 * 4) & 15),
        }
    }

    fn word(self, bytes: &[u8], index: usize) -> u32 {
        let at = 4 * index;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }
}

impl From<DType> for Elem {
    fn from(dtype: DType) -> Elem {
        match dtype {
            DType::F32 => Elem::F32,
            DType::F16 => Elem::F16,
            DType::BF16 => Elem::BF16,
            DType::E4M3 => Elem::E4M3,
            DType::E2M1 => Elem::E2M1,
            DType::UE8M0 => Elem::E8M0,
            DType::I32 => Elem::I32,
            // 64-bit integers only come in checkpoints, and no operation has them.
            _ => Elem::U8,
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::BF16 => "bf16",
            Elem::E4M3 => "e4m3",
            Elem::E5M2 => "e5m2",
            Elem::HiF8 => "hif8",
            Elem::E2M1 => "e2m1",
            Elem::E8M0 => "e8m0",
            Elem::I32 => "i32",
            Elem::I8 => "i8",
            Elem::U8 => "u8",
            Elem::I4 => "i4",
        })
    }
}
