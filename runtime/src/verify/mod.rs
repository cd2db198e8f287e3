//! A checkpoint on a device, compared with logits that independent code computed.
//!
//! Exact precision is compared with `io.safetensors`, logit by logit. Served precision is compared with
//! `io_served.safetensors` by rules A1 to A4 (see `docs/numerics.md`): a flipped rounding spreads to all later tokens, so
//! that the logits of a long prompt cannot tell a right implementation from a wrong one, and the deciding rule runs each
//! layer alone on given streams.

mod expected;
mod score;

pub use expected::{Expected, ExpectedServed};
pub use score::{LayerScore, Score};

use crate::{Error, Model, Precision, Result, Rows};
use anychip_core::ops::{Linear, Operation};
use anychip_core::{DType, Matrix};
use score::{compare, worst_of};
use serde::Serialize;

/// Largest logit difference in exact precision.
pub const EXACT_LIMIT: f64 = 1e-4;

/// How the tokens reach the model, or what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// All tokens in one call.
    Prefill,
    /// Token by token.
    Decode,
    /// In chunks of 1, 3, 5 and 64 tokens in turn.
    Chunked,
    /// Each layer alone, from given streams (rule A3).
    Layer,
    /// The first rows of short prompts (rule A1).
    Short,
}

impl Form {
    /// The forms of a precision, the deciding one first.
    pub fn of(precision: Precision) -> &'static [Form] {
        match precision {
            Precision::Exact => &[Form::Prefill, Form::Decode, Form::Chunked],
            Precision::Served => &[Form::Layer, Form::Short, Form::Prefill, Form::Decode],
        }
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Form::Prefill => "prefill",
            Form::Decode => "decode",
            Form::Chunked => "chunked",
            Form::Layer => "layer",
            Form::Short => "short",
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Device.
    pub device: String,
    /// `exact` or `served`.
    pub precision: &'static str,
    /// See [`Form`].
    pub form: &'static str,
    /// The figures.
    #[serde(flatten)]
    pub score: Score,
    /// Nats per token over the passage, where whole passages were run.
    pub loss: Option<f64>,
    /// Whether the rule holds.
    pub passed: bool,
    /// The rule, with its limits.
    pub rule: String,
    /// Operations that ran on another device, with how often.
    pub fallback_ops: Vec<(String, u64)>,
}

/// Runs `form` on `model` and judges it. `served` is needed in served precision only.
///
/// # Errors
/// [`Error::File`] when the expected numbers do not fit the model, and as [`Model::forward`].
pub fn verify(model: &mut Model, form: Form, expected: &Expected, served: Option<&ExpectedServed>) -> Result<Verdict> {
    let before = model.device().fallbacks();
    if !Form::of(model.precision()).contains(&form) {
        let got = format!("{} in {} precision", form.name(), model.precision().name());
        return Err(Error::BadOption { option: "form", rule: "one of the precision's own", got });
    }
    let (score, loss, passed, rule) = match (model.precision(), served) {
        (Precision::Exact, _) => exact(model, form, expected)?,
        (Precision::Served, Some(served)) => match form {
            Form::Layer => layers(model, served)?,
            Form::Short => short(model, served, &[usize::MAX])?,
            Form::Decode => served_decode(model, served)?,
            _ => long(model, served, chunks(form))?,
        },
        (Precision::Served, None) => {
            return Err(Error::File {
                file: model.dir().join(expected::SERVED),
                problem: "not there, and served precision is compared with it".into(),
                mend: "verify in exact precision",
            });
        }
    };
    Ok(Verdict {
        device: model.device().info().name,
        precision: model.precision().name(),
        form: form.name(),
        score,
        loss,
        passed,
        rule,
        fallback_ops: since(&before, model.device().fallbacks()),
    })
}

/// Fallbacks that were not counted before.
fn since(before: &[(&'static str, u64)], now: Vec<(&'static str, u64)>) -> Vec<(String, u64)> {
    let earlier = |op: &str| before.iter().find(|(name, _)| *name == op).map_or(0, |(_, count)| *count);
    let grown = now.into_iter().map(|(op, count)| (op.to_owned(), count - earlier(op).min(count)));
    grown.filter(|(_, count)| *count > 0).collect()
}

type Judged = (Score, Option<f64>, bool, String);

/// Chunk sizes of a form, used in turn.
fn chunks(form: Form) -> &'static [usize] {
    match form {
        Form::Decode => &[1],
        Form::Chunked => &[1, 3, 5, 64],
        _ => &[usize::MAX],
    }
}

/// Logits of every token of `tokens`, given in chunks of these sizes in turn.
pub fn logits_in_chunks(model: &mut Model, tokens: &[u32], sizes: &[usize]) -> Result<Vec<f32>> {
    let sequence = model.open_sequence()?;
    let mut run = || {
        let (mut logits, mut rest) = (Vec::new(), tokens);
        for &size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(size.clamp(1, rest.len()));
            model.forward(&[(sequence, chunk)], Rows::All)?.iter().for_each(|item| logits.extend_from_slice(item));
            rest = after;
        }
        Ok(logits)
    };
    let result = run();
    model.release(sequence)?;
    result
}

