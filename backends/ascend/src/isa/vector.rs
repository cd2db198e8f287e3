//! What the vector unit computes: operations over tiles of UB.
//!
//! An operand of one row or one column is taken for all rows or columns of the result. Numbers are computed in f32 and rounded
//! to the result's type; where the result's elements are integers, all of the operation is in 32-bit integers.

use super::{Elem, Tile};

/// An operand: a tile, or a number that the instruction carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// A tile.
    Tile(Tile),
    /// A number.
    Number(f32),
    /// An integer, or the bits of one.
    Integer(i32),
}

impl Operand {
    /// The tile, where it is one.
    pub fn tile(&self) -> Option<&Tile> {
        match self {
            Operand::Tile(tile) => Some(tile),
            _ => None,
        }
    }
}

impl From<Tile> for Operand {
    fn from(tile: Tile) -> Operand {
        Operand::Tile(tile)
    }
}

impl From<f32> for Operand {
    fn from(number: f32) -> Operand {
        Operand::Number(number)
    }
}

impl From<i32> for Operand {
    fn from(integer: i32) -> Operand {
        Operand::Integer(integer)
    }
}

/// Operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bin {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// The larger; NaN where one is.
    Max,
    /// The smaller; NaN where one is.
    Min,
    /// Bits of both.
    And,
    /// Bits of either.
    Or,
    /// Bits of one.
    Xor,
    /// Bits moved up.
    Shl,
    /// Bits moved down, zeros behind them.
    Shr,
}

/// Operations of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Un {
    /// e to its power.
    Exp,
    /// Natural logarithm.
    Ln,
    /// Square root.
    Sqrt,
    /// One over the square root.
    Rsqrt,
    /// One over it.
    Rcp,
    /// Without its sign.
    Abs,
    /// With the other sign.
    Neg,
    /// Zero where it is below.
    Relu,
    /// As it is.
    Copy,
}

/// How a conversion rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// To nearest, ties to even.
    Even,
    /// To nearest, ties away from zero: to integers and HiF8.
    Away,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Floor,
    /// Towards plus infinity.
    Ceil,
}

impl Round {
    /// Whether the unit has conversions to this type that round so. HiF8 and e5m2 have one way each (`Cast` in the API reference
    /// of the AscendC development kit).
    pub fn suits(self, to: Elem) -> bool {
        match to {
            Elem::HiF8 => self == Round::Away,
            Elem::E5M2 => self == Round::Even,
            _ => self != Round::Away || to.is_integer(),
        }
    }
}

/// What a reduction gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Red {
    /// The sum, in ascending order.
    Sum,
    /// The largest; NaN where one is.
    Max,
    /// The smallest; NaN where one is.
    Min,
    /// The place of the largest, the first of equals; a NaN is never it.
    ArgMax,
}

/// What a histogram says of each value of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// How many have it.
    Frequency,
    /// How many have it or a lower one.
    Accumulate,
}

/// Which elements of a tile are taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Those of a row: the result has one column.
    Row,
    /// Those of a column: the result has one row.
    Col,
}

/// Comparisons; with a NaN only `Ne` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// An operation of the vector unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// `VBIN`: `to = a op b`.
    Bin(Bin, Tile, Operand, Operand),
    /// `VUN`: `to = op(a)`.
    Un(Un, Tile, Tile),
    /// `VCAST`: to another type. Values beyond a type of 8 or 4 bits become its largest, NaN the NaN of one of 8.
    Cast(Tile, Tile, Round),
    /// `VRED`: rows or columns to one element each.
    Red(Red, Axis, Tile, Tile),
    /// `VBCAST`: one row, one column or one number for all of `to`.
    Bcast(Tile, Operand),
    /// `VBCAST` with a step: element `j` of each row is `start + j * step`.
    Ramp(Tile, i32, i32),
    /// `VCMPSEL`: `to = x where a cmp b, else y`.
    Select(Cmp, Tile, [Operand; 4]),
    /// `VGATHER_UB`: `to[i] = from[index[i]]`, elements of `from` counted row by row.
    Gather(Tile, Tile, Tile),
    /// `VSCATTER_UB`: `to[index[i]] = from[i]`; a negative index writes nothing, and of two of one place the later stays.
    Scatter(Tile, Tile, Tile),
    /// `VTRANS`: rows to columns.
    Trans(Tile, Tile),
    /// `VSORT32`: each 32 numbers of the first operand descending, of equals the one that came first; with each its integer of
    /// the second. The result is rows of pairs: number, integer.
    Sort32(Tile, Tile, Tile),
    /// `VMRGSORT`: up to four descending lists of pairs to one, of equal numbers the earlier list's first.
    Merge(Tile, Vec<Tile>),
    /// `VHIST`: how many elements of each row have each value of one byte, or at most that: 256 integers a row.
    Hist(Count, Tile, Tile),
    /// `VSQUEEZE`: those elements of the second tile for which `a cmp b` holds, in order and without gaps. It ends where the
    /// first tile does; what is left of that stays as it is.
    Squeeze(Cmp, Tile, Tile, [Operand; 2]),
    /// `VDEQ_MX`: codes times the scale of each 32 of a row.
    DequantMx(Tile, Tile, Tile),
    /// `VF`: several of the above in one function, whose results before the last stay in registers where they fit.
    Fused(Vec<Vector>),
}

