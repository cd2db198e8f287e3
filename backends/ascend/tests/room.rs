//! Every operation's kernel at V4's sizes and others as large: all memories have room, and no rule of single instructions is
//! broken. Kernels are recorded, not computed.
#![allow(missing_docs, clippy::unwrap_used)]

use anychip_ascend::machine::Profile;
use anychip_ascend::open_timed;
use anychip_core::ops::{
    Choice, DenseAttention, Dequantize, Embed, ExpertFfn, ExpertGemm, ExpertWeights, Hadamard, HyperHead, HyperPost,
    HyperPre, IndexScores, Intermediates, KeyScope, KvCompress, KvStore, Linear, NewtonSchulz, Operation, Quantize,
    RmsNorm, Rope, Rounding, Route, SparseAttention, Swiglu, TopK,
};
use anychip_core::{DType, Device, Format, KvFormat, KvPool, Matrix, PAGE_ENTRIES, Paged, ScaleLayout, Tensor};
use std::cell::RefCell;

const F32: DType = DType::F32;
const BF16: DType = DType::BF16;
/// V4-Flash's hidden size, and V4-Pro's.
const HIDDEN: [usize; 2] = [4096, 7168];
const TOKENS: [usize; 2] = [64, 4096];
const FP8: KvFormat = KvFormat::Fp8 { nope: 448, rope: 64 };
const FP4: KvFormat = KvFormat::Fp4 { dim: 128 };

fn codes(block: usize) -> Format {
    Format::E4M3(ScaleLayout::per_row(block))
}

/// Routed experts' weights.
const EXPERTS: Format = Format::E2M1(ScaleLayout::per_row(32));

/// A machine whose operands hold nothing but lists, and what it refused.
struct Rig {
    device: Box<dyn Device>,
    refused: RefCell<Vec<String>>,
}

/// Runs operations on a machine of each generation.
fn on_both(operations: impl Fn(&Rig)) {
    for name in ["950dt", "910b"] {
        let (device, watch) = open_timed(Profile::open(name).unwrap(), false);
        let rig = Rig { device, refused: RefCell::default() };
        operations(&rig);
        let refused = rig.refused.into_inner();
        assert!(refused.is_empty(), "{name}: {refused:#?}");
        assert!(!watch.take().is_empty(), "{name}: nothing ran");
    }
}

impl Rig {
    fn tensor(&self, dtype: DType, sizes: &[usize]) -> Tensor {
        self.device.tensor(dtype, sizes).unwrap()
    }

    fn list(&self, sizes: &[usize], value: impl Fn(usize) -> usize) -> Tensor {
        let tensor = self.tensor(DType::I32, sizes);
        let bytes: Vec<u8> = (0..tensor.count()).flat_map(|i| (value(i) as i32).to_le_bytes()).collect();
        self.device.open_stream().unwrap().write(&tensor, &bytes).unwrap();
        tensor
    }

    fn matrix(&self, format: Format, sizes @ [groups, rows, cols]: [usize; 3]) -> Matrix {
        let codes = self.tensor(format.dtype(), &sizes);
        match format.layout().zip(format.scale_sizes(groups, rows, cols)) {
            None => Matrix::plain(&codes).unwrap(),
            Some((layout, sizes)) => {
                Matrix::scaled(&codes, &self.tensor(layout.scale.dtype(), &sizes), layout).unwrap()
            }
        }
    }

    /// One sequence of so many entries, for some rows.
    fn paged(&self, format: KvFormat, entries: usize, rows: usize) -> Paged {
        let pages = entries.div_ceil(PAGE_ENTRIES);
        let pool = KvPool::new(format, &self.tensor(DType::U8, &[pages, format.page_bytes()])).unwrap();
        Paged { pool, table: self.list(&[1, pages], |page| page), sequence: self.list(&[rows], |_| 0) }
    }

    fn run(&self, what: String, op: impl Operation) {
        let done = op.build().and_then(|op| self.device.open_stream()?.enqueue(&op));
        if let Err(error) = done {
            self.refused.borrow_mut().push(format!("{what}: {error}"));
        }
    }
}

