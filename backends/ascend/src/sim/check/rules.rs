//! Rules of single instructions: bounds, alignment, paths, layouts and limits (E1, E2, E8 to E10).

use super::vectors::vector_rules;
use crate::isa::{Blocks, Body, Elem, Fix, FixTo, Global, Init, Instr, Mmad, Mode, Place, Quant, Tile, Unit, Vector};
use crate::layout::Layout;
use crate::machine::{Arch, Path, Profile, Space};
use crate::sim::global::Gm;
use crate::sim::hazard::{Bytes, Code};
use crate::sim::memory::{alignment, capacity};

/// A rule that an instruction breaks: which, the bytes, the limit and what was given.
pub(crate) type Broken = (Code, Option<Bytes>, String);

/// Largest extent of a product.
const MOST: u32 = 4095;

/// The rules that an instruction breaks. One that breaks none can be run.
pub(crate) fn broken(profile: &Profile, gm: &Gm<'_>, unit: Unit, instr: &Instr) -> Vec<Broken> {
    let mut all = Vec::new();
    let name = |region: u16| gm.name(region).to_string();
    instr.accesses(unit, &mut |access| {
        let (limit, what) = match access.place {
            Place::Gm(region) => (gm.bytes(region), "the operand has"),
            Place::Local(space, _) => (capacity(profile, space) as u64, "kernels may use"),
        };
        let bytes = || Some(Bytes::of(access.place, &access.blocks, &name));
        if access.blocks.count > 0 && access.blocks.end() > limit {
            all.push((
                Code::OutOfBounds,
                bytes(),
                format!("{what} {limit} bytes; byte {} is touched", access.blocks.end() - 1),
            ));
        } else if let Place::Gm(region) = access.place
            && access.write
            && gm.is_only_read(region)
        {
            all.push((Code::OutOfBounds, bytes(), "the launch only reads this operand".into()));
        }
    });
    let mut wrong = |code, detail: String| all.push((code, None, detail));
    tiles(&instr.body, &mut |tile| aligned(profile, tile, &mut wrong));
    paths(profile, unit, instr, &mut wrong);
    match &instr.body {
        Body::Mmad(mmad) => product(profile, mmad, &mut wrong),
        Body::Fix(fix) => transfer_of_sums(fix, &mut wrong),
        Body::Vector(vector) => vector_rules(vector, &mut wrong),
        body => transfer(profile, body, &mut wrong),
    }
    all
}

/// Each tile of an instruction.
fn tiles(body: &Body, f: &mut impl FnMut(&Tile)) {
    match body {
        Body::LoadUb(_, to)
        | Body::LoadNd2Nz(_, to)
        | Body::LoadNz(_, to)
        | Body::LoadNdDma(_, _, to)
        | Body::LoadScale(_, to)
        | Body::LoadL0Gm(_, to)
        | Body::FillL1(to, _) => f(to),
        // Lists are read number by number.
        Body::GatherRows { to, .. } | Body::SimtGather { to, .. } => f(to),
        Body::LoadL0a(a, b, _)
        | Body::LoadL0b(a, b, _)
        | Body::LoadL0aMx(a, b)
        | Body::LoadL0bMx(a, b)
        | Body::LoadBt(a, b)
        | Body::LoadFb(a, b)
        | Body::LoadL1Ub(a, b, _)
        | Body::StoreL1(a, b) => [a, b].into_iter().for_each(f),
        Body::StoreL1Gm(from, _) | Body::StoreGm(from, ..) => f(from),
        Body::Mmad(mmad) => {
            [&mmad.to, &mmad.a, &mmad.b].into_iter().for_each(&mut *f);
            mmad.scales.iter().for_each(|(a, b)| [a, b].into_iter().for_each(&mut *f));
            if let Init::Bias(bias) = &mmad.init {
                f(bias);
            }
        }
        Body::Fix(fix) => {
            f(&fix.from);
            if let Quant::Columns(scales) = &fix.quant {
                f(scales);
            }
            if let FixTo::L1(to) | FixTo::Ub(to, _) = &fix.to {
                f(to);
            }
        }
        Body::Vector(vector) => vector.tiles(&mut |_, tile| f(tile)),
        _ => {}
    }
}

