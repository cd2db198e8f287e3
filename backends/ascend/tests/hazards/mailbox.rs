//! The mailbox, which the scalar units of a core share: bounds, places, order, and words that are others than a kernel takes
//! them to be (E1, E2, E4, E5, E8, E9, E14).

use crate::rig::*;
use anychip_ascend::isa::{Body, Elem, Mode, Pipe, Tile};
use anychip_ascend::kernel::Context;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::{Code, Report};

#[test]
fn e1_behind_the_last_word() {
    let kernel = |at: u32| move |cx: &mut Context<'_>| cx.store_mailbox(at, 1);
    let hazard = only(&ONE.vector(kernel(3072)), Code::OutOfBounds);
    line_has(&hazard.at, "cx.store_mailbox");
    touches(&hazard, "mailbox", [3072, 3076]);
    assert!(hazard.detail.contains("kernels may use 3072 bytes"), "{hazard}");
    clean(&ONE.vector(kernel(3068)));
}

#[test]
fn e2_between_two_words() {
    let kernel = |at: u32| {
        move |cx: &mut Context<'_>| {
            cx.store_mailbox(at, 1);
            cx.load_mailbox(at, 1);
        }
    };
    let hazard = only(&ONE.cube(kernel(6)), Code::Misaligned);
    assert!(hazard.detail.contains("tiles of mailbox begin at multiples of 4 bytes; got 6"), "{hazard}");
    clean(&ONE.cube(kernel(4)));
}

/// It holds anything at a launch, also what looks like the word that is hoped for.
#[test]
fn e4_a_word_that_nobody_wrote() {
    let kernel = |at: u32| {
        move |cx: &mut Context<'_>| {
            cx.store_mailbox(0, 9);
            cx.load_mailbox(at, 9);
        }
    };
    let hazard = only(&ONE.vector(kernel(4)), Code::Uninitialised);
    line_has(&hazard.at, "cx.load_mailbox");
    touches(&hazard, "mailbox", [4, 5]);
    clean(&ONE.vector(kernel(0)));
}

/// The cube half's word, which the first vector half stores anew; `back` tells the cube half.
fn anew(store: u32, load: u32, back: bool) -> Report {
    let cube = move |cx: &mut Context<'_>| {
        cx.store_mailbox(8, 7);
        cx.cross_set(Pipe::S, Mode::Half(0), 0);
        if back {
            cx.cross_wait(Pipe::S, Mode::Half(0), 1);
        }
        cx.load_mailbox(8, load);
    };
    let vector = move |cx: &mut Context<'_>| {
        if cx.half() == 0 {
            cx.cross_wait(Pipe::S, Mode::Half(0), 0);
            cx.store_mailbox(8, store);
            if back {
                cx.cross_set(Pipe::S, Mode::Half(0), 1);
            }
        }
    };
    ONE.run(cube, vector)
}

#[test]
fn e5_no_flag_between_two_scalar_units() {
    let hazard = only(&anew(7, 7, false), Code::Race);
    touches(&hazard, "mailbox", [8, 12]);
    let text = hazard.to_string();
    assert!(text.contains("SLOAD") && text.contains("SSTORE"), "{text}");
    assert!(text.contains("of AIC") && text.contains("the scalar unit of AIV0"), "{text}");
    clean(&anew(7, 7, true));
    clean(&anew(9, 9, true));
}

/// The vector halves store to one word, which either may have last; to two words they do as they please.
#[test]
fn e5_two_vector_halves_store_to_one_word() {
    let kernel = |apart: u32| {
        move |cx: &mut Context<'_>| {
            cx.store_mailbox(apart * cx.half() as u32, 5);
        }
    };
    let hazard = only(&ONE.run(|_| (), kernel(0)), Code::Race);
    assert!(hazard.detail.contains("both write"), "{hazard}");
    clean(&ONE.run(|_| (), kernel(4)));
}

#[test]
fn e8_the_910b_has_none() {
    let kernel = |cx: &mut Context<'_>| cx.store_mailbox(0, 1);
    let hazard = only(&OLD.vector(kernel), Code::NoPath);
    assert!(hazard.detail.contains("910B1") && hazard.detail.ends_with("has no memory mailbox"), "{hazard}");
    only(&OLD.cube(|cx| _ = cx.load_mailbox(0, 1)), Code::NoPath);
    clean(&ONE.vector(kernel));
}

/// Words alone, and of the scalar units alone.
#[test]
fn e9_what_the_mailbox_does_not_take() {
    let tile = |space, elem, cols| Tile::dense(space, 0, elem, 1, cols);
    let store = |tile: Tile| move |cx: &mut Context<'_>| cx.push(Body::MailboxStore(tile, 0));
    let hazard = only(&ONE.vector(store(tile(Space::Mailbox, Elem::I32, 2))), Code::WrongLayout);
    assert!(hazard.detail.contains("word by word of 32 bits; got 2 of i32"), "{hazard}");
    only(&ONE.vector(store(tile(Space::Mailbox, Elem::F16, 1))), Code::WrongLayout);
    only(&ONE.vector(store(tile(Space::Ub, Elem::I32, 1))), Code::WrongLayout);
    clean(&ONE.vector(store(tile(Space::Mailbox, Elem::F32, 1))));
    let vector = |space| move |cx: &mut Context<'_>| cx.bcast(tile(space, Elem::I32, 1), 1);
    only(&ONE.vector(vector(Space::Mailbox)), Code::WrongLayout);
    clean(&ONE.vector(vector(Space::Ub)));
    let load = |space| {
        move |cx: &mut Context<'_>| {
            cx.push(Body::FillL1(tile(Space::L1, Elem::F32, 8), 0));
            cx.push(Body::LoadBt(tile(Space::L1, Elem::F32, 8), tile(space, Elem::F32, 8)));
        }
    };
    let hazard = only(&ONE.cube(load(Space::Mailbox)), Code::WrongLayout);
    assert!(hazard.detail.contains("LD_L1_BT does not reach the mailbox"), "{hazard}");
    clean(&ONE.cube(load(Space::Bt)));
}

/// A kernel goes by another word than is there.
#[test]
fn e14_a_word_is_another_than_it_was_taken_for() {
    let hazard = only(&anew(9, 7, true), Code::StaleScalar);
    line_has(&hazard.at, "cx.load_mailbox");
    touches(&hazard, "mailbox", [8, 12]);
    assert!(hazard.detail.contains("the kernel goes by 0x7; 0x9 is there"), "{hazard}");
    clean(&anew(9, 9, true));
}

/// A number of a list, which one unit of a core loads for all three, and which they go by.
#[test]
fn a_core_loads_a_number_once() {
    let run = |from: u64| {
        let take = move |cx: &mut Context<'_>, flag: u8| {
            cx.cross_wait(Pipe::S, Mode::Core, flag);
            cx.load_mailbox_i32(16, (X, 12))
        };
        let vector = move |cx: &mut Context<'_>| {
            let number = take(cx, 2);
            let tile = ub(cx.alloc(Space::Ub, 256), 64).of(Elem::I32);
            cx.bcast(tile, number);
        };
        let cube = move |cx: &mut Context<'_>| {
            let number = cx.load_i32(X, from);
            cx.store_mailbox(16, number as u32);
            cx.cross_set(Pipe::S, Mode::Core, 2);
        };
        ONE.run(cube, vector)
    };
    clean(&run(12));
    // The place that others take it to be of is another.
    only(&run(16), Code::StaleScalar);
}