#[test]
fn a_kernel_that_does_not_fit_has_no_time() {
    let small = "base = \"950dt\"\ntitle = \"a small UB\"\n[figures]\nub = { value = 16384, unit = \"bytes\", \
                 confidence = \"H\", source = \"a test\" }";
    let profile = Profile::parse("small", small).unwrap();
    for traces in [false, true] {
        let (device, watch) = open_timed(profile.clone(), traces);
        let rig = Rig { device, refused: RefCell::default() };
        let gate = |rows| rig.tensor(F32, &[rows, 64]);
        let swiglu = |rows| Swiglu { gate: gate(rows), up: gate(rows), weights: None, limit: 1.0, out: gate(rows) };
        rig.run("one row".into(), swiglu(1));
        assert_eq!((rig.refused.borrow().len(), watch.take().len()), (0, 1));
        rig.run("many rows".into(), swiglu(100_000));
        let refused = rig.refused.into_inner().concat();
        assert!(refused.contains("the kernel of `swiglu` is wrong: E1 out of bounds: ALLOC"), "{refused}");
        assert!(watch.take().is_empty());
    }
}

#[test]
fn rows_are_normed_gated_turned_and_coded() {
    on_both(|rig| {
        for (x, out) in [(BF16, BF16), (F32, F32), (BF16, F32), (F32, BF16)] {
            for rows in TOKENS {
                for width in HIDDEN {
                    let what = format!("{rows} x {width} of {x} to {out}");
                    let (from, to) = (rig.tensor(x, &[rows, width]), rig.tensor(out, &[rows, width]));
                    let op = Swiglu { gate: from.clone(), up: from.clone(), weights: None, limit: 10.0, out: to };
                    rig.run(format!("swiglu {what}"), op);
                    norm(rig, [x, out], [rows, width]);
                    for code in [codes(32), codes(64), codes(128), EXPERTS] {
                        let coded = rig.matrix(code, [1, rows, width]);
                        rig.run(format!("quantize {what} {code}"), Quantize { x: from.clone(), out: coded.clone() });
                        let out = rig.tensor(out, &[1, rows, width]);
                        rig.run(format!("dequantize {what} {code}"), Dequantize { x: coded, out });
                    }
                }
                let [from, to] = [x, out].map(|dtype| rig.tensor(dtype, &[rows, 64, 512]));
                let angles = rig.tensor(F32, &[rows, 32, 2]);
                rig.run(format!("rope {rows} {x} {out}"), Rope { x: from, angles, inverse: false, out: to });
                let [from, to] = [x, out].map(|dtype| rig.tensor(dtype, &[64 * rows, 128]));
                rig.run(format!("hadamard {rows} {x} {out}"), Hadamard { x: from, out: to });
            }
            // Heads' rows; rows far shorter than those of the unit's alignment; one that no step holds.
            for sizes in [[16_384, 512], [131_072, 8], [131_072, 1], [32_768, 24], [3, 40_000]] {
                norm(rig, [x, out], sizes);
            }
        }
        let x = rig.matrix(Format::E4M3(ScaleLayout::BLOCK_128), [1, 4096, 7168]);
        let out = rig.tensor(BF16, &[1, 4096, 7168]);
        rig.run("dequantize blocks".into(), Dequantize { x, out });
    });
}

fn norm(rig: &Rig, [from, to]: [DType; 2], [rows, width]: [usize; 2]) {
    for (weight, rounding) in [(None, Rounding::Bf16), (Some(BF16), Rounding::None), (Some(F32), Rounding::None)] {
        let (x, out) = (rig.tensor(from, &[rows, width]), rig.tensor(to, &[rows, width]));
        let op = RmsNorm { x, weight: weight.map(|weight| rig.tensor(weight, &[width])), eps: 1e-6, rounding, out };
        rig.run(format!("rms_norm {rows} x {width} of {from} to {to}, weight {weight:?}"), op);
    }
}

