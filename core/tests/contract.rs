//! What the contract promises whatever the device: refusals, memory, recordings, and the counted fallback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use anychip_core::host::{self, HostDevice, Kernels};
use anychip_core::ops::{
    Choice, Embed, ExpertFfn, ExpertWeights, Hadamard, IndexScores, Intermediates, KeyScope, KvStore, Linear, NAMES,
    OpKind, Quantize, RmsNorm, Rope, Rounding, Route, SparseAttention, TopK,
};
use anychip_core::{
    Buffer, DType, Device, Error, Invalid, KvFormat, KvPool, Matrix, Numerics, Op, Operation, PAGE_ENTRIES, Paged,
    Result, ScaleLayout, Support, Tensor, WithFallback,
};

/// Runs `embed` only; or everything that has no kernel counts as an error.
struct Rows {
    embeds: bool,
}

impl Kernels for Rows {
    fn supports(&self, op: &Op) -> Support {
        match op.kind() {
            OpKind::Embed(op) if self.embeds && op.table.dtype() == DType::F32 => Support::Native,
            _ => Support::unsupported("operation", "embed of f32", op.name()),
        }
    }

    fn numerics(&self, _: &Op) -> Numerics {
        Numerics::f32()
    }

    fn run(&self, op: &Op) -> Result<()> {
        let OpKind::Embed(op) = op.kind() else { panic!("only what is supported is run") };
        let (table, ids, mut out) = (host::read(&op.table)?, host::read(&op.ids)?, host::write(&op.out)?);
        let (width, copies) = (op.table.size(1), op.out.size(1));
        for (t, &id) in ids.as_slice::<i32>().iter().enumerate() {
            for c in 0..copies {
                let row =
                    usize::try_from(id).ok().and_then(|id| table.as_slice::<f32>().get(id * width..(id + 1) * width));
                let out = &mut out.as_mut_slice::<f32>()[(t * copies + c) * width..][..width];
                out.copy_from_slice(row.unwrap_or(&vec![0.0; width]));
            }
        }
        Ok(())
    }
}

fn device(embeds: bool) -> Box<dyn Device> {
    Box::new(HostDevice::open("rows", "a test", 1 << 20, Rows { embeds }))
}

fn phantom(dtype: DType, sizes: &[usize]) -> Tensor {
    Tensor::new(&Buffer::phantom(1 << 20), 0, dtype, sizes).unwrap()
}

fn f32s(sizes: &[usize]) -> Tensor {
    phantom(DType::F32, sizes)
}

fn i32s(sizes: &[usize]) -> Tensor {
    phantom(DType::I32, sizes)
}

fn refused(op: impl Operation) -> String {
    match op.build() {
        Err(Error::Invalid(rule)) => rule.to_string(),
        Err(other) => panic!("not a broken rule: {other}"),
        Ok(op) => panic!("`{}` was built", op.name()),
    }
}

fn embed(device: &dyn Device) -> (Embed, Op) {
    let table = device.tensor(DType::F32, &[3, 2]).unwrap();
    let (ids, out) = (device.tensor(DType::I32, &[2]).unwrap(), device.tensor(DType::F32, &[2, 2, 2]).unwrap());
    let embed = Embed { table, ids, out };
    (embed.clone(), embed.build().unwrap())
}

