//! Flags that do not pair, and waits for what never comes (E6, E7).

use crate::rig::*;
use anychip_ascend::isa::{Body, Elem, Mode, Pipe};
use anychip_ascend::kernel::Context;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::Code;

/// Two engines that hand on through a flag, one way.
fn hand_on(cx: &mut Context<'_>, id: u8) {
    cx.set_flag(Pipe::Mte2, Pipe::V, id);
    cx.wait_flag(Pipe::Mte2, Pipe::V, id);
}

#[test]
fn e6_a_flag_is_set_and_nobody_waits() {
    let kernel = |drain: bool| {
        move |cx: &mut Context<'_>| {
            // As of a loop whose flags back are not drained behind it.
            for turn in 0..3 {
                if turn > 0 {
                    cx.wait_flag(Pipe::V, Pipe::Mte2, 0);
                }
                hand_on(cx, 0);
                cx.set_flag(Pipe::V, Pipe::Mte2, 0);
            }
            if drain {
                cx.wait_flag(Pipe::V, Pipe::Mte2, 0);
            }
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::FlagMisuse);
    line_has(&hazard.at, "cx.set_flag(Pipe::V");
    assert!(hazard.detail.contains("flag 0 of VECTOR to MTE2"), "{hazard}");
    clean(&ONE.vector(kernel(true)));
}

#[test]
fn e6_a_flag_is_set_twice() {
    let kernel = |back: bool| {
        move |cx: &mut Context<'_>| {
            hand_on(cx, 0);
            if back {
                cx.set_flag(Pipe::V, Pipe::Mte2, 0);
                cx.wait_flag(Pipe::V, Pipe::Mte2, 0);
            }
            hand_on(cx, 0);
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::FlagMisuse);
    line_has(&hazard.at, "cx.set_flag(Pipe::Mte2");
    assert!(hazard.detail.contains("may not have been waited for"), "{hazard}");
    clean(&ONE.vector(kernel(true)));
}

#[test]
fn e6_numbers_that_are_not_there() {
    for id in [6, 7, 8, 16] {
        only(&ONE.vector(move |cx| hand_on(cx, id)), Code::FlagMisuse);
    }
    clean(&ONE.vector(|cx| hand_on(cx, 5)));
    // A pair of engines has six.
    let many = |count: usize| {
        move |cx: &mut Context<'_>| {
            (0..count).for_each(|_| {
                cx.flag(Pipe::Mte2, Pipe::V);
            })
        }
    };
    let hazard = only(&ONE.vector(many(7)), Code::FlagMisuse);
    line_has(&hazard.at, "cx.flag");
    clean(&ONE.vector(many(6)));
}

/// Both vector halves set, the cube waits for one.
#[test]
fn e6_the_cube_waits_for_one_of_two() {
    let vector = |cx: &mut Context<'_>| {
        let tile = cx.ub(Elem::F16, 16, 16);
        cx.bcast(tile, 1.0);
        cx.barrier_all();
        let half = cx.half() as u8;
        cx.store_l1(tile, cx.cube_tile_at(Space::L1, 512 * u32::from(half), Elem::F16, 16, 16));
        cx.cross_set(Pipe::Mte3, Mode::Half(half), 2);
    };
    let cube = |halves: u8| {
        move |cx: &mut Context<'_>| {
            for half in 0..halves {
                cx.cross_wait(Pipe::Mte1, Mode::Half(half), 2);
                let at = 512 * u32::from(half);
                let tile = cx.cube_tile_at(Space::L1, at, Elem::F16, 16, 16);
                cx.load_l0a(tile, cx.cube_tile_at(Space::L0a, at, Elem::F16, 16, 16));
            }
        }
    };
    let hazard = only(&ONE.run(cube(1), vector), Code::FlagMisuse);
    line_has(&hazard.at, "cx.cross_set");
    assert!(hazard.detail.contains("set 1 times more than it was waited for"), "{hazard}");
    clean(&ONE.run(cube(2), vector));
}

