//! How a product is cut for the memories of a core.
//!
//! Blocks are as large as L0C: what a block's operands cost to load is the less, the larger it is. Depths follow from areas and
//! memories. Published kernels: 950 f16 256x256x64 with 256 of K in L1, MXFP8 128x256x128 with 512, MXFP4 256x256x256 with
//! 1024; 910B f16 128x256x64 with 256; int8 128x256x128.

use crate::isa::Elem;
use crate::machine::{Arch, Profile, Space};
use crate::sim::capacity;

/// Rows and columns of a block: all of L0C.
const fn area(arch: Arch) -> [u32; 2] {
    match arch {
        Arch::V3510 => [256, 256],
        Arch::V2201 => [128, 256],
    }
}

/// Bytes of a row that the memory moves at its full rate on every generation.
const ROW: u32 = 512;
/// Rows longer than this gain nothing.
const LONGEST: u32 = 1024;
/// Columns of a matrix whose MX scales are loaded at a time: bursts of 128 bytes.
const SCALED: u32 = 4096;
/// Blocks of so few rows are of fewer columns, which then are loaded in longer rows.
const NARROW: u32 = 32;
/// Columns of such a block.
const LONG: u32 = 128;
/// Edge of a fractal, below which a block's area is padding.
const EDGE: u32 = 16;

/// Sizes of what a core works on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Rows of a block.
    pub(crate) rows: u32,
    /// Columns of a block.
    pub(crate) cols: u32,
    /// Along K, in L0B and of a product.
    pub(crate) depth: u32,
    /// Along K, in L0A: a multiple of `depth`, so that narrow operands come in few transfers.
    pub(crate) left: u32,
    /// Along K, in L1: a multiple of `depth`.
    pub(crate) load: u32,
    /// Along K, MX scales in L1: a multiple of `load`; 0 where there are none.
    pub(crate) scales: u32,
    /// Columns whose sums are kept and stored together: two of them fit L0C, so that the cube fills one while the other is
    /// emptied.
    pub(crate) part: u32,
}

impl Tiling {
    /// For `weights` products of `[m, n, k]`: as large as can be, or smaller where that gives more of `cores` something to do.
    pub(crate) fn of(
        profile: &Profile,
        elem: Elem,
        mx: bool,
        [m, n, k]: [u64; 3],
        weights: u64,
        cores: usize,
    ) -> Tiling {
        let [rows, mut cols] = area(profile.arch);
        if m <= NARROW.into() {
            cols = cols.min(LONG);
        }
        let fit = |size: u64, most: u32| size.next_multiple_of(EDGE.into()).clamp(EDGE.into(), most.into()) as u32;
        let (mut rows, mut cols) = (fit(m, rows), fit(n, cols));
        let busy = |rows: u32, cols: u32| weights * m.div_ceil(rows.into()) * n.div_ceil(cols.into()) >= cores as u64;
        while !busy(rows, cols) && rows.max(cols) > EDGE {
            // Columns first: then each core reads weights that no other does.
            if cols >= rows.min(2 * EDGE) && cols > EDGE {
                cols = (cols / 2).next_multiple_of(EDGE);
            } else {
                rows = (rows / 2).next_multiple_of(EDGE);
            }
        }
        Tiling::new(profile, elem, mx, [rows, cols], k)
    }

