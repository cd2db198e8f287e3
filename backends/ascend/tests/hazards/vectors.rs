//! Vectors: what each generation has and takes, what they leave undefined, and what conversions lose (E4, E8, E9, W6).

use crate::rig::*;
use anychip_ascend::isa::{Axis, Bin, Body, Cmp, Count, Elem, Global, Operand, Pipe, Red, Round, Tile, Un, Vector};
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

/// A row in UB.
fn line(at: u32, elem: Elem, cols: u32) -> Tile {
    Tile::rows_of(Space::Ub, at, elem, 1, cols)
}

/// A row of bytes that hold something.
fn bytes(cx: &mut Context<'_>, elem: Elem) -> Tile {
    let tile = line(cx.alloc(Space::Ub, 64), elem, 64);
    cx.bcast(tile.of(Elem::U8), 0x77);
    tile
}

/// Scales and 4-bit codes are no numbers to the unit; of a type that it computes with, the same is clean.
#[test]
fn e9_arithmetic_on_codes() {
    let (one, all) = (Operand::Number(1.0), Axis::Row);
    type Make = fn(Tile, Operand, Axis) -> Vector;
    let makes: [(Make, &str); 6] = [
        (|tile, one, _| Vector::Bin(Bin::Add, tile, tile.into(), one), "VBIN"),
        (|tile, _, _| Vector::Un(Un::Exp, tile, tile), "VUN"),
        (|tile, _, all| Vector::Red(Red::Max, all, Tile { cols: 1, ..tile }, tile), "VRED"),
        (|tile, one, _| Vector::Bcast(tile, one), "VBCAST"),
        (
            |tile, one, _| Vector::Select(Cmp::Lt, tile, [Operand::Integer(0), Operand::Integer(0), tile.into(), one]),
            "VCMPSEL",
        ),
        (
            |tile, one, _| {
                Vector::Select(Cmp::Lt, tile.of(Elem::U8), [tile.into(), one, Operand::Integer(0), Operand::Integer(0)])
            },
            "VCMPSEL",
        ),
    ];
    for (make, name) in makes {
        let kernel = |elem: Elem| {
            move |cx: &mut Context<'_>| {
                let tile = bytes(cx, elem);
                cx.vector(make(tile, one, all));
            }
        };
        for elem in [Elem::E8M0, Elem::E2M1] {
            let hazard = only(&ONE.vector(kernel(elem)), Code::WrongLayout);
            let said = format!("{name}: numbers are converted before they are computed with; got {elem}");
            assert!(hazard.detail.contains(&said), "{hazard}");
        }
        clean(&ONE.vector(kernel(Elem::E4M3)));
    }
}

/// Bits of scales are integers, and codes keep theirs.
#[test]
fn codes_are_moved_as_they_are() {
    let state = ONE.stored(|cx| {
        let scales = line(cx.alloc(Space::Ub, 64), Elem::E8M0, 64);
        let codes = bytes(cx, Elem::E2M1);
        cx.bcast(scales, 127);
        cx.copy(codes, codes);
        cx.barrier_all();
        cx.store(scales.of(Elem::U8), Global::new(STATE, 0, Elem::U8, 1, 64));
        cx.store(codes.of(Elem::U8), Global::new(STATE, 64, Elem::U8, 1, 64));
    });
    assert!(state[..64] == [127; 64] && state[64..128] == [0x77; 64], "{:?}", &state[..128]);
}

/// Half bytes cannot be put in columns.
#[test]
fn e9_codes_are_transposed() {
    let kernel = |elem: Elem| {
        move |cx: &mut Context<'_>| {
            let (from, to) = (bytes(cx, elem), cx.ub(elem, 64, 1));
            cx.transpose(to, from);
        }
    };
    let hazard = only(&ONE.vector(kernel(Elem::E2M1)), Code::WrongLayout);
    assert!(hazard.detail.contains("elements of whole bytes keep their type; got e2m1"), "{hazard}");
    clean(&ONE.vector(kernel(Elem::E8M0)));
}