fn aligned(profile: &Profile, tile: &Tile, wrong: &mut impl FnMut(Code, String)) {
    let unit = alignment(profile, tile.space).max(1) as u64;
    if u64::from(tile.at) % unit != 0 {
        wrong(Code::Misaligned, format!("tiles of {} begin at multiples of {unit} bytes; got {}", tile.space, tile.at));
    }
    let Blocks { count, pitch, .. } = tile.blocks();
    if tile.layout == Layout::Nd && tile.space == Space::Ub && count > 1 && !(tile.cols == 1 || pitch % unit == 0) {
        wrong(Code::Misaligned, format!("rows in ub begin at multiples of {unit} bytes; got {pitch} from row to row"));
    }
}

fn paths(profile: &Profile, unit: Unit, instr: &Instr, wrong: &mut impl FnMut(Code, String)) {
    let mut path = |from: Space, to: Space| {
        let path = Path { from, to };
        if !profile.paths.contains(&path) {
            wrong(Code::NoPath, format!("{} has no path {path}", profile.title));
        }
    };
    match &instr.body {
        Body::LoadL0Gm(_, to) => path(Space::Gm, to.space),
        Body::StoreL1Gm(..) => path(Space::L1, Space::Gm),
        Body::LoadL0aMx(..) => path(Space::L1, Space::L0aMx),
        Body::LoadL0bMx(..) => path(Space::L1, Space::L0bMx),
        Body::LoadL1Ub(..) => path(Space::L1, Space::Ub),
        Body::StoreL1(..) => path(Space::Ub, Space::L1),
        Body::Fix(Fix { to: FixTo::Ub(..), .. }) => path(Space::L0c, Space::Ub),
        _ => {}
    }
    let new = match &instr.body {
        Body::LoadNdDma(..) | Body::LoadScale(..) | Body::SimtGather { .. } | Body::Lock(..) | Body::Unlock(..) => true,
        Body::Mmad(mmad) => mmad.scales.is_some(),
        Body::Vector(Vector::Hist(..) | Vector::Fused(_) | Vector::DequantMx(..)) => true,
        Body::CrossSet(_, mode, _) | Body::CrossWait(_, mode, _) => matches!(mode, Mode::Half(_)),
        _ => false,
    };
    if new && profile.arch == Arch::V2201 {
        wrong(Code::NoPath, format!("{} is of the generation after {}", instr.name(), profile.title));
    }
    let transposed_a = matches!(&instr.body, Body::LoadL0a(_, _, true));
    if transposed_a && profile.arch == Arch::V3510 {
        wrong(Code::NoPath, format!("{} loads left operands without transposing", profile.title));
    }
    if let Some(pipe) = instr.pipe()
        && !unit.pipes().contains(&pipe)
    {
        wrong(Code::NoPath, format!("{unit} has no engine {pipe}"));
    }
}

/// What a layout must be.
fn layout(tile: &Tile, want: Layout, what: &str, wrong: &mut impl FnMut(Code, String)) {
    if tile.layout != want {
        wrong(Code::WrongLayout, format!("{what} is taken as {want:?}; got {:?}", tile.layout));
    }
}

fn space(tile: &Tile, want: Space, what: &str, wrong: &mut impl FnMut(Code, String)) {
    if tile.space != want {
        wrong(Code::WrongLayout, format!("{what} is in {want}; got {}", tile.space));
    }
}

