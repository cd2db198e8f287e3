//! Rules of single instructions: bounds, alignment, paths, layouts and limits (E1, E2, E8 to E10).

use super::cube::{product, transfer_of_sums};
use super::vectors::vector_rules;
use crate::isa::{
    Access, Blocks, Body, Elem, Fix, FixMode, FixTo, Global, Init, Instr, Mode, Place, Quant, Tile, Unit, Vector,
};
use crate::layout::Layout;
use crate::machine::{Arch, Path, Profile, Space};
use crate::sim::global::Gm;
use crate::sim::hazard::{Bytes, Code};
use crate::sim::memory::{alignment, capacity};

/// A rule that an instruction breaks: which, the bytes, the limit and what was given.
pub(crate) type Broken = (Code, Option<Bytes>, String);

/// The rules that an instruction breaks. One that breaks none can be run.
pub(crate) fn broken(profile: &Profile, gm: &Gm<'_>, unit: Unit, instr: &Instr) -> Vec<Broken> {
    let mut all = Vec::new();
    let name = |region: u16| gm.name(region).to_string();
    let scalar = matches!(instr.body, Body::MailboxLoad(..) | Body::MailboxStore(..));
    let mut within = |access: Access| {
        let (limit, what) = match access.place {
            Place::Gm(region) => (gm.bytes(region), "the operand has"),
            // What a chip has not is no question of bounds.
            Place::Local(space, _) if capacity(profile, space) == 0 => {
                return all.push((Code::NoPath, None, format!("{} has no memory {space}", profile.title)));
            }
            Place::Local(Space::Mailbox, _) if !scalar => {
                let detail = format!("{} does not reach the mailbox", instr.name());
                return all.push((Code::WrongLayout, None, detail));
            }
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
    };
    instr.accesses(unit, &mut within);
    if let Body::Prefetch(from) = &instr.body {
        within(Access { place: Place::Gm(from.region), blocks: from.blocks(), write: false, atomic: false });
    }
    let mut wrong = |code, detail: String| all.push((code, None, detail));
    tiles(&instr.body, &mut |tile| aligned(profile, tile, &mut wrong));
    paths(profile, unit, instr, &mut wrong);
    match &instr.body {
        Body::Mmad(mmad) => product(profile, mmad, &mut wrong),
        Body::Fix(fix) => transfer_of_sums(profile, fix, &mut wrong),
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
        | Body::FillL1(to, _)
        | Body::MailboxLoad(to, _)
        | Body::MailboxStore(to, _) => f(to),
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
    let name = || Some(instr.name().to_string());
    let new = match &instr.body {
        Body::LoadNdDma(..) | Body::LoadScale(..) | Body::SimtGather { .. } | Body::Lock(..) | Body::Unlock(..) => {
            name()
        }
        Body::Mmad(mmad) => mmad.scales.and_then(|_| name()),
        Body::Fix(fix) => match (fix.mode, fix.elem()) {
            (FixMode::Columns, _) => Some("NZ2DN".into()),
            (_, elem @ (Elem::HiF8 | Elem::E4M3)) => Some(format!("{elem} of FixPipe")),
            _ => None,
        },
        Body::Vector(Vector::Hist(..) | Vector::Fused(_) | Vector::DequantMx(..)) => name(),
        Body::Vector(Vector::Cast(to, from, _)) => {
            let new = [to.elem, from.elem].into_iter().find(|elem| matches!(elem, Elem::HiF8 | Elem::E5M2));
            new.map(|elem| format!("a conversion of {elem}"))
        }
        Body::CrossSet(_, Mode::Half(_), _) | Body::CrossWait(_, Mode::Half(_), _) => name(),
        _ => None,
    };
    if let Some(what) = new.filter(|_| profile.arch == Arch::V2201) {
        wrong(Code::NoPath, format!("{what} is of the generation after {}", profile.title));
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
pub(super) fn layout(tile: &Tile, want: Layout, what: &str, wrong: &mut impl FnMut(Code, String)) {
    if tile.layout != want {
        wrong(Code::WrongLayout, format!("{what} is taken as {want:?}; got {:?}", tile.layout));
    }
}

pub(super) fn space(tile: &Tile, want: Space, what: &str, wrong: &mut impl FnMut(Code, String)) {
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

pub(super) fn sizes(tile: &Tile) -> (u32, u32, Elem) {
    (tile.rows, tile.cols, tile.elem)
}

fn transposed(tile: &Tile) -> (u32, u32, Elem) {
    (tile.cols, tile.rows, tile.elem)
}

pub(super) fn gm_sizes(global: &Global) -> (u32, u32, Elem) {
    (global.rows, global.cols, global.elem)
}

/// Layout that a profile has in a memory of the cube.
pub(super) fn of(profile: &Profile, space: Space) -> Layout {
    profile.layouts.get(&space).copied().unwrap_or(Layout::Nd)
}

fn transfer(profile: &Profile, body: &Body, wrong: &mut impl FnMut(Code, String)) {
    match body {
        Body::LoadUb(from, to) | Body::LoadNdDma(from, _, to) => {
            space(to, Space::Ub, "the tile", wrong);
            layout(to, Layout::Nd, "the tile", wrong);
            same("the tile", gm_sizes(from), sizes(to), wrong);
            if matches!(body, Body::LoadNdDma(..)) && to.elem.bits() < 8 {
                wrong(
                    Code::WrongLayout,
                    format!("elements that are loaded one by one are whole bytes; got {}", to.elem),
                );
            }
        }
        Body::LoadNd2Nz(from, to) => {
            space(to, Space::L1, "the tile", wrong);
            layout(to, of(profile, Space::L1), "L1", wrong);
            same("the tile", gm_sizes(from), sizes(to), wrong);
        }
        Body::LoadNz(from, to) => {
            space(to, Space::L1, "the tile", wrong);
            layout(to, of(profile, Space::L1), "L1", wrong);
            let there = Global::fractals(from.region, from.at, to.elem, to.rows, to.cols);
            same("fractals in global memory", gm_sizes(&there), gm_sizes(from), wrong);
            if to.elem == Elem::E8M0 {
                wrong(Code::WrongLayout, "MX scales have fractals and a load of their own".into());
            }
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
            if *turned && from.elem.bits() == 4 {
                wrong(Code::WrongLayout, "4-bit elements are not transposed on the way to L0A".into());
            }
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
        Body::MailboxLoad(word, _) | Body::MailboxStore(word, _) => {
            space(word, Space::Mailbox, "the word", wrong);
            if word.count() != 1 || word.elem.bits() != 32 {
                let got = format!("{} of {}", word.count(), word.elem);
                wrong(
                    Code::WrongLayout,
                    format!("the mailbox is loaded and stored word by word of 32 bits; got {got}"),
                );
            }
        }
        Body::ScalarLoadUb(tile, _) | Body::ScalarStoreUb(tile, _) => space(tile, Space::Ub, "the tile", wrong),
        Body::FillL1(tile, _) => space(tile, Space::L1, "the tile", wrong),
        Body::LoadL0Gm(from, to) => {
            if !matches!(to.space, Space::L0a | Space::L0b) {
                wrong(Code::WrongLayout, format!("the tile is in l0a or l0b; got {}", to.space));
            }
            layout(to, of(profile, to.space), "the operand", wrong);
            same("the tile", gm_sizes(from), sizes(to), wrong);
            one_piece(from, to, wrong);
        }
        Body::StoreL1Gm(from, to) => same("global memory", sizes(from), gm_sizes(to), wrong),
        _ => {}
    }
}

/// Fractals that are taken as they lie: all of them are whole, and nothing is between them on either side.
fn one_piece(from: &Global, to: &Tile, wrong: &mut impl FnMut(Code, String)) {
    let c0 = to.elem.c0() as u32;
    let [height, width] = if to.layout == Layout::Zn { [c0, 16] } else { [16, c0] };
    let whole = to.rows.is_multiple_of(height) && to.cols.is_multiple_of(width);
    if !whole || from.blocks().count > 1 || to.blocks().count > 1 {
        let got = format!("{} x {} in {} and {} pieces", to.rows, to.cols, from.blocks().count, to.blocks().count);
        wrong(
            Code::WrongLayout,
            format!("fractals come whole and in one piece, of {height} x {width} of {}; got {got}", to.elem),
        );
    }
}
