//! Numbers that the vector unit of the 950 takes as zero, where their bits count.
//!
//! Their fractions are integers, of which conversions make normal numbers.

use crate::isa::{Cmp, Elem, Round, Tile};
use crate::kernel::Context;
use crate::machine::Space;

/// The fraction of an f32.
const FRACTION: i32 = 0x7F_FFFF;
/// Sign and fraction of a bf16. The same bits are a subnormal f16, which the unit takes as it is.
const OF_BF16: i32 = 0x807F;
/// From the fraction of an f32 to an f16 that has the bits of the bf16 next to it: `2^(-16 - 24)`.
const TO_F16: f32 = 1.0 / (1u64 << 40) as f32;

/// Multiples of subnormal numbers, as f32.
pub(super) struct Tiny {
    pub(super) at: u32,
    /// A number is `2^exponent` of its multiples.
    pub(super) exponent: i32,
    /// Room for as many bf16.
    narrow: u32,
}

impl Tiny {
    /// Takes room for a step's numbers, which come as f32 or bf16.
    pub(super) fn new(cx: &mut Context<'_>, source: Elem, rows: u32, cols: u32) -> Tiny {
        let at = cx.alloc(Space::Ub, (4 * rows * cols).next_multiple_of(32));
        if source == Elem::F32 {
            return Tiny { at, exponent: -149, narrow: 0 };
        }
        let narrow = Tile::rows_of(Space::Ub, 0, Elem::BF16, rows, cols);
        Tiny { at, exponent: 24 - 133, narrow: cx.alloc(Space::Ub, narrow.end().next_multiple_of(32) as u32) }
    }

    /// Fills `to` with the multiples for each `x`; where `x` is not subnormal, with something. `scratch` is room for as many
    /// f32.
    pub(super) fn fill(&self, cx: &mut Context<'_>, to: Tile, x: Tile, scratch: u32) {
        if x.elem == Elem::F32 {
            return fractions(cx, to, x, scratch);
        }
        let narrow = Tile { at: self.narrow, ..x };
        cx.and(narrow, x, OF_BF16);
        cx.cast(to, narrow.of(Elem::F16), Round::Even);
    }
}

/// The fractions of f32 as whole numbers, with their signs.
fn fractions(cx: &mut Context<'_>, to: Tile, x: Tile, scratch: u32) {
    let (bits, whole) = (x.of(Elem::I32), to.of(Elem::I32));
    let signs = Tile { at: scratch, ..whole };
    cx.and(whole, bits, FRACTION);
    cx.cast(to, whole, Round::Even);
    cx.and(signs, bits, i32::MIN);
    cx.or(whole, whole, signs);
}

/// Widens bf16 to f32, subnormal ones too. `scratch` is room for as many f32, twice.
pub(super) fn widen(cx: &mut Context<'_>, to: Tile, x: Tile, scratch: [u32; 2]) {
    let is_950 = cx.is_950();
    cx.fused(|cx| {
        cx.cast(to, x, Round::Even);
        if is_950 {
            let narrow = Tile { at: scratch[0], ..x };
            let whole = Tile { at: scratch[1], ..to };
            let bits = whole.of(Elem::I32);
            cx.and(narrow, x, OF_BF16 & 0x7FFF);
            cx.cast(whole, narrow.of(Elem::F16), Round::Even);
            cx.mul(whole, whole, (1 << 24) as f32);
            cx.cast(bits, whole, Round::Even);
            cx.shl(bits, bits, 16);
            // Zeros have kept the sign.
            cx.or(bits, bits, to.of(Elem::I32));
            cx.select(to, (to, Cmp::Eq, 0.0), whole, to);
        }
    });
}

/// Rounds f32 to bf16, subnormal ones too. `scratch` is room for as many f32, twice.
pub(super) fn narrow(cx: &mut Context<'_>, to: Tile, x: Tile, scratch: [u32; 2]) {
    let is_950 = cx.is_950();
    cx.fused(|cx| {
        cx.cast(to, x, Round::Even);
        if is_950 {
            let wide = Tile { at: scratch[0], ..x };
            fractions(cx, wide, x, scratch[1]);
            cx.mul(wide, wide, TO_F16);
            let bits = Tile { at: scratch[1], ..to };
            cx.cast(bits.of(Elem::F16), wide, Round::Even);
            cx.select(to, (to, Cmp::Eq, 0.0), bits, to);
        }
    });
}
