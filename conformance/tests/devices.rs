//! The devices of this workspace pass the quick profile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_conformance::{Report, Selection, run};
use anychip_core::forward::{Hooks, Recordings, Wrapped};
use anychip_core::{Accumulator, Device, Numerics, Op, ops};

fn quick(device: &dyn Device, seed: u64) -> Report {
    run(device, &Selection { seed, ..Selection::default() }, &mut |_| true).unwrap()
}

fn assert_passes(device: &dyn Device, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let report = quick(device, seed);
        println!("{}", report.matrix());
        assert!(report.passed, "{}", report.matrix());
        assert_eq!(report.counts.executed, report.counts.selected);
        let all: Vec<&str> = report.ops.iter().map(|o| o.op).collect();
        assert_eq!((all[0], &all[1..]), ("device", ops::NAMES));
    }
}

#[test]
fn cpu_passes() {
    assert_passes(&*anychip_cpu::open(), 0..1);
}

#[test]
fn cpu_passes_under_other_seeds() {
    assert_passes(&*anychip_cpu::open(), 1..3);
}

#[test]
fn reference_passes() {
    assert_passes(&*anychip_reference::open(4 << 30), 0..1);
}

/// The CPU, declaring the arithmetic of a coarser chip: a narrow accumulator that truncates, rough functions, flushing.
struct Modest;

impl Hooks for Modest {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::Whole
    }

    fn numerics(&self, _: &dyn Device, _: &Op) -> Numerics {
        Numerics {
            accumulator: Accumulator { significand_bits: 14, terms_per_rounding: 16, truncates: true },
            function_ulps: 64.0,
            flushes_subnormals: true,
            ..Numerics::f32()
        }
    }
}

/// A device that promises less is judged by less, and still by something: every bound is finite. The report shows what
/// was promised.
#[test]
fn who_declares_less_gets_wider_bounds_and_finite_ones() {
    let device = Wrapped::new(anychip_cpu::open(), Modest);
    assert_passes(&device, 0..3);
    let report = quick(&device, 3);
    let declared = |op: &str| report.ops.iter().find(|o| o.op == op).unwrap().declared.clone();
    assert_eq!(declared("linear").len(), 1);
    assert!(declared("linear")[0].starts_with("accumulator of 14 bits, 16 products to a rounding, truncating"));
}