/// The cube runs ahead: nobody tells it that flags were waited for.
#[test]
fn e6_a_counter_overflows() {
    let cube = |turns: usize, back: bool| {
        move |cx: &mut Context<'_>| {
            for turn in 0..turns {
                if back && turn > 1 {
                    cx.cross_wait(Pipe::Fix, Mode::Core, 1);
                }
                cx.cross_set(Pipe::Fix, Mode::Core, 0);
            }
        }
    };
    let vector = |turns: usize, back: bool| {
        move |cx: &mut Context<'_>| {
            for turn in 0..turns {
                cx.cross_wait(Pipe::Mte2, Mode::Core, 0);
                if back && turn + 2 < turns {
                    cx.cross_set(Pipe::Mte2, Mode::Core, 1);
                }
            }
        }
    };
    let hazard = only(&ONE.run(cube(16, false), vector(16, false)), Code::FlagMisuse);
    line_has(&hazard.at, "cx.cross_set(Pipe::Fix");
    assert!(hazard.detail.contains("counts to 15; this is set 16"), "{hazard}");
    clean(&ONE.run(cube(15, false), vector(15, false)));
    clean(&ONE.run(cube(40, true), vector(40, true)));
    // The other way round.
    let cube =
        |turns: usize| move |cx: &mut Context<'_>| (0..turns).for_each(|_| cx.cross_wait(Pipe::M, Mode::Core, 0));
    let vector =
        |turns: usize| move |cx: &mut Context<'_>| (0..turns).for_each(|_| cx.cross_set(Pipe::V, Mode::Core, 0));
    only(&ONE.run(cube(16), vector(16)), Code::FlagMisuse);
    clean(&ONE.run(cube(15), vector(15)));
}

/// Two engines set a flag: whose turn is whose is open.
#[test]
fn e6_two_engines_take_turns_at_a_flag() {
    let run = |other: Pipe| {
        let cube = |cx: &mut Context<'_>| (0..2).for_each(|_| cx.cross_wait(Pipe::M, Mode::Core, 0));
        let vector = move |cx: &mut Context<'_>| {
            cx.cross_set(Pipe::Mte3, Mode::Core, 0);
            cx.cross_set(other, Mode::Core, 0);
        };
        ONE.run(cube, vector)
    };
    let hazard = only(&run(Pipe::V), Code::FlagMisuse);
    assert!(hazard.with.is_some() && hazard.detail.contains("nothing orders them"), "{hazard}");
    clean(&run(Pipe::Mte3));
}

#[test]
fn e6_a_lock_is_kept() {
    let kernel = |open: bool| {
        move |cx: &mut Context<'_>| {
            cx.push(Body::Lock(Pipe::V, 1));
            cx.bcast(ub(0, 64), 1.0);
            if open {
                cx.push(Body::Unlock(Pipe::V, 1));
            }
        }
    };
    let hazard = only(&ONE.vector(kernel(false)), Code::FlagMisuse);
    line_has(&hazard.at, "Body::Lock");
    clean(&ONE.vector(kernel(true)));
}

/// Flags between units have 16 numbers, and halves two.
#[test]
fn e6_numbers_between_units_that_are_not_there() {
    let run = |mode: fn(u8) -> Mode, half: u8, id: u8| {
        let cube = move |cx: &mut Context<'_>| cx.cross_wait(Pipe::M, mode(half), id);
        let vector = move |cx: &mut Context<'_>| {
            if mode(half) == Mode::Core || cx.half() == usize::from(half.min(1)) {
                cx.cross_set(Pipe::V, mode(half), id);
            }
        };
        ONE.run(cube, vector)
    };
    for id in [16, 17, 255] {
        let hazard = only(&run(|_| Mode::Core, 0, id), Code::FlagMisuse);
        assert!(hazard.detail.contains(&format!("go from 0 to 15; got {id}")), "{hazard}");
    }
    clean(&run(|_| Mode::Core, 0, 15));
    let hazard = only(&run(Mode::Half, 2, 3), Code::FlagMisuse);
    assert!(hazard.detail.contains("vector halves 0 and 1; got 2"), "{hazard}");
    clean(&run(Mode::Half, 1, 3));
    clean(&run(Mode::Half, 0, 3));
}

