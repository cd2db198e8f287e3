//! The cube: paths, layouts and limits, products in a row, unit flags (E8 to E12).

use crate::rig::*;
use anychip_ascend::isa::{Body, Elem, Fix, FixHalf, FixTo, Global, Init, Mmad, Pipe, Tile, UnitFlag};
use anychip_ascend::kernel::Context;
use anychip_ascend::layout::Layout;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::Code;

/// Operands that are ready in L0A and L0B, and room for sums.
pub(crate) fn operands(cx: &mut Context<'_>, elem: Elem, [m, k, n]: [u32; 3]) -> [Tile; 3] {
    let sums = if elem == Elem::I8 { Elem::I32 } else { Elem::F32 };
    let (a1, b1) = (cx.cube_tile(Space::L1, elem, m, k), cx.cube_tile(Space::L1, elem, n, k));
    let (a, b) = (cx.cube_tile(Space::L0a, elem, m, k), cx.cube_tile(Space::L0b, elem, k, n));
    let to = cx.cube_tile(Space::L0c, sums, m, n);
    cx.push(Body::FillL1(a1, 0x3C00_3C00));
    cx.push(Body::FillL1(b1, 0x3C00_3C00));
    cx.load_l0a(a1, a);
    cx.load_l0b_transposed(b1, b);
    let ready = cx.flag(Pipe::Mte1, Pipe::M);
    cx.set_flag(Pipe::Mte1, Pipe::M, ready);
    cx.wait_flag(Pipe::Mte1, Pipe::M, ready);
    [to, a, b]
}

/// Sums are ready: takes them out.
pub(crate) fn take(cx: &mut Context<'_>, sums: Tile) {
    let summed = cx.flag(Pipe::M, Pipe::Fix);
    cx.set_flag(Pipe::M, Pipe::Fix, summed);
    cx.wait_flag(Pipe::M, Pipe::Fix, summed);
    cx.fix(sums, FixTo::Gm(Global::new(STATE, 0, sums.elem, sums.rows, sums.cols)));
}

/// Sums go to UB at once, which the 910B cannot: there they go through memory.
#[test]
fn e8_a_path_of_the_950_on_a_910b() {
    let kernel = |direct: bool| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 16]);
            cx.mmad(to, a, b, Init::Zero);
            take(cx, to);
            if direct {
                cx.fix(to, FixTo::Ub(Tile::rows_of(Space::Ub, 0, Elem::F32, 16, 16), FixHalf::First));
            }
        }
    };
    let hazard = only(&OLD.cube(kernel(true)), Code::NoPath);
    line_has(&hazard.at, "FixTo::Ub");
    assert!(hazard.detail.contains("910B1") && hazard.detail.ends_with("has no path l0c-ub"), "{hazard}");
    clean(&OLD.cube(kernel(false)));
    clean(&ONE.cube(kernel(true)));
}

/// A tile goes from L1 back to memory, which the 950 cannot any more.
#[test]
fn e8_a_path_of_the_910b_on_a_950() {
    let kernel = |cx: &mut Context<'_>| {
        let tile = cx.cube_tile(Space::L1, Elem::F16, 16, 16);
        cx.push(Body::FillL1(tile, 0));
        cx.barrier_all();
        cx.push(Body::StoreL1Gm(tile, Global::new(STATE, 0, Elem::F16, 16, 16)));
    };
    let hazard = only(&ONE.cube(kernel), Code::NoPath);
    line_has(&hazard.at, "Body::StoreL1Gm");
    assert!(hazard.detail.contains("l1-gm"), "{hazard}");
    clean(&OLD.cube(kernel));
}

/// Vectors in the cube half never run, and say so.
#[test]
fn e8_an_engine_of_the_other_half() {
    let hazard = only(&ONE.cube(|cx| cx.bcast(ub(0, 64), 0.0)), Code::NoPath);
    line_has(&hazard.at, "cx.bcast");
    assert!(hazard.detail.contains("AIC has no engine VECTOR"), "{hazard}");
    clean(&ONE.vector(|cx| cx.bcast(ub(0, 64), 0.0)));
}

