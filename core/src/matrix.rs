//! Matrices whose scale layout is part of their type, so that an exponent byte cannot be read as a number by accident.

use crate::{DType, Invalid, Tensor};
use std::fmt;

/// How a block's scale is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// One exponent byte: `2^(byte-127)`.
    Ue8m0,
    /// An f32 factor.
    F32,
}

impl ScaleType {
    /// The element type that holds such scales.
    pub const fn dtype(self) -> DType {
        match self {
            ScaleType::Ue8m0 => DType::UE8M0,
            ScaleType::F32 => DType::F32,
        }
    }
}

/// Which elements share a scale: blocks of `rows` x `cols`, counted from element (0, 0) of each group; the last block
/// of a row or column may be short. Scales are stored row-major, `[groups, ceil(R/rows), ceil(C/cols)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScaleLayout {
    /// How a scale is stored.
    pub scale: ScaleType,
    /// Rows of a block.
    pub rows: usize,
    /// Columns of a block. Columns run along K, the axis that a product sums over.
    pub cols: usize,
}

impl ScaleLayout {
    /// One ue8m0 scale per `cols` elements of a row: activations (128), KV entries (64), FP4 (32).
    pub const fn per_row(cols: usize) -> ScaleLayout {
        ScaleLayout { scale: ScaleType::Ue8m0, rows: 1, cols }
    }

    /// One ue8m0 scale per 128 x 128 block: FP8 weights.
    pub const BLOCK_128: ScaleLayout = ScaleLayout { scale: ScaleType::Ue8m0, rows: 128, cols: 128 };
}

/// The number format of a [`Matrix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Plain elements: f32, bf16 or f16.
    Plain(DType),
    /// FP8 e4m3 codes with block scales.
    E4M3(ScaleLayout),
    /// FP4 e2m1 codes, two to a byte along a row (even column in the low nibble), with block scales.
    E2M1(ScaleLayout),
}

impl Format {
    /// Element type of the codes.
    pub const fn dtype(self) -> DType {
        match self {
            Format::Plain(dtype) => dtype,
            Format::E4M3(_) => DType::E4M3,
            Format::E2M1(_) => DType::E2M1,
        }
    }

    /// Scale layout, `None` for plain elements.
    pub const fn layout(self) -> Option<ScaleLayout> {
        match self {
            Format::Plain(_) => None,
            Format::E4M3(layout) | Format::E2M1(layout) => Some(layout),
        }
    }

    /// Sizes of the scale tensor of a `[groups, rows, cols]` matrix, `None` for plain elements.
    pub fn scale_sizes(self, groups: usize, rows: usize, cols: usize) -> Option<[usize; 3]> {
        self.layout().map(|l| [groups, rows.div_ceil(l.rows), cols.div_ceil(l.cols)])
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype())?;
        match self.layout() {
            None => Ok(()),
            Some(l) => write!(f, "/{}{}x{}", if l.scale == ScaleType::F32 { "f32:" } else { "" }, l.rows, l.cols),
        }
    }
}

/// One or more matrices of equal size in one format: `groups` x `rows` x `cols`.
///
/// A weight `[out, in]` is `rows = out`, `cols = in`; activations are `rows = tokens`, `cols = in`. Experts of a layer
/// are the groups of one matrix.
///
/// A device may multiply a code by its scale in f32 before anything else. Where that product leaves f32's range (codes of
/// 448 under scale bytes above 245), it may take the element for infinite, and everything that the element is part of.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: Format,
    pub(crate) codes: Tensor,
    pub(crate) scales: Option<Tensor>,
}

impl Matrix {
    /// A matrix of plain elements; `tensor` is `[rows, cols]` or `[groups, rows, cols]`.
    ///
    /// # Errors
    /// [`Invalid::WrongDType`] unless f32, bf16 or f16; [`Invalid::BadView`] for another rank.
    pub fn plain(tensor: &Tensor) -> Result<Matrix, Invalid> {
        if !tensor.dtype().is_float() {
            return Err(Invalid::WrongDType {
                op: "matrix",
                operand: "elements",
                allowed: "f32, bf16 or f16".into(),
                got: tensor.dtype(),
            });
        }
        Ok(Matrix { format: Format::Plain(tensor.dtype()), codes: grouped(tensor)?, scales: None })
    }

