//! What operations of the vector unit compute that kernels find the largest scores by.
#![allow(missing_docs, clippy::unwrap_used)]

use anychip_ascend::isa::{Cmp, Count, Elem, Global, Tile};
use anychip_ascend::kernel::{Context, Kernel};
use anychip_ascend::machine::{Profile, Space};
use anychip_ascend::sim::{Gm, Options, launch};

/// What one vector half does, with a row to be put out.
struct One<F>(F, Global);

impl<F: Fn(&mut Context<'_>) -> Tile + Sync> Kernel for One<F> {
    fn cores(&self) -> usize {
        1
    }

    fn vector(&self, cx: &mut Context<'_>) {
        if cx.half() == 0 {
            let out = (self.0)(cx);
            cx.barrier_all();
            cx.store(out, self.1);
        }
    }
}

/// Integers that a machine puts out.
fn run(profile: &str, cols: u32, f: impl Fn(&mut Context<'_>) -> Tile + Sync) -> Vec<i32> {
    let mut out = vec![0; 4 * cols as usize];
    let mut gm = Gm::default();
    let kernel = One(f, Global::new(gm.output("out", &mut out), 0, Elem::I32, 1, cols));
    let report = launch(&Profile::open(profile).unwrap(), &kernel, &gm, Options::checked());
    assert!(report.hazards.codes().is_empty(), "{:?}", report.hazards.codes());
    drop(gm);
    out.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// A row of integers from `start` on.
fn ramp(cx: &mut Context<'_>, start: i32, cols: u32) -> Tile {
    let tile = cx.ub(Elem::I32, 1, cols);
    cx.ramp(tile, start, 1);
    tile
}

/// Those that are left keep their order; what is behind them stays, and none goes beyond the end.
#[test]
fn what_holds_is_squeezed_to_the_front() {
    for profile in ["950dt", "910b"] {
        let squeeze = |cols: u32, from: i32, least: i32| {
            run(profile, 16, move |cx| {
                let (to, all) = (cx.ub(Elem::I32, 1, 16), ramp(cx, from, 100));
                cx.bcast(to, -7);
                cx.squeeze(to.col_range(0, cols), all, (all, Cmp::Ge, least));
                to
            })
        };
        let want = |squeezed: std::ops::Range<i32>| -> Vec<i32> {
            squeezed.chain(std::iter::repeat_n(-7, 16)).take(16).collect()
        };
        assert_eq!(squeeze(16, 1000, 1090), want(1090..1100), "fewer than there is room for");
        assert_eq!(squeeze(16, 1000, 1084), want(1084..1100), "as many");
        assert_eq!(squeeze(8, 1000, 1000), want(1000..1008), "more");
        assert_eq!(squeeze(16, 1000, 1100), want(0..0), "none");
    }
}

/// What is compared is of another type than what is squeezed, or numbers, or both are tiles.
#[test]
fn any_comparison_squeezes() {
    let by_bytes = run("950dt", 8, |cx| {
        let (to, all) = (cx.ub(Elem::I32, 1, 8), ramp(cx, 0, 300));
        let (low, bytes) = (cx.ub(Elem::I32, 1, 300), cx.ub(Elem::U8, 1, 300));
        cx.and(low, all, 0xFF);
        cx.cast(bytes, low, anychip_ascend::isa::Round::Zero);
        cx.bcast(to, -1);
        cx.squeeze(to, all, (bytes, Cmp::Eq, 40));
        to
    });
    assert_eq!(by_bytes, [40, 296, -1, -1, -1, -1, -1, -1]);
    let by_numbers = run("910b", 8, |cx| {
        let (to, all) = (cx.ub(Elem::I32, 1, 8), ramp(cx, 0, 64));
        let [up, down] = [1, -1].map(|step| {
            let tile = cx.ub(Elem::F32, 1, 64);
            cx.ramp(tile, if step > 0 { 0 } else { 63 }, step);
            tile
        });
        cx.bcast(to, -1);
        cx.squeeze(to, all, (up, Cmp::Gt, down));
        to
    });
    assert_eq!(by_numbers, [32, 33, 34, 35, 36, 37, 38, 39]);
}

/// Each row by itself, as many as have a value, or as have it or a lower one.
#[test]
fn bytes_are_counted_by_value() {
    let counts = |count: Count| {
        run("950dt", 512, move |cx| {
            let bytes = Tile::dense(Space::Ub, cx.alloc(Space::Ub, 128), Elem::U8, 2, 64);
            let counts = Tile::dense(Space::Ub, cx.alloc(Space::Ub, 2048), Elem::I32, 2, 256);
            cx.bcast(bytes.row_range(0, 1), 3);
            cx.bcast(bytes.row_range(1, 1), 255);
            cx.bcast(Tile { cols: 32, ..bytes.row_range(1, 1) }, 0);
            cx.histogram(counts, bytes, count);
            Tile { rows: 1, cols: 512, pitch: 512, ..counts }
        })
    };
    let expected = |each: fn(usize, i32) -> i32| -> Vec<i32> {
        (0..2).flat_map(|row| (0..256).map(move |value| each(row, value))).collect()
    };
    let frequency = expected(|row, value| match (row, value) {
        (0, 3) => 64,
        (1, 0 | 255) => 32,
        _ => 0,
    });
    let accumulated = expected(|row, value| match (row, value) {
        (0, 3..) | (1, 255) => 64,
        (1, _) => 32,
        _ => 0,
    });
    assert_eq!(counts(Count::Frequency), frequency);
    assert_eq!(counts(Count::Accumulate), accumulated);
}
