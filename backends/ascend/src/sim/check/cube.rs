//! What operands of products and of FixPipe must be (E2, E9, E10).

use super::rules::{gm_sizes, layout, of, sizes, space};
use crate::isa::{Elem, Fix, FixHalf, FixMode, FixTo, Init, Mmad, Quant, UnitFlag};
use crate::layout::Layout;
use crate::machine::{Arch, Profile, Space};
use crate::sim::hazard::Code;

/// Largest extent of a product.
const MOST: u32 = 4095;
/// Bytes at whose multiples fractals and rows of a transpose begin in global memory.
const PIECE: u64 = 32;

/// Operands of a product.
pub(super) fn product(profile: &Profile, mmad: &Mmad, wrong: &mut impl FnMut(Code, String)) {
    let Mmad { to, a, b, scales, init, .. } = mmad;
    let (m, k, n) = (a.rows, a.cols, b.cols);
    space(a, Space::L0a, "the left operand", wrong);
    space(b, Space::L0b, "the right operand", wrong);
    space(to, Space::L0c, "the sums", wrong);
    // A single row is a vector, which lies as it is.
    if !(m == 1 && a.layout == Layout::Nd) {
        layout(a, of(profile, Space::L0a), "the left operand", wrong);
    }
    layout(b, of(profile, Space::L0b), "the right operand", wrong);
    layout(to, of(profile, Space::L0c), "the sums", wrong);
    if (to.rows, to.cols, b.rows) != (m, n, k) {
        let got = format!("{m} x {k} by {} x {n} to {} x {}", b.rows, to.rows, to.cols);
        wrong(Code::WrongLayout, format!("a product is m x k by k x n to m x n; got {got}"));
    }
    let kind = a.elem.cube().filter(|kind| profile.cube.contains_key(kind));
    let sums = if a.elem == Elem::I8 { Elem::I32 } else { Elem::F32 };
    let fp8 = |elem| matches!(elem, Elem::E4M3 | Elem::E5M2);
    let pair = a.elem == b.elem || (fp8(a.elem) && fp8(b.elem));
    if kind.is_none() || !pair || to.elem != sums {
        let got = format!("{} by {} to {}", a.elem, b.elem, to.elem);
        wrong(
            Code::WrongLayout,
            format!(
                "{} multiplies pairs of its own types, or e4m3 and e5m2 in any order, to f32, or i8 to i32; got {got}",
                profile.title
            ),
        );
    }
    for (extent, name) in [(m, "m"), (k, "k"), (n, "n")] {
        if !(1..=MOST).contains(&extent) {
            wrong(Code::ProductLimit, format!("{name} is 1 to {MOST}; got {extent}"));
        }
    }
    let four_bits = a.elem == Elem::E2M1;
    if four_bits && (scales.is_none() || k % 2 == 1) {
        wrong(Code::ProductLimit, format!("e2m1 comes in pairs along k, with MX scales; got k = {k}"));
    }
    if let Some((sa, sb)) = scales {
        if !(fp8(a.elem) || four_bits) {
            wrong(Code::WrongLayout, format!("MX operands are e4m3, e5m2 or e2m1; got {}", a.elem));
        }
        if k % 64 != 0 {
            wrong(Code::ProductLimit, format!("k of MX operands is a multiple of 64; got {k}"));
        }
        for (scale, of, rows, space) in [(sa, a, m, Space::L0aMx), (sb, b, n, Space::L0bMx)] {
            if (scale.rows, scale.cols, scale.elem, scale.space) != (rows, k / 32, Elem::E8M0, space) {
                let got = format!("{} x {} of {} in {}", scale.rows, scale.cols, scale.elem, scale.space);
                wrong(Code::WrongLayout, format!("scales are {rows} x {} of e8m0 in {space}; got {got}", k / 32));
            }
            if scale.at != of.at / 16 {
                wrong(
                    Code::ProductLimit,
                    format!("scales of byte {} lie at byte {}; got {}", of.at, of.at / 16, scale.at),
                );
            }
        }
    }
    if let Init::Bias(bias) = init {
        space(bias, Space::Bt, "the bias", wrong);
        if bias.count() as u32 != n || bias.elem != sums {
            wrong(Code::WrongLayout, format!("a bias is {n} of {sums}; got {} of {}", bias.count(), bias.elem));
        }
    }
}

/// Sums and where they go.
pub(super) fn transfer_of_sums(profile: &Profile, fix: &Fix, wrong: &mut impl FnMut(Code, String)) {
    let Fix { from, to, mode, quant, atomic, .. } = fix;
    space(from, Space::L0c, "the sums", wrong);
    layout(from, Layout::Nz, "the sums", wrong);
    shape(fix, wrong);
    types(profile, fix, wrong);
    if let Quant::Columns(scales) = quant {
        space(scales, Space::Fb, "factors", wrong);
        if scales.count() as u32 != from.cols || scales.elem != Elem::F32 {
            wrong(Code::WrongLayout, format!("there is an f32 factor a column, {}; got {}", from.cols, scales.count()));
        }
    }
    match to {
        FixTo::L1(to) => {
            space(to, Space::L1, "the tile", wrong);
            layout(to, Layout::Nz, "L1", wrong);
        }
        FixTo::Ub(to, _) => {
            space(to, Space::Ub, "the tile", wrong);
            layout(to, if *mode == FixMode::Fractals { Layout::Nz } else { Layout::Nd }, "UB", wrong);
        }
        FixTo::Gm(_) => {}
    }
    if *atomic && !matches!(to, FixTo::Gm(_)) {
        wrong(Code::WrongLayout, "only global memory adds".into());
    }
    order(fix, wrong);
}