    /// Blocks of an area, as deep as the memories allow.
    pub(crate) fn new(profile: &Profile, elem: Elem, mx: bool, [rows, cols]: [u32; 2], k: u64) -> Tiling {
        let bytes = |space| capacity(profile, space) as u32;
        let per_byte = |bytes: u32| bytes * 8 / elem.bits() as u32;
        // MX operands come in groups of 64.
        let unit = if mx { 64 } else { elem.c0() as u32 };
        let down = |x: u32, unit: u32| (x / unit * unit).max(unit);
        let whole = k.next_multiple_of(unit.into()).clamp(unit.into(), u64::from(u32::MAX / 64 * 64)) as u32;
        let half = |space, edge: u32| per_byte(bytes(space) / 2 / edge);
        let depth = down(half(Space::L0a, rows).min(half(Space::L0b, cols)).min(1024), unit).min(whole);
        let scales = if mx { whole.min(SCALED) } else { 0 };
        // Both halves of L1, without what the scales take.
        let room = bytes(Space::L1) / 2 - (rows + cols) * scales.div_ceil(32);
        let longest = (room / (rows + cols)).min(LONGEST);
        let longest = if longest > ROW { longest / ROW * ROW } else { longest };
        let load = down(per_byte(longest), depth).min(whole.next_multiple_of(depth));
        let scales = scales.next_multiple_of(load.max(1));
        let fits =
            |scales: u32| 2 * (rows + cols) * (elem.bytes(load as usize) as u32 + scales / 32) <= bytes(Space::L1);
        let scales = if scales > load && !fits(scales) { scales - load } else { scales };
        let left = down(half(Space::L0a, rows).min(load), depth);
        let part = if 8 * rows * cols <= bytes(Space::L0c) { cols } else { (cols / 2).next_multiple_of(EDGE) };
        Tiling { rows, cols, depth, left, load, scales, part }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tiles_are_those_of_published_kernels_or_larger() {
        let tiling = |name, elem, mx| {
            let t = Tiling::of(&Profile::open(name).unwrap(), elem, mx, [8192; 3], 1, 32);
            ([t.rows, t.cols, t.depth], t.load)
        };
        assert_eq!(tiling("950dt", Elem::F16, false), ([256, 256, 64], 256));
        assert_eq!(tiling("910b", Elem::BF16, false), ([128, 256, 64], 256));
        assert_eq!(tiling("950dt", Elem::E4M3, true), ([256, 256, 128], 384));
        assert_eq!(tiling("910b", Elem::I8, false), ([128, 256, 128], 512));
        // Scales leave no room for the 1024 that MXFP4 has without them.
        assert_eq!(tiling("950dt", Elem::E2M1, true), ([256, 256, 256], 768));
    }

    /// Two of each fit, whatever the sizes, and small products leave no core idle that a block of 16 x 16 would give work.
    #[test]
    fn tiles_fit_the_memories() {
        for (name, elems) in [
            ("950dt", &[Elem::F32, Elem::F16, Elem::BF16, Elem::E4M3, Elem::E2M1, Elem::I8][..]),
            ("910b", &[Elem::F32, Elem::F16, Elem::BF16, Elem::I8]),
        ] {
            let profile = Profile::open(name).unwrap();
            let sizes = [1, 5, 100, 8192].into_iter().flat_map(|m| [1, 17, 500, 65536].map(|n| [m, n]));
            let sizes = sizes.flat_map(|[m, n]| [1, 64, 100, 7168, 300_000].map(|k| [m, n, k]));
            for ([m, n, k], &elem) in sizes.flat_map(|sizes| elems.iter().map(move |elem| (sizes, elem))) {
                let t = Tiling::of(&profile, elem, matches!(elem, Elem::E4M3 | Elem::E2M1), [m, n, k], 1, 24);
                let bytes = |edge: u32, k: u32| (edge * k * elem.bits() as u32 / 8) as usize;
                assert!(2 * bytes(t.rows, t.left) <= capacity(&profile, Space::L0a), "{t:?}");
                assert!(2 * bytes(t.cols, t.depth) <= capacity(&profile, Space::L0b), "{t:?}");
                let l1 = bytes(t.rows + t.cols, t.load) + ((t.rows + t.cols) * t.scales / 32) as usize;
                assert!(2 * l1 <= capacity(&profile, Space::L1), "{t:?}");
                assert!((8 * t.rows * t.part) as usize <= capacity(&profile, Space::L0c), "{t:?}");
                assert!(
                    t.load > 0
                        && [t.load, t.left].iter().all(|k| k.is_multiple_of(t.depth))
                        && t.scales.is_multiple_of(t.load),
                    "{t:?}"
                );
                let blocks = m.div_ceil(t.rows.into()) * n.div_ceil(t.cols.into());
                assert!(blocks >= 24 || (t.rows == 16 && t.cols == 16), "{t:?}");
            }
        }
    }
}
