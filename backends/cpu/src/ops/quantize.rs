use crate::load::{Floats, Work, par_rows};
use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::{Format, Result, host, ops};

/// Rounds rows to FP8 or FP4 with one ue8m0 scale per block of a row.
pub(crate) fn run(op: &ops::Quantize) -> Result<()> {
    let Some((scales, layout)) = op.out.scales() else {
        return Ok(()); // a checked description has scales
    };
    let x = Floats::of(&op.x)?;
    let (cols, block) = (op.x.size(1), layout.cols);
    let packed = matches!(op.out.format(), Format::E2M1(_));
    let scale_of = if packed { scale::for_e2m1 } else { scale::for_e4m3 };
    let mut scales = host::write(scales)?;
    par_rows(scales.bytes_mut(), cols.div_ceil(block), Work::of(op), Vec::new, |scratch, row, scales| {
        let blocks = x.view(row * cols, cols, scratch).chunks(block);
        blocks.zip(scales).for_each(|(x, byte)| *byte = scale_of(scale::amax(x)));
    });
    let (scales, per_row) = (&*scales.bytes_mut(), cols.div_ceil(block));
    let mut codes = host::write(op.out.codes())?;
    let row_bytes = if packed { cols / 2 } else { cols };
    par_rows(
        codes.bytes_mut(),
        row_bytes,
        Work::of(op),
        || vec![0.0; cols],
        |values, row, codes| {
            x.read(row * cols, values);
            let scales = &scales[row * per_row..][..per_row];
            values.chunks_mut(block).zip(scales).for_each(|(x, &byte)| unscale(x, byte));
            if packed {
                let pairs = values.chunks_exact(2).zip(codes);
                pairs.for_each(|(x, byte)| *byte = e2m1::pack(e2m1::encode(x[0]), e2m1::encode(x[1])));
            } else {
                values.iter().zip(codes).for_each(|(&x, code)| *code = e4m3::encode(x));
            }
        },
    );
    Ok(())
}

/// Divides a block by its scale, which is exact; a block without one becomes zeros.
fn unscale(x: &mut [f32], byte: u8) {
    if byte == scale::NAN {
        return x.fill(0.0);
    }
    let factor = scale::decode(byte);
    x.iter_mut().for_each(|x| *x /= factor);
}

/// Rounds a row to e4m3 and back, with one ue8m0 scale per `block` columns.
pub(crate) fn round_e4m3(x: &mut [f32], block: usize) {
    for x in x.chunks_mut(block) {
        let factor = scale::decode(scale::for_e4m3(scale::amax(x)));
        // A NaN scale makes each of them NaN, as the definition wants.
        x.iter_mut().for_each(|x| *x = e4m3::decode(e4m3::encode(*x / factor)) * factor);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, golden, golden_floats};
    use anychip_core::ops::Quantize;
    use anychip_core::{DType, Matrix, ScaleLayout};

    /// Codes and scales.
    fn quantised(x: &[f32], rows: usize, dtype: DType, block: usize) -> (Vec<u8>, Vec<u8>) {
        let (lab, cols) = (Lab::new(), x.len() / rows);
        let (codes, scales) =
            (lab.output(dtype, &[rows, cols]), lab.output(DType::UE8M0, &[rows, cols.div_ceil(block)]));
        let out = Matrix::scaled(&codes, &scales, ScaleLayout::per_row(block)).unwrap();
        lab.run(Quantize { x: lab.floats(DType::F32, &[rows, cols], x), out });
        (lab.raw(&codes), lab.raw(&scales))
    }

    #[test]
    fn the_golden_codes() {
        let x = golden_floats("fp8.x");
        assert_eq!(quantised(&x, 6, DType::E4M3, 64), (golden("fp8.codes_64"), golden("fp8.e8m0_64")));
        assert_eq!(quantised(&x, 6, DType::E4M3, 128), (golden("fp8.codes_128"), golden("fp8.e8m0_128")));
        assert_eq!(quantised(&golden_floats("fp4.x"), 5, DType::E2M1, 32), (golden("fp4.packed"), golden("fp4.e8m0")));
    }

    #[test]
    fn a_short_last_block_has_a_scale_of_its_own() {
        let (codes, scales) = quantised(&[448.0, 1.0, 0.5, 896.0, 2.0, 7.0], 2, DType::E4M3, 2);
        assert_eq!(scales, [127, scale::for_e4m3(0.5), 128, scale::for_e4m3(7.0)]);
        assert_eq!(codes[..2], [0x7E, 0x38]);
        assert_eq!(codes[3..5], [0x7E, 0x38]);
        // Blocks of three, whose bounds lie inside bytes.
        let (codes, scales) = quantised(&[6.0, 3.0, -6.0, 12.0], 1, DType::E2M1, 3);
        assert_eq!((codes, scales), (vec![0x57, 0x7F], vec![127, 128]));
    }

    #[test]
    fn a_block_with_what_is_not_finite_is_nan_and_its_neighbour_is_not() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for dtype in [DType::E4M3, DType::E2M1] {
                let (codes, scales) = quantised(&[1.0, bad, 1.0, 1.0], 1, dtype, 2);
                let half = codes.len() / 2;
                assert!(scales[0] == 255 && scales[1] < 255);
                assert!(codes[..half].iter().all(|&code| code == 0) && codes[half..].iter().all(|&code| code != 0));
            }
        }
    }

    #[test]
    fn rounding_in_place_is_quantising_and_reading_back() {
        for (block, name) in [(64, "fp8.dq_64"), (128, "fp8.dq_128")] {
            let mut x = golden_floats("fp8.x");
            x.chunks_mut(256).for_each(|row| round_e4m3(row, block));
            assert_eq!(x, golden_floats(name));
        }
        let mut row = [1.0, f32::INFINITY, 3.0];
        round_e4m3(&mut row, 2);
        assert!(row[0].is_nan() && row[1].is_nan() && row[2] == 3.0);
    }
}