fn bytes<T: Copy, const N: usize>(values: &[T], to: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&x| to(x)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn the_names_are_the_house_s() {
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!((NAMES.len(), names.len()), (21, 21));
}

#[test]
fn refusals_name_the_rule_the_limit_and_what_was_given() {
    let x = Matrix::plain(&f32s(&[2, 8])).unwrap();
    let w = Matrix::plain(&f32s(&[5, 7])).unwrap();
    let message = refused(Linear { x: x.clone(), w, out: f32s(&[2, 5]) });
    assert_eq!(message, "`linear`: x must have shape [1, T, G * K] = [1, 2, 7], got [1, 2, 8]");

    let message = refused(TopK { scores: phantom(DType::BF16, &[1, 4]), out: i32s(&[1, 2]) });
    assert_eq!(message, "`top_k`: scores must be f32, got bf16");

    let message = refused(Hadamard { x: f32s(&[1, 12]), out: f32s(&[1, 12]) });
    assert_eq!(message, "`hadamard`: n must be a power of two, got 12");

    let norm = RmsNorm { x: f32s(&[2, 4]), weight: None, eps: f32::NAN, rounding: Rounding::None, out: f32s(&[2, 4]) };
    assert!(refused(norm.clone()).contains("eps must be positive and finite, got NaN"));
    let weighted = RmsNorm { eps: 1e-6, rounding: Rounding::Bf16, weight: Some(f32s(&[4])), ..norm };
    assert!(refused(weighted).contains("absent with rounding in steps"));

    let rope = Rope { x: f32s(&[1, 2, 6]), angles: f32s(&[1, 4, 2]), inverse: false, out: f32s(&[1, 2, 6]) };
    assert!(refused(rope).contains("pairs must be at most D / 2 = 3, got 4"));

    let layout = ScaleLayout::BLOCK_128;
    let blocks = Matrix::scaled(&phantom(DType::E4M3, &[4, 200]), &phantom(DType::UE8M0, &[1, 2]), layout).unwrap();
    let message = refused(Quantize { x: f32s(&[4, 200]), out: blocks.clone() });
    assert!(message.contains("e4m3 or e2m1 with ue8m0 scales per row, got e4m3/128x128"), "{message}");
    let message = refused(Linear { x: blocks, w: Matrix::plain(&f32s(&[3, 200])).unwrap(), out: f32s(&[4, 3]) });
    assert!(message.contains("scale block of x must be one row"), "{message}");

    let route = Route {
        logits: f32s(&[2, 4]),
        choice: Choice::Best { bias: f32s(&[4]) },
        scale: 1.0,
        experts: i32s(&[2, 5]),
        weights: f32s(&[2, 5]),
    };
    assert!(refused(route).contains("k must be 1 to E = 4, got 5"));
}

#[test]
fn attention_operands_are_checked_against_their_pool() {
    let format = KvFormat::Fp8 { nope: 24, rope: 8 };
    let page = format.page_bytes();
    let pool = KvPool::new(format, &phantom(DType::U8, &[2, page])).unwrap();
    assert!(matches!(KvPool::new(format, &phantom(DType::U8, &[2, page + 1])), Err(Invalid::WrongShape { .. })));
    assert!(matches!(KvPool::new(format, &f32s(&[2, page])), Err(Invalid::WrongDType { .. })));
    let odd = KvFormat::Fp8 { nope: 25, rope: 8 };
    assert!(matches!(KvPool::new(odd, &phantom(DType::U8, &[1, odd.page_bytes()])), Err(Invalid::OutOfRange { .. })));
    let inside = Tensor::new(&Buffer::phantom(1 << 20), 32, DType::U8, &[2, page]).unwrap();
    assert!(matches!(KvPool::new(format, &inside), Err(Invalid::Misaligned { .. })));

    let kv = Paged { pool, table: i32s(&[1, 2]), sequence: i32s(&[3]) };
    let scope = KeyScope { kv: kv.clone(), entries: i32s(&[3, 5]) };
    let attention = SparseAttention {
        q: f32s(&[3, 2, 32]),
        scopes: vec![scope.clone()],
        sink: f32s(&[2]),
        scale: 0.1,
        rounding: Rounding::None,
        out: f32s(&[3, 2, 32]),
    };
    assert!(attention.clone().build().is_ok());
    assert!(
        refused(SparseAttention { scopes: vec![], ..attention.clone() })
            .contains("number of scopes must be 1 or 2, got 0")
    );
    assert!(
        refused(SparseAttention { q: f32s(&[3, 2, 16]), ..attention.clone() })
            .contains("entry size must be D = 16, got 32")
    );
    let short = KeyScope { entries: i32s(&[2, 5]), ..scope };
    assert!(refused(SparseAttention { scopes: vec![short], ..attention }).contains("entries must have shape [T, N]"));
    let scores = IndexScores {
        q: Matrix::plain(&f32s(&[6, 32])).unwrap(),
        weights: f32s(&[3, 2]),
        scale: 1.0,
        keys: Paged { sequence: i32s(&[4]), ..kv.clone() },
        visible: i32s(&[3]),
        rounding: Rounding::None,
        out: f32s(&[3, 9]),
    };
    assert!(refused(scores).contains("sequence numbers must have shape [rows] = [3], got [4]"));
    // Out of the pool in each way there is, and inside.
    for (sequence, entry, want) in
        [(0, -1, None), (-1, 0, None), (1, 0, None), (0, 128, None), (0, 70, None), (0, 3, Some((1, 3)))]
    {
        assert_eq!(kv.locate(&[1, 7], sequence, entry), want, "sequence {sequence} entry {entry}");
    }
    assert_eq!(PAGE_ENTRIES, 64);
    assert!(KvStore { x: f32s(&[3, 32]), kv, entries: i32s(&[3]) }.build().is_ok());
}

#[test]
fn experts_must_fit_each_other() {
    let plain = |sizes: &[usize]| Matrix::plain(&f32s(sizes)).unwrap();
    let routed = ExpertWeights { gate: plain(&[4, 6, 8]), up: plain(&[4, 6, 8]), down: plain(&[4, 8, 6]) };
    let ffn = ExpertFfn {
        x: plain(&[2, 8]),
        experts: i32s(&[2, 3]),
        weights: f32s(&[2, 3]),
        routed: routed.clone(),
        shared: None,
        limit: 10.0,
        intermediates: Intermediates::Exact,
        out: f32s(&[2, 8]),
    };
    let op = ffn.clone().build().unwrap();
    assert_eq!(op.cost().flops, 6 * 2 * 8 * 3 * 6);
    let swapped = ExpertWeights { down: routed.up.clone(), ..routed };
    assert!(
        refused(ExpertFfn { routed: swapped, ..ffn.clone() }).contains("down must have shape [E, d, I] = [4, 8, 6]")
    );
    assert!(refused(ExpertFfn { limit: 0.0, ..ffn.clone() }).contains("limit must be positive, got 0"));
    let served = ExpertFfn { intermediates: Intermediates::Served { block: 0 }, ..ffn };
    assert!(refused(served).contains("block must be at least 1, got 0"));
}

#[test]
fn operands_that_overlap_or_live_apart_are_refused() {
    let rows = device(true);
    let (embed, _) = embed(&*rows);
    let shared = rows.tensor(DType::F32, &[3, 2, 2]).unwrap();
    let halves = [shared.slice(0, 1).unwrap().reshape(&[2, 2]).unwrap(), shared.slice(1, 2).unwrap()];
    let clash = Embed { table: halves[0].clone(), out: halves[1].clone(), ..embed.clone() }.build().unwrap_err();
    assert!(matches!(&clash, Error::Invalid(Invalid::Aliased { .. })), "{clash}");
    let other = device(true);
    let apart = Embed { ids: other.tensor(DType::I32, &[2]).unwrap(), ..embed }.build().unwrap_err();
    assert!(matches!(&apart, Error::Invalid(Invalid::MixedDevices { .. })), "{apart}");
}

#[test]
fn memory_is_counted_and_given_back() {
    let rows = device(true);
    let held = rows.allocate((1 << 20) - 100).unwrap();
    let error = rows.allocate(101).unwrap_err();
    assert_eq!(error, Error::OutOfMemory { device: "rows".into(), requested: 101, available: 100 });
    assert!(matches!(rows.allocate(u64::MAX), Err(Error::OutOfMemory { .. })));
    drop(held);
    for _ in 0..10_000 {
        rows.allocate(1 << 20).unwrap();
    }
    assert!(rows.tensor(DType::F32, &[usize::MAX, 8]).is_err());
    assert!(rows.allocate(0).is_ok());
}

#[test]
fn what_is_not_the_device_s_own_is_foreign() {
    let (rows, other) = (device(true), device(true));
    let (mut stream, mut others) = (rows.open_stream().unwrap(), other.open_stream().unwrap());
    let tensor = other.tensor(DType::U8, &[4]).unwrap();
    assert!(matches!(stream.write(&tensor, &[0; 4]), Err(Error::Foreign { .. })));
    assert!(matches!(stream.read(&tensor, &mut [0; 4]), Err(Error::Foreign { .. })));
    assert!(matches!(others.write(&tensor, &[0; 3]), Err(Error::Invalid(Invalid::WrongLength { want: 4, got: 3 }))));
    assert!(matches!(stream.enqueue(&embed(&*other).1), Err(Error::Foreign { .. })));
    let (mine, theirs) = (stream.mark().unwrap(), others.mark().unwrap());
    assert!(matches!(stream.wait(&theirs), Err(Error::Foreign { .. })));
    assert!(matches!(mine.since(&theirs), Err(Error::Foreign { .. })));
    stream.wait(&mine).unwrap();
    assert!(stream.mark().unwrap().since(&mine).is_ok());
}

#[test]
fn a_recording_is_replayed_with_new_contents() {
    let rows = device(true);
    let mut stream = rows.open_stream().unwrap();
    let (embed, op) = embed(&*rows);
    stream.write(&embed.table, &bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], f32::to_le_bytes)).unwrap();
    let recording = stream.record(vec![op]).unwrap();
    assert_eq!(recording.device(), Some(rows.info().id));
    let mut got = vec![0; 32];
    for (ids, want) in
        [([2, 0], [4.0, 5.0, 4.0, 5.0, 0.0, 1.0, 0.0, 1.0]), ([-1, 1], [0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 2.0, 3.0])]
    {
        stream.replay(&recording, &[(&embed.ids, &bytes(&ids, i32::to_le_bytes))]).unwrap();
        stream.read(&embed.out, &mut got).unwrap();
        assert_eq!(floats(&got), want);
    }
}