/// Integers that a byte has not become the nearest that it has, and that is said.
#[test]
fn w6_integers_saturate() {
    let kernel = |value: i32, elem: Elem| {
        move |cx: &mut Context<'_>| {
            let from = line(cx.alloc(Space::Ub, 256), Elem::I32, 64);
            let to = line(cx.alloc(Space::Ub, 64), elem, 64);
            cx.bcast(from, value);
            cx.cast(to, from, Round::Even);
        }
    };
    for (elem, least, most) in [(Elem::U8, 0, 255), (Elem::I8, -128, 127)] {
        for (inside, beyond) in [(least, least - 1), (most, most + 1)] {
            let hazard = only(&ONE.vector(kernel(beyond, elem)), Code::Lossy);
            line_has(&hazard.at, "cx.cast");
            assert!(hazard.detail.contains(&format!("{beyond} is more than {elem} has")), "{hazard}");
            clean(&ONE.vector(kernel(inside, elem)));
        }
    }
    // As a number it is an integer at least as soon.
    let kernel = |value: f32| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            cx.bcast(tile, value);
            cx.cast(tile.of(Elem::I32), tile, Round::Zero);
        }
    };
    only(&ONE.vector(kernel(2147483648.0)), Code::Lossy);
    clean(&ONE.vector(kernel(-2147483648.0)));
}

/// A conversion goes the way that it says, also to types of digits.
#[test]
fn conversions_round_as_they_are_asked_to() {
    // Between 1 and the next bf16, 1 + 2^-7; -1 and what is below it in f16, 1 + 2^-10.
    for (elem, value, round, want) in [
        (Elem::BF16, 1.0 + 0.75 / 128.0, Round::Even, 0x3F81),
        (Elem::BF16, 1.0 + 0.75 / 128.0, Round::Zero, 0x3F80),
        (Elem::BF16, 1.0 + 0.25 / 128.0, Round::Ceil, 0x3F81),
        (Elem::BF16, -1.0 - 0.25 / 128.0, Round::Floor, 0xBF81),
        (Elem::F16, -1.0 - 0.75 / 1024.0, Round::Even, 0xBC01),
        (Elem::F16, -1.0 - 0.75 / 1024.0, Round::Ceil, 0xBC00),
        (Elem::F16, -1.0 - 0.25 / 1024.0, Round::Floor, 0xBC01),
        (Elem::F16, 1e6, Round::Zero, 0x7BFF),
    ] {
        let state = ONE.stored(|cx| {
            let from = ub(cx.alloc(Space::Ub, 256), 64);
            let to = line(cx.alloc(Space::Ub, 128), elem, 64);
            cx.bcast(from, value);
            cx.cast(to, from, round);
            cx.barrier_all();
            cx.store(to, Global::new(STATE, 0, elem, 1, 64));
        });
        assert_eq!(u16::from_le_bytes([state[0], state[1]]), want, "{elem} of {value}, {round:?}");
    }
}

/// Nothing is computed of nothing; a histogram of nothing counts nothing.
#[test]
fn empty_operands_are_no_mistake() {
    let state = ONE.stored(|cx| {
        let counts = line(cx.alloc(Space::Ub, 1024), Elem::I32, 256);
        let none = |at: u32, elem: Elem| Tile::dense(Space::Ub, at, elem, 1, 0);
        cx.histogram(counts, none(4096, Elem::U8), Count::Frequency);
        cx.cast(none(8192, Elem::F32), none(4096, Elem::E2M1), Round::Even);
        cx.cast(none(4096, Elem::E2M1), none(8192, Elem::F32), Round::Even);
        cx.add(none(8192, Elem::F32), none(8192, Elem::F32), 1.0);
        cx.push(Body::Vector(Vector::Fused(vec![Vector::Un(Un::Exp, none(8192, Elem::F32), none(8192, Elem::F32))])));
        cx.set_flag(Pipe::V, Pipe::Mte3, 0);
        cx.wait_flag(Pipe::V, Pipe::Mte3, 0);
        cx.store(counts, Global::new(STATE, 0, Elem::I32, 1, 256));
    });
    assert_eq!(state[..1024], [0; 1024]);
}
