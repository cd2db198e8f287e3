//! Bytes: bounds, alignment, allocations, what nobody wrote (E1 to E4, E15).

use crate::rig::*;
use anychip_ascend::isa::{Axis, Body, Elem, Global, Operand, Pipe, Red, Tile, Vector};
use anychip_ascend::kernel::{Context, Queue};
use anychip_ascend::machine::Space;
use anychip_ascend::sim::Code;

/// Rows of f32 through two queues of a depth, doubled.
fn double(cx: &mut Context<'_>, cols: u32, depth: usize, rows: u64, to: u16) {
    let mut x = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 4 * cols, depth);
    let mut y = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 4 * cols, depth);
    for r in 0..rows {
        let tile = ub(x.alloc(cx), cols);
        cx.load_ub(row(X, r, cols), tile);
        x.push(cx);
        let (from, into) = (ub(x.pop(cx), cols), ub(y.alloc(cx), cols));
        cx.add(into, from, from);
        x.free(cx);
        y.push(cx);
        let from = ub(y.pop(cx), cols);
        cx.store(from, row(to, r, cols));
        y.free(cx);
    }
    x.close(cx);
    y.close(cx);
}

/// Four buffers of 72 KiB are more than UB has: it held them until they were doubled.
#[test]
fn e1_double_buffers_overflow_ub() {
    let cols = 18 << 10;
    let hazard = only(&ONE.vector(|cx| double(cx, cols, 2, 3, STATE)), Code::OutOfBounds);
    line_has(&hazard.at, "Queue::new(cx, Pipe::V");
    touches(&hazard, "ub", [221_184, 294_912]);
    assert!(hazard.to_string().contains("294912 bytes in all are asked for, of 253952"), "{hazard}");
    clean(&ONE.vector(|cx| double(cx, cols, 1, 3, STATE)));
    only(&OLD.vector(|cx| double(cx, 12 << 10, 2, 3, STATE)), Code::OutOfBounds);
    clean(&OLD.vector(|cx| double(cx, 11 << 10, 2, 3, STATE)));
}

/// The last tile is loaded whole where the operand has only part of it.
#[test]
fn e1_a_tail_is_loaded_beyond_its_operand() {
    let tail = |clip: bool| {
        move |cx: &mut Context<'_>| {
            let (cols, all) = (1 << 16 >> 2, (BYTES / 4) as u32);
            let tile = ub(cx.alloc(Space::Ub, 4 * cols), cols);
            let (full, empty) = (cx.flag(Pipe::Mte2, Pipe::Mte3), cx.flag(Pipe::Mte3, Pipe::Mte2));
            for start in [0, all - cols / 2] {
                let len = if clip { cols.min(all - start) } else { cols };
                cx.load_ub(Global::new(X, u64::from(start) * 4, Elem::F32, 1, len), ub(tile.at, len));
                cx.set_flag(Pipe::Mte2, Pipe::Mte3, full);
                cx.wait_flag(Pipe::Mte2, Pipe::Mte3, full);
                let rest = cols.min(all - start);
                cx.store(ub(tile.at, rest), Global::new(STATE, u64::from(start) * 4, Elem::F32, 1, rest));
                cx.set_flag(Pipe::Mte3, Pipe::Mte2, empty);
                cx.wait_flag(Pipe::Mte3, Pipe::Mte2, empty);
            }
        }
    };
    let hazard = only(&ONE.vector(tail(false)), Code::OutOfBounds);
    line_has(&hazard.at, "cx.load_ub");
    touches(&hazard, "x", [BYTES as u64 - 32_768, BYTES as u64 + 32_768]);
    assert!(hazard.detail.contains("the operand has 1048576 bytes; byte 1081343 is touched"), "{hazard}");
    clean(&ONE.vector(tail(true)));
}

