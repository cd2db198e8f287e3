use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, DType, Invalid, Matrix, Result, Tensor};

/// One product per expert over rows that are sorted by expert: `out[r] = w[e] x[r]` for `offsets[e] <= r < offsets[e+1]`.
///
/// Rows outside every expert's range give zero. Offsets are clamped to `[0, R]`, and a range that ends before it begins
/// is empty; where ranges overlap, the later expert's product stays.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float, e4m3 or e2m1 with scales per row | `[1, R, K]` |
/// | `w` | float, e4m3 or e2m1 | `[E, N, K]` |
/// | `offsets` | i32 | `[E + 1]`, ascending |
/// | `out` | float | `[R, N]` |
///
/// Source: DeepGEMM `m_grouped_fp8_fp4_gemm_nt_contiguous`: `sum over blocks kb of sx[r,kb] * sw[n,kb] * (codes . codes)`.
#[derive(Clone, Debug)]
pub struct ExpertGemm {
    /// Rows, sorted by expert.
    pub x: Matrix,
    /// Weights of all experts.
    pub w: Matrix,
    /// First row of each expert, and the end.
    pub offsets: Tensor,
    /// Result.
    pub out: Tensor,
}

impl Operation for ExpertGemm {
    const NAME: &'static str = "expert_gemm";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        let (rows, inner) = (self.x.rows(), self.w.cols());
        check.matrix("x", &self.x, [1, rows, inner], "[1, R, K]")?;
        let per_row = self.x.format().layout().is_none_or(|l| l.rows == 1);
        check.require(per_row, "scale block of x", "one row", self.x.format())?;
        check.is("offsets", &self.offsets, DType::I32, &[self.w.groups() + 1], "[E + 1]")?;
        check.require(i32::try_from(rows).is_ok(), "rows", "below 2^31", rows)?;
        check.floats("out", &self.out, &[rows, self.w.rows()], "[R, N]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        self.x.visit(["x", "x scales"], Access::Read, f)?;
        self.w.visit(["w", "w scales"], Access::Read, f)?;
        f("offsets", Access::Read, &mut self.offsets)?;
        f("out", Access::Write, &mut self.out)
    }

    /// Weights counted for as many experts as there can be rows for.
    fn cost(&self) -> Cost {
        let (rows, groups) = (self.x.rows(), self.w.groups().max(1));
        let touched = self.w.bytes() / groups as u64 * rows.min(groups) as u64;
        Cost {
            flops: product(&[2, rows, self.w.rows(), self.w.cols()]),
            read: self.x.bytes() + touched + self.offsets.bytes(),
            written: self.out.bytes(),
        }
    }
}
