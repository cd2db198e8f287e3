//! Number formats with exact conversions: what a byte means, and what a value becomes.
//!
//! Host code for everybody: backends that compute on the host call it, the others are judged by it.

pub mod e2m1;
pub mod e4m3;
pub mod scale;

use half::{bf16, f16};

/// Rounds to the nearest bf16, ties to even. NaN stays NaN.
pub fn round_bf16(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// Rounds to the nearest f16, ties to even; beyond 65504 it becomes infinite.
pub fn round_f16(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}
