//! The checks that operations share, each ending in an error that names the rule, the limit and what was given.

use super::FLOAT;
use crate::{DType, Invalid, Matrix, Tensor};
use std::fmt::Display;

/// Checks in the name of one operation.
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    pub(crate) fn dtype(&self, operand: &'static str, t: &Tensor, allowed: &[DType]) -> Result<(), Invalid> {
        if allowed.contains(&t.dtype()) {
            return Ok(());
        }
        let allowed = allowed.iter().map(|d| d.name()).collect::<Vec<_>>().join(" or ");
        Err(Invalid::WrongDType { op: self.0, operand, allowed, got: t.dtype() })
    }

    pub(crate) fn float(&self, operand: &'static str, t: &Tensor) -> Result<(), Invalid> {
        self.dtype(operand, t, FLOAT)
    }

    pub(crate) fn shape(&self, operand: &'static str, t: &Tensor, want: &[usize], names: &str) -> Result<(), Invalid> {
        if t.sizes() == want {
            return Ok(());
        }
        Err(self.wrong_shape(operand, t, format!("{names} = {want:?}")))
    }

    pub(crate) fn rank(&self, operand: &'static str, t: &Tensor, rank: usize, names: &str) -> Result<(), Invalid> {
        if t.sizes().len() == rank { Ok(()) } else { Err(self.wrong_shape(operand, t, names.into())) }
    }

    /// An operand of one type and one shape: the usual case.
    pub(crate) fn is(
        &self,
        operand: &'static str,
        t: &Tensor,
        dtype: DType,
        want: &[usize],
        names: &str,
    ) -> Result<(), Invalid> {
        self.dtype(operand, t, &[dtype])?;
        self.shape(operand, t, want, names)
    }

    /// A float operand of one shape.
    pub(crate) fn floats(&self, operand: &'static str, t: &Tensor, want: &[usize], names: &str) -> Result<(), Invalid> {
        self.float(operand, t)?;
        self.shape(operand, t, want, names)
    }

    pub(crate) fn matrix(
        &self,
        operand: &'static str,
        m: &Matrix,
        want: [usize; 3],
        names: &str,
    ) -> Result<(), Invalid> {
        self.shape(operand, m.codes(), &want, names)
    }

    pub(crate) fn require(
        &self,
        holds: bool,
        parameter: &'static str,
        rule: impl Into<String>,
        got: impl Display,
    ) -> Result<(), Invalid> {
        if holds {
            return Ok(());
        }
        Err(Invalid::OutOfRange { op: self.0, parameter, rule: rule.into(), got: got.to_string() })
    }

    fn wrong_shape(&self, operand: &'static str, t: &Tensor, want: String) -> Invalid {
        Invalid::WrongShape { op: self.0, operand, want, got: format!("{:?}", t.sizes()) }
    }
}
