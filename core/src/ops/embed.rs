use super::{Access, Check, Operation, Visitor};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Rows of a table by number, each written `c` times: `out[t, i] = table[ids[t]]` for `i < c`.
///
/// A number outside the table gives zeros. V4 starts its residual streams with `c = hc_mult` copies of a token's row;
/// with `c = 1` it gathers rows of anything.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `table` | float | `[V, d]` |
/// | `ids` | i32 | `[T]` |
/// | `out` | float | `[T, c, d]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`Transformer.forward`).
#[derive(Clone, Debug)]
pub struct Embed {
    /// Rows.
    pub table: Tensor,
    /// Row numbers.
    pub ids: Tensor,
    /// Result.
    pub out: Tensor,
}

impl Operation for Embed {
    const NAME: &'static str = "embed";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("table", &self.table)?;
        check.rank("table", &self.table, 2, "[V, d]")?;
        check.dtype("ids", &self.ids, &[DType::I32])?;
        check.rank("ids", &self.ids, 1, "[T]")?;
        let want = [self.ids.size(0), self.out.size(1), self.table.size(1)];
        check.floats("out", &self.out, &want, "[T, c, d]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("table", Access::Read, &mut self.table)?;
        f("ids", Access::Read, &mut self.ids)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let row = self.table.bytes() / self.table.size(0).max(1) as u64;
        let rows = row.saturating_mul(self.ids.size(0) as u64);
        Cost { flops: 0, read: self.ids.bytes() + rows, written: self.out.bytes() }
    }
}
