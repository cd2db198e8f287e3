//! Orders in which FixPipe writes sums: which types, places and numbers of them each takes (E1, E2, E5, E8, E9).

use crate::cube::{operands, take};
use crate::rig::*;
use anychip_ascend::isa::{
    Body, Elem, Fix, FixHalf, FixMode, FixTo, Global, Init, Mmad, Mode, Pipe, Quant, Tile, UnitFlag,
};
use anychip_ascend::kernel::Context;
use anychip_ascend::layout::Layout;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::{Code, Report};

/// Sums of `m x n`, of which one more transfer than that of [`take`] is made.
fn sums(rig: &Rig, [m, n]: [u32; 2], fix: impl Fn(Tile) -> Fix + Sync) -> Report {
    rig.cube(|cx| {
        let [to, a, b] = operands(cx, Elem::F16, [m, 16, n]);
        cx.mmad(to, a, b, Init::Zero);
        take(cx, to);
        cx.push(Body::Fix(fix(to)));
    })
}

fn gm(at: u64, elem: Elem, rows: u32, cols: u32) -> FixTo {
    FixTo::Gm(Global::new(STATE, (1 << 16) + at, elem, rows, cols))
}

fn ub_rows(elem: Elem, rows: u32, cols: u32) -> Tile {
    Tile::rows_of(Space::Ub, 0, elem, rows, cols)
}

/// In an order, times a quarter where that is to be.
fn as_is(mode: FixMode, quant: Quant, to: FixTo) -> impl Fn(Tile) -> Fix {
    move |from| Fix { mode, quant, ..Fix::new(from, to) }
}

const QUARTER: Quant = Quant::Scale(0.25);

#[test]
fn e8_columns_become_rows_on_the_950() {
    let transpose = as_is(FixMode::Columns, Quant::None, gm(0, Elem::F32, 32, 16));
    let hazard = only(&sums(&OLD, [16, 32], &transpose), Code::NoPath);
    assert!(hazard.detail.contains("NZ2DN is of the generation after"), "{hazard}");
    clean(&sums(&ONE, [16, 32], transpose));
    clean(&sums(&OLD, [16, 32], as_is(FixMode::Rows, Quant::None, gm(0, Elem::F32, 16, 32))));
}

#[test]
fn e8_types_that_only_the_950_gives() {
    for elem in [Elem::HiF8, Elem::E4M3] {
        let fix = as_is(FixMode::Rows, QUARTER, gm(0, elem, 16, 32));
        only(&sums(&OLD, [16, 32], &fix), Code::NoPath);
        clean(&sums(&ONE, [16, 32], fix));
    }
    // These want a factor, and e5m2 there is none of.
    only(&sums(&ONE, [16, 32], as_is(FixMode::Rows, Quant::None, gm(0, Elem::HiF8, 16, 32))), Code::WrongLayout);
    only(&sums(&ONE, [16, 32], as_is(FixMode::Rows, QUARTER, gm(0, Elem::E5M2, 16, 32))), Code::WrongLayout);
}

#[test]
fn e9_the_places_of_a_transpose() {
    let fix = |rows, cols| as_is(FixMode::Columns, Quant::None, gm(0, Elem::F32, rows, cols));
    let hazard = only(&sums(&ONE, [16, 32], fix(16, 32)), Code::WrongLayout);
    assert!(hazard.detail.contains("16 x 32 sums go to as many places, 32 x 16; got 16 x 32"), "{hazard}");
    clean(&sums(&ONE, [16, 32], fix(32, 16)));
    let l1 = FixTo::L1(Tile::fractals(Space::L1, 1 << 16, Elem::F16, Layout::Nz, 32, 16));
    only(&sums(&ONE, [16, 32], as_is(FixMode::Columns, Quant::None, l1)), Code::WrongLayout);
    // One vector half takes a transpose, not both.
    let ub = |half| as_is(FixMode::Columns, Quant::None, FixTo::Ub(ub_rows(Elem::F32, 32, 16), half));
    let hazard = only(&sums(&ONE, [16, 32], ub(FixHalf::Split)), Code::WrongLayout);
    assert!(hazard.detail.contains("in one vector half"), "{hazard}");
    clean(&sums(&ONE, [16, 32], ub(FixHalf::Second)));
}

