//! Experts: routing, SwiGLU and the sum over the chosen.

use super::Fault;
use super::bench::{Bench, bf};
use anychip_core::ops::{Choice, ExpertFfn, Intermediates, OpKind, Operation, Route, Swiglu};
use anychip_core::{Op, Result};

const ROUTE: &[&str] = &["route"];
const FFN: &[&str] = &["expert_ffn"];
const SWIGLU: &[&str] = &["swiglu"];
const GATED: &[&str] = &["swiglu", "expert_ffn"];

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("experts", name, ops, bug, run)
}

fn ffn(b: &mut Bench<'_>, op: &Op, f: impl Fn(&mut ExpertFfn)) -> Result<()> {
    let OpKind::ExpertFfn(ffn) = op.kind() else { return b.run(op) };
    let mut ffn = ffn.clone();
    f(&mut ffn);
    b.run(&ffn.build()?)
}

fn route(b: &mut Bench<'_>, op: &Op, f: impl Fn(&mut Route)) -> Result<()> {
    let OpKind::Route(route) = op.kind() else { return b.run(op) };
    let mut route = route.clone();
    f(&mut route);
    b.run(&route.build()?)
}

/// Weights of the chosen experts computed anew from their logits.
fn weighed(b: &mut Bench<'_>, op: &Op, score: fn(f64) -> f64, normalised: bool) -> Result<()> {
    let OpKind::Route(route) = op.kind() else { return b.run(op) };
    b.run(op)?;
    let (logits, chosen) = (b.floats(&route.logits)?, b.integers(&route.experts)?);
    let (count, k, scale) = (route.logits.size(1), route.experts.size(1), f64::from(route.scale));
    let mut weights = Vec::with_capacity(chosen.len());
    for (row, chosen) in chosen.chunks(k).enumerate() {
        let scores = chosen.iter().map(|&e| if e < 0 { 0.0 } else { score(logits[row * count + e as usize]) });
        let scores: Vec<f64> = scores.collect();
        let sum = if normalised { scores.iter().sum::<f64>() + 1e-20 } else { 1.0 };
        weights.extend(scores.iter().map(|s| scale * s / sum));
    }
    b.store(&route.weights, &weights)
}

/// SwiGLU written out: `f` gives the result of a gate, an up and a limit.
fn gated(b: &mut Bench<'_>, op: &Op, f: fn(f64, f64, f64) -> f64) -> Result<()> {
    let OpKind::Swiglu(Swiglu { gate, up, weights, limit, out }) = op.kind() else { return b.run(op) };
    let (gate, up) = (b.floats(gate)?, b.floats(up)?);
    let weights = match weights {
        Some(weights) => b.floats(weights)?,
        None => vec![1.0; out.size(0)],
    };
    let n = out.size(1);
    let values: Vec<f64> = (0..gate.len()).map(|i| weights[i / n] * f(gate[i], up[i], f64::from(*limit))).collect();
    b.store(out, &values)
}

fn silu(a: f64) -> f64 {
    a / (1.0 + (-a).exp())
}

fn score(z: f64) -> f64 {
    (z.max(0.0) + (-z.abs()).exp().ln_1p()).sqrt()
}

