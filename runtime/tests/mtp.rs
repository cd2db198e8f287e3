//! The MTP layer's draft against plain f64 arithmetic, written from the formulas (DeepSeek V4 reference
//! `inference/model.py`: `MTPBlock`, `Block`, `Attention`, `MoE`, `ParallelHead`). It shares no operation with the crate:
//! it takes the streams after the last layer from a traced forward pass, and the weights' bytes from the checkpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_core::formats::{e2m1, e4m3};
use anychip_runtime::checkpoint::{Checkpoint, FileDType};
use anychip_runtime::config::{Compression, Config, LayerKind};
use anychip_runtime::synth::synth;
use anychip_runtime::{Model, Options, Precision, Rows};

/// The streams of one row, `[hc_mult][hidden_size]`.
type Streams = Vec<Vec<f64>>;

/// More than one block of FP8 and FP4 scales in each direction, the last one short; a window that ends between the
/// lengths of the two prompts; a clamp that clamps.
fn odd() -> Config {
    let layer = |compression, hash_routed| LayerKind { compression, hash_routed };
    let config = Config {
        hidden_size: 144,
        vocab_size: 300,
        layers: vec![layer(Compression::Overlap(4), true), layer(Compression::None, false)],
        mtp: Some(layer(Compression::None, false)),
        heads: 6,
        head_dim: 80,
        rope_dim: 24,
        q_lora_rank: 56,
        o_groups: 3,
        o_lora_rank: 40,
        sliding_window: 3,
        experts: 5,
        moe_intermediate_size: 72,
        swiglu_limit: 0.75,
        ..Config::tiny()
    };
    config.validate().unwrap();
    config
}

/// The draft in f64, with what could be mistaken for something else of the same shape.
#[derive(Clone, Copy)]
struct Reference<'a> {
    config: &'a Config,
    checkpoint: &'a Checkpoint,
    /// Beginnings of tensor names, and what is read in their place.
    renamed: &'a [(&'a str, &'a str)],
    /// The token that each row embeds.
    follows: &'a [u32],
    window: usize,
    theta: f64,
}