/// As many places as there are sums.
fn shape(fix: &Fix, wrong: &mut impl FnMut(Code, String)) {
    let Fix { from, to, mode, .. } = fix;
    if from.rows == 0 || from.cols == 0 {
        wrong(Code::WrongLayout, format!("sums have 1 row and column at least; got {} x {}", from.rows, from.cols));
    }
    let (rows, cols, _) = match to {
        FixTo::Gm(to) => gm_sizes(to),
        FixTo::L1(to) | FixTo::Ub(to, _) => sizes(to),
    };
    let want = match (mode, to) {
        (FixMode::Columns, _) => (from.cols, from.rows),
        (FixMode::Fractals | FixMode::Split, FixTo::Gm(_)) => {
            let width = mode.width(fix.elem()).unwrap_or(1) as u32;
            (from.cols / width, from.rows.saturating_mul(width))
        }
        _ => (from.rows, from.cols),
    };
    if (rows, cols) != want {
        let got = format!("{} x {}; got {rows} x {cols}", want.0, want.1);
        wrong(Code::WrongLayout, format!("{} x {} sums go to as many places, {got}", from.rows, from.cols));
    }
}

/// Types that sums become.
fn types(profile: &Profile, fix: &Fix, wrong: &mut impl FnMut(Code, String)) {
    let (from, elem) = (fix.from.elem, fix.elem());
    let plain = matches!(fix.quant, Quant::None);
    let fits = match (from, elem) {
        (Elem::F32, Elem::F32 | Elem::F16 | Elem::BF16) => true,
        (Elem::I32, Elem::I32) => plain,
        (Elem::I32, Elem::F16 | Elem::BF16 | Elem::F32) | (_, Elem::I8 | Elem::U8) => !plain,
        (Elem::F32, Elem::E4M3 | Elem::HiF8) => !plain,
        // Named where channels are merged, and in no list of the 950's types.
        (_, Elem::I4) => !plain && profile.arch == Arch::V2201,
        _ => false,
    };
    if !fits {
        let all = "sums become f32, f16 or bf16, with a factor e4m3, hif8, i8 or u8, on the 910B i4";
        wrong(Code::WrongLayout, format!("{all}; got {elem} of {from}"));
    }
}

/// What an order of sums asks of their types, their number and their place.
fn order(fix: &Fix, wrong: &mut impl FnMut(Code, String)) {
    let Fix { from, to, mode, unit_flag, .. } = fix;
    let elem = fix.elem();
    let reaches = match (mode, to) {
        (FixMode::Rows | FixMode::Columns, FixTo::Gm(_) | FixTo::Ub(..)) => elem != Elem::I4,
        // Sums of 32 bits would stay in fractals of 16 x 16, which are nobody's operand.
        (FixMode::Fractals, FixTo::L1(_)) => elem.bits() < 32,
        (FixMode::Fractals, FixTo::Ub(..)) => elem.bits() == 16,
        (FixMode::Fractals, FixTo::Gm(_)) => true,
        (FixMode::Split, FixTo::Gm(_)) => (from.elem, elem) == (Elem::F32, Elem::F32),
        _ => false,
    };
    if !reaches {
        let place = match to {
            FixTo::Gm(_) => Space::Gm,
            FixTo::L1(_) => Space::L1,
            FixTo::Ub(..) => Space::Ub,
        };
        let rule = match mode {
            FixMode::Rows => "rows go to global memory and UB, not of 4 bits",
            FixMode::Columns => "columns become rows on their way to global memory and UB, not of 4 bits",
            FixMode::Fractals => "fractals go to L1 of less than 32 bits, to UB of 16 bits, and to global memory",
            FixMode::Split => "channels are split of f32 on its way to global memory",
        };
        wrong(Code::WrongLayout, format!("{rule}; got {elem} to {place}"));
    }
    if let Some(width) = mode.width(elem)
        && from.cols % width as u32 != 0
    {
        wrong(
            Code::WrongLayout,
            format!("columns of sums that stay in fractals are a multiple of {width}; got {}", from.cols),
        );
    }
    if *mode == FixMode::Split && *unit_flag != UnitFlag::Off {
        wrong(Code::WrongLayout, "channels are split without a unit flag".into());
    }
    if *mode == FixMode::Columns && matches!(to, FixTo::Ub(_, FixHalf::Split)) {
        wrong(Code::WrongLayout, "columns become rows in one vector half, not in both".into());
    }
    if let (FixMode::Columns, FixTo::Ub(to, _)) = (mode, to)
        && !to.elem.bytes(to.cols as usize).is_multiple_of(PIECE as usize)
    {
        let got = to.elem.bytes(to.cols as usize);
        wrong(Code::Misaligned, format!("columns that become rows of UB have a multiple of {PIECE} bytes; got {got}"));
    }
    if let (FixMode::Columns | FixMode::Fractals | FixMode::Split, FixTo::Gm(to)) = (mode, to)
        && !to.at.is_multiple_of(PIECE)
    {
        let what = if *mode == FixMode::Columns { "a transpose begins" } else { "fractals begin" };
        wrong(Code::Misaligned, format!("{what} in global memory at a multiple of {PIECE} bytes; got {}", to.at));
    }
}