impl Vector {
    /// Shows each tile to `f`: written ones, then read ones, of parts in their order.
    pub fn tiles(&self, f: &mut impl FnMut(bool, &Tile)) {
        let mut both = |to: &Tile, from: &[Option<&Tile>]| {
            from.iter().flatten().for_each(|tile| f(false, tile));
            f(true, to);
        };
        match self {
            Vector::Bin(_, to, a, b) => both(to, &[a.tile(), b.tile()]),
            Vector::Un(_, to, a) | Vector::Cast(to, a, _) | Vector::Red(_, _, to, a) | Vector::Trans(to, a) => {
                both(to, &[Some(a)]);
            }
            Vector::Hist(_, to, a) => both(to, &[Some(a)]),
            Vector::Squeeze(_, to, from, [a, b]) => both(to, &[Some(from), a.tile(), b.tile()]),
            Vector::Bcast(to, a) => both(to, &[a.tile()]),
            Vector::Ramp(to, ..) => both(to, &[]),
            Vector::Select(_, to, [a, b, x, y]) => both(to, &[a.tile(), b.tile(), x.tile(), y.tile()]),
            Vector::Gather(to, a, b)
            | Vector::Scatter(to, a, b)
            | Vector::Sort32(to, a, b)
            | Vector::DequantMx(to, a, b) => both(to, &[Some(a), Some(b)]),
            Vector::Merge(to, lists) => both(to, &lists.iter().map(Some).collect::<Vec<_>>()),
            Vector::Fused(all) => all.iter().for_each(|one| one.tiles(f)),
        }
    }

    /// The tile that it writes; of several, the last one's.
    pub fn result(&self) -> Option<&Tile> {
        match self {
            Vector::Bin(_, to, ..)
            | Vector::Un(_, to, _)
            | Vector::Cast(to, ..)
            | Vector::Red(_, _, to, _)
            | Vector::Bcast(to, _)
            | Vector::Ramp(to, ..)
            | Vector::Select(_, to, _)
            | Vector::Gather(to, ..)
            | Vector::Scatter(to, ..)
            | Vector::Trans(to, _)
            | Vector::Sort32(to, ..)
            | Vector::Merge(to, _)
            | Vector::Hist(_, to, _)
            | Vector::Squeeze(_, to, ..)
            | Vector::DequantMx(to, ..) => Some(to),
            Vector::Fused(all) => all.last().and_then(Vector::result),
        }
    }

    /// Its name in the instruction set.
    pub fn name(&self) -> &'static str {
        match self {
            Vector::Bin(..) => "VBIN",
            Vector::Un(..) => "VUN",
            Vector::Cast(..) => "VCAST",
            Vector::Red(..) => "VRED",
            Vector::Bcast(..) | Vector::Ramp(..) => "VBCAST",
            Vector::Select(..) => "VCMPSEL",
            Vector::Gather(..) => "VGATHER_UB",
            Vector::Scatter(..) => "VSCATTER_UB",
            Vector::Trans(..) => "VTRANS",
            Vector::Sort32(..) => "VSORT32",
            Vector::Merge(..) => "VMRGSORT",
            Vector::Hist(..) => "VHIST",
            Vector::Squeeze(..) => "VSQUEEZE",
            Vector::DequantMx(..) => "VDEQ_MX",
            Vector::Fused(..) => "VF",
        }
    }
}

/// Elements that share a scale in MX formats.
pub const MX_GROUP: u32 = 32;

/// Conversions of the unit that a pair of types stands for. It has e5m2 from and to f32, HiF8 from and to f32 and f16: others
/// of these go by way of f32, which loses nothing.
pub(crate) fn conversions(from: Elem, to: Elem) -> u32 {
    let direct = |narrow: Elem, wide: Elem| match narrow {
        Elem::E5M2 => wide == Elem::F32,
        Elem::HiF8 => matches!(wide, Elem::F32 | Elem::F16),
        _ => true,
    };
    if direct(from, to) && direct(to, from) { 1 } else { 2 }
}

/// Whether a pair of types is a conversion that the unit has, or two by way of f32.
pub fn casts(from: Elem, to: Elem) -> bool {
    let floats = |elem| matches!(elem, Elem::F32 | Elem::F16 | Elem::BF16 | Elem::E4M3 | Elem::E2M1);
    let wide = |elem| matches!(elem, Elem::F32 | Elem::F16 | Elem::BF16);
    let eight = |elem| matches!(elem, Elem::E5M2 | Elem::HiF8);
    match (from, to) {
        (a, b) if floats(a) && floats(b) => true,
        (a, b) if (wide(a) && eight(b)) || (eight(a) && wide(b)) => true,
        (Elem::I32, Elem::F32) | (Elem::F32, Elem::I32) => true,
        (Elem::E8M0, Elem::F32 | Elem::BF16) => true,
        (Elem::U8 | Elem::I8, Elem::F32 | Elem::F16 | Elem::I32) => true,
        (Elem::F32 | Elem::F16 | Elem::I32, Elem::U8 | Elem::I8) => true,
        (Elem::U8 | Elem::E4M3 | Elem::E2M1 | Elem::E8M0, Elem::U8) => true,
        _ => false,
    }
}
