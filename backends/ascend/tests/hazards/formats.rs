//! HiF8 and e5m2: which products, conversions and operations there are (E8, E9).

use crate::cube::{operands, take};
use crate::rig::*;
use anychip_ascend::isa::{Body, Elem, Init, Pipe, Round, Tile};
use anychip_ascend::kernel::Context;
use anychip_ascend::machine::Space;
use anychip_ascend::sim::{Code, Report};

/// f32 to a type.
fn cast(to: Elem, round: Round) -> impl Fn(&mut Context<'_>) {
    move |cx: &mut Context<'_>| {
        let [from, codes] = [Elem::F32, to].map(|elem| cx.ub(elem, 1, 64));
        cx.bcast(from, 1.5);
        cx.cast(codes, from, round);
    }
}

fn round_of(elem: Elem) -> Round {
    if elem == Elem::HiF8 { Round::Away } else { Round::Even }
}

#[test]
fn e8_conversions_of_the_950() {
    for elem in [Elem::HiF8, Elem::E5M2] {
        let hazard = only(&OLD.vector(cast(elem, round_of(elem))), Code::NoPath);
        assert!(hazard.detail.contains(&format!("a conversion of {elem} is of the generation after")), "{hazard}");
        clean(&ONE.vector(cast(elem, round_of(elem))));
    }
}

/// HiF8 is rounded away from zero, e5m2 to even, and other floats not away from zero.
#[test]
fn e9_a_way_of_rounding_that_there_is_not() {
    only(&ONE.vector(cast(Elem::HiF8, Round::Even)), Code::WrongLayout);
    only(&ONE.vector(cast(Elem::E5M2, Round::Away)), Code::WrongLayout);
    only(&ONE.vector(cast(Elem::E5M2, Round::Zero)), Code::WrongLayout);
    only(&ONE.vector(cast(Elem::BF16, Round::Away)), Code::WrongLayout);
    clean(&ONE.vector(cast(Elem::HiF8, Round::Away)));
    clean(&ONE.vector(cast(Elem::I32, Round::Away)));
}

#[test]
fn e9_a_conversion_that_there_is_not() {
    let kernel = |from: Elem, to: Elem| {
        move |cx: &mut Context<'_>| {
            let [x, a, b] = [Elem::F32, from, to].map(|elem| cx.ub(elem, 1, 64));
            cx.bcast(x, 1.0);
            cx.cast(a, x, round_of(from));
            cx.cast(b, a, round_of(to));
        }
    };
    for (from, to) in [(Elem::HiF8, Elem::E5M2), (Elem::E4M3, Elem::HiF8), (Elem::E5M2, Elem::I32)] {
        let hazard = only(&ONE.vector(kernel(from, to)), Code::WrongLayout);
        assert!(hazard.detail.contains(&format!("no conversion of {from} to {to}")), "{hazard}");
    }
    for from in [Elem::HiF8, Elem::E5M2] {
        for wide in [Elem::F16, Elem::BF16] {
            clean(&ONE.vector(kernel(from, wide)));
            clean(&ONE.vector(kernel(wide, from)));
        }
        clean(&ONE.vector(kernel(from, Elem::F32)));
    }
}

/// Codes are moved, not computed on.
#[test]
fn e9_vectors_do_not_compute_on_codes() {
    let kernel = |sum: bool| {
        move |cx: &mut Context<'_>| {
            let [x, codes, copy] = [Elem::F32, Elem::HiF8, Elem::HiF8].map(|elem| cx.ub(elem, 1, 64));
            cx.bcast(x, 1.0);
            cx.cast(codes, x, Round::Away);
            cx.copy(copy, codes);
            if sum {
                cx.add(copy, codes, codes);
            }
        }
    };
    let hazard = only(&ONE.vector(kernel(true)), Code::WrongLayout);
    line_has(&hazard.at, "cx.add");
    assert!(hazard.detail.contains("hif8 is converted and moved, not computed on"), "{hazard}");
    clean(&ONE.vector(kernel(false)));
}

fn product(rig: &Rig, a: Elem, b: Elem) -> Report {
    rig.cube(move |cx| {
        let [to, x, w] = operands(cx, Elem::E4M3, [16, 32, 16]);
        let to = Tile { elem: Elem::F32, ..to };
        cx.mmad(to, x.of(Elem::E4M3), w.of(Elem::E4M3), Init::Zero);
        cx.barrier(Pipe::M);
        cx.mmad(to, x.of(a), w.of(b), Init::Accumulate);
        take(cx, to);
    })
}

/// HiF8 by HiF8; e4m3 and e5m2 as they come.
#[test]
fn e9_pairs_of_types() {
    let hazard = only(&product(&ONE, Elem::HiF8, Elem::E4M3), Code::WrongLayout);
    assert!(hazard.detail.contains("got hif8 by e4m3"), "{hazard}");
    only(&product(&ONE, Elem::E5M2, Elem::HiF8), Code::WrongLayout);
    only(&product(&ONE, Elem::E5M2, Elem::I8), Code::WrongLayout);
    for a in [Elem::E4M3, Elem::E5M2] {
        clean(&product(&ONE, a, Elem::E4M3));
        clean(&product(&ONE, a, Elem::E5M2));
    }
    clean(&product(&ONE, Elem::HiF8, Elem::HiF8));
}

/// HiF8 carries its range itself: there is no product of it with block scales.
#[test]
fn e9_block_scales_of_another_format() {
    let run = |elem: Elem| {
        ONE.cube(move |cx| {
            let [to, a, b] = operands(cx, Elem::E4M3, [16, 64, 16]);
            let ones = Tile::scales(cx.alloc(Space::L1, 32), 16, 2);
            cx.push(Body::FillL1(ones, 127));
            let scales = [a.scales_beside(), b.scales_beside()];
            scales.into_iter().for_each(|scale| cx.load_mx(ones, scale));
            cx.barrier_all();
            cx.mmad_mx(to, [a, b], scales, Init::Zero);
            cx.barrier(Pipe::M);
            cx.mmad_mx(to, [a.of(elem), b.of(elem)], scales, Init::Accumulate);
            take(cx, to);
        })
    };
    let hazard = only(&run(Elem::HiF8), Code::WrongLayout);
    line_has(&hazard.at, "cx.mmad_mx");
    assert!(hazard.detail.contains("MX operands are e4m3, e5m2 or e2m1; got hif8"), "{hazard}");
    clean(&run(Elem::E5M2));
}

/// The 910B's cube has neither.
#[test]
fn e9_products_of_the_950() {
    let run = |rig: &Rig, elem: Elem| {
        rig.cube(move |cx| {
            let [to, a, b] = operands(cx, Elem::I8, [16, 32, 16]);
            cx.mmad(to, a, b, Init::Zero);
            cx.barrier(Pipe::M);
            let other = if elem == Elem::I8 { to } else { to.of(Elem::F32) };
            cx.mmad(other, a.of(elem), b.of(elem), Init::Zero);
            cx.barrier(Pipe::M);
            take(cx, to);
        })
    };
    for elem in [Elem::HiF8, Elem::E5M2] {
        only(&run(&OLD, elem), Code::WrongLayout);
        clean(&run(&ONE, elem));
    }
    clean(&run(&OLD, Elem::I8));
}
