//! Warnings: what is right, and slower or less exact than it need be (W1 to W7).

use crate::rig::*;
use anychip_ascend::isa::{Body, Elem, Global, Pipe, Round, Tile};
use anychip_ascend::kernel::Context;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::{Code, Expect, Report};

/// Eight columns of rows that are so many numbers apart.
fn columns(pitch: u32) -> impl Fn(&mut Context<'_>) {
    move |cx| {
        let tile = Tile { pitch, ..cx.ub(Elem::F32, 64, 144) };
        cx.bcast(Tile { cols: 128, ..tile }, 1.0);
        let block = tile.col_range(64, 8);
        for _ in 0..16 {
            cx.mul(block, block, 2.0);
        }
    }
}

/// Rows at a distance of 512 bytes lie in the same banks: each 32 bytes wait for those before.
#[test]
fn w1_columns_meet_in_the_same_banks() {
    let hazard = only(&ONE.vector(columns(128)), Code::BankConflict);
    line_has(&hazard.at, "cx.mul");
    touches(&hazard, "ub", [256, 256 + 63 * 512 + 32]);
    assert!(hazard.detail.contains("lies 512 bytes apart"), "{hazard}");
    clean(&ONE.vector(columns(136)));
    only(&OLD.vector(columns(128)), Code::BankConflict);
    clean(&OLD.vector(columns(136)));
    // Groups of the 950 take one row each to be written: 256 bytes are as bad there.
    clean(&ONE.vector(|cx| {
        let tile = cx.ub(Elem::F32, 64, 64);
        (0..16).for_each(|_| cx.bcast(tile, 2.0));
    }));
}

/// Loads of `rows` x `cols` of a wider matrix.
fn loads(count: u64, rows: u32, cols: u32, pitch: u64) -> impl Fn(&mut Context<'_>) {
    move |cx| {
        let tile = cx.ub(Elem::F32, rows, cols);
        for turn in 0..count {
            cx.load_ub(Global::new(X, turn * u64::from(cols) * 4, Elem::F32, rows, cols).pitched(pitch), tile);
            cx.barrier(Pipe::Mte2);
        }
    }
}

/// A narrow block of a wide matrix: rows of 64 bytes.
#[test]
fn w2_bursts_are_short() {
    let hazard = only(&ONE.vector(loads(2, 64, 16, 4096)), Code::ShortBurst);
    line_has(&hazard.at, "cx.load_ub");
    touches(&hazard, "x", [0, 63 * 4096 + 64]);
    assert!(hazard.detail.contains("128 of 128 bursts are below 128 bytes; the shortest has 64"), "{hazard}");
    clean(&ONE.vector(loads(2, 64, 32, 4096)));
    // The 910B wants 512.
    only(&OLD.vector(loads(2, 64, 32, 4096)), Code::ShortBurst);
    clean(&OLD.vector(loads(2, 64, 128, 4096)));
}

/// All cores go through the same rows, in the same order.
#[test]
fn w3_all_cores_read_the_same_rows_at_once() {
    let run = |apart: u64| {
        Rig { cores: 8, ..ONE }.vector(move |cx| {
            let tile = ub(cx.alloc(Space::Ub, 4096), 1024);
            for step in 0..12 {
                cx.load_ub(row(X, (step + apart * cx.core() as u64) % 12, 1024), tile);
                cx.barrier(Pipe::Mte2);
            }
        })
    };
    let hazard = only(&run(0), Code::SameAddress);
    line_has(&hazard.at, "cx.load_ub");
    touches(&hazard, "x", [0, 4096]);
    assert!(hazard.detail.contains("8 units read them in step 0, and so in 12"), "{hazard}");
    clean(&run(1));
}