/// What is asked for is counted beyond 32 bits, of which places have no more.
#[test]
fn e1_more_than_places_can_say() {
    let both = |bytes: u32| {
        move |cx: &mut Context<'_>| {
            [(); 2].into_iter().for_each(|()| {
                cx.alloc(Space::Ub, bytes);
            })
        }
    };
    let hazard = only(&ONE.vector(both(3 << 30)), Code::OutOfBounds);
    line_has(&hazard.at, "cx.alloc");
    clean(&ONE.vector(both(3 << 10)));
    let end = |at: u32| {
        move |cx: &mut Context<'_>| {
            cx.alloc(Space::Ub, 64);
            cx.alloc_at(Space::Ub, at, 10);
        }
    };
    let hazard = only(&ONE.vector(end(u32::MAX)), Code::OutOfBounds);
    line_has(&hazard.at, "cx.alloc_at");
    assert!(hazard.detail.contains("kernels may use 253952 bytes; byte 4294967304 is asked for"), "{hazard}");
    only(&ONE.vector(end(253_943)), Code::OutOfBounds);
    clean(&ONE.vector(end(253_942)));
    // 4 GiB and 256 bytes are not 256.
    let tile = |rows: u32| {
        move |cx: &mut Context<'_>| {
            cx.ub(Elem::F32, rows, 64);
        }
    };
    only(&ONE.vector(tile((1 << 24) + 1)), Code::OutOfBounds);
    only(&ONE.vector(tile(u32::MAX)), Code::OutOfBounds);
    only(
        &ONE.vector(|cx| {
            cx.ub(Elem::F32, u32::MAX, u32::MAX);
        }),
        Code::OutOfBounds,
    );
    clean(&ONE.vector(tile(512)));
    only(
        &ONE.cube(|cx| {
            cx.cube_tile(Space::L1, Elem::F16, u32::MAX, u32::MAX);
        }),
        Code::OutOfBounds,
    );
}

/// Rows at no distance are the same row, which may be read and written as any other.
#[test]
fn rows_at_no_distance_are_one() {
    let kernel = |cx: &mut Context<'_>| {
        let [x, y] = [(); 2].map(|()| cx.ub(Elem::F32, 4, 64));
        cx.load_ub(Global::new(X, 0, Elem::F32, 4, 64).pitched(0), x);
        cx.barrier_all();
        cx.add(Tile { pitch: 0, ..y }, x, 1.0);
        cx.barrier_all();
        cx.store(y.row_range(0, 1), row(STATE, 0, 64));
    };
    clean(&ONE.vector(kernel));
}

/// Elements at a distance, and lines that are fetched ahead: the last is beyond the operand.
#[test]
fn e1_the_last_element_is_beyond_the_operand() {
    let strided = |step: u64| {
        move |cx: &mut Context<'_>| {
            let to = cx.ub(Elem::F32, 2, 64);
            cx.push(Body::LoadNdDma(Global::new(X, 0, Elem::F32, 2, 64).pitched(4), step, to));
        }
    };
    // 63 steps, 4 bytes to the second row, and the element.
    let step = (BYTES as u64 - 8) / 63 / 4 * 4;
    let hazard = only(&ONE.vector(strided(step + 4)), Code::OutOfBounds);
    line_has(&hazard.at, "Body::LoadNdDma");
    clean(&ONE.vector(strided(step)));
    let prefetch =
        |rows: u32| move |cx: &mut Context<'_>| cx.push(Body::Prefetch(Global::new(X, 0, Elem::U8, rows, 1024)));
    let hazard = only(&ONE.vector(prefetch(1025)), Code::OutOfBounds);
    assert!(hazard.detail.contains("the operand has 1048576 bytes; byte 1049599 is touched"), "{hazard}");
    clean(&ONE.vector(prefetch(1024)));
}

/// Between elements at a distance others may be written.
#[test]
fn e5_elements_at_a_distance_are_only_themselves() {
    let kernel = |to: u64| {
        move |cx: &mut Context<'_>| {
            let [x, y] = [cx.ub(Elem::F32, 1, 64), ub(cx.alloc(Space::Ub, 32), 8)];
            cx.bcast(y, 1.0);
            cx.barrier_all();
            cx.push(Body::LoadNdDma(Global::new(STATE, 0, Elem::F32, 1, 64), 256, x));
            cx.store(y, row(STATE, to, 8));
        }
    };
    let hazard = only(&ONE.vector(kernel(8)), Code::Race);
    assert!(hazard.to_string().contains("LD_NDDMA_UB"), "{hazard}");
    clean(&ONE.vector(kernel(9)));
}

#[test]
fn e1_what_a_launch_reads_is_not_written() {
    let to = |region: u16| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            cx.bcast(tile, 1.0);
            cx.barrier_all();
            cx.store(tile, row(region, 0, 64));
        }
    };
    let hazard = only(&ONE.vector(to(X)), Code::OutOfBounds);
    assert!(hazard.detail.contains("only reads"), "{hazard}");
    clean(&ONE.vector(to(STATE)));
}

/// A list that names an element that is not there.
#[test]
fn e1_a_list_names_what_is_not_there() {
    let gather = |first: i32| {
        move |cx: &mut Context<'_>| {
            let [values, list, to] = [(); 3].map(|()| ub(cx.alloc(Space::Ub, 256), 64));
            cx.bcast(values, 1.0);
            cx.ramp(list.of(Elem::I32), first, 1);
            cx.gather(to, values, list.of(Elem::I32));
        }
    };
    let hazard = only(&ONE.vector(gather(1)), Code::OutOfBounds);
    assert!(hazard.detail.contains("names element 64 of 64"), "{hazard}");
    clean(&ONE.vector(gather(0)));
}

