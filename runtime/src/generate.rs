//! Continuing a prompt, token by token.

use crate::sample::{Sampler, Sampling};
use crate::{Error, Model, Result, Rows, Work};
use anychip_core::Activity;
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
    /// What the device asked of its driver in that time, where it counts.
    pub decode_activity: Option<Activity>,
    /// What it was asked for in that time: the least of that.
    pub decode_work: Work,
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
        let mut choose = |model: &mut Model, tokens: &[u32], position: usize| match how.sampling {
            // The logits stay where they are.
            Sampling::Greedy => match model.forward_greedy(&[(sequence, tokens)])?[..] {
                [Some(token)] => Ok(token),
                _ => Err(Error::NoLogits { position }),
            },
            Sampling::Random { .. } => {
                let logits = model.forward(&[(sequence, tokens)], Rows::Last)?;
                sampler.pick(logits.last().map_or(&[], |row| row), position)
            }
        };
        let start = Instant::now();
        let mut token = choose(model, prompt, prompt.len() - 1)?;
        let mut made = Generation {
            tokens: Vec::new(),
            prompt_tokens: prompt.len(),
            prefill: start.elapsed(),
            decode: Duration::ZERO,
            decode_steps: 0,
            decode_activity: None,
            decode_work: Work::default(),
        };
        let (start, before, asked) = (Instant::now(), model.device().activity(), model.work());
        while made.tokens.len() < how.max_tokens {
            if how.stop.contains(&token) {
                break;
            }
            made.tokens.push(token);
            if !heard(token) || made.tokens.len() == how.max_tokens {
                break;
            }
            token = choose(model, &[token], prompt.len() + made.tokens.len() - 1)?;
            made.decode_steps += 1;
        }
        made.decode = start.elapsed();
        made.decode_activity = model.device().activity().zip(before).map(|(after, before)| after - before);
        made.decode_work = model.work() - asked;
        Ok(made)
    };
    let result = run();
    model.release(sequence)?;
    result
}
