use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, Invalid, Matrix, Result, Tensor};

/// Products with weights: `out[t, g*N + n] = sum_k x[t, g*K + k] * w[g, n, k]`.
///
/// With one group it is a linear layer. With more, group `g` multiplies its own `K` columns of `x`: V4's grouped output
/// projection. Values are those of the codes times their scales; the sum is rounded once, on the store.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float, e4m3 or e2m1 with scales per row | `[1, T, G * K]` |
/// | `w` | float, e4m3 or e2m1 | `[G, N, K]` |
/// | `out` | float | `[T, G * N]` |
///
/// Source: DeepGEMM `fp8_gemm_nt`: `sum over blocks kb of sx[t,kb] * sw[n/128,kb] * (codes . codes)`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Rows.
    pub x: Matrix,
    /// Weights.
    pub w: Matrix,
    /// Result.
    pub out: Tensor,
}

impl Operation for Linear {
    const NAME: &'static str = "linear";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        let (rows, groups, inner) = (self.x.rows(), self.w.groups(), self.w.cols());
        check.matrix("x", &self.x, [1, rows, groups * inner], "[1, T, G * K]")?;
        if let Some(layout) = self.x.format().layout() {
            check.require(layout.rows == 1, "scale block of x", "one row", self.x.format())?;
            let whole = groups == 1 || inner.is_multiple_of(layout.cols);
            check.require(whole, "scale block of x", format!("a divisor of K = {inner} when grouped"), layout.cols)?;
        }
        check.floats("out", &self.out, &[rows, groups * self.w.rows()], "[T, G * N]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        self.x.visit(["x", "x scales"], Access::Read, f)?;
        self.w.visit(["w", "w scales"], Access::Read, f)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: product(&[2, self.x.rows(), self.w.groups(), self.w.rows(), self.w.cols()]),
            read: self.x.bytes() + self.w.bytes(),
            written: self.out.bytes(),
        }
    }
}