/// Threads take the end of UB for their cache, also from buffers that were there before them.
#[test]
fn e1_buffers_lie_where_threads_have_their_cache() {
    let rows = |at: u32| {
        move |cx: &mut Context<'_>| {
            let (list, to) = (ub(cx.alloc(Space::Ub, 256), 8), Tile::rows_of(Space::Ub, at, Elem::F32, 8, 8));
            cx.ramp(list.of(Elem::I32), 0, 1);
            cx.barrier_all();
            let from = Global::new(X, 0, Elem::F32, 64, 8);
            cx.push(Body::SimtGather { from, index: list.of(Elem::I32), to });
            cx.barrier_all();
            cx.store(to, Global::new(STATE, 0, Elem::F32, 8, 8));
        }
    };
    let hazard = only(&ONE.vector(rows(229_376 - 128)), Code::OutOfBounds);
    line_has(&hazard.at, "cx.push(Body::SimtGather");
    touches(&hazard, "ub", [229_376, 229_504]);
    assert!(hazard.detail.contains("the cache of threads begins at byte 229376"), "{hazard}");
    clean(&ONE.vector(rows(229_376 - 256)));
}

/// Rows of 20 numbers packed in UB begin at multiples of 80 bytes.
#[test]
fn e2_packed_rows_are_misaligned() {
    let rows = |packed: bool| {
        move |cx: &mut Context<'_>| {
            let at = cx.alloc(Space::Ub, 8 * 96);
            let tile = if packed { Tile::dense } else { Tile::rows_of }(Space::Ub, at, Elem::F32, 8, 20);
            cx.load_ub(Global::new(X, 0, Elem::F32, 8, 20), tile);
            cx.barrier_all();
            let half = tile.row_range(1, 4);
            cx.add(half, half, 1.0);
            cx.barrier_all();
            cx.store(tile, Global::new(STATE, 0, Elem::F32, 8, 20));
        }
    };
    let hazard = only(&ONE.vector(rows(true)), Code::Misaligned);
    // All rows in one piece can be loaded and stored; some of them are no place for a vector.
    line_has(&hazard.at, "cx.add");
    assert!(hazard.detail.contains("multiples of 32 bytes; got 80"), "{hazard}");
    clean(&ONE.vector(rows(false)));
    only(&OLD.vector(rows(true)), Code::Misaligned);
}

#[test]
fn e2_a_left_operand_begins_inside_a_fractal() {
    let place = |at: u32| {
        move |cx: &mut Context<'_>| {
            let from = cx.cube_tile(Space::L1, Elem::F16, 16, 16);
            cx.push(Body::FillL1(from, 0));
            cx.load_l0a(from, cx.cube_tile_at(Space::L0a, at, Elem::F16, 16, 16));
        }
    };
    let hazard = only(&ONE.cube(place(256)), Code::Misaligned);
    assert!(hazard.detail.contains("tiles of l0a begin at multiples of 512 bytes; got 256"), "{hazard}");
    clean(&ONE.cube(place(1024)));
}

/// The second buffer is put where the first still lies.
#[test]
fn e3_a_place_is_taken_twice() {
    let places = |give: bool| {
        move |cx: &mut Context<'_>| {
            for (r, at) in [0, 2048].into_iter().enumerate() {
                let tile = ub(cx.alloc_at(Space::Ub, at, 4096), 1024);
                cx.load_ub(row(X, r as u64, 1024), tile);
                cx.barrier_all();
                cx.store(tile, row(STATE, r as u64, 1024));
                cx.barrier_all();
                if give {
                    cx.free(Space::Ub, at);
                }
            }
        }
    };
    let hazard = only(&ONE.vector(places(false)), Code::Overlap);
    line_has(&hazard.at, "cx.alloc_at");
    touches(&hazard, "ub", [2048, 4096]);
    assert!(hazard.detail.contains("memory.rs"), "{hazard}");
    clean(&ONE.vector(places(true)));
}

/// A tile is longer than what was taken for it, and another lies behind: the same engine does both, so nothing races.
#[test]
fn e3_a_tile_reaches_into_the_next() {
    let kernel = |cols: u32| {
        move |cx: &mut Context<'_>| {
            let [x, y] = [(); 2].map(|()| ub(cx.alloc(Space::Ub, 256), 64));
            cx.bcast(y, 1.0);
            cx.bcast(ub(x.at, cols), 2.0);
            cx.add(x, x, y);
        }
    };
    let hazard = only(&ONE.vector(kernel(72)), Code::Overlap);
    line_has(&hazard.at, "cx.bcast(ub");
    touches(&hazard, "ub", [256, 288]);
    clean(&ONE.vector(kernel(64)));
}

