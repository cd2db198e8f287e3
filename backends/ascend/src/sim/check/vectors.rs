//! What operands of the vector unit must be.

use crate::isa::{Axis, Bin, Elem, MX_GROUP, Operand, Red, Tile, Un, Vector, casts};
use crate::layout::Layout;
use crate::machine::Space;
use crate::sim::hazard::Code;

/// Most lists that are merged at once.
const LISTS: usize = 4;
/// Numbers that are sorted together.
const SORTED: u32 = 32;
/// Bits of the narrowest elements that both generations squeeze.
const WORD: usize = 16;
/// Values of a byte.
const BYTES: u32 = 256;

pub(super) fn vector_rules(vector: &Vector, wrong: &mut impl FnMut(Code, String)) {
    vector.tiles(&mut |_, tile| {
        if tile.space != Space::Ub || tile.layout != Layout::Nd {
            let got = format!("{:?} in {}", tile.layout, tile.space);
            wrong(Code::WrongLayout, format!("vectors are rows in ub; got {got}"));
        }
    });
    let name = vector.name();
    use Vector::{Cast, Fused, Gather, Scatter, Trans};
    let moves = |vector: &Vector| matches!(vector, Gather(..) | Scatter(..) | Trans(..) | Vector::Un(Un::Copy, ..));
    let calculates = !moves(vector) && !matches!(vector, Cast(..) | Fused(_));
    if let Some(elem) = vector.result().map(|to| to.elem).filter(|elem| calculates && elem.is_storage()) {
        wrong(Code::WrongLayout, format!("{name}: {elem} is converted and moved, not computed on"));
    }
    let mut shape = |what: &str, tile: &Tile, rows: u32, cols: u32| {
        if (tile.rows, tile.cols) != (rows, cols) {
            let got = format!("{} x {}", tile.rows, tile.cols);
            wrong(Code::WrongLayout, format!("{name}: {what} is {rows} x {cols}; got {got}"));
        }
    };
    match vector {
        Vector::Bin(op, to, a, b) => {
            [a, b].into_iter().for_each(|operand| spread(name, to, operand, wrong));
            computes(name, to.elem, wrong);
            let bits = matches!(op, Bin::And | Bin::Or | Bin::Xor | Bin::Shl | Bin::Shr);
            if bits && !to.elem.is_integer() && to.elem.bits() != 16 && to.elem != Elem::F32 {
                wrong(Code::WrongLayout, format!("{name}: bits are of integers; got {}", to.elem));
            }
        }
        Vector::Un(op, to, a) => {
            spread(name, to, &Operand::Tile(*a), wrong);
            if *op != Un::Copy {
                computes(name, to.elem, wrong);
            }
            if to.elem.is_integer() && !matches!(op, Un::Abs | Un::Neg | Un::Relu | Un::Copy) {
                wrong(Code::WrongLayout, format!("{name}: {op:?} is of floats; got {}", to.elem));
            }
        }
        Vector::Cast(to, a, round) => {
            shape("what is converted", a, to.rows, to.cols);
            if !casts(a.elem, to.elem) {
                wrong(Code::WrongLayout, format!("{name}: there is no conversion of {} to {}", a.elem, to.elem));
            } else if !round.suits(to.elem) {
                let rule = "hif8 is rounded with ties away from zero, e5m2 with ties to even; other floats not away";
                wrong(Code::WrongLayout, format!("{name}: {rule}; got {} by {round:?}", to.elem));
            }
        }
        Vector::Red(red, axis, to, a) => {
            let (rows, cols) = if *axis == Axis::Row { (a.rows, 1) } else { (1, a.cols) };
            shape("the result", to, rows, cols);
            computes(name, a.elem, wrong);
            let want = if *red == Red::ArgMax { Elem::I32 } else { a.elem };
            if to.elem != want {
                wrong(Code::WrongLayout, format!("{name}: the result is {want}; got {}", to.elem));
            }
        }
        Vector::Bcast(to, a) => {
            spread(name, to, a, wrong);
            number(name, to, a, wrong);
        }
        Vector::Ramp(to, ..) => {
            if !matches!(to.elem, Elem::I32 | Elem::F32) {
                wrong(Code::WrongLayout, format!("{name}: steps are i32 or f32; got {}", to.elem));
            }
        }
        Vector::Select(_, to, [a, b, x, y]) => {
            // What is compared may be of another type than what is chosen.
            for operand in [a, b] {
                let kind = operand.tile().map_or(to.elem, |tile| tile.elem);
                spread(name, &to.of(kind), operand, wrong);
                computes(name, kind, wrong);
            }
            for operand in [x, y] {
                spread(name, to, operand, wrong);
                number(name, to, operand, wrong);
            }
        }
        Vector::Gather(to, from, index) => {
            shape("the list", index, to.rows, to.cols);
            lists(name, to, from, index, wrong);
        }
        Vector::Scatter(to, from, index) => {
            shape("the list", index, from.rows, from.cols);
            lists(name, to, from, index, wrong);
        }
        Vector::Trans(to, a) => {
            shape("the result", to, a.cols, a.rows);
            if to.elem != a.elem || a.elem.bits() < 8 {
                let got = format!("{} to {}", a.elem, to.elem);
                wrong(Code::WrongLayout, format!("{name}: elements of whole bytes keep their type; got {got}"));
            }
        }
        Vector::Sort32(to, keys, integers) => {
            shape("the list of integers", integers, keys.rows, keys.cols);
            shape("the result", to, keys.rows, 2 * keys.cols);
            if keys.cols % SORTED != 0 || keys.elem != Elem::F32 || integers.elem != Elem::I32 || to.elem != Elem::F32 {
                let got = format!("{} x {} of {}", keys.rows, keys.cols, keys.elem);
                wrong(Code::WrongLayout, format!("{name}: rows of f32 by {SORTED}, with i32, to f32; got {got}"));
            }
        }
        Vector::Merge(to, from) => {
            let all: usize = from.iter().map(Tile::count).sum();
            let flat =
                from.iter().chain([to]).all(|tile| tile.rows == 1 && tile.elem == Elem::F32 && tile.cols % 2 == 0);
            if !flat || !(1..=LISTS).contains(&from.len()) || to.count() > all {
                let got = format!("{} lists of {all} to {}", from.len(), to.count());
                wrong(
                    Code::WrongLayout,
                    format!("{name}: one to {LISTS} rows of pairs, to as many or fewer; got {got}"),
                );
            }
        }
        Vector::Hist(_, to, a) => {
            shape("the result", to, a.rows, BYTES);
            if a.elem != Elem::U8 || to.elem != Elem::I32 {
                wrong(Code::WrongLayout, format!("{name}: bytes are counted in i32; got {} in {}", a.elem, to.elem));
            }
        }
        Vector::Squeeze(_, to, from, [a, b]) => {
            let kind = a.tile().or(b.tile()).map_or(from.elem, |tile| tile.elem);
            [a, b].into_iter().for_each(|operand| spread(name, &from.of(kind), operand, wrong));
            let flat = to.rows == 1 && to.cols > 0;
            if !flat || to.elem != from.elem || from.elem.bits() < WORD {
                let got = format!("{} to {} x {} of {}", from.elem, to.rows, to.cols, to.elem);
                wrong(Code::WrongLayout, format!("{name}: elements of {WORD} bits or more, to one row; got {got}"));
            }
        }
        Vector::DequantMx(to, codes, scales) => {
            shape("codes", codes, to.rows, to.cols);
            shape("scales", scales, to.rows, to.cols.div_ceil(MX_GROUP));
            let packed = matches!(codes.elem, Elem::E2M1 | Elem::E4M3) && scales.elem == Elem::E8M0;
            if !packed || !matches!(to.elem, Elem::E4M3 | Elem::BF16 | Elem::F16 | Elem::F32) {
                let got = format!("{} with {} to {}", codes.elem, scales.elem, to.elem);
                wrong(Code::WrongLayout, format!("{name}: e2m1 or e4m3 with e8m0 to a wider type; got {got}"));
            }
        }
        Vector::Fused(all) => all.iter().for_each(|one| match one {
            Vector::Fused(_) => wrong(Code::WrongLayout, "a function has no function within".into()),
            one => vector_rules(one, wrong),
        }),
    }
}