#[test]
fn a_fallback_runs_elsewhere_and_is_counted() {
    let alone = device(false);
    let (_, op) = embed(&*alone);
    let refusal = alone.open_stream().unwrap().enqueue(&op).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "rows does not run `embed`: operation must be embed of f32, got embed; wrap the device in a fallback to run it elsewhere"
    );

    let wrapped: Box<dyn Device> = Box::new(WithFallback::new(alone, device(true)));
    let mut stream = wrapped.open_stream().unwrap();
    let (embed, op) = embed(&*wrapped);
    assert!(wrapped.supports(&op).is_native() && wrapped.fallbacks().is_empty());
    stream.write(&embed.table, &bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], f32::to_le_bytes)).unwrap();
    stream.write(&embed.ids, &bytes(&[1, 1], i32::to_le_bytes)).unwrap();
    stream.enqueue(&op).unwrap();
    let recording = stream.record(vec![op.clone()]).unwrap();
    stream.replay(&recording, &[]).unwrap();
    let mut got = vec![0; 32];
    stream.read(&embed.out, &mut got).unwrap();
    assert_eq!(floats(&got), [2.0, 3.0, 2.0, 3.0, 2.0, 3.0, 2.0, 3.0]);
    assert_eq!(wrapped.fallbacks(), [("embed", 2)]);

    // What neither runs stays refused, with the first device's reason.
    let norm = RmsNorm {
        x: wrapped.tensor(DType::F32, &[1, 4]).unwrap(),
        weight: None,
        eps: 1e-6,
        rounding: Rounding::None,
        out: wrapped.tensor(DType::F32, &[1, 4]).unwrap(),
    };
    assert!(matches!(stream.enqueue(&norm.build().unwrap()), Err(Error::Unsupported { .. })));
    assert_eq!(wrapped.fallbacks(), [("embed", 2)]);
}

#[test]
fn operands_can_be_listed_and_replaced() {
    let rows = device(true);
    let (embed, op) = embed(&*rows);
    let names: Vec<_> = op.operands().into_iter().map(|(name, access, _)| (name, access)).collect();
    use anychip_core::Access::{Read, Write};
    assert_eq!(names, [("table", Read), ("ids", Read), ("out", Write)]);
    let other = device(true);
    let moved = op.rebind(&mut |_, _, own| other.tensor(own.dtype(), own.sizes())).unwrap();
    assert_eq!((moved.device(), moved.name()), (Some(other.info().id), "embed"));
    let wrong = op.rebind(&mut |_, _, own| other.tensor(own.dtype(), &own.sizes()[1..]));
    assert!(matches!(wrong, Err(Error::Invalid(Invalid::BadView { .. }))));
    assert_eq!(embed.cost(), op.cost());
}
