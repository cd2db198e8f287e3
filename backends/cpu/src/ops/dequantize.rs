use crate::load::{Rows, Stores, Work};
use anychip_core::{Result, ops};

/// Codes times their scales.
pub(crate) fn run(op: &ops::Dequantize) -> Result<()> {
    let x = Rows::of(&op.x)?;
    let (rows, cols) = (x.rows(), x.cols());
    let values = |(): &mut (), row: usize, out: &mut [f32]| x.read(row / rows, row % rows, out);
    Stores::of(&op.out)?.rows(0..op.x.groups() * rows, cols, Work::of(op), || (), values);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::{Lab, golden, golden_floats};
    use anychip_core::DType;
    use anychip_core::ops::Dequantize;

    #[test]
    fn the_golden_values() {
        let lab = Lab::new();
        let fp8 = lab.scaled(DType::E4M3, &[6, 256], &golden("fp8.codes_64"), &golden("fp8.e8m0_64"), 64);
        let fp4 = lab.scaled(DType::E2M1, &[5, 128], &golden("fp4.packed"), &golden("fp4.e8m0"), 32);
        for (x, want) in [(fp8, "fp8.dq_64"), (fp4, "fp4.dq")] {
            let out = lab.output(DType::F32, &[1, x.rows(), x.cols()]);
            lab.run(Dequantize { x, out: out.clone() });
            assert_eq!(lab.values(&out), golden_floats(want), "{want}");
        }
    }

    #[test]
    fn groups_follow_each_other() {
        let lab = Lab::new();
        let x = lab.scaled(DType::E4M3, &[2, 2, 1], &[0x38; 4], &[127, 128, 129, 255], 32);
        let out = lab.output(DType::BF16, &[2, 2, 1]);
        lab.run(Dequantize { x, out: out.clone() });
        let got = lab.values(&out);
        assert_eq!(got[..3], [1.0, 2.0, 4.0]);
        assert!(got[3].is_nan());
    }
}