pub(super) const FAULTS: &[Fault] = &[
    fault("bias_ignored", ROUTE, "Experts are chosen without their bias.", |b, op| {
        b.with_floats(op, &["bias"], |_, bias| bias.fill(0.0))
    }),
    fault("bias_in_the_weights", ROUTE, "The bias is part of the weights, not of the choice alone.", |b, op| {
        let OpKind::Route(Route { choice: Choice::Best { bias }, logits, experts, weights, scale }) = op.kind() else {
            return b.run(op);
        };
        b.run(op)?;
        let (bias, logits, chosen) = (b.floats(bias)?, b.floats(logits)?, b.integers(experts)?);
        let k = experts.size(1);
        let mut all = Vec::new();
        for (row, chosen) in chosen.chunks(k).enumerate() {
            let s: Vec<f64> =
                chosen.iter().map(|&e| score(logits[row * bias.len() + e as usize]) + bias[e as usize]).collect();
            all.extend(s.iter().map(|x| f64::from(*scale) * x / (s.iter().sum::<f64>() + 1e-20)));
        }
        b.store(weights, &all)
    }),
    fault("weights_not_normalised", ROUTE, "The chosen scores are not divided by their sum.", |b, op| {
        weighed(b, op, score, false)
    }),
    fault("softmax_scores", ROUTE, "Scores are exponentials, as in a softmax router.", |b, op| {
        weighed(b, op, f64::exp, true)
    }),
    fault("sigmoid_scores", ROUTE, "Scores are sigmoids, as in V3.", |b, op| {
        weighed(b, op, |z| 1.0 / (1.0 + (-z).exp()), true)
    }),
    fault("softplus_without_root", ROUTE, "The square root of the softplus is left out.", |b, op| {
        weighed(b, op, |z| score(z) * score(z), true)
    }),
    fault("softplus_overflows", ROUTE, "ln(1 + e^z) is taken as written and overflows f32.", |b, op| {
        weighed(b, op, |z| f64::from((1.0 + (z as f32).exp()).ln().sqrt()), true)
    }),
    fault("router_in_bf16", ROUTE, "Router logits are rounded to bf16.", |b, op| {
        b.with_floats(op, &["logits"], |_, z| z.iter_mut().for_each(|z| *z = bf(*z)))
    }),
    fault("scaling_factor_missing", ROUTE, "The weights lack routed_scaling_factor.", |b, op| {
        route(b, op, |r| r.scale = 1.0)
    }),
    fault("tie_to_the_highest_expert", ROUTE, "Of equal scores the higher expert is chosen.", |b, op| {
        let OpKind::Route(r) = op.kind() else { return b.run(op) };
        let Choice::Best { .. } = r.choice else { return b.run(op) };
        let count = r.logits.size(1);
        b.edited(op, &["logits", "bias"], |_, bytes| {
            for row in bytes.chunks_mut(4 * count) {
                let mut values: Vec<[u8; 4]> = row.chunks_exact(4).map(|x| [x[0], x[1], x[2], x[3]]).collect();
                values.reverse();
                row.copy_from_slice(&values.concat());
            }
        })
        .and_then(|op| {
            b.then_integers(&op, |_, chosen| {
                chosen.iter_mut().filter(|e| **e >= 0).for_each(|e| *e = count as i32 - 1 - *e)
            })
        })
    }),
    fault("expert_short_by_one", ROUTE, "The last of the k experts is not found.", |b, op| {
        b.then_integers(op, |t, e| e.chunks_mut(t.size(1)).for_each(|row| row[t.size(1) - 1] = -1))
    }),
    fault(
        "hash_sorted",
        ROUTE,
        "Experts of the hash table are put in ascending order, their weights are not.",
        |b, op| b.then_integers(op, |t, e| e.chunks_mut(t.size(1)).for_each(|row| row.sort_unstable())),
    ),
    fault("hash_of_the_next_token", ROUTE, "The hash table is read at the next token's row.", |b, op| {
        b.with_integers(op, &["tokens"], |_, t| t.rotate_left(1))
    }),
    fault("up_clamp_missing", SWIGLU, "The up side is not clamped.", |b, op| {
        gated(b, op, |a, u, limit| silu(a.min(limit)) * u)
    }),
    fault("up_clamp_one_sided", SWIGLU, "The up side is clamped from above only.", |b, op| {
        gated(b, op, |a, u, limit| silu(a.min(limit)) * u.min(limit))
    }),
    fault("gate_clamp_missing", SWIGLU, "The gate is not clamped.", |b, op| {
        gated(b, op, |a, u, limit| silu(a) * u.clamp(-limit, limit))
    }),
    fault("gate_clamped_below", SWIGLU, "The gate is clamped on both sides.", |b, op| {
        gated(b, op, |a, u, limit| silu(a.clamp(-limit, limit)) * u.clamp(-limit, limit))
    }),
    fault("clamp_after_silu", SWIGLU, "The limit is applied to silu's result.", |b, op| {
        gated(b, op, |a, u, limit| silu(a).min(limit) * u.clamp(-limit, limit))
    }),
    fault("gelu_for_silu", SWIGLU, "The activation is GELU, in its sigmoid form.", |b, op| {
        gated(b, op, |a, u, limit| {
            let a = a.min(limit);
            a / (1.0 + (-1.702 * a).exp()) * u.clamp(-limit, limit)
        })
    }),
    fault("nan_clamped_away", SWIGLU, "min and max replace a NaN by the limit.", |b, op| {
        gated(b, op, |a, u, limit| silu(a.min(limit)) * u.max(-limit).min(limit))
    }),
    fault(
        "sigmoid_is_inf_over_inf",
        SWIGLU,
        "The sigmoid is 1 - e^-a / (1 + e^-a): infinity over infinity far below zero.",
        |b, op| {
            gated(b, op, |a, u, limit| {
                let a = a.min(limit);
                let e = f64::from(f32::exp(-(a as f32)));
                a * (1.0 - e / (1.0 + e)) * u.clamp(-limit, limit)
            })
        },
    ),
    fault("limit_ignored", GATED, "swiglu_limit is not applied.", |b, op| match op.kind() {
        OpKind::Swiglu(s) => b.run(&Swiglu { limit: f32::INFINITY, ..s.clone() }.build()?),
        _ => ffn(b, op, |f| f.limit = f32::INFINITY),
    }),
    fault("gate_and_up_swapped", GATED, "W1 and W3 change places.", |b, op| match op.kind() {
        OpKind::Swiglu(s) => b.run(&Swiglu { gate: s.up.clone(), up: s.gate.clone(), ..s.clone() }.build()?),
        _ => ffn(b, op, |f| std::mem::swap(&mut f.routed.gate, &mut f.routed.up)),
    }),
    fault("routing_weight_twice", GATED, "The routing weight is applied before and after W2.", |b, op| {
        b.with_floats(op, &["weights"], |_, w| w.iter_mut().for_each(|w| *w *= *w))
    }),
    fault("routing_weight_ignored", GATED, "The routing weight is left out.", |b, op| {
        b.with_floats(op, &["weights"], |_, w| w.fill(1.0))
    }),
    fault("routing_weight_in_bf16", GATED, "The routing weight is rounded to bf16.", |b, op| {
        b.with_floats(op, &["weights"], |_, w| w.iter_mut().for_each(|w| *w = bf(*w)))
    }),
    fault(
        "routing_weight_after_w2",
        FFN,
        "The weight multiplies W2's rounded result, so that h is rounded without it.",
        |b, op| {
            let OpKind::ExpertFfn(f) = op.kind() else { return b.run(op) };
            if f.intermediates == Intermediates::Exact {
                return b.run(op);
            }
            let (k, weights, experts) = (f.experts.size(1), b.floats(&f.weights)?, b.integers(&f.experts)?);
            let mut sum = vec![0.0; f.out.count()];
            for j in 0..k {
                let one = b.edited(op, &["weights", "experts"], |t, bytes| {
                    let is_weight = t.dtype() == anychip_core::DType::F32;
                    let mine = experts.iter().enumerate().map(|(i, &e)| if i % k == j { e } else { -1 });
                    *bytes = match is_weight {
                        true => super::bench::stored(t.dtype(), &vec![1.0; weights.len()]),
                        false => super::bench::bytes_of(&mine.collect::<Vec<_>>()),
                    };
                })?;
                let OpKind::ExpertFfn(single) = one.kind() else { return b.run(op) };
                let shared = if j == 0 { single.shared.clone() } else { None };
                b.run(&ExpertFfn { shared: None, ..single.clone() }.build()?)?;
                let y = b.floats(&f.out)?;
                let n = f.out.size(1);
                y.iter().enumerate().for_each(|(i, y)| sum[i] += weights[i / n * k + j] * y);
                if shared.is_some() {
                    b.with_integers(op, &["experts"], |_, e| e.fill(-1))?;
                    b.floats(&f.out)?.iter().enumerate().for_each(|(i, y)| sum[i] += y);
                }
            }
            b.store(&f.out, &sum)
        },
    ),
    fault("shared_expert_omitted", FFN, "The shared expert is not added.", |b, op| ffn(b, op, |f| f.shared = None)),
    fault("shared_expert_first_inner", FFN, "The shared expert's up matrix is read as its gate.", |b, op| {
        ffn(b, op, |f| {
            if let Some(shared) = &mut f.shared {
                std::mem::swap(&mut shared.gate, &mut shared.up);
            }
        })
    }),
    fault("last_expert_dropped", FFN, "The last of a row's experts is left out of the sum.", |b, op| {
        b.with_integers(op, &["experts"], |t, e| e.chunks_mut(t.size(1)).for_each(|row| row[t.size(1) - 1] = -1))
    }),
    fault("expert_id_shifted", FFN, "Rows get the experts before their own.", |b, op| {
        b.with_integers(op, &["experts"], |_, e| {
            e.iter_mut().filter(|e| **e > 0).for_each(|e| *e = e.saturating_sub(1))
        })
    }),
    fault("nobody_is_the_first", FFN, "An expert of -1 is taken as expert 0.", |b, op| {
        b.with_integers(op, &["experts"], |_, e| e.iter_mut().filter(|e| **e == -1).for_each(|e| *e = 0))
    }),
    fault("twice_counts_once", FFN, "An expert that a row names twice counts once.", |b, op| {
        b.with_integers(op, &["experts"], |t, e| {
            e.chunks_mut(t.size(1)).for_each(|row| {
                (1..row.len()).for_each(|i| {
                    if row[..i].contains(&row[i]) {
                        row[i] = -1
                    }
                })
            });
        })
    }),
    fault("h_not_quantised", FFN, "h goes into W2 without its FP8 rounding.", |b, op| {
        ffn(b, op, |f| f.intermediates = Intermediates::Exact)
    }),
    fault("h_in_blocks_of_32", FFN, "h is quantised by blocks of 32, as the weights are, instead of 128.", |b, op| {
        ffn(b, op, |f| {
            if f.intermediates != Intermediates::Exact {
                f.intermediates = Intermediates::Served { block: 32 };
            }
        })
    }),
    fault("h_quantised_unasked", FFN, "h is rounded to FP8 where the call asks for none.", |b, op| {
        ffn(b, op, |f| f.intermediates = Intermediates::Served { block: 128 })
    }),
];
