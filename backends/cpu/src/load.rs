//! Operands as f32: reading floats and rows of matrices, storing rounded rows, sums of products, and sharing the work.

use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::host::{self, Read, Write};
use anychip_core::{DType, Format, Matrix, Result, ScaleLayout, ScaleType, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// Work, in multiply-adds or the like, below which handing it to other threads takes longer than doing it.
const SERIAL_WORK: usize = 1 << 16;

/// A float tensor, held for reading.
pub(crate) struct Floats<'a> {
    guard: Read<'a>,
    dtype: DType,
}

impl<'a> Floats<'a> {
    /// Holds `tensor`, which is f32, bf16 or f16.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Floats<'a>> {
        Ok(Floats { guard: host::read(tensor)?, dtype: tensor.dtype() })
    }

    /// Reads `out.len()` elements from element `start` on, exactly.
    pub(crate) fn read(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self.dtype {
            DType::BF16 => widen(&self.guard.as_slice::<bf16>()[range], out),
            DType::F16 => self.guard.as_slice::<f16>()[range].convert_to_f32_slice(out),
            _ => out.copy_from_slice(&self.guard.as_slice::<f32>()[range]),
        }
    }

    /// As [`read`](Floats::read), without a copy where the elements are f32 already; `scratch` holds them otherwise.
    pub(crate) fn view<'s>(&'s self, start: usize, len: usize, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        if self.dtype == DType::F32 {
            return &self.guard.as_slice::<f32>()[start..start + len];
        }
        scratch.resize(len, 0.0);
        self.read(start, scratch);
        scratch
    }
}

/// All elements of a float tensor, for operands that are small.
pub(crate) fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut all = vec![0.0; tensor.count()];
    Floats::of(tensor)?.read(0, &mut all);
    Ok(all)
}

fn widen(from: &[bf16], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(from) {
        *out = f32::from_bits((x.to_bits() as u32) << 16);
    }
}

/// A matrix of any format, held for reading.
pub(crate) struct Rows<'a> {
    codes: Read<'a>,
    scales: Option<(Read<'a>, ScaleLayout)>,
    format: Format,
    rows: usize,
    cols: usize,
}

impl<'a> Rows<'a> {
    /// Holds `matrix`.
    pub(crate) fn of(matrix: &'a Matrix) -> Result<Rows<'a>> {
        let scales = match matrix.scales() {
            Some((scales, layout)) => Some((host::read(scales)?, layout)),
            None => None,
        };
        let (rows, cols) = (matrix.rows(), matrix.cols());
        Ok(Rows { codes: host::read(matrix.codes())?, scales, format: matrix.format(), rows, cols })
    }

    /// Rows of each group.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Reads the values of a row, codes times their scales, into `out`, which holds `cols` elements.
    pub(crate) fn read(&self, group: usize, row: usize, out: &mut [f32]) {
        let start = (group * self.rows + row) * self.cols;
        let range = start..start + self.cols;
        match self.format {
            Format::Plain(DType::BF16) => widen(&self.codes.as_slice::<bf16>()[range], out),
            Format::Plain(DType::F16) => self.codes.as_slice::<f16>()[range].convert_to_f32_slice(out),
            Format::E4M3(_) => self.blocks(group, row, out, |s, block, out| {
                let codes = &self.codes.bytes()[range.start + block..][..out.len()];
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = s * e4m3::TABLE[*code as usize];
                }
            }),
            Format::E2M1(_) => self.blocks(group, row, out, |s, block, out| decode_e2m1(self.codes.bytes(), s, start + block, out)),
            _ => out.copy_from_slice(&self.codes.as_slice::<f32>()[range]),
        }
    }
}