fn same(what: &str, from: (u32, u32, Elem), to: (u32, u32, Elem), wrong: &mut impl FnMut(Code, String)) {
    if from != to {
        let show = |(rows, cols, elem): (u32, u32, Elem)| format!("{rows} x {cols} of {elem}");
        wrong(
            Code::WrongLayout,
            format!("{what} has the shape and type of what it is from, {}; got {}", show(from), show(to)),
        );
    }
}

fn sizes(tile: &Tile) -> (u32, u32, Elem) {
    (tile.rows, tile.cols, tile.elem)
}

fn transposed(tile: &Tile) -> (u32, u32, Elem) {
    (tile.cols, tile.rows, tile.elem)
}

fn gm_sizes(global: &Global) -> (u32, u32, Elem) {
    (global.rows, global.cols, global.elem)
}

/// Layout that a profile has in a memory of the cube.
fn of(profile: &Profile, space: Space) -> Layout {
    profile.layouts.get(&space).copied().unwrap_or(Layout::Nd)
}

fn transfer(profile: &Profile, body: &Body, wrong: &mut impl FnMut(Code, String)) {
    match body {
        Body::LoadUb(from, to) | Body::LoadNdDma(from, _, to) => {
            space(to, Space::Ub, "the tile", wrong);
            layout(to, Layout::Nd, "the tile", wrong);
            same("the tile", gm_sizes(from), sizes(to), wrong);
        }
        Body::LoadNd2Nz(from, to) | Body::LoadNz(from, to) => {
            space(to, Space::L1, "the tile", wrong);
            layout(to, of(profile, Space::L1), "L1", wrong);
            same("the tile", gm_sizes(from), sizes(to), wrong);
        }
        Body::LoadScale(from, to) => {
            space(to, Space::L1, "the tile", wrong);
            same("the tile", gm_sizes(from), sizes(to), wrong);
        }
        Body::GatherRows { from, index, to } | Body::SimtGather { from, index, to } => {
            space(to, Space::Ub, "the tile", wrong);
            layout(to, Layout::Nd, "the tile", wrong);
            let rows = index.count() as u32;
            same("the tile", (rows, from.cols, from.elem), sizes(to), wrong);
            let gaps = index.blocks().count > 1 && matches!(body, Body::GatherRows { .. });
            if index.elem != Elem::I32 || gaps {
                wrong(Code::WrongLayout, format!("a list of rows is i32 without gaps; got {}", index.elem));
            }
            if !index.at.is_multiple_of(4) {
                wrong(Code::Misaligned, format!("a list begins at a multiple of 4 bytes; got {}", index.at));
            }
        }
        Body::LoadL0a(from, to, turned) => {
            space(from, Space::L1, "the operand", wrong);
            space(to, Space::L0a, "the tile", wrong);
            layout(from, of(profile, Space::L1), "the operand in L1", wrong);
            layout(to, of(profile, Space::L0a), "L0A", wrong);
            same("the tile", if *turned { transposed(from) } else { sizes(from) }, sizes(to), wrong);
        }
        Body::LoadL0b(from, to, turned) => {
            space(from, Space::L1, "the operand", wrong);
            space(to, Space::L0b, "the tile", wrong);
            layout(from, of(profile, Space::L1), "the operand in L1", wrong);
            layout(to, of(profile, Space::L0b), "L0B", wrong);
            same("the tile", if *turned { transposed(from) } else { sizes(from) }, sizes(to), wrong);
            if !turned && from.elem.bits() == 4 {
                wrong(Code::WrongLayout, "4-bit elements are not transposed on the way to L0B".into());
            }
        }
        Body::LoadL0aMx(from, to) | Body::LoadL0bMx(from, to) => {
            space(from, Space::L1, "the scales", wrong);
            same("the tile", sizes(from), sizes(to), wrong);
            if from.elem != Elem::E8M0 {
                wrong(Code::WrongLayout, format!("MX scales are e8m0; got {}", from.elem));
            }
        }
        Body::LoadBt(from, to) | Body::LoadFb(from, to) => {
            space(from, Space::L1, "the operand", wrong);
            same("the tile", sizes(from), sizes(to), wrong);
        }
        Body::LoadL1Ub(from, to, _) => {
            space(to, Space::Ub, "the tile", wrong);
            same("the tile", sizes(from), sizes(to), wrong);
        }
        Body::StoreL1(from, to) => {
            space(from, Space::Ub, "the tile", wrong);
            space(to, Space::L1, "its place", wrong);
            same("L1", sizes(from), sizes(to), wrong);
        }
        Body::StoreGm(from, to, atomic) => {
            space(from, Space::Ub, "the tile", wrong);
            layout(from, Layout::Nd, "the tile", wrong);
            same("global memory", sizes(from), gm_sizes(to), wrong);
            if *atomic && !matches!(from.elem, Elem::F32 | Elem::I32 | Elem::F16 | Elem::BF16) {
                wrong(Code::WrongLayout, format!("memory adds f32, i32, f16 and bf16; got {}", from.elem));
            }
        }
        Body::LoadL0Gm(from, to) => same("the tile", gm_sizes(from), sizes(to), wrong),
        Body::StoreL1Gm(from, to) => same("global memory", sizes(from), gm_sizes(to), wrong),
        _ => {}
    }
}

