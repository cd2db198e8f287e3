//! FixPipe: sums of the cube on their way out.
//!
//! Sums lie in fractals of 16 x 16 whatever their type. FixPipe multiplies them by factors, converts them, and lays them out
//! for whoever takes them up; which types go where in which order is the API reference's (`Fixpipe` in the AscendC
//! development kit, and the pages on NZ2ND, NZ2DN, NZ2NZ, channel split and channel merge).

use super::{Elem, Global, Tile, Unit, UnitFlag};
use crate::layout::{FRACTAL_ROWS, Layout};

/// Where FixPipe writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FixTo {
    /// Global memory: rows, or fractals as [`Global::fractals`] has them.
    Gm(Global),
    /// L1.
    L1(Tile),
    /// UB of one vector half, or the upper half of the rows to the first and the others to the second, each at its tile's
    /// place.
    Ub(Tile, FixHalf),
}

/// Which vector half gets sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FixHalf {
    /// The first.
    First,
    /// The second.
    Second,
    /// Half of the rows each.
    Split,
}

/// What FixPipe multiplies sums with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quant {
    /// Nothing.
    None,
    /// One number.
    Scale(f32),
    /// A number for each column, f32, in its buffer.
    Columns(Tile),
}

/// In which order sums are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FixMode {
    /// `NZ2ND`: row by row. To global memory and UB.
    Rows,
    /// `NZ2DN`: columns become rows, so that the transpose is there. To global memory and UB, on the 950.
    Columns,
    /// `NZ2NZ`: fractals stay fractals, of 16 rows of the result's own `C0` where its elements have one byte (channel merge:
    /// 16 x 32) or 4 bits (16 x 64), else of 16 x 16. To L1, global memory and, of elements of 16 bits, UB.
    Fractals,
    /// `NZ2NZ` with channel split: f32 in fractals of 16 x 8, the `C0` of f32. To global memory.
    Split,
}

impl FixMode {
    /// Columns of the fractals that are written; `None` where what is written has none.
    pub const fn width(self, elem: Elem) -> Option<usize> {
        match self {
            FixMode::Rows | FixMode::Columns => None,
            // Fractals are merged, never split, unless that is asked for.
            FixMode::Fractals => Some(if elem.c0() > FRACTAL_ROWS { elem.c0() } else { FRACTAL_ROWS }),
            FixMode::Split => Some(elem.c0()),
        }
    }
}

/// Sums from L0C on: `FIX_L0C_GM`, `FIX_L0C_L1`, `FIX_L0C_UB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    /// Sums.
    pub from: Tile,
    /// Where to.
    pub to: FixTo,
    /// In which order.
    pub mode: FixMode,
    /// Factor.
    pub quant: Quant,
    /// Whether what is below zero becomes zero.
    pub relu: bool,
    /// Whether it is added to what is there; global memory only.
    pub atomic: bool,
    /// Coupling with the cube.
    pub unit_flag: UnitFlag,
}

impl Fix {
    /// Sums as they are: row by row, or as fractals where the destination has them.
    pub const fn new(from: Tile, to: FixTo) -> Fix {
        let mode = match to {
            FixTo::Gm(_) => FixMode::Rows,
            FixTo::Ub(Tile { layout: Layout::Nd, .. }, _) => FixMode::Rows,
            FixTo::L1(_) | FixTo::Ub(..) => FixMode::Fractals,
        };
        Fix { from, to, mode, quant: Quant::None, relu: false, atomic: false, unit_flag: UnitFlag::Off }
    }

    /// Type of what is written.
    pub const fn elem(&self) -> Elem {
        match &self.to {
            FixTo::Gm(to) => to.elem,
            FixTo::L1(to) | FixTo::Ub(to, _) => to.elem,
        }
    }
}

/// Which vector half gets which rows.
pub(crate) fn fix_halves(to: &Tile, half: FixHalf) -> impl Iterator<Item = (Unit, Tile)> + use<> {
    let upper = to.rows.div_ceil(2);
    let parts = match half {
        FixHalf::First => [Some((Unit::Aiv0, *to)), None],
        FixHalf::Second => [Some((Unit::Aiv1, *to)), None],
        // Both halves have their rows at the tile's own place.
        FixHalf::Split => [
            Some((Unit::Aiv0, Tile { rows: upper, ..*to })),
            (to.rows > upper).then_some((Unit::Aiv1, Tile { rows: to.rows - upper, ..*to })),
        ],
    };
    parts.into_iter().flatten()
}