fn exact(model: &mut Model, form: Form, expected: &Expected) -> Result<Judged> {
    let vocab = model.config().vocab_size;
    let got = logits_in_chunks(model, &expected.tokens, chunks(form))?;
    let score = compare(&got, &expected.logits, vocab);
    let passed = score.max_abs_diff <= EXACT_LIMIT && score.argmax_agreement == Some(1.0);
    let loss = score::loss(&got, &expected.tokens, vocab);
    Ok((score, loss, passed, format!("max_abs_diff <= {EXACT_LIMIT:e} and argmax_agreement = 1")))
}

/// A2.
fn long(model: &mut Model, served: &ExpectedServed, sizes: &[usize]) -> Result<Judged> {
    let vocab = model.config().vocab_size;
    let got = logits_in_chunks(model, &served.tokens, sizes)?;
    let score = compare(&got, &served.logits, vocab);
    let passed = score.pooled_row_rel_rms <= 0.22 && score.argmax_agreement >= Some(0.72);
    let loss = score::loss(&got, &served.tokens, vocab);
    Ok((score, loss, passed, "A2: pooled_row_rel_rms <= 0.22 and argmax_agreement >= 0.72".into()))
}

/// A1.
fn short(model: &mut Model, served: &ExpectedServed, sizes: &[usize]) -> Result<Judged> {
    const ROWS: usize = 8;
    let vocab = model.config().vocab_size;
    let (mut got, mut want) = (Vec::new(), Vec::new());
    for (tokens, logits) in &served.short {
        let rows = ROWS.min(tokens.len());
        got.extend_from_slice(&logits_in_chunks(model, &tokens[..rows], sizes)?);
        want.extend_from_slice(&logits[..rows * vocab]);
    }
    let score = compare(&got, &want, vocab);
    let passed = score.median_row_rel_rms <= 1e-5 && score.argmax_agreement >= Some(0.93);
    let rule = "A1: median_row_rel_rms <= 1e-5 and argmax_agreement >= 0.93 over rows 0 to 7 of each short prompt";
    Ok((score, None, passed, rule.into()))
}

/// A4: A1 and A2, token by token.
fn served_decode(model: &mut Model, served: &ExpectedServed) -> Result<Judged> {
    let (score, loss, long_passed, _) = long(model, served, &[1])?;
    let (first, _, short_passed, _) = short(model, served, &[1])?;
    let rule = format!(
        "A4: A1 (median_row_rel_rms {:.1e}, argmax_agreement {:.3}) and A2, token by token",
        first.median_row_rel_rms,
        first.argmax_agreement.unwrap_or(0.0)
    );
    Ok((score, loss, long_passed && short_passed, rule))
}

/// A3.
fn layers(model: &mut Model, served: &ExpectedServed) -> Result<Judged> {
    let width = model.config().hc_mult * model.config().hidden_size;
    let strict = accumulates_in_f32(model)?;
    let mut scores = Vec::new();
    for layer in 0..model.config().layers.len() {
        let run = model.run_layer(layer, &served.tokens, &served.streams[layer])?;
        let score = compare(&run.streams, &served.streams[layer + 1], width);
        scores.push(LayerScore {
            layer,
            experts_agreement: score::sets(&run.experts, &served.experts[layer], served.tokens.len()),
            entries_agreement: served.entries[layer]
                .as_ref()
                .map(|want| score::sets(&run.entries, want, served.tokens.len())),
            score: Score { argmax_agreement: None, ..score },
        });
    }
    let holds = |l: &LayerScore| {
        let entries = l.entries_agreement.unwrap_or(1.0);
        if strict {
            l.score.median_row_rel_rms <= 1e-6
                && l.score.rows_over_1e3 <= 0.2
                && l.score.pooled_row_rel_rms <= 1e-2
                && l.experts_agreement.min(entries) >= 0.98
        } else {
            l.score.median_row_rel_rms <= 0.035 && l.experts_agreement >= 0.95 && entries >= 0.90
        }
    };
    let passed = scores.iter().all(holds);
    let rule = if strict {
        "A3: each layer median_row_rel_rms <= 1e-6, rows_over_1e3 <= 0.2, pooled_row_rel_rms <= 1e-2, experts and entries \
         agree on >= 0.98 of rows"
    } else {
        "A3 for a declared accumulator below f32: each layer median_row_rel_rms <= 0.035, experts agree on >= 0.95 and \
         entries on >= 0.90 of rows"
    };
    Ok((worst_of(scores), None, passed, rule.into()))
}

/// Whether the device declares that its linear layers accumulate like f32 or better.
fn accumulates_in_f32(model: &Model) -> Result<bool> {
    let device = model.device();
    let matrix = || -> Result<Matrix> {
        let tensor = device.tensor(DType::F32, &[1, 1])?;
        Ok(Matrix::plain(&tensor).map_err(anychip_core::Error::from)?)
    };
    let op = Linear { x: matrix()?, w: matrix()?, out: device.tensor(DType::F32, &[1, 1])? }.build()?;
    Ok(device.numerics(&op).accumulator.unit_roundoff() <= DType::F32.unit_roundoff())
}
