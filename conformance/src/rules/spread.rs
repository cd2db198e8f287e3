//! How the errors of a case lie within their tolerances: a histogram for the report.

use super::bound::smallest_step;
use super::structure::floats;
use anychip_core::Tensor;
use anychip_reference::{Bounded, Real, Values};

/// Bins: errors of nothing, then one for each power of two of error over tolerance up to 2^-18, ..., 2^2 and beyond.
pub(crate) const BINS: usize = 23;
/// Exponent of the first bin's upper end, after the one of exact elements.
pub(crate) const FIRST: i32 = -18;

/// What was computed and what is right, as numbers.
pub(crate) struct Numbers {
    pub(crate) got: Vec<f64>,
    pub(crate) want: Vec<f64>,
    /// What each element may be off by.
    pub(crate) tolerance: Vec<f64>,
}

impl Numbers {
    pub(crate) fn of(tensor: &Tensor, got: &[u8], want: &Values<Bounded>) -> Numbers {
        match want {
            Values::Integers(want) => Numbers::exact(
                got.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
                want.iter().map(|&x| f64::from(x)).collect(),
            ),
            Values::Bytes(want) => Numbers::exact(
                got.iter().map(|&b| f64::from(b)).collect(),
                want.iter().map(|&b| f64::from(b)).collect(),
            ),
            Values::Real(want) => {
                let dtype = tensor.dtype();
                let allowed = |w: &Bounded| dtype.unit_roundoff() * w.value().abs() + w.error() + smallest_step(dtype);
                Numbers {
                    got: floats(dtype, got),
                    want: want.iter().map(|w| w.value()).collect(),
                    tolerance: want.iter().map(allowed).collect(),
                }
            }
        }
    }

    fn exact(got: Vec<f64>, want: Vec<f64>) -> Numbers {
        let tolerance = vec![0.0; want.len()];
        Numbers { got, want, tolerance }
    }

    /// Adds each element's share of its tolerance to the bins; what is no number is left out.
    pub(crate) fn count(&self, bins: &mut Vec<u64>) {
        bins.resize(BINS, 0);
        for ((got, want), tolerance) in self.got.iter().zip(&self.want).zip(&self.tolerance) {
            let error = (got - want).abs();
            if error.is_finite() && tolerance.is_finite() {
                bins[bin(if error == 0.0 { 0.0 } else { error / tolerance })] += 1;
            }
        }
    }
}

pub(crate) fn bin(ratio: f64) -> usize {
    if ratio == 0.0 {
        return 0;
    }
    let above = ratio.log2().ceil().clamp(f64::from(FIRST), 64.0) as i32 - FIRST;
    (1 + above as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bins_part_right_from_wrong() {
        let within = bin(1.0);
        assert_eq!((bin(0.0), bin(1e-30), bin(2f64.powi(FIRST))), (0, 1, 1));
        assert_eq!((bin(0.51), bin(1.0001), bin(2.0)), (within, within + 1, within + 1));
        assert_eq!((bin(1e9), bin(f64::INFINITY)), (BINS - 1, BINS - 1));
    }

    #[test]
    fn what_is_no_number_is_not_counted() {
        let mut bins = Vec::new();
        let (got, want) = (vec![1.0, f64::NAN, 3.0, f64::INFINITY], vec![1.0, 2.0, 3.5, f64::INFINITY]);
        Numbers { got, want, tolerance: vec![1.0; 4] }.count(&mut bins);
        assert_eq!((bins[0], bins[bin(0.5)], bins.iter().sum::<u64>()), (1, 1, 2));
    }
}
