//! How long products take on the cycle model.

#![allow(clippy::unwrap_used)]
use super::{Gemm, Operand, Split};
use crate::isa::{Elem, Global};
use crate::machine::{CubeType, Profile};
use crate::ops::operand::scale_cols;
use crate::sim::{Gm, Machine, Timing};

fn operand(gm: &mut Gm<'_>, elem: Elem, [rows, k]: [usize; 2]) -> Operand {
    let codes = gm.phantom("codes", elem.bytes(rows * k) as u64);
    let scales = matches!(elem, Elem::E4M3 | Elem::E2M1).then(|| {
        let region = gm.phantom("scales", (rows * scale_cols(k)) as u64);
        Global::new(region, 0, Elem::E8M0, rows as u32, scale_cols(k) as u32)
    });
    Operand { codes: Global::new(codes, 0, elem, rows as u32, k as u32), scales }
}

fn time(profile: &Profile, kernel: &Gemm, gm: &Gm<'_>) -> Timing {
    let report = Machine::new(profile.clone()).time(kernel, gm);
    assert_eq!(report.hazards.errors().next(), None);
    report.timing.unwrap()
}

fn show(name: &str, timing: &Timing, share: f64) {
    let Timing { us, hbm_share, l2_share, l2_hit, cube_busy, vector_busy, .. } = timing;
    println!(
        "{name}: {us:.1} us, {share:.3} of peak, {}, cube {cube_busy:.2?} vector {vector_busy:.2?}, hbm {hbm_share:.2}, l2 \
         {l2_share:.2} hit {l2_hit:.2}",
        timing.bound()
    );
}

/// What of the cube's peak a product of one weight reaches.
fn dense(profile: &str, elem: Elem, out: Elem, [m, n, k]: [usize; 3]) -> f64 {
    let profile = Profile::open(profile).unwrap();
    let mut gm = Gm::default();
    let operands = [operand(&mut gm, elem, [m, k]), operand(&mut gm, elem, [n, k])];
    let to = Global::new(gm.phantom("out", out.bytes(m * n) as u64), 0, out, m as u32, n as u32);
    let kernel = Gemm::new(&profile, operands, to, [n, k], Split::Columns(1));
    let timing = time(&profile, &kernel, &gm);
    let share = 2.0 * (m * n * k) as f64 / timing.us / 1e-6 / profile.peak(elem.cube().unwrap()).unwrap();
    show(&format!("{} {elem} {m}x{n}x{k}", profile.name), &timing, share);
    share
}

/// What of FP8's peak, and of the memory's bandwidth, products of FP8 rows with FP4 experts reach.
fn experts(tokens: usize, [n, k]: [usize; 2]) -> (f64, f64) {
    let (count, top, profile) = (256, 6, Profile::open("950dt").unwrap());
    // Choices spread evenly, as a multiplicative hash does.
    let mut rows_of = vec![0i32; count];
    (0..tokens * top).for_each(|choice| rows_of[((choice * 2_654_435_761 % (1 << 32)) * count) >> 32] += 1);
    let mut end = 0;
    let ends = rows_of.iter().map(|rows| {
        end += rows;
        end
    });
    let offsets: Vec<u8> = [0].into_iter().chain(ends).flat_map(i32::to_le_bytes).collect();
    let rows = tokens * top;
    let mut gm = Gm::default();
    let offsets = Global::new(gm.input("offsets", &offsets), 0, Elem::I32, 1, count as u32 + 1);
    let operands = [operand(&mut gm, Elem::E4M3, [rows, k]), operand(&mut gm, Elem::E2M1, [count * n, k])];
    let to = Global::new(gm.phantom("out", 2 * (rows * n) as u64), 0, Elem::BF16, rows as u32, n as u32);
    let kernel = Gemm::new(&profile, operands, to, [n, k], Split::Rows { offsets, count: count as u32 });
    let timing = time(&profile, &kernel, &gm);
    let share = 2.0 * (rows * n * k) as f64 / timing.us / 1e-6 / profile.peak(CubeType::Fp8).unwrap();
    show(&format!("experts, {tokens} tokens, {n}x{k}"), &timing, share);
    let used = rows_of.iter().filter(|rows| **rows > 0).count();
    let least = (used * n * (k / 2 + k / 32) + rows * k + 2 * rows * n) as f64;
    (share, least / timing.us / 1e-6 / (profile.figures.hbm * 1e12))
}

#[test]
fn large_products_come_near_the_peak() {
    assert!(dense("950dt", Elem::F16, Elem::F16, [8192; 3]) > 0.95);
    assert!(dense("950dt", Elem::E4M3, Elem::BF16, [6144; 3]) > 0.88);
    assert!(dense("910b", Elem::F16, Elem::F16, [4096; 3]) > 0.8);
}

/// Small transfers that L2 has, between large ones that it has not, make these no cheaper.
#[test]
fn few_rows_take_what_their_weight_takes() {
    for name in ["950pr", "910b"] {
        let (profile, [m, n, k]) = (Profile::open(name).unwrap(), [16, 4096, 8192]);
        let peak = profile.peak(CubeType::BF16).unwrap();
        let us = 2.0 * (m * n * k) as f64 / (dense(name, Elem::BF16, Elem::BF16, [m, n, k]) * peak) / 1e-6;
        let least = (2 * n * k) as f64 / (profile.figures.hbm * 1e12) / 1e-6;
        assert!((least..1.4 * least).contains(&us), "{name}: {us} us for {least}");
    }
}

#[test]
fn many_rows_of_experts_come_near_the_peak_and_few_near_the_bandwidth() {
    assert!(experts(16384, [2048, 4096]).0 > 0.85);
    assert!(experts(64, [2048, 4096]).1 > 0.9);
}
