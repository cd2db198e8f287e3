//! How long a layer's experts take on the cycle model.

#![allow(clippy::unwrap_used)]
use crate::device::open_timed;
use crate::machine::{CubeType, Profile};
use anychip_core::ops::{ExpertFfn, ExpertWeights, Intermediates};
use anychip_core::{DType, Matrix, Operation, ScaleLayout};

/// V4-Flash's experts over FP8 rows: what of FP8's peak they reach.
fn served(tokens: usize) -> f64 {
    let (count, top, hidden, inner) = (256, 6, 4096, 2048);
    let profile = Profile::open("950dt").unwrap();
    let peak = profile.peak(CubeType::Fp8).unwrap();
    let (device, watch) = open_timed(profile, false);
    let tensor = |dtype, sizes: &[usize]| device.tensor(dtype, sizes).unwrap();
    let weights = |rows, cols| {
        let (codes, scales) =
            (tensor(DType::E2M1, &[count, rows, cols]), tensor(DType::UE8M0, &[count, rows, cols / 32]));
        Matrix::scaled(&codes, &scales, ScaleLayout::per_row(32)).unwrap()
    };
    let x = (tensor(DType::E4M3, &[tokens, hidden]), tensor(DType::UE8M0, &[tokens, hidden / 128]));
    let experts = tensor(DType::I32, &[tokens, top]);
    // Spread evenly, as a multiplicative hash does.
    let chosen: Vec<u8> = (0..tokens * top)
        .flat_map(|choice| ((((choice * 2_654_435_761 % (1 << 32)) * count) >> 32) as i32).to_le_bytes())
        .collect();
    let mut stream = device.open_stream().unwrap();
    stream.write(&experts, &chosen).unwrap();
    let op = ExpertFfn {
        x: Matrix::scaled(&x.0, &x.1, ScaleLayout::per_row(128)).unwrap(),
        experts,
        weights: tensor(DType::F32, &[tokens, top]),
        routed: ExpertWeights {
            gate: weights(inner, hidden),
            up: weights(inner, hidden),
            down: weights(hidden, inner),
        },
        shared: None,
        limit: 10.0,
        intermediates: Intermediates::Served { block: 128 },
        out: tensor(DType::BF16, &[tokens, hidden]),
    };
    stream.enqueue(&op.build().unwrap()).unwrap();
    let launches = watch.take();
    for launch in &launches {
        println!("  {:.1} us, {} cores, {}", launch.timing.us, launch.timing.cores, launch.timing.bound());
    }
    let us: f64 = launches.iter().map(|launch| launch.timing.us).sum();
    let share = 6.0 * (tokens * top * hidden * inner) as f64 / us / 1e-6 / peak;
    println!("{tokens} tokens: {us:.1} us, {share:.3} of peak");
    share
}

#[test]
fn products_are_most_of_the_time() {
    assert!(served(16384) > 0.7);
}
