//! Hyper-connections and Newton-Schulz.

use super::Fault;
use super::bench::{Bench, bf};
use anychip_core::ops::{HyperHead, HyperPre, NewtonSchulz, OpKind, Operation};
use anychip_core::{Op, Result};

const PRE: &[&str] = &["hyper_pre"];
const POST: &[&str] = &["hyper_post"];
const MIXED: &[&str] = &["hyper_pre", "hyper_head"];
const MUON: &[&str] = &["newton_schulz"];

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("hyper", name, ops, bug, run)
}

fn pre(b: &mut Bench<'_>, op: &Op, f: fn(&mut HyperPre)) -> Result<()> {
    let OpKind::HyperPre(pre) = op.kind() else { return b.run(op) };
    let mut pre = pre.clone();
    f(&mut pre);
    b.run(&pre.build()?)
}

fn eps(b: &mut Bench<'_>, op: &Op, norm: Option<f32>, eps: Option<f32>) -> Result<()> {
    match op.kind() {
        OpKind::HyperPre(p) => {
            let p = HyperPre { norm_eps: norm.unwrap_or(p.norm_eps), eps: eps.unwrap_or(p.eps), ..p.clone() };
            b.run(&p.build()?)
        }
        OpKind::HyperHead(h) => {
            let h = HyperHead { norm_eps: norm.unwrap_or(h.norm_eps), eps: eps.unwrap_or(h.eps), ..h.clone() };
            b.run(&h.build()?)
        }
        _ => b.run(op),
    }
}

fn transposed(n: usize, all: &mut [f64]) {
    for c in all.chunks_mut((n * n).max(1)) {
        let before = c.to_vec();
        (0..n * n).for_each(|i| c[i] = before[i % n * n + i / n]);
    }
}

fn steps(b: &mut Bench<'_>, op: &Op, f: fn(&mut Vec<[f32; 3]>)) -> Result<()> {
    let OpKind::NewtonSchulz(op) = op.kind() else { return b.run(op) };
    let mut op = op.clone();
    f(&mut op.steps);
    b.run(&op.build()?)
}

