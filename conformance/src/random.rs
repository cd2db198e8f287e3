//! Numbers that depend on a case's name and seed alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded source of numbers. It uses no function of the system's mathematical library, so that one case has the same
/// operands on every machine.
pub struct Random(ChaCha8Rng);

impl Random {
    /// The source of the case `name` (without its seed) under `seed`.
    pub fn of_case(name: &str, seed: u64) -> Random {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&fnv1a(name.as_bytes()).to_le_bytes());
        key[8..16].copy_from_slice(&seed.to_le_bytes());
        Random(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end.max(1) as u64) as usize
    }

    /// Normal, mean 0 and variance 1, within 6: the sum of twelve uniform numbers of 16 bits each. A thirteenth fills the
    /// bits below, so that f32 is used to its last place.
    pub fn normal(&mut self) -> f32 {
        let mut sum = 0u64;
        for _ in 0..3 {
            let bits = self.0.next_u64();
            sum += (0..4).map(|i| bits >> (16 * i) & 0xFFFF).sum::<u64>();
        }
        let fine = f64::from(self.0.next_u32()) / (1u64 << 32) as f64;
        ((sum as f64 + 5.5 + fine) / 65536.0 - 6.0) as f32
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        (self.0.next_u32() >> 24) as u8
    }

    /// The numbers below `end` in random order.
    pub fn permutation(&mut self, end: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        for i in (1..end).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

/// 64-bit FNV-1a: short, and the same for ever, which the standard library's hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What float operands look like. One kind of input hides faults that another shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Normal, mean 0.
    Normal,
    /// Normal around 8: sums do not cancel, differences do.
    Offset,
    /// Normal, every third row a hundred times smaller: what is averaged over a whole tensor does not see those.
    Quiet,
    /// Normal, one column in sixteen forty times larger, as activations of language models are.
    Outliers,
    /// Each second column is the negative of the one before it, but for one pair of a row, which differs by an eighth. Times
    /// [`Paired`](Family::Paired), sums are a thousand times smaller than their terms together.
    Cancelling,
    /// Normal, each second column equal to the one before it.
    Paired,
    /// Normal, with a NaN in every second row of three and an infinity in every third.
    Poisoned,
}

impl Family {
    /// The part of a case's name.
    pub fn name(self) -> &'static str {
        match self {
            Family::Normal => "normal",
            Family::Offset => "offset",
            Family::Quiet => "quiet",
            Family::Outliers => "outliers",
            Family::Cancelling => "cancelling",
            Family::Paired => "paired",
            Family::Poisoned => "poisoned",
        }
    }

    /// `count` numbers in rows of `cols`.
    pub fn fill(self, random: &mut Random, count: usize, cols: usize) -> Vec<f32> {
        let cols = cols.max(1);
        let loud = random.below(16);
        let (bad, pair) = match self {
            Family::Poisoned => (random.below(cols), 0),
            Family::Cancelling => (0, random.below(cols / 2)),
            _ => (0, 0),
        };
        let mut before = 0.0;
        let one = |i: usize| {
            let (x, col) = (random.normal(), i % cols);
            let (second, last) = (col % 2 == 1, before);
            before = x;
            match self {
                Family::Offset => 8.0 + x,
                Family::Quiet if i / cols % 3 == 2 => 0.01 * x,
                Family::Outliers if i % cols % 16 == loud => 40.0 * x,
                Family::Cancelling if second => {
                    if col / 2 == pair {
                        -1.125 * last
                    } else {
                        -last
                    }
                }
                Family::Paired if second => last,
                Family::Poisoned if col == bad => [x, f32::NAN, f32::INFINITY][i / cols % 3],
                _ => x,
            }
        };
        (0..count).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_depends_on_name_and_seed_alone() {
        let first = |name, seed| Random::of_case(name, seed).normal();
        assert_eq!(first("linear/f32", 1), first("linear/f32", 1));
        assert_ne!(first("linear/f32", 1), first("linear/f32", 2));
        assert_ne!(first("linear/f32", 1), first("linear/bf16", 1));
        // Published vectors of FNV-1a.
        assert_eq!((fnv1a(b""), fnv1a(b"a")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
    }

    #[test]
    fn normals_are_normal_and_use_the_last_bit() {
        let mut random = Random::of_case("a", 0);
        let x: Vec<f32> = (0..20000).map(|_| random.normal()).collect();
        let mean = x.iter().sum::<f32>() / 20000.0;
        let variance = x.iter().map(|x| x * x).sum::<f32>() / 20000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!(x.iter().filter(|x| x.to_bits() % 2 == 1).count() > 8000);
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let mut all = Random::of_case("a", 0).permutation(100);
        assert_ne!(all, (0..100).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn families_differ_where_they_say() {
        let mut random = Random::of_case("a", 0);
        let quiet = Family::Quiet.fill(&mut random, 3 * 64, 64);
        let loudest = |row: &[f32]| row.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(loudest(&quiet[128..]) < 0.07 && loudest(&quiet[..64]) > 1.0);
        assert!(Family::Offset.fill(&mut random, 100, 10).iter().all(|&x| x > 1.0));
        assert!(loudest(&Family::Outliers.fill(&mut random, 640, 64)) > 20.0);
        let [row, other] = [Family::Cancelling, Family::Paired].map(|f| f.fill(&mut random, 512, 512));
        let terms: Vec<f64> = row.iter().zip(&other).map(|(&x, &w)| f64::from(x) * f64::from(w)).collect();
        let magnitude: f64 = terms.iter().map(|t| t.abs()).sum();
        assert!(magnitude > 500.0 * terms.iter().sum::<f64>().abs());
        let poisoned = Family::Poisoned.fill(&mut random, 60, 10);
        let rows = |is: fn(f32) -> bool| poisoned.chunks(10).filter(|row| row.iter().any(|&x| is(x))).count();
        assert_eq!((rows(f32::is_nan), rows(f32::is_infinite), rows(|x| x.is_finite())), (2, 2, 6));
    }
}
