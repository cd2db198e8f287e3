//! Who comes first: races within a core, between cores, and the scalar unit's cache (E5, E13, E14).

use crate::rig::*;
use anychip_ascend::isa::{Body, Elem, FixHalf, FixTo, Global, Init, Mode, Pipe, Tile, Unit};
use anychip_ascend::kernel::{Context, LIST};
use anychip_ascend::machine::Space;
use anychip_ascend::sim::Code;

/// One buffer of L1 for all iterations: the next load overwrites what the cube still reads.
#[test]
fn e5_an_l1_buffer_without_a_flag_back() {
    let kernel = |back: bool| {
        move |cx: &mut Context<'_>| {
            let l1 = cx.cube_tile(Space::L1, Elem::F16, 32, 32);
            let l0 = [(); 2].map(|()| cx.cube_tile(Space::L0a, Elem::F16, 32, 32));
            let full = [(); 2].map(|()| cx.flag(Pipe::Mte2, Pipe::Mte1));
            let empty = cx.flag(Pipe::Mte1, Pipe::Mte2);
            for (turn, l0) in l0.into_iter().enumerate() {
                if turn > 0 && back {
                    cx.wait_flag(Pipe::Mte1, Pipe::Mte2, empty);
                }
                cx.load_nd2nz(Global::new(X, 0, Elem::F16, 32, 32), l1);
                cx.set_flag(Pipe::Mte2, Pipe::Mte1, full[turn]);
                cx.wait_flag(Pipe::Mte2, Pipe::Mte1, full[turn]);
                cx.load_l0a(l1, l0);
                if turn == 0 && back {
                    cx.set_flag(Pipe::Mte1, Pipe::Mte2, empty);
                }
            }
        }
    };
    let hazard = only(&ONE.cube(kernel(false)), Code::Race);
    touches(&hazard, "l1", [0, 2048]);
    let text = hazard.to_string();
    assert!(text.contains("LD_L1_L0A") && text.contains("LD_GM_L1_ND2NZ"), "{text}");
    clean(&ONE.cube(kernel(true)));
    only(&OLD.cube(kernel(false)), Code::Race);
}

/// The result is stored before it is there.
#[test]
fn e5_a_store_waits_for_nothing() {
    let kernel = |wait: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            cx.bcast(tile, 0.0);
            cx.barrier_all();
            cx.add(tile, tile, 1.0);
            if wait {
                cx.barrier_all();
            }
            cx.store(tile, row(STATE, 0, 64));
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::Race);
    touches(&hazard, "ub", [0, 256]);
    assert!(hazard.to_string().contains("give") || hazard.to_string().contains("set a flag behind the first"));
    clean(&ONE.vector(kernel(true)));
}

/// Two loads into the same bytes, and two stores: which is there in the end is open.
#[test]
fn e5_one_engine_writes_the_same_bytes_twice() {
    #[derive(Clone, Copy, PartialEq)]
    enum Between {
        Nothing,
        Barrier(Pipe),
        Flags,
    }
    let between = |cx: &mut Context<'_>, pipe: Pipe, what: Between| match what {
        Between::Nothing => {}
        Between::Barrier(pipe) => cx.barrier(pipe),
        Between::Flags => {
            for (from, to) in [(pipe, Pipe::V), (Pipe::V, pipe)] {
                cx.set_flag(from, to, 0);
                cx.wait_flag(from, to, 0);
            }
        }
    };
    let loads = |what: Between, at: u32| {
        move |cx: &mut Context<'_>| {
            cx.load_ub(row(X, 0, 64), ub(0, 64));
            between(cx, Pipe::Mte2, what);
            cx.load_ub(row(X, 1, 64), ub(at, 64));
        }
    };
    let hazard = only(&ONE.vector(loads(Between::Nothing, 224)), Code::Race);
    touches(&hazard, "ub", [224, 480]);
    assert!(hazard.detail.contains("MTE2 of AIV0 may have both under way: it has no barrier between them"), "{hazard}");
    only(&ONE.vector(loads(Between::Barrier(Pipe::V), 224)), Code::Race);
    only(&OLD.vector(loads(Between::Nothing, 0)), Code::Race);
    clean(&ONE.vector(loads(Between::Nothing, 256)));
    clean(&ONE.vector(loads(Between::Barrier(Pipe::Mte2), 0)));
    clean(&ONE.vector(loads(Between::Flags, 0)));
    let stores = |what: Between, to: u64, atomic: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            cx.bcast(tile, 1.0);
            cx.barrier_all();
            cx.push(Body::StoreGm(tile, row(STATE, 0, 64), atomic));
            between(cx, Pipe::Mte3, what);
            cx.push(Body::StoreGm(tile, row(STATE, to, 64), atomic));
        }
    };
    let hazard = only(&ONE.vector(stores(Between::Nothing, 0, false)), Code::Race);
    pair(&hazard, ["row(STATE, 0, 64)", "row(STATE, to, 64)"], "state", [0, 256]);
    clean(&ONE.vector(stores(Between::Nothing, 1, false)));
    clean(&ONE.vector(stores(Between::Nothing, 0, true)));
    clean(&ONE.vector(stores(Between::Barrier(Pipe::Mte3), 0, false)));
    clean(&ONE.vector(stores(Between::Flags, 0, false)));
}