    /// A block-scaled matrix. `codes` is `[rows, cols]` or `[groups, rows, cols]` of e4m3 or e2m1; `scales` has the
    /// type and the sizes that `layout` calls for (see [`Format::scale_sizes`]), with or without the leading group size.
    ///
    /// # Errors
    /// [`Invalid::WrongDType`] for other codes, [`Invalid::ScaleLayout`] when the scales do not match,
    /// [`Invalid::OutOfRange`] for an empty block or an odd number of FP4 columns.
    pub fn scaled(codes: &Tensor, scales: &Tensor, layout: ScaleLayout) -> Result<Matrix, Invalid> {
        let codes = grouped(codes)?;
        let (groups, rows, cols) = (codes.size(0), codes.size(1), codes.size(2));
        let format = match codes.dtype() {
            DType::E4M3 => Format::E4M3(layout),
            DType::E2M1 => Format::E2M1(layout),
            got => {
                let allowed = "e4m3 or e2m1".into();
                return Err(Invalid::WrongDType { op: "matrix", operand: "codes", allowed, got });
            }
        };
        let out_of_range = |parameter, rule: &str, got: usize| {
            Err(Invalid::OutOfRange { op: "matrix", parameter, rule: rule.into(), got: got.to_string() })
        };
        if layout.rows == 0 || layout.cols == 0 {
            return out_of_range("scale block", "at least 1 x 1", 0);
        }
        if codes.dtype() == DType::E2M1 && !cols.is_multiple_of(2) {
            return out_of_range("columns of e2m1", "even, two codes share a byte of one row", cols);
        }
        let want = [groups, rows.div_ceil(layout.rows), cols.div_ceil(layout.cols)];
        let got = grouped(scales)?;
        if got.sizes() != want || got.dtype() != layout.scale.dtype() {
            return Err(Invalid::ScaleLayout {
                format: format.to_string(),
                groups,
                rows,
                cols,
                want: format!("{} {want:?}", layout.scale.dtype()),
                got: format!("{} {:?}", got.dtype(), got.sizes()),
            });
        }
        Ok(Matrix { format, codes, scales: Some(got) })
    }

    /// Number format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Matrices of equal size, one behind the other.
    pub fn groups(&self) -> usize {
        self.codes.size(0)
    }

    /// Rows of each matrix.
    pub fn rows(&self) -> usize {
        self.codes.size(1)
    }

    /// Columns of each matrix.
    pub fn cols(&self) -> usize {
        self.codes.size(2)
    }

    /// The codes, or the elements of a plain matrix: `[groups, rows, cols]`.
    pub fn codes(&self) -> &Tensor {
        &self.codes
    }

    /// The scales with their layout; `None` for plain elements.
    pub fn scales(&self) -> Option<(&Tensor, ScaleLayout)> {
        self.scales.as_ref().zip(self.format.layout())
    }

    /// Bytes in memory, scales included.
    pub fn bytes(&self) -> u64 {
        self.codes.bytes() + self.scales.as_ref().map_or(0, Tensor::bytes)
    }
}

/// `[rows, cols]` seen as one group.
fn grouped(t: &Tensor) -> Result<Tensor, Invalid> {
    match *t.sizes() {
        [rows, cols] => t.reshape(&[1, rows, cols]),
        [_, _, _] => Ok(t.clone()),
        _ => Err(Invalid::BadView { what: "a matrix".into(), shape: format!("{:?}", t.sizes()) }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Buffer, DeviceId, Memory};

    struct Nothing;
    impl Memory for Nothing {}

    fn tensor(dtype: DType, sizes: &[usize]) -> Tensor {
        let buffer = Buffer::new(DeviceId::unique(), 1 << 20, Box::new(Nothing));
        Tensor::new(&buffer, 0, dtype, sizes).unwrap()
    }

    #[test]
    fn a_scale_of_the_wrong_shape_or_type_is_refused() {
        let codes = tensor(DType::E4M3, &[200, 300]);
        assert!(Matrix::scaled(&codes, &tensor(DType::UE8M0, &[2, 3]), ScaleLayout::BLOCK_128).is_ok());
        for wrong in [tensor(DType::UE8M0, &[3, 2]), tensor(DType::F32, &[2, 3]), tensor(DType::U8, &[2, 3])] {
            let error = Matrix::scaled(&codes, &wrong, ScaleLayout::BLOCK_128).unwrap_err();
            assert!(matches!(error, Invalid::ScaleLayout { .. }), "{error}");
        }
        assert!(Matrix::scaled(&codes, &tensor(DType::UE8M0, &[200, 3]), ScaleLayout::per_row(128)).is_ok());
    }

    #[test]
    fn packed_rows_are_whole_bytes() {
        let error =
            Matrix::scaled(&tensor(DType::E2M1, &[2, 33]), &tensor(DType::UE8M0, &[2, 2]), ScaleLayout::per_row(32));
        assert!(matches!(error, Err(Invalid::OutOfRange { .. })));
        assert!(Matrix::plain(&tensor(DType::E4M3, &[2, 2])).is_err(), "codes without scales are no matrix");
    }
}
