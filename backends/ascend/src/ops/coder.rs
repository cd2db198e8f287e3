//! Rows to FP8 or FP4 codes with a power of two for each block, bit for bit as [`scale`] has it.
//!
//! Scales are made of exponents, by integer operations. A block that holds a NaN or an infinity gets scale 255 and codes 0.

use super::spans::Span;
use super::subnormal::Tiny;
use crate::isa::{Axis, Cmp, Elem, Red, Round, Tile};
use crate::kernel::Context;
use crate::machine::Space;
use anychip_core::formats::{e2m1, e4m3, scale};

/// Exponent field of an infinity, in place.
const INFINITE: i32 = 0x7F80_0000;
/// All but the sign.
const MAGNITUDE: i32 = 0x7FFF_FFFF;
/// All of a fraction: with it added, whatever is above a power of two has the next exponent.
const FRACTION: i32 = 0x7F_FFFF;
/// Bits of a fraction.
const EXPONENT: i32 = 23;
/// Scale byte of a block that reads as NaN.
const NAN: i32 = scale::NAN as i32;

/// Room and constants for the codes of steps. For each: [`widen`](Coder::widen) and [`amax`](Coder::amax) of all its parts,
/// [`exponents`](Coder::exponents), then of each part, which is widened anew unless it is the only one, [`codes`](Coder::codes).
pub(super) struct Coder {
    code: Elem,
    /// What comes: f32, bf16 or f16.
    source: Elem,
    /// Numbers as f32 where they do not come as such.
    work: u32,
    /// Magnitudes, then quotients.
    quotients: u32,
    /// Where subnormal numbers would be lost, what they are instead.
    tiny: Option<Tiny>,
    /// Of each block its amax and then its exponent, one over its scale, and the factor of subnormal numbers.
    blocks: [u32; 3],
}

impl Coder {
    /// For steps of at most `rows` rows of each of `spans`, to E4M3 or else to E2M1.
    pub(super) fn new(cx: &mut Context<'_>, code: Elem, source: Elem, rows: u32, spans: &[Span]) -> Coder {
        let most = spans.iter().map(Span::padded).max().unwrap_or(1);
        let blocks = spans.iter().map(|span| span.blocks).max().unwrap_or(1);
        let bytes = (4 * rows * most).next_multiple_of(32);
        let short = spans.iter().any(|span| span.cols < span.padded());
        let work = if source == Elem::F32 && !short { 0 } else { cx.alloc(Space::Ub, bytes) };
        let quotients = cx.alloc(Space::Ub, bytes);
        // An E4M3 block's scale has a floor far above them.
        let lost = cx.is_950() && code == Elem::E2M1 && source != Elem::F16;
        let tiny = lost.then(|| Tiny::new(cx, source, rows, most));
        let blocks = [(); 3].map(|()| cx.alloc(Space::Ub, (4 * rows * blocks).next_multiple_of(32)));
        Coder { code, source, work, quotients, tiny, blocks }
    }

    /// Room for f32 of a step, twice, until the next [`widen`](Coder::widen). None of f32 that come as such.
    pub(super) fn scratch(&self) -> [u32; 2] {
        [self.work, self.quotients]
    }

    /// Some rows of a span as f32, the last block of each made up with zeros. `x` may be needed until its codes are taken.
    pub(super) fn widen(&self, cx: &mut Context<'_>, x: Tile, span: Span) -> Tile {
        let padded = Tile::dense(Space::Ub, self.work, Elem::F32, x.rows, span.padded());
        let short = span.cols < span.padded();
        let mut wide = padded;
        cx.fused(|cx| {
            if short {
                cx.bcast(padded, 0.0);
            }
            match (self.source, short) {
                (Elem::F32, false) => wide = x,
                (Elem::F32, true) => cx.copy(padded.col_range(0, span.cols), x),
                _ => cx.cast(padded.col_range(0, span.cols), x, Round::Even),
            }
            if let Some(tiny) = &self.tiny {
                let to = Tile { at: tiny.at, ..padded };
                if short {
                    cx.bcast(to, 0.0);
                }
                tiny.fill(cx, to.col_range(0, span.cols), x, self.quotients);
            }
        });
        wide
    }