pub(super) const FAULTS: &[Fault] = &[
    fault("sinkhorn_pass_short", PRE, "Sinkhorn's iteration ends one pass too soon.", |b, op| {
        pre(b, op, |p| p.iterations = p.iterations.saturating_sub(1).max(1))
    }),
    fault(
        "sinkhorn_pass_more",
        PRE,
        "Sinkhorn's iteration makes one pass too many, as the paper counts them.",
        |b, op| pre(b, op, |p| p.iterations += 1),
    ),
    fault("sinkhorn_ends_on_rows", PRE, "The last pass is over rows, not over columns.", |b, op| {
        b.then_floats(op, |name, t, c| {
            if name == "comb" {
                let n = t.size(1);
                c.chunks_mut(n).for_each(|row| {
                    let sum = row.iter().sum::<f64>() + 1e-6;
                    row.iter_mut().for_each(|x| *x /= sum);
                });
            }
        })
    }),
    fault("comb_stored_transposed", PRE, "comb is stored with its two axes exchanged.", |b, op| {
        b.then_floats(op, |name, t, c| {
            if name == "comb" {
                transposed(t.size(1), c)
            }
        })
    }),
    fault("post_not_doubled", PRE, "post lacks its factor of two.", |b, op| {
        b.then_floats(op, |name, _, p| {
            if name == "post" {
                p.iter_mut().for_each(|p| *p /= 2.0)
            }
        })
    }),
    fault("post_has_epsilon", PRE, "hc_eps is added to post as it is to pre.", |b, op| {
        b.then_floats(op, |name, _, p| {
            if name == "post" {
                p.iter_mut().for_each(|p| *p += 1e-6)
            }
        })
    }),
    fault("scales_exchanged", PRE, "pre and post use each other's scale.", |b, op| {
        b.with_floats(op, &["scale"], |_, s| s.swap(0, 1))
    }),
    fault("base_ignored", MIXED, "The static part of the mix is not added.", |b, op| {
        b.with_floats(op, &["base"], |_, base| base.fill(0.0))
    }),
    fault("hc_epsilon_missing", MIXED, "hc_eps is not added to the mixing weights.", |b, op| {
        eps(b, op, None, Some(f32::MIN_POSITIVE))
    }),
    fault("mix_epsilon_of_1e_5", MIXED, "The norm of the streams has another epsilon.", |b, op| {
        eps(b, op, Some(1e-5), None)
    }),
    fault("mixer_in_bf16", MIXED, "hc_fn is rounded to bf16.", |b, op| {
        b.with_floats(op, &["mixer"], |_, m| m.iter_mut().for_each(|m| *m = bf(*m)))
    }),
    fault("mixer_in_tf32", MIXED, "hc_fn goes through TF32, undeclared.", |b, op| {
        b.with_floats(op, &["mixer"], |_, m| m.iter_mut().for_each(|m| *m = super::bench::significant(*m, 11, false)))
    }),
    fault(
        "streams_interleaved",
        MIXED,
        "Streams are flattened element by element, not one behind the other.",
        |b, op| {
            b.with_floats(op, &["mixer"], |t, m| {
                let n = match op.kind() {
                    OpKind::HyperPre(p) => p.streams.size(1),
                    OpKind::HyperHead(h) => h.streams.size(1),
                    _ => 1,
                };
                for row in m.chunks_mut(t.size(1)) {
                    let (before, d) = (row.to_vec(), t.size(1) / n);
                    (0..row.len()).for_each(|i| row[i] = before[i % d * n + i / d]);
                }
            })
        },
    ),
    fault("comb_not_transposed", POST, "Streams are summed over the last index of comb, not the first.", |b, op| {
        b.with_floats(op, &["comb"], |t, c| transposed(t.size(1), c))
    }),
    fault("result_in_the_first_stream", POST, "The sublayer's result is added to the first stream alone.", |b, op| {
        b.with_floats(op, &["post"], |t, p| p.chunks_mut(t.size(1)).for_each(|p| p[1..].fill(0.0)))
    }),
    fault("comb_in_bf16", POST, "post and comb are rounded to bf16 (transformers).", |b, op| {
        b.with_floats(op, &["post", "comb"], |_, c| c.iter_mut().for_each(|c| *c = bf(*c)))
    }),
    fault("last_stream_dropped", POST, "The sum over streams leaves out the last.", |b, op| {
        b.with_floats(op, &["comb"], |t, c| {
            let n = t.size(1);
            c.chunks_mut(n * n).for_each(|c| c[n * n - n..].fill(0.0));
        })
    }),
    fault("newton_step_short", MUON, "The iteration ends one step too soon.", |b, op| {
        steps(b, op, |s| {
            if s.len() > 1 {
                s.truncate(s.len() - 1)
            }
        })
    }),
    fault("newton_coefficients_exchanged", MUON, "b and c change places.", |b, op| {
        steps(b, op, |s| s.iter_mut().for_each(|s| s.swap(1, 2)))
    }),
    fault("newton_settles_first", MUON, "The steps that settle come before those that grow.", |b, op| {
        steps(b, op, |s| s.reverse())
    }),
    fault("newton_not_normalised", MUON, "The matrix is divided by twice its norm.", |b, op| {
        let OpKind::NewtonSchulz(NewtonSchulz { steps, .. }) = op.kind() else { return b.run(op) };
        if steps.is_empty() {
            return b.run(op);
        }
        let mut other = op.kind().clone();
        if let OpKind::NewtonSchulz(n) = &mut other {
            let [a, c, d] = n.steps[0];
            n.steps[0] = [a / 2.0, c / 8.0, d / 32.0];
            return b.run(&n.clone().build()?);
        }
        b.run(op)
    }),
    fault("newton_in_bf16", MUON, "The result is rounded to bf16.", |b, op| {
        b.then_floats(op, |_, _, m| m.iter_mut().for_each(|m| *m = bf(*m)))
    }),
];
