//! Continuing a prompt, token by token.

use crate::sample::{Sampler, Sampling};
use crate::{Error, Model, Result, Rows};
use std::time::{Duration, Instant};

/// How to continue.
#[derive(Clone, Debug)]
pub struct Continuation {
    /// Tokens at most.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the random choice.
    pub seed: u64,
    /// Tokens that end the continuation; they are not part of it. Usually the model's end-of-sentence tokens.
    pub stop: Vec<u32>,
}

/// A continuation and how long it took, on the host's clock.
#[derive(Clone, Debug)]
pub struct Generation {
    /// New tokens, the stop token left out.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Time to the first token.
    pub prefill: Duration,
    /// Time of the tokens after the first.
    pub decode: Duration,
    /// Forward passes in that time.
    pub decode_steps: usize,
}

impl Generation {
    /// Prompt tokens per second until the first new token.
    pub fn prefill_tokens_per_s(&self) -> f64 {
        rate(self.prompt_tokens, self.prefill)
    }

    /// New tokens per second after the first; 0 when there was none.
    pub fn decode_tokens_per_s(&self) -> f64 {
        rate(self.decode_steps, self.decode)
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Continues `prompt` in a sequence of its own. `heard` is given each new token and says whether to go on; what was
/// generated until then is returned either way.
///
/// # Errors
/// [`Error::BadBatch`] for an empty prompt, [`Error::ContextTooLong`] when prompt and continuation do not fit together,
/// and as [`Model::forward`]; the sequence is released in any case.
pub fn generate(
    model: &mut Model,
    prompt: &[u32],
    how: &Continuation,
    heard: &mut dyn FnMut(u32) -> bool,
) -> Result<Generation> {
    if prompt.is_empty() {
        return Err(Error::BadBatch { problem: "the prompt is empty".into() });
    }
    let mut sampler = Sampler::new(how.sampling, how.seed)?;
    // The last token is never fed back.
    let needed = prompt.len().saturating_add(how.max_tokens.saturating_sub(1));
    if needed > model.options().context {
        return Err(Error::ContextTooLong { needed, context: model.options().context });
    }
    let sequence = model.open_sequence()?;
    let mut run = || {
        let start = Instant::now();
        let mut logits = one(model.forward(&[(sequence, prompt)], Rows::Last)?);
        let mut made = Generation {
            tokens: Vec::new(),
            prompt_tokens: prompt.len(),
            prefill: start.elapsed(),
            decode: Duration::ZERO,
            decode_steps: 0,
        };
        let start = Instant::now();
        while made.tokens.len() < how.max_tokens {
            let token = sampler.pick(&logits, prompt.len() + made.tokens.len() - 1)?;
            if how.stop.contains(&token) {
                break;
            }
            made.tokens.push(token);
            if !heard(token) || made.tokens.len() == how.max_tokens {
                break;
            }
            logits = one(model.forward(&[(sequence, &[token])], Rows::Last)?);
            made.decode_steps += 1;
        }
        made.decode = start.elapsed();
        Ok(made)
    };
    let result = run();
    model.release(sequence)?;
    result
}

fn one(mut logits: Vec<Vec<f32>>) -> Vec<f32> {
    logits.pop().unwrap_or_default()
}
