//! Choosing a token from logits: greedy, or by temperature and top-p on a fixed seed.

use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// The largest logit; of equal ones the lowest token.
    Greedy,
    /// At random with probability `softmax(logits / temperature)`, among the most likely tokens that together reach
    /// `top_p`.
    Random {
        /// Positive. V4's model card recommends 1.
        temperature: f32,
        /// In (0, 1]; 1 keeps all tokens.
        top_p: f32,
    },
}

/// Chooses tokens. The same seed and the same logits give the same tokens.
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler with its own random stream.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a temperature that is not positive and finite, or a `top_p` outside (0, 1].
    pub fn new(sampling: Sampling, seed: u64) -> Result<Sampler> {
        if let Sampling::Random { temperature, top_p } = sampling {
            let bad = |option, rule, got: f32| Err(Error::BadOption { option, rule, got: got.to_string() });
            if !(temperature > 0.0 && temperature.is_finite()) {
                return bad("temperature", "positive (0 is greedy)", temperature);
            }
            if !(top_p > 0.0 && top_p <= 1.0) {
                return bad("top-p", "above 0 and at most 1", top_p);
            }
        }
        Ok(Sampler { sampling, random: ChaCha8Rng::seed_from_u64(seed) })
    }

    /// Chooses a token. NaN logits are never chosen; `position` names the place in an error.
    ///
    /// # Errors
    /// [`Error::NoLogits`] when no logit is a number.
    pub fn pick(&mut self, logits: &[f32], position: usize) -> Result<u32> {
        let best = argmax(logits).ok_or(Error::NoLogits { position })?;
        match self.sampling {
            Sampling::Greedy => Ok(best),
            Sampling::Random { temperature, top_p } => {
                let draw: f64 = self.random.random();
                Ok(nucleus(logits, best, temperature, top_p, draw))
            }
        }
    }
}

/// The largest logit's token, the lowest of equal ones; `None` when all are NaN.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in (0..).zip(logits) {
        if !logit.is_nan() && best.is_none_or(|(_, most)| logit > most) {
            best = Some((token, logit));
        }
    }
    best.map(|(token, _)| token)
}

/// The token at `draw` (in [0, 1)) of the most likely ones that reach `top_p`. `best` is the largest logit's token.
fn nucleus(logits: &[f32], best: u32, temperature: f32, top_p: f32, draw: f64) -> u32 {
    let most = logits[best as usize];
    if most.is_infinite() {
        return best; // nothing else has weight beside +inf, and with -inf throughout there is nothing to weigh
    }
    let weight = |logit: f32| ((logit - most) as f64 / temperature as f64).exp();
    let mut weights: Vec<(u32, f64)> =
        (0..).zip(logits.iter().map(|&l| if l.is_nan() { 0.0 } else { weight(l) })).collect();
    // Stable: equal weights stay in token order, so that a seed means the same on every device.
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = weights.iter().map(|(_, w)| w).sum();
    let mut kept = 0.0;
    let len = weights.iter().position(|(_, w)| {
        kept += w;
        kept >= top_p as f64 * total
    });
    weights.truncate(len.map_or(weights.len(), |last| last + 1));
    let mut left = draw * weights.iter().map(|(_, w)| w).sum::<f64>();
    for &(token, weight) in &weights {
        left -= weight;
        if left < 0.0 {
            return token;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn greedy_takes_the_lowest_of_equal_logits_and_never_nan() {
        let mut greedy = Sampler::new(Sampling::Greedy, 0).unwrap();
        assert_eq!(greedy.pick(&[0.0, f32::NAN, 3.0, 3.0], 0).unwrap(), 2);
        assert!(matches!(greedy.pick(&[f32::NAN], 7), Err(Error::NoLogits { position: 7 })));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let mut sampler = Sampler::new(Sampling::Random { temperature: 2.0, top_p: 1.0 }, 1).unwrap();
        let logits = [0.0, 2.0 * 3f32.ln(), f32::NAN];
        let ones = (0..4000).filter(|_| sampler.pick(&logits, 0).unwrap() == 1).count();
        assert!((2900..3100).contains(&ones), "3 of 4 expected, got {ones} of 4000");
    }

    #[test]
    fn top_p_cuts_the_tail() {
        let mut sampler = Sampler::new(Sampling::Random { temperature: 1.0, top_p: 0.8 }, 1).unwrap();
        let logits = [1f32.ln(), 6f32.ln(), 3f32.ln()];
        let picked: Vec<u32> = (0..500).map(|_| sampler.pick(&logits, 0).unwrap()).collect();
        assert!(!picked.contains(&0) && picked.contains(&1) && picked.contains(&2));
    }

    #[test]
    fn a_seed_repeats() {
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling::Random { temperature: 1.0, top_p: 0.9 }, seed).unwrap();
            (0..50).map(|i| sampler.pick(&[0.1 * i as f32, 0.2, 0.3, 0.4], 0).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for (temperature, top_p) in [(0.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            assert!(Sampler::new(Sampling::Random { temperature, top_p }, 0).is_err());
        }
    }
}