impl Reference<'_> {
    /// A tensor's numbers, row-major. FP8: one scale per 128 x 128 block; FP4: the even column in the low nibble, one
    /// scale per 32 columns; a scale byte `b` is `2^(b-127)`.
    fn read(&self, name: &str) -> Vec<f64> {
        let instead = self.renamed.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
        let name = instead.as_deref().unwrap_or(name);
        let tensor = self.checkpoint.tensor(name).unwrap();
        if let Some(values) = tensor.to_f32() {
            return values.into_iter().map(f64::from).collect();
        }
        let scales = self.checkpoint.tensor(&name.replace(".weight", ".scale")).unwrap();
        let (values, [rows, columns]): (Vec<f32>, [usize; 2]) = match tensor.dtype {
            FileDType::F8E4M3 => (tensor.bytes.iter().map(|&b| e4m3::TABLE[usize::from(b)]).collect(), [128, 128]),
            FileDType::I8 => {
                let codes = tensor.bytes.iter().flat_map(|&pair| [pair & 15, pair >> 4]);
                (codes.map(|code| e2m1::TABLE[usize::from(code)]).collect(), [1, 32])
            }
            other => panic!("{name} is {other}"),
        };
        let width = values.len() / tensor.shape[0];
        let scale = |i: usize| scales.bytes[i / width / rows * scales.shape[1] + i % width / columns];
        let value = |(i, &v): (usize, &f32)| f64::from(v) * 2f64.powi(i32::from(scale(i)) - 127);
        values.iter().enumerate().map(value).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        times(&self.read(&format!("{name}.weight")), x)
    }

    /// `w * x / sqrt(mean(x^2) + eps)`
    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.read(&format!("{name}.weight"));
        weight.iter().zip(self.rms(x)).map(|(w, x)| w * x).collect()
    }

    fn rms(&self, x: &[f64]) -> Vec<f64> {
        let factor = (dot(x, x) / x.len() as f64 + self.config.rms_norm_eps).sqrt().recip();
        x.iter().map(|x| x * factor).collect()
    }

    /// Turns the pairs of the last `rope_dim` elements by `position * theta^(-2i / rope_dim)`.
    fn rope(&self, x: &mut [f64], position: f64) {
        let (all, rope) = (x.len(), self.config.rope_dim);
        for (i, pair) in x[all - rope..].as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let (sin, cos) = (position * self.theta.powf(-2.0 * i as f64 / rope as f64)).sin_cos();
            *pair = [pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin];
        }
    }

    /// The logits of the last row. `seen` are the main model's streams after its last layer, one row per position.
    fn draft(&self, seen: &[Streams]) -> Vec<f64> {
        let table = self.read("embed.weight");
        let joined = seen.iter().zip(self.follows).map(|(streams, &token)| {
            let embedded = &table[token as usize * streams[0].len()..][..streams[0].len()];
            let e = self.linear("mtp.0.e_proj", &self.norm("mtp.0.enorm", embedded));
            let h = |x: &Vec<f64>| self.linear("mtp.0.h_proj", &self.norm("mtp.0.hnorm", x));
            streams.iter().map(|x| sum(&[1.0, 1.0], &[h(x), e.clone()])).collect()
        });
        let joined: Vec<Streams> = joined.collect();
        let between = self.sublayer("attn", &joined, |x| self.attention(x));
        let after = self.sublayer("ffn", &between, |x| x.iter().map(|x| self.experts(x)).collect());
        let last = after.last().unwrap();
        let (mix, base, scale) = self.mix("mtp.0.hc_head", last);
        let pre: Vec<f64> = mix.iter().zip(base).map(|(m, b)| sigmoid(m * scale[0] + b) + self.config.hc_eps).collect();
        self.linear("head", &self.norm("mtp.0.norm", &sum(&pre, last)))
    }

    /// `fn . f / sqrt(mean(f^2) + eps)` of the concatenated streams `f`, and what is yet to be applied: base and scale.
    fn mix(&self, name: &str, streams: &Streams) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mix = times(&self.read(&format!("{name}_fn")), &self.rms(&streams.concat()));
        (mix, self.read(&format!("{name}_base")), self.read(&format!("{name}_scale")))
    }

    /// Streams after a hyper-connected sublayer, of all rows.
    fn sublayer(&self, part: &str, rows: &[Streams], run: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>) -> Vec<Streams> {
        let (n, eps) = (self.config.hc_mult, self.config.hc_eps);
        let mut connections = Vec::new();
        let mut inputs = Vec::new();
        for streams in rows {
            let (mix, base, scale) = self.mix(&format!("mtp.0.hc_{part}"), streams);
            let at = |i: usize, scale: f64| mix[i] * scale + base[i];
            let pre: Vec<f64> = (0..n).map(|i| sigmoid(at(i, scale[0])) + eps).collect();
            let post: Vec<f64> = (n..2 * n).map(|i| 2.0 * sigmoid(at(i, scale[1]))).collect();
            let mut comb: Vec<f64> = (2 * n..2 * n + n * n).map(|i| at(i, scale[2]).exp()).collect();
            let divide = |comb: &mut [f64], first: usize, step: usize, eps: f64| {
                let total = comb[first..].iter().step_by(step).take(n).sum::<f64>() + eps;
                comb[first..].iter_mut().step_by(step).take(n).for_each(|c| *c /= total);
            };
            (0..n).for_each(|j| divide(&mut comb, j * n, 1, 0.0));
            comb.iter_mut().for_each(|c| *c += eps);
            (0..n).for_each(|k| divide(&mut comb, k, n, eps));
            for _ in 1..self.config.sinkhorn_iters {
                (0..n).for_each(|j| divide(&mut comb, j * n, 1, eps));
                (0..n).for_each(|k| divide(&mut comb, k, n, eps));
            }
            inputs.push(self.norm(&format!("mtp.0.{part}_norm"), &sum(&pre, streams)));
            connections.push((post, comb));
        }
        let outputs = run(&inputs);
        let expand = |row: usize| {
            let (post, comb) = &connections[row];
            let stream = |k: usize| {
                let weights: Vec<f64> = comb[k..].iter().step_by(n).copied().collect();
                sum(&[1.0, post[k]], &[sum(&weights, &rows[row]), outputs[row].clone()])
            };
            (0..n).map(stream).collect()
        };
        (0..rows.len()).map(expand).collect()
    }

    /// Sliding-window attention of all rows, row `p` at position `p` of a fresh sequence.
    fn attention(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let c = self.config;
        let key = |(t, x): (usize, &Vec<f64>)| {
            let mut key = self.norm("mtp.0.attn.kv_norm", &self.linear("mtp.0.attn.wkv", x));
            self.rope(&mut key, t as f64);
            key
        };
        let keys: Vec<Vec<f64>> = rows.iter().enumerate().map(key).collect();
        let sinks = self.read("mtp.0.attn.attn_sink");
        let wo_a = self.read("mtp.0.attn.wo_a.weight");
        let row = |(p, x): (usize, &Vec<f64>)| {
            let low = self.norm("mtp.0.attn.q_norm", &self.linear("mtp.0.attn.wq_a", x));
            let queries = self.linear("mtp.0.attn.wq_b", &low);
            let mut heads = Vec::new();
            for (q, sink) in queries.chunks_exact(c.head_dim).zip(&sinks) {
                let mut q = self.rms(q);
                self.rope(&mut q, p as f64);
                let window = &keys[(p + 1).saturating_sub(self.window)..=p];
                let z: Vec<f64> = window.iter().map(|k| dot(&q, k) / (c.head_dim as f64).sqrt()).collect();
                let total = z.iter().map(|z| z.exp()).sum::<f64>() + sink.exp();
                let weights: Vec<f64> = z.iter().map(|z| z.exp() / total).collect();
                let mut o = sum(&weights, window);
                self.rope(&mut o, -(p as f64));
                heads.extend(o);
            }
            let (inputs, matrix) = (heads.len() / c.o_groups, wo_a.len() / c.o_groups);
            let groups = wo_a.chunks_exact(matrix).zip(heads.chunks_exact(inputs));
            let low: Vec<f64> = groups.flat_map(|(w, group)| times(w, group)).collect();
            self.linear("mtp.0.attn.wo_b", &low)
        };
        rows.iter().enumerate().map(row).collect()
    }

    fn experts(&self, x: &[f64]) -> Vec<f64> {
        let c = self.config;
        // ln(1 + e^z) without the shortcut above z = 20: logits here are of order 1.
        let scores: Vec<f64> = self.linear("mtp.0.ffn.gate", x).iter().map(|z| z.exp().ln_1p().sqrt()).collect();
        let bias = self.read("mtp.0.ffn.gate.bias");
        let mut order: Vec<usize> = (0..c.experts).collect();
        order.sort_by(|&a, &b| (scores[b] + bias[b]).total_cmp(&(scores[a] + bias[a])));
        order.truncate(c.experts_per_token);
        let total: f64 = order.iter().map(|&e| scores[e]).sum();
        let expert = |name: String| {
            let limit = c.swiglu_limit;
            let gate = self.linear(&format!("{name}.w1"), x).into_iter().map(|a| a.min(limit));
            let up = self.linear(&format!("{name}.w3"), x).into_iter().map(|u| u.clamp(-limit, limit));
            let h: Vec<f64> = gate.zip(up).map(|(a, u)| a * sigmoid(a) * u).collect();
            self.linear(&format!("{name}.w2"), &h)
        };
        let mut weights: Vec<f64> = order.iter().map(|&e| scores[e] / total * c.routed_scaling_factor).collect();
        let mut parts: Vec<Vec<f64>> = order.iter().map(|e| expert(format!("mtp.0.ffn.experts.{e}"))).collect();
        weights.push(1.0);
        parts.push(expert("mtp.0.ffn.shared_experts".into()));
        sum(&weights, &parts)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks(x.len()).map(|row| dot(row, x)).collect()
}

