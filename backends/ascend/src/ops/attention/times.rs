//! How long attention takes on the cycle model.

#![allow(clippy::unwrap_used)]
use crate::device::open_timed;
use crate::isa::Pipe;
use crate::machine::{CubeType, Profile};
use crate::sim::Timing;
use anychip_core::ops::{DenseAttention, KeyScope, Operation, Rounding, SparseAttention};
use anychip_core::{DType, Device, KvFormat, KvPool, Op, PAGE_ENTRIES, Paged};

/// A launch's time, and what of bf16's peak so many operations reach in it.
fn share(profile: &str, operations: usize, op: impl Fn(&dyn Device) -> Op) -> (Timing, f64) {
    let profile = Profile::open(profile).unwrap();
    let peak = profile.peak(CubeType::BF16).unwrap();
    let (device, watch) = open_timed(profile, false);
    device.open_stream().unwrap().enqueue(&op(&*device)).unwrap();
    let launches = watch.take();
    let us: f64 = launches.iter().map(|launch| launch.timing.us).sum();
    let share = operations as f64 / us / 1e-6 / peak;
    let timing = launches.into_iter().next().unwrap().timing;
    println!("{us:.1} us, {share:.3} of peak, {}, {:.2?}", timing.bound(), timing.busy());
    (timing, share)
}

/// V4-Flash's heads over 640 keys of FP8 each.
fn sparse(rows: usize) -> (Timing, f64) {
    let (heads, dim, keys, pages) = (64, 512, 640, 1024);
    share("950dt", 4 * rows * heads * dim * keys, |device| {
        let tensor = |dtype, sizes: &[usize]| device.tensor(dtype, sizes).unwrap();
        let integers = |sizes: &[usize], values: &mut dyn Iterator<Item = usize>| {
            let out = tensor(DType::I32, sizes);
            let bytes: Vec<u8> = values.flat_map(|value| (value as i32).to_le_bytes()).collect();
            device.open_stream().unwrap().write(&out, &bytes).unwrap();
            out
        };
        let format = KvFormat::Fp8 { nope: 448, rope: 64 };
        let kv = Paged {
            pool: KvPool::new(format, &tensor(DType::U8, &[pages, format.page_bytes()])).unwrap(),
            table: integers(&[1, pages], &mut (0..pages)),
            sequence: integers(&[rows], &mut std::iter::repeat_n(0, rows)),
        };
        let mut lists = (0..rows * keys).map(|i| (i / keys + 1999 * (i % keys)) % (pages * PAGE_ENTRIES));
        let entries = integers(&[rows, keys], &mut lists);
        SparseAttention {
            q: tensor(DType::BF16, &[rows, heads, dim]),
            scopes: vec![KeyScope { kv, entries }],
            sink: tensor(DType::F32, &[heads]),
            scale: 0.04,
            rounding: Rounding::Bf16,
            out: tensor(DType::BF16, &[rows, heads, dim]),
        }
        .build()
        .unwrap()
    })
}

/// 16 heads of 128 elements, each token over all.
fn dense(profile: &str, tokens: usize) -> f64 {
    let (heads, dim) = (16, 128);
    let timing = share(profile, 4 * heads * dim * tokens * tokens, |device| {
        let tensor = || device.tensor(DType::BF16, &[1, tokens, heads, dim]).unwrap();
        let (q, k, v, out) = (tensor(), tensor(), tensor(), tensor());
        DenseAttention { q, k, v, scale: 0.09, causal: false, sink: None, out }.build().unwrap()
    });
    timing.1
}

#[test]
fn gathered_keys_come_as_fast_as_sums_go_out() {
    let (timing, share) = sparse(1024);
    assert!(share > 0.7 && timing.busy()[&Pipe::Fix] > 0.9);
    // A token for each of 128 sequences.
    assert!(sparse(128).1 > 0.64);
}

#[test]
fn dense_attention_is_bound_by_the_way_of_its_scores() {
    assert!(dense("950dt", 4096) > 0.7);
    // Where they go through global memory.
    assert!(dense("910b", 4096) > 0.35);
}
