//! What is right: the rules that every case is judged by. There are no other tolerances.
//!
//! - [`structure`] (R0): what was not to change has not, every output was written, NaN and infinities are where the oracle
//!   has them, integers and bytes are equal.
//! - [`bound`] (R2): each number lies within the bound of the device's declared arithmetic.

pub(crate) mod bound;
pub(crate) mod structure;

use serde::Serialize;
use std::fmt;

/// Which rule a case broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Rule {
    /// The operation did not run: the device failed, or refused what it says it supports.
    Ran,
    /// Structure, bit for bit.
    R0,
    /// The bound of each element.
    R2,
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
}

impl Broken {
    /// A broken rule that has no place in an operand.
    pub(crate) fn plain(rule: Rule, what: impl Into<String>) -> Box<Broken> {
        let (what, got, want) = (what.into(), String::new(), String::new());
        Box::new(Broken { rule, what, operand: None, coordinate: Vec::new(), got, want, bound: None, ratio: None })
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
        Box::new(Broken { rule, what, operand, coordinate, got, want, bound: None, ratio: None })
    }

    /// With what a number was measured by.
    pub(crate) fn measured(mut self: Box<Broken>, bound: f64, ratio: Option<f64>) -> Box<Broken> {
        (self.bound, self.ratio) = (Some(bound), ratio);
        self
    }
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