/// Copies of 128 bytes take longer to issue than to move.
#[test]
fn w4_transfers_are_bound_by_their_issue() {
    let hazard = only(&ONE.vector(loads(40, 1, 32, 0)), Code::IssueBound);
    line_has(&hazard.at, "cx.load_ub");
    assert!(hazard.detail.contains("40 transfers of MTE2 take 1240 cycles to issue and 348 to move"), "{hazard}");
    clean(&ONE.vector(loads(40, 1, 512, 0)));
    let operands = |rows: u32| {
        move |cx: &mut Context<'_>| {
            let l1 = cx.cube_tile(Space::L1, Elem::F16, rows, 64);
            let l0 = cx.cube_tile(Space::L0a, Elem::F16, rows, 64);
            cx.push(Body::FillL1(l1, 0));
            (0..40).for_each(|_| cx.load_l0a(l1, l0));
        }
    };
    let hazard = only(&ONE.cube(operands(16)), Code::IssueBound);
    assert!(hazard.detail.contains("MTE1"), "{hazard}");
    clean(&ONE.cube(operands(128)));
}

/// Nine pieces for eight units: the second round is one unit's.
#[test]
fn w5_the_last_round_leaves_cores_idle() {
    let run = |pieces: u64| {
        let vector = move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 1 << 16), 1 << 14);
            for piece in cx.share(pieces) {
                for _ in 0..4 {
                    cx.load_ub(row(X, piece, 1 << 14), tile);
                    cx.barrier(Pipe::Mte2);
                }
            }
        };
        Rig { cores: 4, ..ONE }.run(|_| (), vector)
    };
    let hazard = only(&run(9), Code::Tail);
    line_has(&hazard.at, "cx.load_ub");
    assert!(hazard.detail.contains("8 units work 56 % of the time"), "{hazard}");
    clean(&run(16));
    clean(&run(15));
}

#[test]
fn w6_values_are_flushed_or_saturated() {
    let cast = |value: f32| {
        move |cx: &mut Context<'_>| {
            let (from, to) = (cx.ub(Elem::F32, 1, 64), cx.ub(Elem::E4M3, 1, 64));
            cx.bcast(from, value);
            cx.cast(to, from, Round::Even);
        }
    };
    let hazard = only(&ONE.vector(cast(1000.0)), Code::Lossy);
    line_has(&hazard.at, "cx.cast");
    touches(&hazard, "ub", [256, 320]);
    clean(&ONE.vector(cast(448.0)));
    let double = |cx: &mut Context<'_>| {
        let tile = cx.ub(Elem::F32, 1, 64);
        cx.bcast(tile, 1e-40);
        cx.add(tile, tile, tile);
    };
    let hazard = only(&ONE.vector(double), Code::Lossy);
    assert!(hazard.detail.contains("subnormal"), "{hazard}");
    clean(&OLD.vector(double));
}

#[test]
fn w7_a_tolerance_that_says_nothing() {
    let expect = |tolerance, measured| {
        let mut report = Report::default();
        report.hazards.expect(Expect { tolerance, measured });
        report
    };
    let hazard = only(&expect(1e-2, 1e-6), Code::Tolerance);
    line_has(&hazard.at, "hazards.expect");
    assert!(hazard.detail.contains("1 to 16 times the error; got 1e-2 for an error of 1e-6"), "{hazard}");
    only(&expect(1e-7, 1e-6), Code::Tolerance);
    only(&expect(1e-7, 0.0), Code::Tolerance);
    only(&expect(1.0, f64::NAN), Code::Tolerance);
    clean(&expect(4e-6, 1e-6));
    clean(&expect(0.0, 0.0));
}

/// What is too small for its time to matter is left in peace.
#[test]
fn small_launches_have_no_warnings() {
    clean(&ONE.vector(loads(31, 1, 8, 0)));
    clean(&ONE.vector(loads(1, 63, 8, 4096)));
    clean(&ONE.vector(|_| ()));
    let tile = |cx: &mut Context<'_>| cx.set_flag(Pipe::Mte2, Pipe::V, 0);
    clean(&ONE.vector(move |cx| {
        tile(cx);
        cx.wait_flag(Pipe::Mte2, Pipe::V, 0);
    }));
}
