//! R0: structure, bit for bit.

use super::{Broken, Rule, coordinate};
use crate::builder::{Changed, Operand};
use anychip_core::{Access, DType, Tensor};
use half::{bf16, f16};

/// Guard bands are whole, and what is only read is as it was.
pub(crate) fn untouched(
    name: &'static str,
    access: Access,
    operand: &Operand,
    after: &[u8],
) -> Result<(), Box<Broken>> {
    let byte = |b: u8| format!("{b:#04x}");
    let at = |Changed { at, got, want }, what| Broken::at(Rule::R0, name, vec![at], what, byte(got), byte(want));
    if let Some((behind, change)) = operand.band_change(after) {
        let what = match behind {
            true => format!("the guard band behind it was written, first at its byte {}", change.at),
            false => format!("the guard band before it was written, first at its byte {}", change.at),
        };
        return Err(at(change, what));
    }
    match operand.change(after) {
        Some(change) if access == Access::Read => Err(at(change, "it is an input and was written".into())),
        _ => Ok(()),
    }
}

/// Integers are equal.
pub(crate) fn same_integers(name: &'static str, tensor: &Tensor, got: &[u8], want: &[i32]) -> Result<(), Box<Broken>> {
    let got = got.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    same(name, tensor.sizes(), got, want.iter().copied(), "integers differ")
}

/// Codes, scales and pages are equal.
pub(crate) fn same_bytes(name: &'static str, tensor: &Tensor, got: &[u8], want: &[u8]) -> Result<(), Box<Broken>> {
    // Two codes share a byte of e2m1, along the last axis.
    let mut sizes = tensor.sizes().to_vec();
    if tensor.dtype() == DType::E2M1
        && let Some(last) = sizes.last_mut()
    {
        *last = last.div_ceil(2);
    }
    same(name, &sizes, got.iter().copied(), want.iter().copied(), "bytes differ")
}

fn same<T: PartialEq + ToString>(
    name: &'static str,
    sizes: &[usize],
    got: impl ExactSizeIterator<Item = T>,
    want: impl ExactSizeIterator<Item = T>,
    what: &str,
) -> Result<(), Box<Broken>> {
    let count = want.len();
    if got.len() != count {
        return Err(wrong_length(name, got.len(), count));
    }
    let mut differing = got.zip(want).enumerate().filter(|(_, (got, want))| got != want);
    let Some((index, (got, want))) = differing.next() else { return Ok(()) };
    let what = format!("{} of {count} {what}", 1 + differing.count());
    Err(Broken::at(Rule::R0, name, coordinate(sizes, index), what, got.to_string(), want.to_string()))
}

pub(crate) fn wrong_length(name: &'static str, got: usize, want: usize) -> Box<Broken> {
    Broken::at(Rule::R0, name, Vec::new(), "the oracle gives another number of elements", got, want)
}

/// Elements of a float tensor, exact in f64.
pub(crate) fn floats(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
    }
}

/// Rounded once into a float type; infinite where that ends.
fn stored(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_f64(x).to_f64(),
        DType::F16 => f16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}

/// Whether `got` is NaN, or infinite, just where a value within `error` of `want` is once it is stored.
///
/// `Ok(true)` means that this settles it: there is no number to compare.
pub(crate) fn same_kind(
    dtype: DType,
    got: f64,
    want: f64,
    error: f64,
    expects_nan: bool,
) -> Result<bool, &'static str> {
    if want.is_nan() {
        return match (expects_nan, got.is_nan()) {
            (false, _) => Err("the oracle gives NaN, which this case does not expect"),
            (true, true) => Ok(true),
            (true, false) => Err("not NaN"),
        };
    }
    if got.is_nan() {
        return Err("NaN");
    }
    if want.is_infinite() {
        return if got == want { Ok(true) } else { Err("not the infinity it should be") };
    }
    if got.is_infinite() {
        let ends = [want - error, want + error].map(|end| stored(dtype, end));
        return if ends.contains(&got) { Ok(true) } else { Err("infinite") };
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_equal_to_nothing_unless_the_case_says_so() {
        let kind = |got, want, expects| same_kind(DType::F32, got, want, 0.0, expects);
        assert!(kind(f64::NAN, f64::NAN, false).is_err());
        assert_eq!(kind(f64::NAN, f64::NAN, true), Ok(true));
        assert!(kind(1.0, f64::NAN, true).is_err() && kind(f64::NAN, 1.0, true).is_err());
        assert_eq!(kind(1.0, 1.0, false), Ok(false));
    }

    #[test]
    fn infinities_keep_their_sign_and_begin_where_the_type_ends() {
        let kind = |dtype, got, want, error| same_kind(dtype, got, want, error, false);
        let inf = f64::INFINITY;
        assert_eq!(kind(DType::F32, inf, inf, 0.0), Ok(true));
        assert!(kind(DType::F32, -inf, inf, 0.0).is_err() && kind(DType::F32, 3e38, inf, 0.0).is_err());
        assert!(kind(DType::F32, inf, 3e38, 0.0).is_err());
        assert_eq!(kind(DType::F16, inf, 70000.0, 0.0), Ok(true));
        assert!(kind(DType::F16, -inf, 70000.0, 0.0).is_err());
        assert!(kind(DType::F16, inf, 65500.0, 0.0).is_err());
        assert_eq!(kind(DType::F16, inf, 65500.0, 30.0), Ok(true));
        assert_eq!(kind(DType::F16, 65504.0, 65530.0, 30.0), Ok(false));
    }
}
