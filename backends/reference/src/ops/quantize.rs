use crate::operands::floats;
use crate::real::Grid;
use crate::{Output, Real};
use anychip_core::formats::{e2m1, scale};
use anychip_core::ops::{Quantize, quantize_block};
use anychip_core::{Format, Result};

/// Per block of a row: `s = 2^ceil(log2(amax / max))`, then the nearest code to each `x / s`
pub(crate) fn evaluate<R: Real>(op: &Quantize, _units: R::Units) -> Result<Vec<Output<R>>> {
    let grid = if matches!(op.out.format(), Format::E2M1(_)) { Grid::E2M1 } else { Grid::E4M3 };
    let x = floats(&op.x)?;
    let (mut codes, mut scales) = (Vec::with_capacity(x.len()), Vec::new());
    for row in x.chunks(op.x.size(1).max(1)) {
        for block in row.chunks(quantize_block(op.out.format())) {
            let byte = grid.scale_byte(scale::amax(block));
            scales.push(byte);
            codes.extend(block.iter().map(|&x| grid.code(x, byte)));
        }
    }
    if grid == Grid::E2M1 {
        codes = codes.chunks_exact(2).map(|pair| e2m1::pack(pair[0], pair[1])).collect();
    }
    let mut outputs = vec![Output::bytes("out", op.out.codes(), codes)];
    outputs.extend(op.out.scales().map(|(tensor, _)| Output::bytes("out scales", tensor, scales)));
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::*;
    use anychip_core::{DType, Matrix, ScaleLayout, Tensor};

    fn quantized(x: &Tensor, dtype: DType, block: usize) -> Matrix {
        let out = unwritten_matrix(dtype, [x.size(0), x.size(1)], ScaleLayout::per_row(block));
        run(Quantize { x: x.clone(), out: out.clone() });
        out
    }

    fn codes_and_scales(m: &Matrix) -> [Vec<u8>; 2] {
        [bytes_of(m.codes()), bytes_of(m.scales().unwrap().0)]
    }

    /// Rows at 1e-6 to 3e4, a block of zeros, an amax of exactly 4 * 448.
    #[test]
    fn fp8_is_bit_for_bit_the_golden_one() {
        for dtype in [DType::F32, DType::BF16] {
            let x = golden("fp8.x").tensor(dtype);
            for block in [64, 128] {
                let want = ["codes", "e8m0"].map(|part| golden(&format!("fp8.{part}_{block}")).bytes);
                assert_eq!(codes_and_scales(&quantized(&x, DType::E4M3, block)), want, "{dtype}, blocks of {block}");
            }
        }
    }

    /// Rows at 1e-30 to 1e4, every midpoint between two codes.
    #[test]
    fn fp4_is_bit_for_bit_the_golden_one() {
        let x = golden("fp4.x").tensor(DType::F32);
        let want = ["fp4.packed", "fp4.e8m0"].map(|name| golden(name).bytes);
        assert_eq!(codes_and_scales(&quantized(&x, DType::E2M1, 32)), want);
    }

    #[test]
    fn the_last_block_of_a_row_may_be_short() {
        // Blocks of 4 over 6 columns; the second row must not share a scale with the end of the first.
        let x = tensor(DType::F32, &[2, 6], &[448.0, 0.0, 0.0, 0.0, 1.75, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0, -0.0]);
        let [codes, scales] = codes_and_scales(&quantized(&x, DType::E4M3, 4));
        assert_eq!(scales, [127, 127 - 8, 127 - 6, 105]); // 1.75 = 448 / 2^8, 7 = 448 / 2^6, and the floor of 1e-4
        assert_eq!(codes, [0x7E, 0, 0, 0, 0x7E, 0, 0x7E, 0, 0, 0, 0, 0x80]);
    }

    #[test]
    fn blocks_of_odd_length_share_bytes_but_not_scales() {
        let x = tensor(DType::F32, &[1, 6], &[6.0, 3.0, 1.0, 12.0, -2.0, 6.0]);
        let [codes, scales] = codes_and_scales(&quantized(&x, DType::E2M1, 3));
        assert_eq!(scales, [127, 128]);
        assert_eq!(codes, [0x57, 0x72, 0x5A]); // 6 3, 1 and 12/2, -2/2 and 6/2
    }

    #[test]
    fn what_is_not_finite_spoils_its_block_alone() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let x = tensor(DType::F32, &[1, 8], &[1.0, bad, 1.0, 1.0, 6.0, 6.0, -6.0, 6.0]);
            let [codes, scales] = codes_and_scales(&quantized(&x, DType::E2M1, 4));
            assert_eq!((scales, codes), (vec![255, 127], vec![0, 0, 0x77, 0x7F]));
        }
    }
}