fn product(profile: &Profile, mmad: &Mmad, wrong: &mut impl FnMut(Code, String)) {
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
    if kind.is_none() || a.elem != b.elem || to.elem != sums {
        let got = format!("{} by {} to {}", a.elem, b.elem, to.elem);
        wrong(
            Code::WrongLayout,
            format!("{} multiplies pairs of its own types to f32, or i8 to i32; got {got}", profile.title),
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
        if !matches!(a.elem, Elem::E2M1 | Elem::E4M3) {
            wrong(Code::WrongLayout, format!("MX operands are e4m3 or e2m1; got {}", a.elem));
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

fn transfer_of_sums(fix: &Fix, wrong: &mut impl FnMut(Code, String)) {
    let Fix { from, to, quant, atomic, .. } = fix;
    space(from, Space::L0c, "the sums", wrong);
    layout(from, Layout::Nz, "the sums", wrong);
    let (rows, cols, elem) = match to {
        FixTo::Gm(to) => gm_sizes(to),
        FixTo::L1(to) | FixTo::Ub(to, _) => sizes(to),
    };
    if (rows, cols) != (from.rows, from.cols) {
        wrong(
            Code::WrongLayout,
            format!("sums go to as many places, {} x {}; got {rows} x {cols}", from.rows, from.cols),
        );
    }
    let plain = matches!(quant, Quant::None);
    let fits = match (from.elem, elem) {
        (Elem::F32, Elem::F32 | Elem::F16 | Elem::BF16) => true,
        (Elem::I32, Elem::I32) => plain,
        (Elem::I32, Elem::F16 | Elem::BF16 | Elem::F32) | (_, Elem::I8) | (Elem::F32, Elem::E4M3) => !plain,
        _ => false,
    };
    if !fits {
        wrong(
            Code::WrongLayout,
            format!("sums of {} become f32, f16 or bf16, with a factor e4m3 or i8; got {elem}", from.elem),
        );
    }
    if let Quant::Columns(scales) = quant {
        space(scales, Space::Fb, "factors", wrong);
        if scales.count() as u32 != from.cols || scales.elem != Elem::F32 {
            wrong(Code::WrongLayout, format!("there is an f32 factor a column, {}; got {}", from.cols, scales.count()));
        }
    }
    match to {
        FixTo::L1(to) => layout(to, Layout::Nz, "L1", wrong),
        FixTo::Ub(to, _) => layout(to, Layout::Nd, "UB", wrong),
        FixTo::Gm(_) => {}
    }
    if *atomic && !matches!(to, FixTo::Gm(_)) {
        wrong(Code::WrongLayout, "only global memory adds".into());
    }
}
