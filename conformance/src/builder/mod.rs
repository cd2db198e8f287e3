//! Operands of a case on any device, and their bytes on the host.

mod contents;
mod encode;
mod operand;
mod pages;

pub(crate) use contents::Contents;
pub use encode::HostMatrix;
pub(crate) use encode::{POISON, float_bytes};
pub(crate) use operand::{Changed, Operand};
pub use pages::Stretch;
pub(crate) use pages::lists;

use crate::random::{Family, Random};
use anychip_core::{DType, Device, Format, Matrix, Result, Shape, Stream, Tensor};
use std::ops::{Deref, DerefMut};

/// Prefill of outputs that hold integers, codes or pages: no index, no code and no scale that a case asks for.
pub(crate) const UNWRITTEN: u8 = 0xA5;

/// Makes the operands of one case on a device, each in a buffer of its own between guard bands, and keeps their bytes.
///
/// What it makes depends on the case's name and seed alone, never on the device.
pub struct Builder<'a> {
    device: &'a dyn Device,
    stream: Box<dyn Stream>,
    random: Random,
    operands: Vec<Operand>,
    expects_nan: bool,
    accumulator_bits: u32,
}

impl<'a> Builder<'a> {
    /// For the case `name`, seed left out, on `device`.
    ///
    /// # Errors
    /// Those of [`Device::open_stream`].
    pub fn new(device: &'a dyn Device, name: &str, seed: u64) -> Result<Builder<'a>> {
        let (stream, random) = (device.open_stream()?, Random::of_case(name, seed));
        Ok(Builder { device, stream, random, operands: Vec::new(), expects_nan: false, accumulator_bits: 24 })
    }

    /// The case's source of numbers.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Bits that the device's accumulator of this operation keeps of a sum, as it declares: 24 until it was asked. The one
    /// thing that a case's operands may depend on besides its name, and only those of exact sums do.
    pub fn accumulator_bits(&self) -> u32 {
        self.accumulator_bits
    }

    /// Declares that NaN is the right answer somewhere. Without this, NaN in the oracle's result fails the case: NaN is
    /// never equal to anything by accident. Called before the outputs are made, which are then not prefilled with NaN.
    pub fn expect_nan(&mut self) {
        self.expects_nan = true;
    }

    /// A tensor with these bytes.
    ///
    /// # Errors
    /// [`Invalid::WrongLength`](anychip_core::Invalid::WrongLength), and those of the device.
    pub fn tensor(&mut self, dtype: DType, sizes: &[usize], bytes: &[u8]) -> Result<Tensor> {
        let operand = Operand::new(self.device, dtype, sizes, bytes)?;
        self.stream.write(operand.whole(), operand.before())?;
        self.operands.push(operand);
        Ok(self.operands[self.operands.len() - 1].tensor().clone())
    }

    /// A float tensor, each value rounded to `dtype`.
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn floats(&mut self, dtype: DType, sizes: &[usize], values: &[f32]) -> Result<Tensor> {
        self.tensor(dtype, sizes, &encode::float_bytes(dtype, values))
    }

    /// A float tensor of random values; rows run along the last axis.
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn values(&mut self, dtype: DType, sizes: &[usize], family: Family, size: f32) -> Result<Tensor> {
        self.expects_nan |= family == Family::Poisoned;
        let count = Shape::new(sizes)?.count();
        let mut values = family.fill(&mut self.random, count, sizes.last().copied().unwrap_or(1));
        values.iter_mut().for_each(|x| *x *= size);
        self.floats(dtype, sizes, &values)
    }

    /// An i32 tensor.
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn integers(&mut self, sizes: &[usize], values: &[i32]) -> Result<Tensor> {
        self.tensor(DType::I32, sizes, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
    }

    /// A tensor for the operation to write: floats are NaN, unless NaN is a right answer, and all else is a value that is
    /// no right answer.
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn output(&mut self, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        let bytes = dtype.bytes(Shape::new(sizes)?.count() as u64).unwrap_or(u64::MAX);
        let prefill = if dtype.is_float() && !self.expects_nan { POISON } else { UNWRITTEN };
        self.tensor(dtype, sizes, &vec![prefill; bytes as usize])
    }

    /// A matrix of random values in any format, `[groups, rows, cols]`; see [`HostMatrix::random`].
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn matrix(&mut self, format: Format, sizes: [usize; 3], family: Family, size: f32) -> Result<Matrix> {
        self.expects_nan |= family == Family::Poisoned;
        let matrix = HostMatrix::random(format, sizes, family, size, &mut self.random);
        self.matrix_of(&matrix)
    }

    /// A matrix from its bytes.
    ///
    /// # Errors
    /// As [`tensor`](Builder::tensor).
    pub fn matrix_of(&mut self, matrix: &HostMatrix) -> Result<Matrix> {
        let [groups, rows, cols] = matrix.sizes;
        let codes = self.tensor(matrix.format.dtype(), &matrix.sizes, &matrix.codes)?;
        let Some((layout, sizes)) = matrix.format.layout().zip(matrix.format.scale_sizes(groups, rows, cols)) else {
            return Ok(Matrix::plain(&codes)?);
        };
        let scales = self.tensor(layout.scale.dtype(), &sizes, &matrix.scales)?;
        Ok(Matrix::scaled(&codes, &scales, layout)?)
    }

    /// For a device that declares another accumulator.
    pub(crate) fn set_accumulator_bits(&mut self, bits: u32) {
        self.accumulator_bits = bits;
    }

    /// Everything that was made.
    pub(crate) fn finish(self) -> Built {
        Built { stream: self.stream, laid: Laid { operands: self.operands, expects_nan: self.expects_nan } }
    }
}

/// A case's operands on a device, ready to run.
pub(crate) struct Built {
    /// The stream that wrote them.
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) laid: Laid,
}

/// A case's operands on a device: what a result is judged by.
pub(crate) struct Laid {
    pub(crate) operands: Vec<Operand>,
    pub(crate) expects_nan: bool,
}

impl Deref for Built {
    type Target = Laid;
    fn deref(&self) -> &Laid {
        &self.laid
    }
}

impl DerefMut for Built {
    fn deref_mut(&mut self) -> &mut Laid {
        &mut self.laid
    }
}

impl Laid {
    /// The operand that `tensor` is a view of.
    pub(crate) fn operand(&self, tensor: &Tensor) -> Option<usize> {
        self.operands.iter().position(|o| o.tensor().buffer().id() == tensor.buffer().id())
    }
}