#[test]
fn streams_are_mixed() {
    on_both(|rig| {
        for dtype in [F32, BF16, DType::F16] {
            for (rows, n, d) in [(64, 4, 4096), (64, 4, 7168), (64, 16, 4096), (100, 2, 4096), (4096, 4, 7168)] {
                let what = format!("{rows} tokens, {n} streams of {d} {dtype}");
                let mixes = n * (2 + n);
                let streams = rig.tensor(dtype, &[rows, n, d]);
                let [y, x] = [(); 2].map(|()| rig.tensor(dtype, &[rows, d]));
                let [post, comb] = [&[rows, n][..], &[rows, n, n]].map(|sizes| rig.tensor(F32, sizes));
                let pre = HyperPre {
                    streams: streams.clone(),
                    mixer: rig.tensor(F32, &[mixes, n * d]),
                    base: rig.tensor(F32, &[mixes]),
                    scale: rig.tensor(F32, &[3]),
                    iterations: 20,
                    norm_eps: 1e-6,
                    eps: 1e-6,
                    x: x.clone(),
                    post: post.clone(),
                    comb: comb.clone(),
                };
                rig.run(format!("hyper_pre {what}"), pre);
                let head = HyperHead {
                    streams: streams.clone(),
                    mixer: rig.tensor(F32, &[n, n * d]),
                    base: rig.tensor(F32, &[n]),
                    scale: rig.tensor(F32, &[1]),
                    norm_eps: 1e-6,
                    eps: 1e-6,
                    out: x,
                };
                rig.run(format!("hyper_head {what}"), head);
                let out = rig.tensor(dtype, &[rows, n, d]);
                rig.run(format!("hyper_post {what}"), HyperPost { y, streams, post, comb, out });
            }
        }
    });
}

#[test]
fn experts_are_chosen_and_summed() {
    on_both(|rig| {
        for (hidden, tokens) in [(4096, 640), (7168, 64)] {
            let inner = 2048;
            for (x, intermediates) in [
                (codes(128), Intermediates::Served { block: 32 }),
                (codes(128), Intermediates::Served { block: 64 }),
                (codes(128), Intermediates::Served { block: 128 }),
                (Format::Plain(BF16), Intermediates::Exact),
            ] {
                let (shared, routed) = match intermediates {
                    Intermediates::Exact => (Format::Plain(BF16), Format::Plain(BF16)),
                    Intermediates::Served { .. } => (Format::E4M3(ScaleLayout::BLOCK_128), EXPERTS),
                };
                // All go to few of them, or to one, whose rows are then many.
                for (count, top) in [(256, 6), (8, 1)] {
                    let weights = |format, count| ExpertWeights {
                        gate: rig.matrix(format, [count, inner, hidden]),
                        up: rig.matrix(format, [count, inner, hidden]),
                        down: rig.matrix(format, [count, hidden, inner]),
                    };
                    let op = ExpertFfn {
                        x: rig.matrix(x, [1, tokens, hidden]),
                        experts: rig.list(&[tokens, top], |i| i % top),
                        weights: rig.tensor(F32, &[tokens, top]),
                        routed: weights(routed, count),
                        shared: Some(weights(shared, 1)),
                        limit: 10.0,
                        intermediates,
                        out: rig.tensor(BF16, &[tokens, hidden]),
                    };
                    rig.run(format!("expert_ffn {tokens} x {hidden}, {count} experts, {intermediates:?}"), op);
                }
            }
        }
        for (experts, k) in [(256, 6), (384, 8), (2048, 8)] {
            for rows in TOKENS {
                let pair = |dtype| rig.tensor(dtype, &[rows, k]);
                let op = Route {
                    logits: rig.tensor(F32, &[rows, experts]),
                    choice: Choice::Best { bias: rig.tensor(F32, &[experts]) },
                    scale: 1.5,
                    experts: pair(DType::I32),
                    weights: pair(F32),
                };
                rig.run(format!("route {rows} to {experts}"), op);
                let op = Route {
                    logits: rig.tensor(F32, &[rows, experts]),
                    choice: Choice::Hash {
                        table: rig.list(&[129_280, k], |i| i % experts),
                        tokens: rig.list(&[rows], |i| i),
                    },
                    scale: 1.5,
                    experts: pair(DType::I32),
                    weights: pair(F32),
                };
                rig.run(format!("route {rows} by hash to {experts}"), op);
            }
        }
    });
}