/// L0A as the 910B had it.
#[test]
fn e9_a_left_operand_in_the_layout_of_the_other_generation() {
    let kernel = |layout: Layout| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [32, 32, 48]);
            cx.mmad(to, a, b, Init::Zero);
            cx.barrier(Pipe::M);
            cx.mmad(to, Tile::fractals(Space::L0a, a.at, Elem::F16, layout, 32, 32), b, Init::Accumulate);
            take(cx, to);
        }
    };
    let hazard = only(&ONE.cube(kernel(Layout::Zz)), Code::WrongLayout);
    line_has(&hazard.at, "cx.mmad");
    assert!(hazard.detail.contains("taken as Nz; got Zz"), "{hazard}");
    clean(&ONE.cube(kernel(Layout::Nz)));
    only(&OLD.cube(kernel(Layout::Nz)), Code::WrongLayout);
    clean(&OLD.cube(kernel(Layout::Zz)));
}

/// Fractals that lie in global memory go to the 910B's cube as they are; parts of some do not.
#[test]
fn e9_fractals_come_whole() {
    let direct = |rows: u32, space: Space| {
        move |cx: &mut Context<'_>| {
            let to = cx.cube_tile(space, Elem::F16, rows, 32);
            cx.push(Body::LoadL0Gm(Global::new(X, 0, Elem::F16, rows, 32), to));
        }
    };
    let hazard = only(&OLD.cube(direct(24, Space::L0a)), Code::WrongLayout);
    line_has(&hazard.at, "Body::LoadL0Gm");
    assert!(hazard.detail.contains("fractals come whole and in one piece, of 16 x 16 of f16; got 24 x 32"), "{hazard}");
    only(&OLD.cube(direct(32, Space::L1)), Code::WrongLayout);
    clean(&OLD.cube(direct(32, Space::L0a)));
    clean(&OLD.cube(direct(32, Space::L0b)));
    only(&ONE.cube(direct(32, Space::L0a)), Code::NoPath);
}

/// What was put into fractals and comes back as they lie is the same; taken for rows it would be put into fractals twice.
#[test]
fn fractals_are_taken_as_they_lie() {
    let state = OLD.left(
        |cx| {
            let [a, b] = [(); 2].map(|()| cx.cube_tile(Space::L1, Elem::F16, 32, 64));
            let rows = Global::new(X, 0, Elem::F16, 32, 64);
            cx.load_nd2nz(rows, a);
            cx.barrier_all();
            let piece = Tile::dense(Space::L1, a.at, Elem::F16, 32, 64);
            cx.push(Body::StoreL1Gm(piece, Global::new(STATE, 8192, Elem::F16, 32, 64)));
            cx.barrier_all();
            cx.push(Body::LoadNz(Global::fractals(STATE, 8192, Elem::F16, 32, 64), b));
            cx.barrier_all();
            cx.push(Body::StoreL1Gm(b, Global::new(STATE, 0, Elem::F16, 32, 64)));
        },
        |_| (),
    );
    let x = numbers();
    assert!(state[..4096] == x[..4096], "rows are not what they were");
    assert!(state[8192..8192 + 4096] != x[..4096], "fractals are rows?");
}

#[test]
fn e9_operands_of_two_types() {
    let kernel = |elem: Elem| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 160]);
            cx.mmad(to, a, b, Init::Zero);
            cx.mmad(to, a.of(elem), b, Init::Accumulate);
            take(cx, to);
        }
    };
    let hazard = only(&ONE.cube(kernel(Elem::BF16)), Code::WrongLayout);
    assert!(hazard.detail.contains("got bf16 by f16"), "{hazard}");
    clean(&ONE.cube(kernel(Elem::F16)));
}

