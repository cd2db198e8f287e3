//! Vectors: what each generation has and takes, and what they leave undefined (E4, E8, E9).

use crate::rig::*;
use anychip_ascend::isa::{Cmp, Count, Elem, Global, Tile};
use anychip_ascend::kernel::Context;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::Code;

/// A row of numbers and a row to squeeze them into, filled or not.
fn rows(cx: &mut Context<'_>, filled: bool) -> [Tile; 2] {
    let [from, to] = [(); 2].map(|()| ub(cx.alloc(Space::Ub, 512), 64));
    cx.ramp(from, 0, 1);
    if filled {
        cx.bcast(to, 0.0);
    }
    [from, to]
}

/// Takes up all of a row.
fn take(cx: &mut Context<'_>, row: Tile) {
    cx.barrier_all();
    cx.store(row, Global::new(STATE, 0, row.elem, 1, row.cols));
}

/// Who takes all of a row of which some was squeezed in takes what nobody wrote.
#[test]
fn e4_a_row_is_not_filled_by_what_is_squeezed_into_it() {
    let kernel = |filled: bool| {
        move |cx: &mut Context<'_>| {
            let [from, to] = rows(cx, filled);
            cx.squeeze(to, from, (from, Cmp::Ge, 24.0));
            take(cx, to);
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::Uninitialised);
    line_has(&hazard.at, "cx.store");
    touches(&hazard, "ub", [512 + 4 * 40, 512 + 4 * 40 + 1]);
    clean(&ONE.vector(kernel(true)));
    only(&OLD.vector(kernel(false)), Code::Uninitialised);
    clean(&OLD.vector(kernel(true)));
    // All of them fit, and more: nothing else is written.
    clean(&ONE.vector(|cx| {
        let [from, to] = rows(cx, false);
        cx.squeeze(to.col_range(0, 16), from, (from, Cmp::Ge, 24.0));
        take(cx, to.col_range(0, 16));
    }));
}

/// What is squeezed keeps its type and goes to one row; what is compared has its shape.
#[test]
fn e9_what_is_squeezed_is_of_another_type_or_shape() {
    let kernel = |change: fn([Tile; 3]) -> [Tile; 3]| {
        move |cx: &mut Context<'_>| {
            let [from, to] = rows(cx, true);
            let marks = cx.ub(Elem::U8, 1, 64);
            cx.bcast(marks, 1);
            let [to, from, marks] = change([to, from, marks]);
            cx.squeeze(to, from, (marks, Cmp::Ne, 0));
        }
    };
    clean(&ONE.vector(kernel(|tiles| tiles)));
    clean(&ONE.vector(kernel(|[to, from, marks]| [to.of(Elem::I32), from.of(Elem::I32), marks])));
    clean(&ONE.vector(kernel(|[to, from, marks]| [to, from.col_range(0, 40), marks.col_range(0, 40)])));
    let hazard = only(&ONE.vector(kernel(|[to, from, marks]| [to.of(Elem::I32), from, marks])), Code::WrongLayout);
    line_has(&hazard.at, "cx.squeeze");
    assert!(hazard.detail.contains("f32 to 1 x 64 of i32"), "{hazard}");
    let two = |[to, from, marks]: [Tile; 3]| [Tile { rows: 2, cols: 32, pitch: 32, ..to }, from, marks];
    let hazard = only(&ONE.vector(kernel(two)), Code::WrongLayout);
    assert!(hazard.detail.contains("to 2 x 32 of f32"), "{hazard}");
    let bytes = |[to, from, marks]: [Tile; 3]| [to.of(Elem::U8), from.of(Elem::U8), marks];
    let hazard = only(&ONE.vector(kernel(bytes)), Code::WrongLayout);
    assert!(hazard.detail.contains("elements of 16 bits or more"), "{hazard}");
    let fewer = |[to, from, marks]: [Tile; 3]| [to, from, marks.col_range(0, 32)];
    let hazard = only(&ONE.vector(kernel(fewer)), Code::WrongLayout);
    assert!(hazard.detail.contains("an operand is 1 x 64 of u8"), "{hazard}");
    only(&OLD.vector(kernel(two)), Code::WrongLayout);
}

/// Two tiles that are compared are of one type.
#[test]
fn e9_what_is_compared_is_of_two_types() {
    let kernel = |elem: Elem| {
        move |cx: &mut Context<'_>| {
            let [from, to] = rows(cx, true);
            cx.squeeze(to, from, (from, Cmp::Lt, to.of(elem)));
        }
    };
    let hazard = only(&ONE.vector(kernel(Elem::I32)), Code::WrongLayout);
    assert!(hazard.detail.contains("got 1 x 64 of i32"), "{hazard}");
    clean(&ONE.vector(kernel(Elem::F32)));
}

/// Bytes are counted by the 950 alone, into rows of 256.
#[test]
fn e8_a_histogram_on_a_910b() {
    let kernel = |values: u32| {
        move |cx: &mut Context<'_>| {
            let (bytes, counts) = (cx.ub(Elem::U8, 1, 64), cx.ub(Elem::I32, 1, 256));
            cx.bcast(bytes, 3);
            cx.histogram(Tile { cols: values, ..counts }, bytes, Count::Accumulate);
        }
    };
    let hazard = only(&OLD.vector(kernel(256)), Code::NoPath);
    assert!(hazard.detail.contains("VHIST is of the generation after"), "{hazard}");
    clean(&ONE.vector(kernel(256)));
    only(&ONE.vector(kernel(255)), Code::WrongLayout);
}