/// Results of a whole prefill, whose steps are as large as they get, with products that are next to nothing.
#[test]
fn many_rows_of_narrow_experts_are_summed() {
    on_both(|rig| {
        for (block, inner) in [(32, 64), (64, 64), (128, 128), (32, 1024), (64, 1024)] {
            for (tokens, hidden) in [(20_000, 64), (4096, 2048), (512, 7168)] {
                let weights = |format| ExpertWeights {
                    gate: rig.matrix(format, [2, inner, hidden]),
                    up: rig.matrix(format, [2, inner, hidden]),
                    down: rig.matrix(format, [2, hidden, inner]),
                };
                let op = ExpertFfn {
                    x: rig.matrix(codes(128), [1, tokens, hidden]),
                    experts: rig.list(&[tokens, 1], |i| i % 2),
                    weights: rig.tensor(F32, &[tokens, 1]),
                    routed: weights(EXPERTS),
                    shared: None,
                    limit: 10.0,
                    intermediates: Intermediates::Served { block },
                    out: rig.tensor(BF16, &[tokens, hidden]),
                };
                rig.run(format!("expert_ffn {tokens} x {hidden} x {inner}, block {block}"), op);
            }
        }
    });
}

#[test]
fn matrices_are_multiplied() {
    on_both(|rig| {
        let plain = Format::Plain;
        let e4m3 = Format::E4M3(ScaleLayout::BLOCK_128);
        for (x, w, out) in [
            (plain(BF16), plain(BF16), BF16),
            (plain(BF16), plain(F32), F32),
            (plain(F32), plain(F32), F32),
            (codes(128), e4m3, BF16),
            (codes(32), codes(32), F32),
            (codes(64), e4m3, BF16),
            (codes(128), EXPERTS, BF16),
            (EXPERTS, EXPERTS, F32),
            (plain(BF16), e4m3, BF16),
            (plain(BF16), EXPERTS, BF16),
        ] {
            for [m, n, k] in [[1, 1024, 7168], [64, 7168, 2048], [640, 1536, 4096], [130, 130, 16_384]] {
                let op =
                    Linear { x: rig.matrix(x, [1, m, k]), w: rig.matrix(w, [1, n, k]), out: rig.tensor(out, &[m, n]) };
                rig.run(format!("linear {m} x {n} x {k} of {x} by {w}"), op);
            }
            for experts in [8, 256] {
                let op = ExpertGemm {
                    x: rig.matrix(x, [1, 384, 4096]),
                    w: rig.matrix(w, [experts, 512, 4096]),
                    offsets: rig.list(&[experts + 1], |e| (48 * e).min(384)),
                    out: rig.tensor(out, &[384, 512]),
                };
                rig.run(format!("expert_gemm {experts} of {x} by {w}"), op);
            }
        }
        for sizes in [[1024, 1024], [2048, 512], [512, 2048]] {
            let (g, out) = (rig.tensor(F32, &sizes), rig.tensor(F32, &sizes));
            rig.run(format!("newton_schulz {sizes:?}"), NewtonSchulz { g, steps: vec![[3.4445, -4.775, 2.0315]], out });
        }
    });
}

#[test]
fn keys_are_attended_to() {
    on_both(|rig| {
        for format in [FP8, KvFormat::Fp4 { dim: 512 }, KvFormat::F32 { dim: 512 }] {
            for (dtype, rounding) in [(BF16, Rounding::Bf16), (F32, Rounding::None)] {
                for (rows, heads) in [(8, 64), (3, 128)] {
                    let scope = |keys| KeyScope {
                        kv: rig.paged(format, 65_536, rows),
                        entries: rig.list(&[rows, keys], |i| 1999 * i % 65_536),
                    };
                    let op = SparseAttention {
                        q: rig.tensor(dtype, &[rows, heads, 512]),
                        scopes: vec![scope(128), scope(1024)],
                        sink: rig.tensor(F32, &[heads]),
                        scale: 0.04,
                        rounding,
                        out: rig.tensor(dtype, &[rows, heads, 512]),
                    };
                    rig.run(format!("sparse_attention {rows} x {heads} of {dtype} over {format:?}"), op);
                }
            }
        }
        for dtype in [BF16, F32] {
            for (heads, groups, d, causal) in [(64, 64, 128, true), (16, 1, 512, false), (8, 8, 64, true)] {
                let operand = |heads| rig.tensor(dtype, &[1, 640, heads, d]);
                let (q, k, v, out) = (operand(heads), operand(groups), operand(groups), operand(heads));
                let op = DenseAttention { q, k, v, scale: 0.1, causal, sink: Some(rig.tensor(F32, &[heads])), out };
                rig.run(format!("dense_attention {heads} x {d} of {dtype}"), op);
            }
        }
    });
}

