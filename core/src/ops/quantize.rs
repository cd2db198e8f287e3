use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, Format, Invalid, Matrix, Result, ScaleType, Tensor};

/// Rounds rows to FP8 or FP4 with one ue8m0 scale per block of a row, bit for bit.
///
/// Per block, with `max` 448 or 6: `s = 2^ceil(log2(f32(amax * f32(1/max))))`, amax floored at 1e-4 (e4m3) or 6 * 2^-126
/// (e2m1); codes are the nearest to `x / s`, ties to the even code. The last block of a row may be short. A block that
/// holds a NaN or an infinity gets scale 255 and codes 0, and reads back as NaN throughout.
/// [`formats`](crate::formats) has both steps.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float | `[R, K]` |
/// | `out` | e4m3 or e2m1, ue8m0 scales of 1 x `block` | `[1, R, K]` |
///
/// Source: DeepSeek V4 `inference/kernel.py` (`act_quant`); TileKernels; OCP Microscaling Formats v1.0.
#[derive(Clone, Debug)]
pub struct Quantize {
    /// Rows.
    pub x: Tensor,
    /// Codes and scales.
    pub out: Matrix,
}

impl Operation for Quantize {
    const NAME: &'static str = "quantize";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("x", &self.x)?;
        check.rank("x", &self.x, 2, "[R, K]")?;
        check.matrix("out", &self.out, [1, self.x.size(0), self.x.size(1)], "[1, R, K]")?;
        let layout = self.out.format().layout().filter(|l| l.rows == 1 && l.scale == ScaleType::Ue8m0);
        check.require(layout.is_some(), "format of out", "e4m3 or e2m1 with ue8m0 scales per row", self.out.format())
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("x", Access::Read, &mut self.x)?;
        self.out.visit(["out", "out scales"], Access::Write, f)
    }

    fn cost(&self) -> Cost {
        Cost { flops: product(&[3, self.x.count()]), read: self.x.bytes(), written: self.out.bytes() }
    }
}

/// Columns that share a scale in a format that [`Quantize`] writes.
pub fn quantize_block(format: Format) -> usize {
    format.layout().map_or(usize::MAX, |l| l.cols.max(1))
}