#[test]
fn e10_a_product_is_too_deep() {
    let kernel = |k: u32| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::I8, [16, 4096, 16]);
            cx.mmad(to, Tile { cols: 2048, ..a }, Tile { rows: 2048, ..b }, Init::Zero);
            cx.barrier(Pipe::M);
            cx.mmad(to, Tile { cols: k, ..a }, Tile { rows: k, ..b }, Init::Accumulate);
            take(cx, to);
        }
    };
    let hazard = only(&ONE.cube(kernel(4096)), Code::ProductLimit);
    line_has(&hazard.at, "cx.mmad");
    assert!(hazard.detail.contains("k is 1 to 4095; got 4096"), "{hazard}");
    clean(&ONE.cube(kernel(4095)));
    only(&ONE.cube(kernel(0)), Code::ProductLimit);
}

/// Sums of no columns, which are no sums.
#[test]
fn e9_there_are_no_sums() {
    let kernel = |cols: u32| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 16]);
            cx.mmad(to, a, b, Init::Zero);
            take(cx, to);
            let some = Global::new(STATE, 1024, Elem::F16, 16, cols);
            cx.push(Body::Fix(Fix { relu: true, ..Fix::new(to.col_range(0, cols), FixTo::Gm(some)) }));
        }
    };
    let hazard = only(&ONE.cube(kernel(0)), Code::WrongLayout);
    assert!(hazard.detail.contains("sums have 1 row and column at least; got 16 x 0"), "{hazard}");
    clean(&ONE.cube(kernel(8)));
}

/// Scales of the second tile lie where those of the first do.
#[test]
fn e10_scales_lie_apart_from_what_they_scale() {
    let kernel = |tied: bool| {
        move |cx: &mut Context<'_>| {
            let (m, k, n) = (16, 64, 16);
            let scales = Tile::dense(Space::L1, cx.alloc(Space::L1, 32), Elem::E8M0, 16, k / 32);
            cx.push(Body::FillL1(scales, 127));
            let (a1, b1) = (cx.cube_tile(Space::L1, Elem::E4M3, m, k), cx.cube_tile(Space::L1, Elem::E4M3, n, k));
            [a1, b1].into_iter().for_each(|tile| cx.push(Body::FillL1(tile, 0x38)));
            let sums = [(); 2].map(|()| cx.cube_tile(Space::L0c, Elem::F32, m, n));
            let ready = cx.flag(Pipe::Mte1, Pipe::M);
            for (turn, to) in sums.into_iter().enumerate() {
                let at = 1024 * turn as u32;
                let a = cx.cube_tile_at(Space::L0a, at, Elem::E4M3, m, k);
                let b = cx.cube_tile_at(Space::L0b, at, Elem::E4M3, k, n);
                let place = if tied { at / 16 } else { 0 };
                let sa = Tile::dense(Space::L0aMx, place, Elem::E8M0, m, k / 32);
                let sb = Tile::dense(Space::L0bMx, at / 16, Elem::E8M0, n, k / 32);
                cx.load_l0a(a1, a);
                cx.load_l0b_transposed(b1, b);
                if turn == 0 || tied {
                    cx.load_mx(scales, sa);
                }
                cx.load_mx(scales, sb);
                cx.set_flag(Pipe::Mte1, Pipe::M, ready);
                cx.wait_flag(Pipe::Mte1, Pipe::M, ready);
                cx.mmad_mx(to, [a, b], [sa, sb], Init::Zero);
                cx.barrier_all();
            }
        }
    };
    let hazard = only(&ONE.cube(kernel(false)), Code::ProductLimit);
    line_has(&hazard.at, "cx.mmad_mx");
    assert!(hazard.detail.contains("scales of byte 1024 lie at byte 64; got 0"), "{hazard}");
    clean(&ONE.cube(kernel(true)));
}

