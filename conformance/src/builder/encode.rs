//! Operands as bytes: floats in their type, matrices as codes and scales.

use crate::random::{Family, Random};
use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::{DType, Format, ScaleLayout, ScaleType};
use half::{bf16, f16};

/// The byte that poisons: NaN in every float format and in ue8m0, -1 as an integer.
pub(crate) const POISON: u8 = 0xFF;

/// Values rounded to a float type, little-endian.
pub(crate) fn float_bytes(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// A matrix on the host, `groups` x `rows` x `cols`, as the device will hold it.
pub struct HostMatrix {
    /// Number format.
    pub format: Format,
    /// Groups, rows and columns.
    pub sizes: [usize; 3],
    /// Elements or codes.
    pub codes: Vec<u8>,
    /// Scales; empty for plain elements.
    pub scales: Vec<u8>,
}

impl HostMatrix {
    /// `values` in `format`: each block gets the scale of its largest magnitude, and each value the nearest code.
    pub fn of(format: Format, sizes: [usize; 3], values: &[f32]) -> HostMatrix {
        let [groups, rows, cols] = sizes;
        let Some(layout) = format.layout() else {
            return HostMatrix { format, sizes, codes: float_bytes(format.dtype(), values), scales: Vec::new() };
        };
        let mut codes = vec![0; values.len()];
        let mut scales = Vec::new();
        for group in 0..groups {
            let at = |row: usize, col: usize| (group * rows + row) * cols + col;
            for block in blocks(layout, rows, cols) {
                let amax = block.iter().fold(0.0f32, |m, &(r, c)| m.max(values[at(r, c)].abs()));
                let (bytes, factor) = block_scale(format, layout.scale, amax);
                for (row, col) in block {
                    let x = values[at(row, col)] / factor;
                    codes[at(row, col)] = if format.dtype() == DType::E2M1 { e2m1::encode(x) } else { e4m3::encode(x) };
                }
                scales.extend(bytes);
            }
        }
        if format.dtype() == DType::E2M1 {
            codes = codes.chunks(2).map(|pair| e2m1::pack(pair[0], pair.get(1).copied().unwrap_or(0))).collect();
        }
        HostMatrix { format, sizes, codes, scales }
    }

    /// Random values of a family and a scale. Blocks that share a scale get a factor of 1/2 to 4 each, so that
    /// neighbouring scales differ and one that is read from the wrong place shows.
    pub fn random(format: Format, sizes: [usize; 3], family: Family, size: f32, random: &mut Random) -> HostMatrix {
        let [groups, rows, cols] = sizes;
        let mut values = family.fill(random, groups * rows * cols, cols);
        values.iter_mut().for_each(|x| *x *= size);
        if let Some(layout) = format.layout() {
            for group in 0..groups {
                for block in blocks(layout, rows, cols) {
                    let factor = [0.5, 1.0, 2.0, 4.0][random.below(4)];
                    block.into_iter().for_each(|(row, col)| values[(group * rows + row) * cols + col] *= factor);
                }
            }
        }
        HostMatrix::of(format, sizes, &values)
    }

    /// Poisons a matrix of the stack: whoever reads it gets NaN.
    pub fn poison_group(&mut self, group: usize) {
        for bytes in [&mut self.codes, &mut self.scales] {
            let len = bytes.len() / self.sizes[0].max(1);
            bytes[group * len..][..len].fill(POISON);
        }
    }

    /// Poisons a row of a single matrix with scales per row.
    pub fn poison_row(&mut self, row: usize) {
        for bytes in [&mut self.codes, &mut self.scales] {
            let len = bytes.len() / self.sizes[1].max(1);
            bytes[row * len..][..len].fill(POISON);
        }
    }
}

/// The elements of each block of a matrix, blocks row-major, the last of a row or column short.
fn blocks(layout: ScaleLayout, rows: usize, cols: usize) -> impl Iterator<Item = Vec<(usize, usize)>> {
    (0..rows).step_by(layout.rows).flat_map(move |top| {
        (0..cols).step_by(layout.cols).map(move |left| {
            let (bottom, right) = ((top + layout.rows).min(rows), (left + layout.cols).min(cols));
            (top..bottom).flat_map(|row| (left..right).map(move |col| (row, col))).collect()
        })
    })
}

/// A block's scale, as stored and as a number. A stored f32 is no power of two: a device that keeps only its exponent
/// is off by up to a factor of two.
fn block_scale(format: Format, scale_type: ScaleType, amax: f32) -> (Vec<u8>, f32) {
    let (byte, max) = match format.dtype() {
        DType::E2M1 => (scale::for_e2m1(amax), e2m1::MAX),
        _ => (scale::for_e4m3(amax), e4m3::MAX),
    };
    match scale_type {
        ScaleType::Ue8m0 => (vec![byte], scale::decode(byte)),
        ScaleType::F32 => {
            let factor = amax.max(scale::E4M3_AMAX_FLOOR) / max;
            (factor.to_le_bytes().to_vec(), factor)
        }
    }
}

/// A row in e4m3 or e2m1 codes, one to a byte, with a ue8m0 scale byte per `block` elements: as KV pages hold them.
pub(crate) fn row_codes(dtype: DType, row: &[f32], block: usize) -> (Vec<u8>, Vec<u8>) {
    let layout = ScaleLayout::per_row(block);
    let format = if dtype == DType::E2M1 { Format::E2M1(layout) } else { Format::E4M3(layout) };
    let matrix = HostMatrix::of(format, [1, 1, row.len()], row);
    (matrix.codes, matrix.scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_matrix_once_in_the_order_of_the_scales() {
        let layout = ScaleLayout { scale: ScaleType::Ue8m0, rows: 2, cols: 3 };
        let all: Vec<_> = blocks(layout, 3, 4).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [6, 2, 3, 1]);
        assert_eq!((all[1][0], all[3][0]), ((0, 3), (2, 3)));
    }

    #[test]
    fn codes_times_scales_are_near_the_values() {
        let mut random = Random::of_case("encode", 0);
        let values = Family::Normal.fill(&mut random, 5 * 40, 40);
        let layouts = [
            ScaleLayout::per_row(32),
            ScaleLayout::BLOCK_128,
            ScaleLayout { scale: ScaleType::F32, rows: 2, cols: 16 },
        ];
        for layout in layouts {
            let matrix = HostMatrix::of(Format::E4M3(layout), [1, 5, 40], &values);
            let width = 40usize.div_ceil(layout.cols);
            for (i, &x) in values.iter().enumerate() {
                let block = i / 40 / layout.rows * width + i % 40 / layout.cols;
                let factor = match layout.scale {
                    ScaleType::Ue8m0 => scale::decode(matrix.scales[block]),
                    ScaleType::F32 => {
                        let b = &matrix.scales[4 * block..][..4];
                        f32::from_le_bytes([b[0], b[1], b[2], b[3]])
                    }
                };
                let got = e4m3::decode(matrix.codes[i]) * factor;
                assert!((got - x).abs() <= x.abs() / 16.0 + factor / 512.0, "{i}: {got} is not {x}");
            }
        }
    }

    #[test]
    fn poison_stays_within_its_row_and_group() {
        let format = Format::E2M1(ScaleLayout::per_row(32));
        let mut matrix = HostMatrix::of(format, [2, 3, 40], &[1.0; 240]);
        let before = (matrix.codes.clone(), matrix.scales.clone());
        matrix.poison_group(1);
        assert_eq!((&matrix.codes[..60], &matrix.scales[..6]), (&before.0[..60], &before.1[..6]));
        assert!(matrix.codes[60..].iter().chain(&matrix.scales[6..]).all(|&b| b == POISON));
    }
}