#[test]
fn e2_the_rows_of_a_transpose() {
    let ub = |rows| as_is(FixMode::Columns, Quant::None, FixTo::Ub(ub_rows(Elem::F16, 32, rows), FixHalf::First));
    let hazard = only(&sums(&ONE, [24, 32], ub(24)), Code::Misaligned);
    assert!(hazard.detail.contains("have a multiple of 32 bytes; got 48"), "{hazard}");
    clean(&sums(&ONE, [32, 32], ub(32)));
    let at = |at| as_is(FixMode::Columns, Quant::None, gm(at, Elem::F16, 32, 24));
    let hazard = only(&sums(&ONE, [24, 32], at(16)), Code::Misaligned);
    assert!(hazard.detail.contains("a transpose begins in global memory at a multiple of 32 bytes"), "{hazard}");
    clean(&sums(&ONE, [24, 32], at(32)));
}

/// The last rows of the transpose, of which there are more than of the sums.
#[test]
fn e1_a_transpose_has_more_rows() {
    let fix = |rows: u64| {
        let to = Global::new(STATE, BYTES as u64 - rows * 2048, Elem::F32, 32, 16).pitched(2048);
        as_is(FixMode::Columns, Quant::None, FixTo::Gm(to))
    };
    let hazard = only(&sums(&ONE, [16, 32], fix(31)), Code::OutOfBounds);
    line_has(&hazard.at, "Body::Fix");
    clean(&sums(&ONE, [16, 32], fix(32)));
}

/// i8 takes two fractals of sums, i4 four: what is left over would stay narrow.
#[test]
fn e9_channels_that_do_not_merge() {
    for (rig, elem, few, many) in [(ONE, Elem::I8, 48, 64), (ONE, Elem::HiF8, 16, 32), (OLD, Elem::I4, 96, 128)] {
        let fix = |n| {
            let to = Tile::fractals(Space::L1, 1 << 16, elem, Layout::Nz, 16, n);
            as_is(FixMode::Fractals, QUARTER, FixTo::L1(to))
        };
        let hazard = only(&sums(&rig, [16, few], fix(few)), Code::WrongLayout);
        let rule = format!("stay in fractals are a multiple of {}; got {few}", elem.c0());
        assert!(hazard.detail.contains(&rule), "{hazard}");
        clean(&sums(&rig, [16, many], fix(many)));
    }
    // In rows there is nothing to merge.
    clean(&sums(&ONE, [16, 48], as_is(FixMode::Rows, QUARTER, gm(0, Elem::I8, 16, 48))));
}

#[test]
fn e9_integers_of_4_bits_are_the_910bs() {
    let to = FixTo::L1(Tile::fractals(Space::L1, 1 << 16, Elem::I4, Layout::Nz, 16, 64));
    only(&sums(&ONE, [16, 64], as_is(FixMode::Fractals, QUARTER, to)), Code::WrongLayout);
    only(&sums(&OLD, [16, 64], as_is(FixMode::Rows, QUARTER, gm(0, Elem::I4, 16, 64))), Code::WrongLayout);
    clean(&sums(&OLD, [16, 64], as_is(FixMode::Fractals, QUARTER, to)));
}

