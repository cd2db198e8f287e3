#![allow(clippy::unwrap_used)]
use super::*;
use crate::sim::{Machine, Options, launch};

fn profile(name: &str) -> Profile {
    Profile::open(name).unwrap()
}

/// A kernel over operands of `gm`.
fn kernel<'a>(gm: &mut Gm<'a>, [scores, out]: [u16; 2], [rows, width, k]: [u32; 3], plan: Plan) -> TopK {
    let scores = Global::new(scores, 0, Elem::F32, rows, width);
    let out = Global::new(out, 0, Elem::I32, rows, k);
    TopK::new(gm, scores, out, plan, (rows * plan.segments).div_ceil(2).clamp(1, 32) as usize)
}

/// The places that a machine finds.
fn found(profile: &Profile, scores: &[f32], [rows, width, k]: [u32; 3], plan: Plan) -> Vec<i32> {
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    let mut out = vec![0; 4 * (rows * k) as usize];
    let mut gm = Gm::default();
    let regions = [gm.input("scores", &bytes), gm.output("out", &mut out)];
    let kernel = kernel(&mut gm, regions, [rows, width, k], plan);
    let report = launch(profile, &kernel, &gm, Options::checked());
    assert_eq!(report.hazards.errors().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    drop(gm);
    out.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// Scores as the machine takes them: the 950 has no subnormal ones.
fn taken(profile: &Profile, score: f32) -> f32 {
    if profile.arch == Arch::V3510 && score.is_subnormal() { 0.0 } else { score }
}

/// The places that a plain sort finds in a row.
fn sorted(profile: &Profile, row: &[f32], k: usize) -> Vec<i32> {
    let mut places: Vec<usize> = (0..row.len()).filter(|place| row[*place] > f32::NEG_INFINITY).collect();
    let score = |place: usize| taken(profile, row[place]);
    places.sort_by(|a, b| score(*b).partial_cmp(&score(*a)).unwrap());
    let found = places.into_iter().map(|place| place as i32);
    found.chain(std::iter::repeat(-1)).take(k).collect()
}

/// Both ways, in steps of few scores and as the plan has it, and a row in segments.
#[track_caller]
fn check(width: u32, k: u32, score: impl Fn(u32) -> f32) {
    let rows = 2;
    let scores: Vec<f32> = (0..rows * width).map(score).collect();
    let whole = Plan { segment: width.next_multiple_of(STEP).max(STEP), segments: 1, way: Way::Sorting };
    let cut = Plan { segment: STEP, segments: width.div_ceil(STEP).max(1), way: Way::Sorting };
    for name in ["950dt", "910b"] {
        let profile = profile(name);
        let want: Vec<i32> =
            scores.chunks_exact(width as usize).flat_map(|row| sorted(&profile, row, k as usize)).collect();
        for plan in [whole, cut] {
            let mut ways = vec![Way::Sorting, Way::of(&profile, width, k, plan.segments > 1)];
            // Both rows of what is chosen have to be as long as the ranks are many.
            let steps = [1024, 3072].into_iter().filter(|step| *step >= 2 * k.next_multiple_of(RUN));
            ways.extend(steps.filter(|_| name == "950dt").map(Way::Threshold));
            for way in ways {
                let plan = Plan { way, ..plan };
                let got = found(&profile, &scores, [rows, width, k], plan);
                assert!(got == want, "{name}, {width} scores, {k} ranks, {plan:?}");
            }
        }
    }
}

/// Numbers that look like chance, always the same.
fn chance(place: u32) -> u32 {
    let mixed = (place ^ 0x9E37_79B9).wrapping_mul(0x85EB_CA6B);
    let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xC2B2_AE35);
    mixed ^ mixed >> 16
}

#[test]
fn ranks_of_any_scores() {
    let any = |place| f32::from_bits(chance(place));
    for (width, k) in [(4096, 64), (5003, 100), (2077, 512), (1, 1), (33, 32), (9000, 1), (3000, 333)] {
        check(width, k, any);
    }
}

#[test]
fn the_last_rank_is_shared_by_many() {
    for (values, k) in [(2, 400), (7, 64), (300, 100)] {
        check(5000, k, |place| (chance(place) % values) as f32 - 1.0);
    }
    // Neighbours: only the lowest byte differs, or only the highest bits.
    check(5000, 200, |place| f32::from_bits(1f32.to_bits() + chance(place) % 256));
    check(5000, 200, |place| f32::from_bits(chance(place) & 0xFF80_0000));
    check(5000, 200, |place| -f32::from_bits(0x3F80_00FF + (chance(place) % 3)));
}

#[test]
fn all_scores_are_one() {
    for score in
        [0.0, -0.0, 1.0, -1.5, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 1e-40]
    {
        check(3001, 70, |_| score);
    }
}

#[test]
fn zeros_and_what_is_near_them() {
    let near = [0.0, -0.0, 1e-40, -1e-40, f32::from_bits(1), -f32::from_bits(1), f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
    for k in [31, 500, 1000] {
        check(4100, k, |place| near[chance(place) as usize % 8]);
        check(4100, k, |place| if place % 3 == 0 { f32::NAN } else { near[chance(place) as usize % 8] });
    }
}

/// Fewer scores than ranks, as many, and one more; and fewer that are any.
#[test]
fn ranks_that_there_are_not() {
    let any = |place| (chance(place) % 1000) as f32;
    for (width, k) in [(40, 40), (500, 512), (513, 512), (1024, 512), (2050, 512)] {
        check(width, k, any);
    }
    check(4000, 300, |place| if place % 40 == 7 { any(place) } else { f32::NEG_INFINITY });
    check(4000, 64, |place| if place % 4000 < 64 { any(place) } else { f32::NAN });
}

/// What is planned has room in UB, whatever the ranks.
#[test]
fn every_plan_has_room() {
    let profile = profile("950dt");
    for k in [1, 31, 512, 777, 1000, 1024, 1500, 2000, 2048, 2049] {
        for (rows, width) in [(64, 40_000), (3, 300_000)] {
            let plan = Plan::of(&profile, rows, width, k);
            let (mut gm, mut out) = (Gm::default(), vec![0; 4 * k as usize]);
            let bytes = vec![0; 4 * width as usize];
            let regions = [gm.input("scores", &bytes), gm.output("out", &mut out)];
            let kernel = kernel(&mut gm, regions, [1, width, k], plan);
            let report = launch(&profile, &kernel, &gm, Options::checked());
            assert_eq!(report.hazards.errors().map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{k}: {plan:?}");
        }
    }
}

/// Cycles of a launch whose operands hold anything.
fn cycles([rows, width, k]: [u32; 3], plan: impl Fn(Plan) -> Plan) -> f64 {
    let machine = Machine::new(profile("950dt"));
    let mut gm = Gm::default();
    let plan = plan(Plan::of(machine.profile(), rows, width, k));
    let sizes = [rows * width, rows * k].map(|count| 4 * u64::from(count));
    let regions = [gm.phantom("scores", sizes[0]), gm.phantom("out", sizes[1])];
    machine.time(&kernel(&mut gm, regions, [rows, width, k], plan), &gm).timing.unwrap().cycles
}

/// The way that is planned is the shorter one, and far shorter for rows as an indexer has them.
#[test]
fn the_shorter_way_is_planned() {
    for (sizes, most) in [
        ([64, 2048, 64], 1.0),
        ([64, 2048, 512], 1.0),
        ([64, 4096, 1024], 1.0),
        ([1, 16_384, 512], 1.0),
        ([64, 16_384, 512], 0.5),
        ([64, 16_384, 1024], 0.6),
        ([64, 65_536, 512], 0.4),
    ] {
        let planned = cycles(sizes, |plan| {
            assert_ne!(plan.way, Way::Sorting, "{sizes:?}");
            plan
        });
        let sorted = cycles(sizes, |plan| Plan { way: Way::Sorting, ..plan });
        assert!(planned < most * sorted, "{sizes:?}: {planned} cycles, {sorted} by sorting");
    }
}

#[test]
fn few_scores_are_sorted() {
    let profiles = ["950dt", "910b"].map(profile);
    for (profile, [width, k]) in profiles.iter().zip([[2000, 1], [16_384, 512]]).chain([(&profiles[0], [4000, 1024])]) {
        assert_eq!(Plan::of(profile, 64, width, k).way, Way::Sorting, "{width}, {k}");
    }
    assert_eq!(Plan::of(&profiles[0], 64, 100_000, 3000).way, Way::Sorting, "more ranks than a pass finds");
}
