//! Operations against the modules of a model that other code ran: `golden/A`, five layers in f32 by transformers, with a
//! trace of what went into and came out of each module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_core::DType::{F32, I32, U8};
use anychip_core::ops::{
    HyperHead, HyperPre, IndexScores, KeyScope, KvCompress, KvStore, Linear, RmsNorm, Rope, Rounding, SparseAttention,
    TopK,
};
use anychip_core::{DType, Device, KvFormat, KvPool, Matrix, Operation, PAGE_ENTRIES, Paged, RopeTable, Tensor, Yarn};
use safetensors::{Dtype, SafeTensors};

const TOKENS: usize = 75;
const HIDDEN: usize = 64;
const HEADS: usize = 4;
const DIM: usize = 32;
const WINDOW: usize = 8;
const EPS: f32 = 1e-6;

/// The golden model on the oracle's device.
struct Golden {
    device: Box<dyn Device>,
    weights: Vec<u8>,
    trace: Vec<u8>,
}

impl Golden {
    fn open() -> Golden {
        let read = |name: &str| std::fs::read(format!("{}/../../golden/A/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let device = anychip_reference::open(1 << 30);
        Golden { device, weights: read("model.safetensors"), trace: read("trace.safetensors") }
    }

    fn floats(&self, file: &[u8], name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(file).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn traced(&self, name: &str) -> Vec<f32> {
        self.floats(&self.trace, name)
    }

    fn traced_integers(&self, name: &str) -> Vec<i32> {
        let file = SafeTensors::deserialize(&self.trace).unwrap();
        let data = file.tensor(name).unwrap().data();
        data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// A weight under the sizes of the operand that it becomes.
    fn weight(&self, name: &str, sizes: &[usize]) -> Tensor {
        self.tensor(sizes, &self.floats(&self.weights, name))
    }

    fn trace_tensor(&self, name: &str, sizes: &[usize]) -> Tensor {
        self.tensor(sizes, &self.traced(name))
    }

    fn raw(&self, dtype: DType, sizes: &[usize], bytes: &[u8]) -> Tensor {
        let tensor = self.device.tensor(dtype, sizes).unwrap();
        self.device.open_stream().unwrap().write(&tensor, bytes).unwrap();
        tensor
    }

    fn tensor(&self, sizes: &[usize], values: &[f32]) -> Tensor {
        self.raw(F32, sizes, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn integers(&self, sizes: &[usize], values: &[i32]) -> Tensor {
        self.raw(I32, sizes, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn out(&self, sizes: &[usize]) -> Tensor {
        self.tensor(sizes, &vec![f32::NAN; sizes.iter().product()])
    }

    fn run(&self, op: impl Operation) {
        self.device.open_stream().unwrap().enqueue(&op.build().unwrap()).unwrap();
    }

    fn bytes_of(&self, tensor: &Tensor) -> Vec<u8> {
        let mut bytes = vec![0; tensor.bytes() as usize];
        self.device.open_stream().unwrap().read(tensor, &mut bytes).unwrap();
        bytes
    }

    fn floats_of(&self, tensor: &Tensor) -> Vec<f32> {
        self.bytes_of(tensor).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// `x w^T`, by groups where `w` has some.
    fn linear(&self, x: &Tensor, w: &Tensor) -> Tensor {
        let (x, w) = (Matrix::plain(x).unwrap(), Matrix::plain(w).unwrap());
        let out = self.out(&[x.rows(), w.groups() * w.rows()]);
        self.run(Linear { x, w, out: out.clone() });
        out
    }

    fn rms_norm(&self, x: &Tensor, weight: Option<Tensor>) -> Tensor {
        let out = self.out(x.sizes());
        self.run(RmsNorm { x: x.clone(), weight, eps: EPS, rounding: Rounding::None, out: out.clone() });
        out
    }

    fn rope(&self, x: &Tensor, compressed: bool, inverse: bool) -> Tensor {
        let yarn = Yarn { factor: 16.0, original_positions: 65536.0, beta_fast: 32.0, beta_slow: 1.0 };
        let table = if compressed { RopeTable::new(8, 160000.0, Some(yarn)) } else { RopeTable::new(8, 10000.0, None) };
        let angles = self.tensor(&[TOKENS, 4, 2], &table.angles(0..TOKENS as u32));
        let out = self.out(x.sizes());
        self.run(Rope { x: x.clone(), angles, inverse, out: out.clone() });
        out
    }

    /// The rows of `x` as entries of one sequence, which all `rows` rows of an operation belong to.
    fn pool(&self, x: &Tensor, rows: usize) -> Paged {
        let (count, dim) = (x.size(0), x.size(1));
        let (format, pages) = (KvFormat::F32 { dim }, count.div_ceil(PAGE_ENTRIES));
        let bytes = self.raw(U8, &[pages, format.page_bytes()], &vec![0xFF; pages * format.page_bytes()]);
        let table = self.integers(&[1, pages], &(0..pages as i32).rev().collect::<Vec<_>>());
        let sequence = |rows: usize| self.integers(&[rows], &vec![0; rows]);
        let paged = Paged { pool: KvPool::new(format, &bytes).unwrap(), table, sequence: sequence(count) };
        let entries = self.integers(&[count], &(0..count as i32).collect::<Vec<_>>());
        self.run(KvStore { x: x.clone(), kv: paged.clone(), entries });
        Paged { sequence: sequence(rows), ..paged }
    }

    fn assert_near(&self, what: &str, got: &Tensor, want: &[f32], tolerance: f32) {
        let got = self.floats_of(got);
        assert_eq!(got.len(), want.len(), "{what}");
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{what}[{i}] is {got}, not {want}");
        }
    }
}

#[test]
fn hyper_connections() {
    let golden = Golden::open();
    for layer in 0..5 {
        for part in ["attn_hc", "ffn_hc"] {
            let weight =
                |name: &str, sizes: &[usize]| golden.weight(&format!("model.layers.{layer}.{part}.{name}"), sizes);
            let traced = |name: &str| golden.traced(&format!("layers.{layer}.{part}.{name}"));
            let op = HyperPre {
                streams: golden.tensor(&[TOKENS, 4, HIDDEN], &traced("in")),
                mixer: weight("fn", &[24, 4 * HIDDEN]),
                base: weight("base", &[24]),
                scale: weight("scale", &[3]),
                iterations: 20,
                norm_eps: EPS,
                eps: EPS,
                x: golden.out(&[TOKENS, HIDDEN]),
                post: golden.out(&[TOKENS, 4]),
                comb: golden.out(&[TOKENS, 4, 4]),
            };
            golden.run(op.clone());
            for (name, got) in [("collapsed", &op.x), ("post", &op.post), ("comb", &op.comb)] {
                golden.assert_near(&format!("layer {layer} {part} {name}"), got, &traced(name), 3e-6);
            }
        }
    }
}

#[test]
fn the_head_of_the_hyper_connections() {
    let golden = Golden::open();
    let op = HyperHead {
        streams: golden.trace_tensor("hc_head.in", &[TOKENS, 4, HIDDEN]),
        mixer: golden.weight("model.hc_head.hc_fn", &[4, 4 * HIDDEN]),
        base: golden.weight("model.hc_head.hc_base", &[4]),
        scale: golden.weight("model.hc_head.hc_scale", &[1]),
        norm_eps: EPS,
        eps: EPS,
        out: golden.out(&[TOKENS, HIDDEN]),
    };
    golden.run(op.clone());
    golden.assert_near("hc_head.out", &op.out, &golden.traced("hc_head.out"), 3e-6);
}

/// Layer, module, window and entry size of every compressor.
const COMPRESSORS: [(usize, &str, usize, usize); 6] = [
    (1, "compressor", 4, DIM),
    (1, "compressor.indexer", 4, 16),
    (2, "compressor", 16, DIM),
    (3, "compressor", 4, DIM),
    (3, "compressor.indexer", 4, 16),
    (4, "compressor", 16, DIM),
];

#[test]
fn compressors_and_the_state_they_leave() {
    let golden = Golden::open();
    for (layer, module, m, dim) in COMPRESSORS {
        let overlap = m == 4;
        let (channels, slots) = if overlap { (2 * dim, 2 * m) } else { (dim, m) };
        let weight = |name: &str, sizes: &[usize]| {
            golden.weight(&format!("model.layers.{layer}.self_attn.{module}.{name}"), sizes)
        };
        let x = golden.trace_tensor(&format!("layers.{layer}.self_attn.in"), &[TOKENS, HIDDEN]);
        let half = slots * channels;
        let entries = TOKENS / m;
        let op = KvCompress {
            kv: golden.linear(&x, &weight("kv_proj.weight", &[channels, HIDDEN])),
            gate: golden.linear(&x, &weight("gate_proj.weight", &[channels, HIDDEN])),
            ape: weight("position_bias", &[m, channels]),
            state: golden.tensor(&[1, 2, slots, channels], &[vec![0.0; half], vec![f32::NEG_INFINITY; half]].concat()),
            sequence: golden.integers(&[TOKENS], &[0; TOKENS]),
            position: golden.integers(&[TOKENS], &(0..TOKENS as i32).collect::<Vec<_>>()),
            closing: golden.integers(&[entries], &(0..entries).map(|w| (w * m + m - 1) as i32).collect::<Vec<_>>()),
            overlap,
            out: golden.out(&[entries, dim]),
        };
        golden.run(op.clone());
        let normed = golden.rms_norm(&op.out, Some(weight("kv_norm.weight", &[dim])));
        let what = format!("layer {layer} {module}");
        golden.assert_near(
            &what,
            &normed,
            &golden.traced(&format!("layers.{layer}.self_attn.{module}.kv_norm.out")),
            5e-6,
        );

        let name = module.rsplit('.').next().unwrap();
        let traced = |kind: &str| golden.traced(&format!("cache.{layer}.{kind}.{name}"));
        let state = golden.floats_of(&op.state);
        let (values, scores) = state.split_at(half);
        let pending = (if overlap { m } else { 0 }) * channels;
        let ape = golden.floats_of(&op.ape);
        let near = |what: &str, got: f32, want: f32| assert!((got - want).abs() < 5e-6, "{what}: {got} is not {want}");
        for (i, (kv, gate)) in traced("buffer_kv").into_iter().zip(traced("buffer_gate")).enumerate() {
            near(&what, values[pending + i], kv);
            near(&what, scores[pending + i], gate + ape[i]);
        }
        if overlap {
            for (i, (kv, gate)) in traced("overlap_kv").into_iter().zip(traced("overlap_gate")).enumerate() {
                let place = i / dim * channels + i % dim;
                near(&what, values[place], kv);
                near(&what, scores[place], gate);
            }
        }
    }
}

#[test]
fn the_indexer_scores_and_selects() {
    let golden = Golden::open();
    let (heads, dim, entries, k) = (24, 16, TOKENS / 4, 4);
    for layer in [1, 3] {
        let name = |part: &str| format!("layers.{layer}.self_attn.{part}");
        let traced =
            |part: &str, sizes: &[usize]| golden.trace_tensor(&name(&format!("compressor.indexer.{part}")), sizes);
        let x = golden.trace_tensor(&name("in"), &[TOKENS, HIDDEN]);
        let projection = format!("model.{}", name("compressor.indexer.scorer.weights_proj.weight"));
        let scores = |visible: Vec<i32>| {
            let op = IndexScores {
                q: Matrix::plain(&traced("scorer.q", &[TOKENS * heads, dim])).unwrap(),
                weights: golden.linear(&x, &golden.weight(&projection, &[heads, HIDDEN])),
                scale: ((heads * dim) as f32).sqrt().recip(),
                keys: golden.pool(&traced("scorer.k", &[entries, dim]), TOKENS),
                visible: golden.integers(&[TOKENS], &visible),
                rounding: Rounding::None,
                out: golden.out(&[TOKENS, entries]),
            };
            golden.run(op.clone());
            op.out
        };
        let all = scores(vec![entries as i32; TOKENS]);
        let want = golden.traced(&name("compressor.indexer.scorer.scores_unmasked"));
        golden.assert_near(&format!("layer {layer} scores"), &all, &want, 3e-6);

        let out = golden.integers(&[TOKENS, k], &[0; TOKENS * 4]);
        let visible = (0..TOKENS).map(|p| (p as i32 + 1) / 4).collect();
        golden.run(TopK { scores: scores(visible), out: out.clone() });
        let got: Vec<i32> =
            golden.bytes_of(&out).chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
        let want = golden.traced_integers(&name("compressor.indexer.topk_indices"));
        for (p, (got, want)) in got.chunks(k).zip(want.chunks(k)).enumerate() {
            let set = |places: &[i32]| {
                let mut places = places.to_vec();
                places.sort();
                places
            };
            assert_eq!(set(got), set(want), "layer {layer} row {p}");
        }
    }
}

/// From the normed query and key latents through attention to the first half of the output projection: a window only,
/// a window and selected entries, a window and all entries.
#[test]
fn attention_of_every_kind() {
    let golden = Golden::open();
    for layer in 0..5 {
        let name = |part: &str| format!("layers.{layer}.self_attn.{part}");
        let weight = |part: &str, sizes: &[usize]| golden.weight(&format!("model.{}", name(part)), sizes);
        let compressed = layer > 0;
        let latent = golden.trace_tensor(&name("q_a_norm.out"), &[TOKENS, 24]);
        let q = golden.linear(&latent, &weight("q_b_proj.weight", &[HEADS * DIM, 24]));
        let q = golden.rms_norm(&q.reshape(&[TOKENS * HEADS, DIM]).unwrap(), None);
        let q = golden.rope(&q.reshape(&[TOKENS, HEADS, DIM]).unwrap(), compressed, false);
        let kv = golden.rope(&golden.trace_tensor(&name("kv_norm.out"), &[TOKENS, 1, DIM]), compressed, false);

        let window = |p: i32| (0..WINDOW as i32).map(move |i| if i <= p { p - i } else { -1 });
        let window: Vec<i32> = (0..TOKENS as i32).flat_map(window).collect();
        let mut scopes = vec![KeyScope {
            kv: golden.pool(&kv.reshape(&[TOKENS, DIM]).unwrap(), TOKENS),
            entries: golden.integers(&[TOKENS, WINDOW], &window),
        }];
        if compressed {
            let m = if layer % 2 == 1 { 4 } else { 16 };
            let entries = TOKENS / m;
            let (width, lists) = if m == 4 {
                (4, golden.traced_integers(&name("compressor.indexer.topk_indices")))
            } else {
                let seen = |p: usize| (0..entries).map(move |w| if w < (p + 1) / m { w as i32 } else { -1 });
                (entries, (0..TOKENS).flat_map(seen).collect())
            };
            let pooled = golden.trace_tensor(&name("compressor.compressed_kv"), &[entries, DIM]);
            let entries = golden.integers(&[TOKENS, width], &lists);
            scopes.push(KeyScope { kv: golden.pool(&pooled, TOKENS), entries });
        }
        let op = SparseAttention {
            q,
            scopes,
            sink: weight("sinks", &[HEADS]),
            scale: (DIM as f32).sqrt().recip(),
            rounding: Rounding::None,
            out: golden.out(&[TOKENS, HEADS, DIM]),
        };
        golden.run(op.clone());
        let out = golden.rope(&op.out, compressed, true).reshape(&[TOKENS, HEADS * DIM]).unwrap();
        let out = golden.linear(&out, &weight("o_a_proj.weight", &[2, 16, 2 * DIM]));
        golden.assert_near(&name("o_a_proj.out"), &out, &golden.traced(&name("o_a_proj.out")), 1e-5);
    }
}