/// A long k in steps, on sums of a single fractal: the second step comes before the first has stored.
#[test]
fn e11_small_products_in_a_row() {
    let kernel = |barrier: bool, n: u32| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 64, n]);
            for step in 0..4 {
                let (a, b) = (a.col_range(16 * step, 16), b.row_range(16 * step, 16));
                cx.mmad(to, a, b, if step == 0 { Init::Zero } else { Init::Accumulate });
                if barrier {
                    cx.barrier(Pipe::M);
                }
            }
            take(cx, to);
        }
    };
    let hazard = only(&ONE.cube(kernel(false, 16)), Code::ChainedProducts);
    pair(&hazard, ["cx.mmad", "cx.mmad"], "l0c", [0, 1024]);
    assert!(hazard.detail.contains("the sums have 1 tiles; from 10 on"), "{hazard}");
    clean(&ONE.cube(kernel(true, 16)));
    clean(&ONE.cube(kernel(false, 160)));
    // A barrier of a vector half is not the cube's.
    let report = ONE.run(kernel(false, 16), |cx| (0..20).for_each(|_| cx.barrier_all()));
    only(&report, Code::ChainedProducts);
}

/// The product is coupled to a transfer that is not.
#[test]
fn e12_unit_flags_of_one_side() {
    let kernel = |product: UnitFlag, transfer: UnitFlag| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 16]);
            cx.push(Body::Mmad(Mmad { to, a, b, scales: None, init: Init::Zero, unit_flag: product }));
            let summed = cx.flag(Pipe::M, Pipe::Fix);
            cx.set_flag(Pipe::M, Pipe::Fix, summed);
            cx.wait_flag(Pipe::M, Pipe::Fix, summed);
            let gm = FixTo::Gm(Global::new(STATE, 0, Elem::F32, 16, 16));
            cx.push(Body::Fix(Fix { unit_flag: transfer, ..Fix::new(to, gm) }));
        }
    };
    let hazard = only(&ONE.cube(kernel(UnitFlag::Last, UnitFlag::Off)), Code::UnitFlagMismatch);
    pair(&hazard, ["Body::Mmad", "Body::Fix"], "l0c", [0, 1024]);
    only(&ONE.cube(kernel(UnitFlag::Off, UnitFlag::Last)), Code::UnitFlagMismatch);
    only(&ONE.cube(kernel(UnitFlag::Keep, UnitFlag::Last)), Code::UnitFlagMismatch);
    clean(&ONE.cube(kernel(UnitFlag::Last, UnitFlag::Last)));
    clean(&ONE.cube(kernel(UnitFlag::Off, UnitFlag::Off)));
}

/// The first of two steps says that it is the last.
#[test]
fn e12_sums_go_on_behind_their_last_product() {
    let kernel = |first: UnitFlag| {
        move |cx: &mut Context<'_>| {
            let [to, a, b] = operands(cx, Elem::F16, [16, 16, 16]);
            for (init, unit_flag) in [(Init::Zero, first), (Init::Accumulate, UnitFlag::Last)] {
                cx.push(Body::Mmad(Mmad { to, a, b, scales: None, init, unit_flag }));
                cx.barrier(Pipe::M);
            }
            // The transfer waits for both by a flag as well, so that only the unit flags are wrong.
            let summed = cx.flag(Pipe::M, Pipe::Fix);
            cx.set_flag(Pipe::M, Pipe::Fix, summed);
            cx.wait_flag(Pipe::M, Pipe::Fix, summed);
            let gm = FixTo::Gm(Global::new(STATE, 0, Elem::F32, 16, 16));
            cx.push(Body::Fix(Fix { unit_flag: UnitFlag::Last, ..Fix::new(to, gm) }));
        }
    };
    let hazard = only(&ONE.cube(kernel(UnitFlag::Last)), Code::UnitFlagMismatch);
    pair(&hazard, ["Body::Mmad", "Body::Mmad"], "l0c", [0, 1024]);
    clean(&ONE.cube(kernel(UnitFlag::Keep)));
}