/// Rows by a list are issued when the list is there, and with it all that was loaded before: so another list may take its
/// place, and rows those of the one before. By the same list, nothing says that they are there.
#[test]
fn e5_a_list_is_there_when_its_rows_are_issued() {
    let kernel = |again: bool| {
        move |cx: &mut Context<'_>| {
            let list = ub(0, 8).of(Elem::I32);
            let load = |cx: &mut Context<'_>| cx.load_ub(Global::new(X, 0, Elem::I32, 1, 8), list);
            let rows = |at: u32| Tile::rows_of(Space::Ub, at, Elem::F32, 8, 8);
            load(cx);
            cx.gather_rows(Global::new(X, 0, Elem::F32, 64, 8), list, rows(256));
            if again {
                load(cx);
            }
            cx.gather_rows(Global::new(X, 0, Elem::F32, 64, 8), list, rows(384));
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::Race);
    pair(&hazard, ["rows(256)", "rows(384)"], "ub", [384, 640]);
    clean(&ONE.vector(kernel(true)));
}

/// A scalar read of what vectors compute needs a flag as well.
#[test]
fn e5_the_scalar_unit_reads_ub_too_early() {
    let kernel = |wait: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            let ready = cx.flag(Pipe::V, Pipe::S);
            cx.bcast(tile, 0.0);
            cx.barrier_all();
            cx.add(tile, tile, 1.0);
            if wait {
                cx.set_flag(Pipe::V, Pipe::S, ready);
                cx.wait_flag(Pipe::V, Pipe::S, ready);
            }
            cx.push(Body::ScalarLoadUb(ub(tile.at, 1), Vec::new()));
        }
    };
    only(&ONE.vector(kernel(false)), Code::Race);
    clean(&ONE.vector(kernel(true)));
}

/// Sums go to a vector half. `signal` sets the flag, if anyone.
fn hand_over(signal: Option<Pipe>) -> (impl Fn(&mut Context<'_>), impl Fn(&mut Context<'_>)) {
    let cube = move |cx: &mut Context<'_>| {
        let (a1, b1) = (cx.cube_tile(Space::L1, Elem::F16, 16, 16), cx.cube_tile(Space::L1, Elem::F16, 16, 16));
        let (a, b) = (cx.cube_tile(Space::L0a, Elem::F16, 16, 16), cx.cube_tile(Space::L0b, Elem::F16, 16, 16));
        let to = cx.cube_tile(Space::L0c, Elem::F32, 16, 16);
        [a1, b1].into_iter().for_each(|tile| cx.push(Body::FillL1(tile, 0)));
        cx.load_l0a(a1, a);
        cx.load_l0b_transposed(b1, b);
        cx.barrier_all();
        cx.mmad(to, a, b, Init::Zero);
        let summed = cx.flag(Pipe::M, Pipe::Fix);
        cx.set_flag(Pipe::M, Pipe::Fix, summed);
        if signal == Some(Pipe::M) {
            cx.cross_set(Pipe::M, Mode::Core, 0);
        }
        cx.wait_flag(Pipe::M, Pipe::Fix, summed);
        cx.fix(to, FixTo::Ub(Tile::rows_of(Space::Ub, 0, Elem::F32, 16, 16), FixHalf::Split));
        if signal == Some(Pipe::Fix) {
            cx.cross_set(Pipe::Fix, Mode::Core, 0);
        }
    };
    let vector = move |cx: &mut Context<'_>| {
        let tile = cx.ub(Elem::F32, 8, 16);
        // What was there before is read as well: only the order is wrong.
        if cx.half() == 0 && signal.is_none() {
            return cx.bcast(tile, 0.0);
        }
        if signal.is_some() {
            cx.cross_wait(Pipe::V, Mode::Core, 0);
        }
        cx.bcast(tile, 1.0);
    };
    (cube, vector)
}