    /// Takes the largest magnitude of each block, of this part and those before.
    pub(super) fn amax(&self, cx: &mut Context<'_>, wide: Tile, span: Span, first: bool) {
        let all = by_block(wide, span);
        let magnitudes = Tile { at: self.quotients, ..all };
        let [amax, more] = [self.blocks[0], self.blocks[1]].map(|at| column(at, all.rows));
        cx.fused(|cx| {
            cx.abs(magnitudes, all);
            cx.reduce(Red::Max, Axis::Row, if first { amax } else { more }, magnitudes);
            if !first {
                cx.max(amax, amax, more);
            }
        });
    }

    /// Makes scales of so many blocks' magnitudes.
    pub(super) fn exponents(&self, cx: &mut Context<'_>, blocks: u32) {
        let (floor, max) = match self.code {
            Elem::E2M1 => (scale::E2M1_AMAX_FLOOR, e2m1::MAX),
            _ => (scale::E4M3_AMAX_FLOOR, e4m3::MAX),
        };
        let [ratio, inverse, factor] = self.blocks.map(|at| column(at, blocks));
        let exponent = ratio.of(Elem::I32);
        cx.fused(|cx| {
            cx.max(ratio, ratio, floor);
            cx.mul(ratio, ratio, 1.0 / max);
            // A NaN counts as infinite.
            cx.and(exponent, exponent, MAGNITUDE);
            cx.min(exponent, exponent, INFINITE);
            cx.add(exponent, exponent, FRACTION);
            cx.shr(exponent, exponent, EXPONENT);
            // 2^(127 - exponent), which is normal: scales end at 2^126.
            cx.sub(inverse.of(Elem::I32), 254, exponent);
            cx.shl(inverse.of(Elem::I32), inverse.of(Elem::I32), EXPONENT);
            if let Some(tiny) = &self.tiny {
                // A block whose scale is far above them has no code for them but 0.
                cx.sub(factor.of(Elem::I32), 254 + tiny.exponent, exponent);
                cx.max(factor.of(Elem::I32), factor.of(Elem::I32), 0);
                cx.shl(factor.of(Elem::I32), factor.of(Elem::I32), EXPONENT);
            }
        });
    }

    /// Codes of the part that was widened last.
    pub(super) fn codes(&self, cx: &mut Context<'_>, to: Tile, wide: Tile, span: Span) {
        let all = by_block(wide, span);
        let quotients = Tile { at: self.quotients, ..all };
        let [exponent, inverse, factor] = self.blocks.map(|at| column(at, all.rows));
        cx.fused(|cx| {
            cx.mul(quotients, all, inverse);
            if let Some(tiny) = &self.tiny {
                let parts = Tile { at: tiny.at, ..all };
                cx.mul(parts, parts, factor);
                // The unit takes subnormal numbers as zero here, too.
                cx.select(quotients, (all, Cmp::Eq, 0.0), parts, quotients);
            }
            cx.select(quotients, (exponent.of(Elem::I32), Cmp::Eq, NAN), 0.0, quotients);
            let rows = Tile::dense(Space::Ub, self.quotients, Elem::F32, to.rows, span.padded());
            cx.cast(to, rows.col_range(0, span.cols), Round::Even);
        });
    }

    /// Scale bytes of all blocks, row by row.
    pub(super) fn scales(&self, cx: &mut Context<'_>, to: Tile) {
        let exponents = Tile::dense(Space::Ub, self.blocks[0], Elem::I32, to.rows, to.cols);
        cx.cast(to.of(Elem::U8), exponents, Round::Even);
    }
}

fn by_block(wide: Tile, span: Span) -> Tile {
    Tile::dense(Space::Ub, wide.at, Elem::F32, wide.rows * span.blocks, span.block)
}

fn column(at: u32, rows: u32) -> Tile {
    Tile::dense(Space::Ub, at, Elem::F32, rows, 1)
}