#[test]
fn entries_are_scored_and_the_best_are_found() {
    on_both(|rig| {
        for (keys, q, weights) in
            [(FP4, EXPERTS, BF16), (FP4, Format::Plain(F32), F32), (FP4, Format::Plain(BF16), BF16)]
        {
            for rows in [1, 100] {
                let op = IndexScores {
                    q: rig.matrix(q, [1, 64 * rows, 128]),
                    weights: rig.tensor(weights, &[rows, 64]),
                    scale: 0.01,
                    keys: rig.paged(keys, 4096, rows),
                    visible: rig.list(&[rows], |_| 4000),
                    rounding: if weights == BF16 { Rounding::Bf16 } else { Rounding::None },
                    out: rig.tensor(F32, &[rows, 4096]),
                };
                rig.run(format!("index_scores {rows} of {q} by {keys:?}"), op);
            }
        }
        for (rows, n, k) in
            [(1, 65_536, 1024), (100, 65_536, 1024), (64, 16_384, 512), (3, 9000, 9000), (1, 65_536, 4096)]
        {
            let (scores, out) = (rig.tensor(F32, &[rows, n]), rig.tensor(DType::I32, &[rows, k]));
            rig.run(format!("top_k {k} of {n}, {rows} rows"), TopK { scores, out });
        }
    });
}

#[test]
fn entries_are_pooled_and_stored() {
    on_both(|rig| {
        for (format, dtype) in [(FP8, F32), (FP8, BF16), (FP4, F32), (FP4, BF16), (KvFormat::F32 { dim: 512 }, BF16)] {
            for rows in TOKENS {
                let op = KvStore {
                    x: rig.tensor(dtype, &[rows, format.dim()]),
                    kv: rig.paged(format, 65_536, rows),
                    entries: rig.list(&[rows], |t| t),
                };
                rig.run(format!("kv_store {rows} of {dtype} to {format:?}"), op);
            }
        }
        for (ratio, overlap, d) in [(4, true, 512), (128, false, 512), (4, true, 128)] {
            for rows in TOKENS {
                let channels = if overlap { 2 * d } else { d };
                let slots = if overlap { 2 * ratio } else { ratio };
                let op = KvCompress {
                    kv: rig.tensor(F32, &[rows, channels]),
                    gate: rig.tensor(F32, &[rows, channels]),
                    ape: rig.tensor(F32, &[ratio, channels]),
                    state: rig.tensor(F32, &[2, 2, slots, channels]),
                    sequence: rig.list(&[rows], |_| 0),
                    position: rig.list(&[rows], |t| t),
                    closing: rig.list(&[rows / ratio + 1], |e| (e + 1) * ratio - 1),
                    overlap,
                    out: rig.tensor(F32, &[rows / ratio + 1, d]),
                };
                rig.run(format!("kv_compress {rows} by {ratio} of {d}"), op);
            }
        }
        for out in [F32, BF16] {
            for (rows, d) in [(64, 4096), (4096, 7168)] {
                let op = Embed {
                    table: rig.tensor(BF16, &[129_280, d]),
                    ids: rig.list(&[rows], |t| 31 * t),
                    out: rig.tensor(out, &[rows, 4, d]),
                };
                rig.run(format!("embed {rows} x {d} to {out}"), op);
            }
        }
    });
}
