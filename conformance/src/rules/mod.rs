//! What is right: the rules that every case is judged by. There are no other tolerances.
//!
//! - [`structure`] (R0): what was not to change has not, every output was written, NaN and infinities are where the oracle
//!   has them, integers and bytes are equal.
//! - [`exact`] (R1): what no rounding touches is the correctly rounded value.
//! - [`bound`] (R2): each number lies within the bound of the device's declared arithmetic.
//! - [`rows`] (R3): over each row, errors are no larger than is typical of that arithmetic.
//! - [`sign`] (R3): rounding has no side.
//! - R4 and R5 compare two runs of the device; they are among the relations.

pub(crate) mod bound;
pub(crate) mod cause;
pub(crate) mod exact;
pub(crate) mod rows;
pub(crate) mod sign;
pub(crate) mod spread;
pub(crate) mod structure;

use anychip_core::Tensor;
use anychip_reference::{Bounded, Values};
use bound::Nearest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which rule a case broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rule {
    /// The operation did not run: the device failed, or refused what it says it supports.
    Ran,
    /// The process that ran the case ended: see [`run_isolated`](crate::run_isolated).
    Crashed,
    /// The case gave no result in time.
    Hung,
    /// The case passed, although it is listed as an [expected failure](crate::ExpectedFailures).
    Expected,
    /// Structure, bit for bit.
    R0,
    /// Exact cases, bit for bit.
    R1,
    /// The bound of each element.
    R2,
    /// The errors of each row together, by what is typical of the declared arithmetic.
    R3,
    /// What holds between two runs by the operation's definition: order of rows, places of pages, scaled inputs.
    R4,
    /// The declared determinism.
    R5,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What broke a rule, before it is known in which case.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    /// What happened, in words.
    pub(crate) what: String,
    pub(crate) operand: Option<&'static str>,
    /// Where in the operand, outermost axis first.
    pub(crate) coordinate: Vec<usize>,
    pub(crate) got: String,
    pub(crate) want: String,
    pub(crate) bound: Option<f64>,
    pub(crate) ratio: Option<f64>,
    /// What probably happened.
    pub(crate) cause: Option<String>,
}

impl Broken {
    /// A broken rule that has no place in an operand.
    pub(crate) fn plain(rule: Rule, what: impl Into<String>) -> Box<Broken> {
        let (what, got, want) = (what.into(), String::new(), String::new());
        Box::new(Broken {
            rule,
            what,
            operand: None,
            coordinate: Vec::new(),
            got,
            want,
            bound: None,
            ratio: None,
            cause: None,
        })
    }

    /// At one place of an operand.
    pub(crate) fn at(
        rule: Rule,
        operand: &'static str,
        coordinate: Vec<usize>,
        what: impl Into<String>,
        got: impl fmt::Display,
        want: impl fmt::Display,
    ) -> Box<Broken> {
        let (operand, what, got, want) = (Some(operand), what.into(), got.to_string(), want.to_string());
        Box::new(Broken { rule, what, operand, coordinate, got, want, bound: None, ratio: None, cause: None })
    }

    /// With what a number was measured by.
    pub(crate) fn measured(mut self: Box<Broken>, bound: f64, ratio: Option<f64>) -> Box<Broken> {
        (self.bound, self.ratio) = (Some(bound), ratio);
        self
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{:?}: {}", self.rule, self.operand.unwrap_or("operation"), self.coordinate, self.what)?;
        if self.operand.is_some() {
            write!(f, ", got {}, want {}", self.got, self.want)?;
        }
        self.bound.map_or(Ok(()), |bound| write!(f, " +- {bound:.3e}"))
    }
}

/// Judges what a device wrote into one operand by the rules for its type: R0, and R2 for numbers. Gives the element nearest
/// to its bound; `None` where there is no bound to be near to.
pub(crate) fn output(
    name: &'static str,
    tensor: &Tensor,
    got: &[u8],
    want: &Values<Bounded>,
    expects_nan: bool,
) -> Result<Option<Nearest>, Box<Broken>> {
    match want {
        Values::Integers(want) => structure::same_integers(name, tensor, got, want).map(|()| None),
        Values::Bytes(want) => structure::same_bytes(name, tensor, got, want).map(|()| None),
        Values::Real(want) => bound::within(name, tensor, got, want, expects_nan),
    }
}

/// The suite's judgement of one operand, for tools that run operations of their own: the largest error over tolerance, 0
/// for integers and bytes. `tensor` gives type and shape, `got` its bytes, `want` is what [`anychip_reference::judge`] says.
///
/// # Errors
/// What is wrong, in words: rule, operand, coordinate, got, want and bound. NaN is always wrong here.
pub fn judge_output(name: &'static str, tensor: &Tensor, got: &[u8], want: &Values<Bounded>) -> Result<f64, String> {
    let nearest = output(name, tensor, got, want, false).map_err(|broken| broken.to_string())?;
    Ok(nearest.map_or(0.0, |nearest| nearest.ratio))
}

/// The coordinate of an element, outermost axis first.
pub(crate) fn coordinate(sizes: &[usize], mut index: usize) -> Vec<usize> {
    let mut all = vec![0; sizes.len()];
    for (at, &size) in all.iter_mut().zip(sizes).rev() {
        *at = index % size.max(1);
        index /= size.max(1);
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn coordinates_are_row_major() {
        assert_eq!(super::coordinate(&[2, 3, 4], 23), [1, 2, 3]);
        assert_eq!(super::coordinate(&[2, 3, 4], 5), [0, 1, 1]);
        assert!(super::coordinate(&[], 0).is_empty());
    }
}