/// Vectors take up sums that nobody told them of.
#[test]
fn e5_no_flag_between_cube_and_vectors() {
    let (cube, vector) = hand_over(None);
    let hazard = only(&ONE.run(cube, vector), Code::Race);
    touches(&hazard, "ub", [0, 512]);
    let units = [hazard.at.unit, hazard.with.as_ref().unwrap().unit];
    assert!(units.contains(&Unit::Aic), "{hazard}");
    let (cube, vector) = hand_over(Some(Pipe::Fix));
    clean(&ONE.run(cube, vector));
}

/// The cube signals, not FixPipe: the flag overtakes what is under way.
#[test]
fn e5_a_signal_overtakes_its_data() {
    let (cube, vector) = hand_over(Some(Pipe::M));
    let hazard = only(&ONE.run(cube, vector), Code::Race);
    assert!(hazard.to_string().contains("FIX_L0C_UB"), "{hazard}");
}

/// Both write the same tile of L1, and neither waits.
#[test]
fn e5_two_vector_halves_write_the_same_tile() {
    let kernel = |apart: bool| {
        move |cx: &mut Context<'_>| {
            let tile = cx.ub(Elem::F16, 16, 16);
            cx.bcast(tile, 1.0);
            cx.barrier_all();
            let at = if apart { 512 * cx.half() as u32 } else { 0 };
            cx.store_l1(tile, cx.cube_tile_at(Space::L1, at, Elem::F16, 16, 16));
        }
    };
    let hazard = only(&ONE.run(|_| (), kernel(false)), Code::Race);
    pair(&hazard, ["cx.store_l1", "cx.store_l1"], "l1", [0, 512]);
    assert!(hazard.detail.contains("both write"), "{hazard}");
    clean(&ONE.run(|_| (), kernel(true)));
}

const CORES: Rig = Rig { cores: 4, ..ONE };

/// Each core's share is a row too long.
#[test]
fn e13_shares_overlap() {
    let kernel = |more: u64, atomic: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 64);
            cx.bcast(tile, 1.0);
            cx.barrier_all();
            let mine = 4 * cx.core() as u64;
            for r in mine..mine + 4 + more {
                cx.push(Body::StoreGm(tile, row(STATE, r, 64), atomic));
            }
        }
    };
    let hazard = only(&CORES.vector(kernel(1, false)), Code::SharedOutput);
    pair(&hazard, ["Body::StoreGm", "Body::StoreGm"], "state", [1024, 1280]);
    assert_ne!(hazard.at.core, hazard.with.as_ref().unwrap().core, "{hazard}");
    clean(&CORES.vector(kernel(0, false)));
    clean(&CORES.vector(kernel(1, true)));
}

/// Rows of all cores, which each core sums up behind a barrier.
fn exchange(cx: &mut Context<'_>, (set, wait): (Pipe, Pipe), barrier: bool, early: bool) {
    let [mine, all] = [(); 2].map(|()| ub(cx.alloc(Space::Ub, 256), 64));
    cx.bcast(mine, 1.0);
    cx.bcast(all, 1.0);
    cx.barrier_all();
    if early {
        cx.load_ub(row(STATE, (cx.core() as u64 + 1) % 4, 64), all);
    }
    cx.store(mine, row(STATE, cx.core() as u64, 64));
    if barrier {
        cx.cross_set(set, Mode::Everywhere, 3);
        cx.cross_wait(wait, Mode::Everywhere, 3);
    }
    if !early {
        cx.load_ub(row(STATE, (cx.core() as u64 + 1) % 4, 64), all);
    }
}