/// Fractals of f32 are 16 x 16 unless channels are split, which is done on the way to global memory alone.
#[test]
fn e9_where_fractals_go() {
    let l1 = |elem| FixTo::L1(Tile::fractals(Space::L1, 1 << 16, elem, Layout::Nz, 16, 32));
    let ub = |elem| FixTo::Ub(Tile::fractals(Space::Ub, 0, elem, Layout::Nz, 16, 32), FixHalf::First);
    let run = |mode, quant, to| sums(&ONE, [16, 32], as_is(mode, quant, to));
    only(&run(FixMode::Fractals, Quant::None, l1(Elem::F32)), Code::WrongLayout);
    clean(&run(FixMode::Fractals, Quant::None, l1(Elem::BF16)));
    only(&run(FixMode::Fractals, QUARTER, ub(Elem::I8)), Code::WrongLayout);
    clean(&run(FixMode::Fractals, Quant::None, ub(Elem::F16)));
    only(&run(FixMode::Rows, Quant::None, ub(Elem::F16)), Code::WrongLayout);
    only(&run(FixMode::Rows, Quant::None, l1(Elem::BF16)), Code::WrongLayout);
    clean(&run(FixMode::Fractals, Quant::None, gm(0, Elem::F32, 2, 16 * 16)));
    let hazard = only(&run(FixMode::Split, Quant::None, l1(Elem::F32)), Code::WrongLayout);
    assert!(hazard.detail.contains("split of f32 on its way to global memory; got f32 to l1"), "{hazard}");
    only(&run(FixMode::Split, Quant::None, gm(0, Elem::F16, 2, 16 * 16)), Code::WrongLayout);
    clean(&run(FixMode::Split, Quant::None, gm(0, Elem::F32, 4, 16 * 8)));
    only(&run(FixMode::Split, Quant::None, gm(0, Elem::F32, 2, 16 * 16)), Code::WrongLayout);
}

#[test]
fn e9_columns_of_split_channels() {
    let fix = |n: u32| as_is(FixMode::Split, Quant::None, gm(0, Elem::F32, n / 8, 16 * 8));
    only(&sums(&ONE, [16, 28], fix(28)), Code::WrongLayout);
    clean(&sums(&ONE, [16, 24], fix(24)));
    clean(&sums(&OLD, [16, 24], fix(24)));
}

#[test]
fn e2_fractals_in_global_memory() {
    let fix = |at| as_is(FixMode::Split, Quant::None, gm(at, Elem::F32, 4, 16 * 8));
    let hazard = only(&sums(&ONE, [16, 32], fix(8)), Code::Misaligned);
    assert!(hazard.detail.contains("fractals begin in global memory at a multiple of 32 bytes"), "{hazard}");
    clean(&sums(&ONE, [16, 32], fix(64)));
}

/// A unit flag hands on fractals as they are.
#[test]
fn e9_channels_are_split_without_a_unit_flag() {
    let run = |mode, cols| {
        ONE.cube(move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 32]);
            let unit_flag = UnitFlag::Last;
            cx.push(Body::Mmad(Mmad { to, a, b, scales: None, init: Init::Zero, unit_flag }));
            let gm = Global::new(STATE, 0, Elem::F32, 16 * 32 / cols, cols);
            cx.push(Body::Fix(Fix { mode, unit_flag, ..Fix::new(to, FixTo::Gm(gm)) }));
        })
    };
    only(&run(FixMode::Split, 16 * 8), Code::WrongLayout);
    clean(&run(FixMode::Rows, 32));
}

/// Vectors take up a transpose that nobody told them of.
#[test]
fn e5_a_transpose_without_a_flag() {
    let run = |signal: bool| {
        let cube = move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 32]);
            cx.mmad(to, a, b, Init::Zero);
            take(cx, to);
            cx.fix_as(to, FixTo::Ub(ub_rows(Elem::F32, 32, 16), FixHalf::First), FixMode::Columns);
            if signal {
                cx.cross_set(Pipe::Fix, Mode::Half(0), 0);
            }
        };
        let vector = move |cx: &mut Context<'_>| {
            if cx.half() == 0 {
                let tile = cx.ub(Elem::F32, 32, 16);
                if signal {
                    cx.cross_wait(Pipe::V, Mode::Half(0), 0);
                }
                cx.bcast(tile, 1.0);
            }
        };
        ONE.run(cube, vector)
    };
    let hazard = only(&run(false), Code::Race);
    touches(&hazard, "ub", [0, 2048]);
    clean(&run(true));
}

/// Fractals of global memory are asked for by their columns of fractals.
#[test]
fn e9_fractals_of_another_width() {
    let kernel = |from: Global| {
        move |cx: &mut Context<'_>| {
            let to = cx.cube_tile(Space::L1, Elem::F16, 16, 32);
            cx.push(Body::LoadNz(from, to));
        }
    };
    only(&ONE.cube(kernel(Global::new(X, 0, Elem::F16, 16, 32))), Code::WrongLayout);
    clean(&ONE.cube(kernel(Global::fractals(X, 0, Elem::F16, 16, 32))));
}
