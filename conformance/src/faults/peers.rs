//! The rules of other suites, over float outputs.

/// A rule: whether `got` passes, given what is right and what the correct device gave.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) rule: &'static str,
    pub(super) passes: fn(got: &[f64], want: &[f64], correct: &[f64]) -> bool,
}

fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.sum()
}

/// The largest error; infinite for a NaN.
fn largest(got: &[f64], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) })
}

pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "ggml",
        rule: "NMSE over the tensor at most 5e-4",
        passes: |got, want, _| {
            let error = sum(got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)));
            error == 0.0 || error / sum(got.iter().map(|g| g * g)) <= 5e-4
        },
    },
    Peer {
        name: "DeepGEMM",
        rule: "calc_diff over the tensor at most 1e-3",
        passes: |got, want, _| {
            let (both, own) =
                (sum(got.iter().zip(want).map(|(g, w)| g * w)), sum(got.iter().chain(want).map(|x| x * x)));
            own == 0.0 || 1.0 - 2.0 * both / own <= 1e-3
        },
    },
    Peer {
        name: "allclose",
        rule: "each element within 1e-2 + 1e-2 of what is right",
        passes: |got, want, _| got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 1e-2 + 1e-2 * w.abs()),
    },
    Peer {
        name: "FlashAttention",
        rule: "largest error at most twice that of the correct device",
        passes: |got, want, correct| largest(got, want) <= 2.0 * largest(correct, want),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_pass_and_what_not() {
        let want: Vec<f64> = (0..1000).map(|i| f64::from(i % 7) - 3.0).collect();
        let verdicts = |got: &[f64]| PEERS.iter().map(|p| (p.passes)(got, &want, &want)).collect::<Vec<_>>();
        assert_eq!(verdicts(&want), [true; 4]);
        let mut one = want.clone();
        one[500] += 0.5;
        assert_eq!(verdicts(&one), [true, true, false, false], "a score of the whole tensor does not see one element");
        one[500] = f64::NAN;
        assert_eq!(verdicts(&one), [false; 4]);
        assert_eq!(verdicts(&[0.0; 1000]), [false; 4]);
    }
}
