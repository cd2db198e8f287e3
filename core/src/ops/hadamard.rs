use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, Invalid, Result, Tensor};

/// The orthonormal Walsh-Hadamard transform of each row: `out[r] = H x[r] / sqrt(n)`, `H[i][j] = (-1)^popcount(i & j)`.
///
/// Its own inverse. Applied to both sides it leaves the indexer's products as they are and spreads outliers before FP4.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float | `[R, n]`, `n` a power of two |
/// | `out` | float | `[R, n]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`rotate_activation`, fast-hadamard-transform).
#[derive(Clone, Debug)]
pub struct Hadamard {
    /// Rows.
    pub x: Tensor,
    /// Result.
    pub out: Tensor,
}

impl Operation for Hadamard {
    const NAME: &'static str = "hadamard";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("x", &self.x)?;
        check.rank("x", &self.x, 2, "[R, n]")?;
        check.require(self.x.size(1).is_power_of_two(), "n", "a power of two", self.x.size(1))?;
        check.floats("out", &self.out, self.x.sizes(), "[R, n]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("x", Access::Read, &mut self.x)?;
        f("out", Access::Write, &mut self.out)
    }

    /// As the fast transform: `n log2 n` additions a row, and the scaling.
    fn cost(&self) -> Cost {
        let stages = self.x.size(1).trailing_zeros() as usize;
        Cost { flops: product(&[self.x.count(), stages + 1]), read: self.x.bytes(), written: self.out.bytes() }
    }
}
