//! Angles of the rotary position embedding, computed where f64 is to be had: on the host.

use std::f64::consts::PI;

/// YaRN's stretching of the slow frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Factor by which slow frequencies are divided.
    pub factor: f64,
    /// Context length of the unstretched model, in tokens.
    pub original_positions: f64,
    /// Rotations over that length above which a frequency is kept.
    pub beta_fast: f64,
    /// Rotations below which it is divided in full.
    pub beta_slow: f64,
}

/// The frequencies of a rotary embedding.
///
/// Source: DeepSeek V4 `inference/model.py` (`precompute_freqs_cis`). Cosine and sine are not scaled (no mscale), and YaRN
/// applies at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    frequencies: Vec<f64>,
}

impl RopeTable {
    /// `dim / 2` frequencies `base^(-2i/dim)`, stretched by `yarn`.
    pub fn new(dim: usize, base: f64, yarn: Option<Yarn>) -> RopeTable {
        let half = dim / 2;
        let mut frequencies: Vec<f64> = (0..half).map(|i| base.powf(-2.0 * i as f64 / dim as f64)).collect();
        if let Some(yarn) = yarn {
            let pair_of = |rotations: f64| {
                dim as f64 * (yarn.original_positions / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln())
            };
            let low = pair_of(yarn.beta_fast).floor().max(0.0);
            let high = pair_of(yarn.beta_slow).ceil().min(dim as f64 - 1.0);
            let width = if high == low { 0.001 } else { high - low };
            for (i, f) in frequencies.iter_mut().enumerate() {
                let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                *f = *f / yarn.factor * ramp + *f * (1.0 - ramp);
            }
        }
        RopeTable { frequencies }
    }

    /// Radians per position, one per pair.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Cosine and sine of every pair at each position, `[positions, pairs, 2]`: the `angles` of a
    /// [`Rope`](crate::ops::Rope).
    pub fn angles(&self, positions: impl IntoIterator<Item = u32>) -> Vec<f32> {
        let at = |position: u32| {
            self.frequencies.iter().flat_map(move |f| {
                let (sine, cosine) = (position as f64 * f).sin_cos();
                [cosine as f32, sine as f32]
            })
        };
        positions.into_iter().flat_map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YARN: Yarn = Yarn { factor: 16.0, original_positions: 65536.0, beta_fast: 32.0, beta_slow: 1.0 };

    #[test]
    fn the_published_frequencies() {
        let table = RopeTable::new(64, 160000.0, Some(YARN));
        for (pair, want) in [(0, 1.0), (1, 0.687656), (2, 0.472871), (31, 5.680529e-07)] {
            let got = table.frequencies()[pair];
            assert!((got - want).abs() <= 1e-6 * want, "pair {pair}: {got} is not {want}");
        }
    }

    #[test]
    fn far_positions_keep_their_angle() {
        // An f32 angle at 2^20 is off by 0.03; this one is not.
        let table = RopeTable::new(64, 10000.0, None);
        let [cosine, sine] = [0, 1].map(|i| table.angles([1 << 20])[2 + i]);
        let angle = 1048576.0 * 10000f64.powf(-2.0 / 64.0);
        assert!((cosine as f64 - angle.cos()).abs() < 1e-7 && (sine as f64 - angle.sin()).abs() < 1e-7);
    }
}
