//! What a fault works with: the correct device, operands as numbers, and operations over changed copies of operands.

use crate::rules::exact;
use crate::rules::structure::floats;
use anychip_core::formats::{e2m1, e4m3};
use anychip_core::{Access, DType, Device, Matrix, Op, Result, ScaleType, Stream, Tensor};
use half::{bf16, f16};
use std::collections::BTreeMap;

/// What a faulty device remembers from call to call, by operation and operand.
pub(super) type Remembered = BTreeMap<(&'static str, &'static str), Vec<u8>>;

/// The correct device, one of its streams, and what was remembered.
pub(super) struct Bench<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) stream: &'a mut dyn Stream,
    pub(super) remembered: &'a mut Remembered,
}

impl Bench<'_> {
    /// Runs it rightly.
    pub(super) fn run(&mut self, op: &Op) -> Result<()> {
        self.stream.enqueue(op)
    }

    pub(super) fn bytes(&mut self, tensor: &Tensor) -> Result<Vec<u8>> {
        let mut bytes = vec![0; tensor.bytes() as usize];
        self.stream.read(tensor, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn put(&mut self, tensor: &Tensor, bytes: &[u8]) -> Result<()> {
        self.stream.write(tensor, bytes)
    }

    /// Changes the bytes of a tensor.
    pub(super) fn change(&mut self, tensor: &Tensor, f: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut bytes = self.bytes(tensor)?;
        f(&mut bytes);
        self.put(tensor, &bytes)
    }

    pub(super) fn floats(&mut self, tensor: &Tensor) -> Result<Vec<f64>> {
        Ok(floats(tensor.dtype(), &self.bytes(tensor)?))
    }

    pub(super) fn integers(&mut self, tensor: &Tensor) -> Result<Vec<i32>> {
        Ok(integers_of(&self.bytes(tensor)?))
    }

    /// Rounds values to nearest into a float tensor.
    pub(super) fn store(&mut self, tensor: &Tensor, values: &[f64]) -> Result<()> {
        self.put(tensor, &stored(tensor.dtype(), values))
    }

    /// The values of a matrix, `[groups, rows, cols]`, whose ue8m0 scale bytes mean what `meaning` says.
    pub(super) fn matrix_by(&mut self, matrix: &Matrix, meaning: impl Fn(u8) -> f64) -> Result<Vec<f64>> {
        let codes = self.bytes(matrix.codes())?;
        let Some((scales, layout)) = matrix.scales() else { return Ok(floats(matrix.codes().dtype(), &codes)) };
        let scales: Vec<f64> = match (layout.scale, self.bytes(scales)?) {
            (ScaleType::F32, bytes) => floats(DType::F32, &bytes),
            (ScaleType::Ue8m0, bytes) => bytes.into_iter().map(meaning).collect(),
        };
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let [tall, wide] = [rows.div_ceil(layout.rows), cols.div_ceil(layout.cols)];
        let value = |i: usize| {
            let (group, row, col) = (i / cols / rows, i / cols % rows, i % cols);
            let code = match matrix.codes().dtype() {
                DType::E2M1 => e2m1::decode(codes[i / 2] >> (4 * (i % 2))),
                _ => e4m3::decode(codes[i]),
            };
            f64::from(code) * scales[(group * tall + row / layout.rows) * wide + col / layout.cols]
        };
        Ok((0..matrix.codes().count()).map(value).collect())
    }

    /// The operation over copies of the named inputs, their bytes changed.
    pub(super) fn edited(&mut self, op: &Op, names: &[&str], mut f: impl FnMut(&Tensor, &mut Vec<u8>)) -> Result<Op> {
        let (device, stream) = (self.device, &mut *self.stream);
        op.rebind(&mut |name, _, tensor| {
            if !names.contains(&name) || tensor.bytes() == 0 {
                return Ok(tensor.clone());
            }
            let other = device.tensor(tensor.dtype(), tensor.sizes())?;
            let mut bytes = vec![0; tensor.bytes() as usize];
            stream.read(tensor, &mut bytes)?;
            f(tensor, &mut bytes);
            stream.write(&other, &bytes)?;
            Ok(other)
        })
    }

    /// Runs the operation over inputs whose bytes were changed.
    pub(super) fn with(&mut self, op: &Op, names: &[&str], f: impl FnMut(&Tensor, &mut Vec<u8>)) -> Result<()> {
        let op = self.edited(op, names, f)?;
        self.run(&op)
    }

    /// Runs the operation over float inputs whose values were changed.
    pub(super) fn with_floats(
        &mut self,
        op: &Op,
        names: &[&str],
        mut f: impl FnMut(&Tensor, &mut Vec<f64>),
    ) -> Result<()> {
        self.with(op, names, |tensor, bytes| {
            if tensor.dtype().is_float() {
                let mut values = floats(tensor.dtype(), bytes);
                f(tensor, &mut values);
                *bytes = stored(tensor.dtype(), &values);
            }
        })
    }

    /// Runs the operation over lists of integers that were changed.
    pub(super) fn with_integers(
        &mut self,
        op: &Op,
        names: &[&str],
        mut f: impl FnMut(&Tensor, &mut Vec<i32>),
    ) -> Result<()> {
        self.with(op, names, |tensor, bytes| {
            let mut values = integers_of(bytes);
            f(tensor, &mut values);
            *bytes = bytes_of(&values);
        })
    }

    /// Runs the operation and changes what it wrote into float outputs; `f` hears the operand's name.
    pub(super) fn then_floats(&mut self, op: &Op, mut f: impl FnMut(&str, &Tensor, &mut Vec<f64>)) -> Result<()> {
        self.run(op)?;
        for (name, access, tensor) in op.operands() {
            if access == Access::Write && tensor.dtype().is_float() && tensor.count() > 0 {
                let mut values = self.floats(&tensor)?;
                f(name, &tensor, &mut values);
                self.store(&tensor, &values)?;
            }
        }
        Ok(())
    }

    /// Runs the operation and changes the integers that it wrote.
    pub(super) fn then_integers(&mut self, op: &Op, mut f: impl FnMut(&Tensor, &mut Vec<i32>)) -> Result<()> {
        self.run(op)?;
        for (_, access, tensor) in op.operands() {
            if access == Access::Write && tensor.dtype() == DType::I32 && tensor.count() > 0 {
                let mut values = self.integers(&tensor)?;
                f(&tensor, &mut values);
                self.put(&tensor, &bytes_of(&values))?;
            }
        }
        Ok(())
    }

    /// Runs the operation and changes the bytes of everything it wrote.
    pub(super) fn then_bytes(&mut self, op: &Op, mut f: impl FnMut(&str, &Tensor, &mut Vec<u8>)) -> Result<()> {
        self.run(op)?;
        for (name, access, tensor) in op.operands() {
            if access != Access::Read && tensor.bytes() > 0 {
                self.change(&tensor, |bytes| f(name, &tensor, bytes))?;
            }
        }
        Ok(())
    }
}

/// Values rounded to nearest into a float type, once.
pub(super) fn stored(dtype: DType, values: &[f64]) -> Vec<u8> {
    let values = values.iter().map(|&x| exact::stored(dtype, x) as f32);
    match dtype {
        DType::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
        DType::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

pub(super) fn integers_of(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

pub(super) fn bytes_of(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Rounded to `bits` significant bits, or truncated to them.
pub(super) fn significant(x: f64, bits: u32, truncate: bool) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let unit = 2f64.powi(x.abs().log2().floor() as i32 + 1 - bits as i32);
    if truncate { (x / unit).trunc() * unit } else { (x / unit).round_ties_even() * unit }
}

pub(super) fn bf(x: f64) -> f64 {
    exact::stored(DType::BF16, x)
}
