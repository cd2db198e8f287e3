//! Element types of tensors, and how many bytes a run of them takes.

use std::fmt;

/// The element type of a [`Tensor`](crate::Tensor).
///
/// The number formats themselves, with their exact conversions, are in [`formats`](crate::formats). A packed or scaled
/// matrix is a [`Matrix`](crate::Matrix), whose scale layout is part of its type; a plain tensor of
/// [`E4M3`](DType::E4M3) is only codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// IEEE binary16.
    F16,
    /// FP8 e4m3fn: 4 exponent bits, 3 mantissa bits, largest 448, no infinity, NaN at `S.1111.111`.
    E4M3,
    /// FP4 e2m1, two codes to a byte, the even element in the low nibble.
    E2M1,
    /// Scale exponents: byte `b` is `2^(b-127)`, 255 is NaN. Never a number to compute with on its own.
    UE8M0,
    /// Signed 32-bit integers: token ids, positions, index lists.
    I32,
    /// Signed 64-bit integers, in checkpoints only (`tid2eid`).
    I64,
    /// Raw bytes: the pages of a KV pool.
    U8,
}

impl DType {
    /// Bits that one element takes in memory.
    pub const fn bits(self) -> u64 {
        match self {
            DType::E2M1 => 4,
            DType::E4M3 | DType::UE8M0 | DType::U8 => 8,
            DType::BF16 | DType::F16 => 16,
            DType::F32 | DType::I32 => 32,
            DType::I64 => 64,
        }
    }

    /// Bytes of `count` elements stored without gaps; packed types round up to a whole byte. `None` on overflow.
    pub const fn bytes(self, count: u64) -> Option<u64> {
        match self {
            DType::E2M1 => Some(count.div_ceil(2)),
            wide => count.checked_mul(wide.bits() / 8),
        }
    }

    /// Whether elements are numbers that an operation may read and write directly: [`F32`](DType::F32),
    /// [`BF16`](DType::BF16) or [`F16`](DType::F16).
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16 | DType::F16)
    }

    /// Unit roundoff of a round-to-nearest store into this type: 2^-24, 2^-8 (bf16 has 8 significant bits) and so on;
    /// 0 for integers and raw bytes.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F32 => 1.0 / (1u64 << 24) as f64,
            DType::BF16 => 1.0 / 256.0,
            DType::F16 => 1.0 / 2048.0,
            DType::E4M3 => 1.0 / 16.0,
            DType::E2M1 => 1.0 / 4.0,
            DType::UE8M0 | DType::I32 | DType::I64 | DType::U8 => 0.0,
        }
    }

    /// The name used in messages, reports and case names.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::E4M3 => "e4m3",
            DType::E2M1 => "e2m1",
            DType::UE8M0 => "ue8m0",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