/// An operand has the result's type, and its shape or one row or one column of it.
fn spread(name: &str, to: &Tile, operand: &Operand, wrong: &mut impl FnMut(Code, String)) {
    if let Operand::Tile(tile) = operand {
        let fits = |have: u32, want: u32| have == want || have == 1;
        if !fits(tile.rows, to.rows) || !fits(tile.cols, to.cols) || tile.elem != to.elem {
            let show = |tile: &Tile| format!("{} x {} of {}", tile.rows, tile.cols, tile.elem);
            let (want, got) = (show(to), show(tile));
            wrong(Code::WrongLayout, format!("{name}: an operand is {want}, or one row or column of it; got {got}"));
        }
    }
}

/// Scales and 4-bit codes are moved and converted: the unit has no arithmetic for them.
fn computes(name: &str, elem: Elem, wrong: &mut impl FnMut(Code, String)) {
    if matches!(elem, Elem::E8M0 | Elem::E2M1) {
        wrong(Code::WrongLayout, format!("{name}: numbers are converted before they are computed with; got {elem}"));
    }
}

/// Nor can it make one of a number; it can of an integer, which has its bits.
fn number(name: &str, to: &Tile, operand: &Operand, wrong: &mut impl FnMut(Code, String)) {
    if matches!(operand, Operand::Number(_)) {
        computes(name, to.elem, wrong);
    }
}

fn lists(name: &str, to: &Tile, from: &Tile, index: &Tile, wrong: &mut impl FnMut(Code, String)) {
    if to.elem != from.elem || index.elem != Elem::I32 || from.elem.bits() < 8 {
        let got = format!("{} to {} by {}", from.elem, to.elem, index.elem);
        wrong(Code::WrongLayout, format!("{name}: elements of whole bytes keep their type, places are i32; got {got}"));
    }
}