fn sum(weights: &[f64], vectors: &[Vec<f64>]) -> Vec<f64> {
    (0..vectors[0].len()).map(|i| weights.iter().zip(vectors).map(|(w, v)| w * v[i]).sum()).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The largest difference; NaN if there is one.
fn far(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f64::total_cmp).unwrap()
}

/// Drafts after `tokens` with the token `next`: the model's must be the formulas', and every mistake must show.
fn check(config: &Config, checkpoint: &Checkpoint, model: &mut Model, tokens: &[u32], next: u32) {
    let last = format!("layers.{}.streams", config.layers.len() - 1);
    let mut seen: Vec<Streams> = Vec::new();
    let mut look = |name: &str, _: &_, bytes: &[u8]| {
        if name == last {
            let values = bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b)));
            let streams: Vec<_> = values.collect::<Vec<_>>().chunks(config.hidden_size).map(<[f64]>::to_vec).collect();
            seen.extend(streams.chunks(config.hc_mult).map(<[Vec<f64>]>::to_vec));
        }
    };
    let sequence = model.open_sequence().unwrap();
    model.forward_traced(&[(sequence, tokens)], Rows::Last, &mut look).unwrap();
    let got: Vec<f64> = model.draft(sequence, next).unwrap().into_iter().map(f64::from).collect();
    model.release(sequence).unwrap();
    assert_eq!(seen.len(), tokens.len());

    let follows = &[&tokens[1..], &[next]].concat()[..];
    let right = Reference { config, checkpoint, renamed: &[], follows, window: config.sliding_window, theta: 10000.0 };
    let want = right.draft(&seen);
    assert!(far(&got, &want) <= 1e-4, "a draft after {} tokens is {} off", tokens.len(), far(&got, &want));

    let renamed = |renamed| Reference { renamed, ..right };
    let mut wrong = vec![
        ("projections", renamed(&[("mtp.0.e_proj", "mtp.0.h_proj"), ("mtp.0.h_proj", "mtp.0.e_proj")])),
        ("input norms", renamed(&[("mtp.0.enorm", "mtp.0.hnorm"), ("mtp.0.hnorm", "mtp.0.enorm")])),
        ("norm", renamed(&[("mtp.0.norm", "norm")])),
        ("hc_head", renamed(&[("mtp.0.hc_head", "hc_head")])),
        ("router bias", renamed(&[("mtp.0.ffn.gate.bias", "layers.1.ffn.gate.bias")])),
        ("sink", renamed(&[("mtp.0.attn.attn_sink", "layers.1.attn.attn_sink")])),
        ("token", Reference { follows: tokens, ..right }),
        ("own row alone", Reference { window: 1, ..right }),
        ("theta", Reference { theta: config.compress_rope_theta, ..right }),
    ];
    if tokens.len() > right.window {
        wrong.push(("window", Reference { window: right.window + 1, ..right }));
    }
    for (what, reference) in wrong {
        let off = far(&reference.draft(&seen), &want);
        assert!(off > 1e-2, "a wrong {what} would pass after {} tokens: only {off} off", tokens.len());
    }
}

#[test]
fn a_draft_is_what_the_formulas_say() {
    let (dir, config) = (tempfile::tempdir().unwrap(), odd());
    let path = dir.path().join("odd");
    synth(&config, 8, &path, &false.into(), &|_, _| {}).unwrap();
    let options = Options { precision: Precision::Exact, context: 64, draft: true, ..Options::default() };
    let mut model = Model::open(common::device("cpu"), &path, options, &(), &false.into()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    check(&config, &checkpoint, &mut model, &[17, 251, 4], 96);
    check(&config, &checkpoint, &mut model, &[17, 251, 4, 96, 203], 88);
}