/// The other half has its part in the barrier.
fn partner(cx: &mut Context<'_>) {
    cx.cross_set(Pipe::V, Mode::Everywhere, 3);
    cx.cross_wait(Pipe::V, Mode::Everywhere, 3);
}

/// What another core writes is read with no barrier between, or with one that holds back other engines.
#[test]
fn e13_a_barrier_of_all_cores_is_missing() {
    let run = |pipes: (Pipe, Pipe), barrier: bool, early: bool| {
        let kernel = move |cx: &mut Context<'_>| match cx.half() {
            0 => exchange(cx, pipes, barrier, early),
            _ if barrier => partner(cx),
            _ => {}
        };
        CORES.run(|_| (), kernel)
    };
    let (stores, loads) = (Pipe::Mte3, Pipe::Mte2);
    let hazard = only(&run((stores, loads), false, false), Code::SharedOutput);
    assert!(hazard.to_string().contains("LD_GM_UB") && hazard.to_string().contains("ST_UB_GM"), "{hazard}");
    clean(&run((stores, loads), true, false));
    // Set before the stores are through, and waited for by an engine that loads nothing.
    only(&run((Pipe::V, loads), true, false), Code::SharedOutput);
    only(&run((stores, Pipe::V), true, false), Code::SharedOutput);
    only(&run((stores, loads), true, true), Code::SharedOutput);
}

/// The scalar unit keeps a line that is stored to behind its back.
#[test]
fn e14_a_stale_line_of_the_scalar_cache() {
    let kernel = |clean: bool| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 8);
            let _ = cx.load_i32(STATE, 0);
            cx.load_ub(row(STATE, 1, 8), tile);
            cx.barrier_all();
            cx.store(tile, row(STATE, 1, 8));
            cx.barrier_all();
            if clean {
                cx.clean_cache();
            }
            let _ = cx.load_i32(STATE, 32);
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::StaleScalar);
    pair(&hazard, ["cx.store", "cx.load_i32"], "state", [32, 36]);
    clean(&ONE.vector(kernel(true)));
}

/// Lists come by way of UB, which is free again behind them.
#[test]
fn e14_a_list_that_has_changed() {
    let kernel = |at: u64| {
        move |cx: &mut Context<'_>| {
            let list = cx.load_list(X, 4, 2 * u64::from(LIST) + 3);
            assert!(list.len() == 8195 && list.windows(4).all(|some| some[0] == some[3] && some[0] != some[1]));
            let tile = ub(cx.alloc(Space::Ub, 256), 8);
            cx.bcast(tile, 7.0);
            cx.barrier_all();
            cx.store(tile, row(STATE, 0, 8));
            cx.barrier_all();
            assert_eq!(cx.load_list(STATE, at, 9).len(), 9);
        }
    };
    let hazard = only(&ONE.vector(kernel(28)), Code::StaleScalar);
    assert!(hazard.detail.contains("went by what was there before the launch"), "{hazard}");
    clean(&ONE.vector(kernel(64)));
}

/// A kernel goes by a number that the launch has changed.
#[test]
fn e14_what_a_kernel_went_by_has_changed() {
    let kernel = |at: u64| {
        move |cx: &mut Context<'_>| {
            let tile = ub(cx.alloc(Space::Ub, 256), 8);
            cx.bcast(tile, 7.0);
            cx.barrier_all();
            cx.store(tile, row(STATE, 0, 8));
            cx.barrier_all();
            let _ = cx.load_i32(STATE, at);
        }
    };
    let hazard = only(&ONE.vector(kernel(0)), Code::StaleScalar);
    assert!(hazard.detail.contains("went by what was there before the launch"), "{hazard}");
    clean(&ONE.vector(kernel(64)));
}