/// Sums of which the first step adds to what nobody set to zero.
#[test]
fn e4_sums_begin_with_nothing() {
    let sums = |zero: bool| {
        move |cx: &mut Context<'_>| {
            let [x, sum] = [(); 2].map(|()| ub(cx.alloc(Space::Ub, 256), 64));
            if zero {
                cx.bcast(sum, 0.0);
            }
            for r in 0..3 {
                cx.load_ub(row(X, r, 64), x);
                cx.barrier_all();
                cx.add(sum, sum, x);
                cx.barrier_all();
            }
            cx.store(sum, row(STATE, 0, 64));
        }
    };
    let hazard = only(&ONE.vector(sums(false)), Code::Uninitialised);
    line_has(&hazard.at, "cx.add");
    touches(&hazard, "ub", [256, 257]);
    clean(&ONE.vector(sums(true)));
}

/// A reduction takes columns that the loaded rows have not.
#[test]
fn e4_a_reduction_takes_padding() {
    let rows = |cols: u32| {
        move |cx: &mut Context<'_>| {
            let tile = cx.ub(Elem::F32, 4, 20);
            let sums = cx.ub(Elem::F32, 4, 1);
            cx.load_ub(Global::new(X, 0, Elem::F32, 4, 20), tile);
            cx.barrier_all();
            cx.reduce(Red::Max, Axis::Row, sums, Tile { cols, ..tile });
        }
    };
    let hazard = only(&ONE.vector(rows(24)), Code::Uninitialised);
    touches(&hazard, "ub", [80, 81]);
    clean(&ONE.vector(rows(20)));
}

/// Cores add to memory that holds nothing: a number and nothing is nothing.
#[test]
fn e4_memory_adds_to_nothing() {
    let add = |zero: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            if zero {
                cx.bcast(tile, 0.0);
                cx.barrier_all();
                cx.store(tile, row(SCRATCH, 0, 64));
                cx.barrier_all();
            }
            cx.bcast(tile, 1.0);
            cx.barrier_all();
            cx.push(Body::StoreGm(tile, row(SCRATCH, 0, 64), true));
        }
    };
    let hazard = only(&ONE.vector(add(false)), Code::Uninitialised);
    line_has(&hazard.at, "Body::StoreGm");
    touches(&hazard, "scratch", [0, 1]);
    clean(&ONE.vector(add(true)));
}

/// A core that takes up what it had memory add finds the sum.
#[test]
fn what_memory_adds_is_there_for_who_comes_behind() {
    let report = ONE.vector(|cx| {
        let [tile, sum] = [(); 2].map(|()| ub(cx.alloc(Space::Ub, 256), 64));
        let list = cx.ub(Elem::I32, 1, 64);
        cx.bcast(tile, 20.0);
        cx.barrier_all();
        cx.store(tile, row(SCRATCH, 0, 64));
        cx.barrier_all();
        cx.push(Body::StoreGm(tile, row(SCRATCH, 0, 64), true));
        cx.barrier_all();
        cx.load_ub(row(SCRATCH, 0, 64), sum);
        cx.barrier_all();
        // 20 + 20 + 20 + 3 is the last of 64.
        cx.add(sum, sum, 23.0);
        cx.push(Body::Vector(Vector::Cast(list, sum, anychip_ascend::isa::Round::Zero)));
        cx.gather(tile, sum, list);
        cx.add(tile, tile, Operand::Number(0.0));
    });
    clean(&report);
}

/// Whole tiles of a width that they do not divide.
#[test]
fn e15_a_tail_is_never_written() {
    let write = |tail: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            cx.bcast(tile, 1.0);
            cx.barrier_all();
            for start in (0..200).step_by(64) {
                let cols = 64.min(200 - start);
                if cols == 64 || tail {
                    cx.store(ub(tile.at, cols), Global::new(OUT, u64::from(start) * 4, Elem::F32, 1, cols));
                }
            }
        }
    };
    let rig = Rig { out: 800, ..ONE };
    let hazard = only(&rig.vector(write(false)), Code::Unwritten);
    line_has(&hazard.at, "cx.store");
    touches(&hazard, "out", [768, 769]);
    assert!(hazard.detail.contains("byte 768 of 800"), "{hazard}");
    clean(&rig.vector(write(true)));
    only(&rig.vector(|_| ()), Code::Unwritten);
}