/// A lock that nobody took, and one that another engine took.
#[test]
fn e6_who_gives_up_a_lock_holds_it() {
    let kernel = |by: Option<Pipe>| {
        move |cx: &mut Context<'_>| {
            if let Some(pipe) = by {
                cx.push(Body::Lock(pipe, 1));
            }
            cx.bcast(ub(0, 64), 1.0);
            cx.push(Body::Unlock(Pipe::V, 1));
        }
    };
    for wrong in [None, Some(Pipe::Mte2)] {
        let hazard = only(&ONE.vector(kernel(wrong)), Code::FlagMisuse);
        assert!(hazard.detail.contains("VECTOR gives up lock 1, which it does not hold"), "{hazard}");
    }
    clean(&ONE.vector(kernel(Some(Pipe::V))));
}

/// The flag back is waited for before anyone could set it.
#[test]
fn e7_a_flag_back_that_is_not_set_before_the_loop() {
    let kernel = |before: bool| {
        move |cx: &mut Context<'_>| {
            if before {
                cx.set_flag(Pipe::V, Pipe::Mte2, 0);
            }
            for _ in 0..3 {
                cx.wait_flag(Pipe::V, Pipe::Mte2, 0);
                hand_on(cx, 0);
                cx.set_flag(Pipe::V, Pipe::Mte2, 0);
            }
            if before {
                cx.wait_flag(Pipe::V, Pipe::Mte2, 0);
            }
        }
    };
    let report = ONE.vector(kernel(false));
    let hazard = only(&report, Code::Deadlock);
    let text = all(&report);
    assert!(text.contains("MTE2 waits for flag 0 of VECTOR"), "{text}");
    assert!(text.contains("VECTOR waits for flag 0 of MTE2"), "{text}");
    line_has(&hazard.at, "cx.wait_flag");
    clean(&ONE.vector(kernel(true)));
}

/// The cube waits for vectors that wait for the cube.
#[test]
fn e7_cube_and_vectors_wait_for_one_another() {
    let cube = |first: bool| {
        move |cx: &mut Context<'_>| {
            if first {
                cx.cross_set(Pipe::Fix, Mode::Core, 0);
            }
            cx.cross_wait(Pipe::Fix, Mode::Core, 1);
            if !first {
                cx.cross_set(Pipe::Fix, Mode::Core, 0);
            }
        }
    };
    let vector = |cx: &mut Context<'_>| {
        cx.cross_wait(Pipe::V, Mode::Core, 0);
        cx.cross_set(Pipe::V, Mode::Core, 1);
    };
    let hazard = only(&ONE.run(cube(false), vector), Code::Deadlock);
    assert!(hazard.detail.contains("other units (Core)"), "{hazard}");
    clean(&ONE.run(cube(true), vector));
    clean(&OLD.run(cube(true), vector));
}

/// One core has no part in a barrier of all.
#[test]
fn e7_a_core_skips_a_barrier_of_all() {
    let run = |skip: bool| {
        let kernel = move |cx: &mut Context<'_>| {
            if !(skip && cx.core() == 2) {
                cx.cross_set(Pipe::V, Mode::Everywhere, 0);
                cx.cross_wait(Pipe::V, Mode::Everywhere, 0);
            }
        };
        Rig { cores: 4, ..ONE }.run(|_| (), kernel)
    };
    let hazard = only(&run(true), Code::Deadlock);
    assert!(hazard.detail.contains("Everywhere"), "{hazard}");
    clean(&run(false));
}
