//! Operands as numbers, and results back into tensors.

use crate::real::Real;
use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::{DType, Format, KvFormat, Matrix, Paged, Result, ScaleType, Tensor, host};
use half::{bf16, f16};

/// What an operation gives for one operand that it writes.
#[derive(Clone, Debug)]
pub struct Output<R> {
    /// Operand, by the name that [`Op::operands`](anychip_core::Op::operands) uses.
    pub operand: &'static str,
    /// Where it goes.
    pub tensor: Tensor,
    /// What it holds afterwards, all of it.
    pub values: Values<R>,
}

/// The contents of an output.
#[derive(Clone, Debug)]
pub enum Values<R> {
    /// Numbers, to be rounded once into the tensor's type.
    Real(Vec<R>),
    /// Integers, right or wrong.
    Integers(Vec<i32>),
    /// Codes, scales and pages, right or wrong bit for bit.
    Bytes(Vec<u8>),
}

impl<R: Real> Output<R> {
    pub(crate) fn real(operand: &'static str, tensor: &Tensor, values: Vec<R>) -> Output<R> {
        Output { operand, tensor: tensor.clone(), values: Values::Real(values) }
    }

    pub(crate) fn integers(operand: &'static str, tensor: &Tensor, values: Vec<i32>) -> Output<R> {
        Output { operand, tensor: tensor.clone(), values: Values::Integers(values) }
    }

    pub(crate) fn bytes(operand: &'static str, tensor: &Tensor, values: Vec<u8>) -> Output<R> {
        Output { operand, tensor: tensor.clone(), values: Values::Bytes(values) }
    }

    /// Rounds the values into the tensor.
    pub(crate) fn store(&self) -> Result<()> {
        let mut memory = host::write(&self.tensor)?;
        match &self.values {
            Values::Bytes(bytes) => memory.bytes_mut().copy_from_slice(bytes),
            Values::Integers(values) => memory.as_mut_slice::<i32>().copy_from_slice(values),
            Values::Real(values) => match self.tensor.dtype() {
                DType::BF16 => {
                    let out = memory.as_mut_slice::<bf16>();
                    out.iter_mut().zip(values).for_each(|(o, v)| *o = bf16::from_f32(v.value() as f32));
                }
                DType::F16 => {
                    let out = memory.as_mut_slice::<f16>();
                    out.iter_mut().zip(values).for_each(|(o, v)| *o = f16::from_f32(v.value() as f32));
                }
                _ => {
                    let out = memory.as_mut_slice::<f32>();
                    out.iter_mut().zip(values).for_each(|(o, v)| *o = v.value() as f32);
                }
            },
        }
        Ok(())
    }
}

/// All elements of a float tensor.
pub(crate) fn reals<R: Real>(t: &Tensor, units: R::Units) -> Result<Vec<R>> {
    Ok(floats(t)?.into_iter().map(|x| R::read(x as f64, units)).collect())
}

/// All elements of a float tensor, exact in f32.
pub(crate) fn floats(t: &Tensor) -> Result<Vec<f32>> {
    let memory = host::read(t)?;
    Ok(match t.dtype() {
        DType::BF16 => memory.as_slice::<bf16>().iter().map(|x| x.to_f32()).collect(),
        DType::F16 => memory.as_slice::<f16>().iter().map(|x| x.to_f32()).collect(),
        _ => memory.as_slice::<f32>().to_vec(),
    })
}

/// All elements of an i32 tensor.
pub(crate) fn integers(t: &Tensor) -> Result<Vec<i32>> {
    Ok(host::read(t)?.as_slice::<i32>().to_vec())
}

/// All bytes of a tensor.
pub(crate) fn bytes(t: &Tensor) -> Result<Vec<u8>> {
    Ok(host::read(t)?.bytes().to_vec())
}

/// All elements of a float operand, as a device holds them that declares a further rounding of it.
pub(crate) fn held<R: Real>(name: &str, t: &Tensor, units: R::Units) -> Result<Vec<R>> {
    Ok(reals::<R>(t, units)?.into_iter().map(|x| x.held(name, units)).collect())
}

/// Row `row` of group `group` of a matrix operand: each code times its scale, as [`held`].
pub(crate) fn matrix_row<R: Real>(name: &str, m: &Matrix, group: usize, row: usize, units: R::Units) -> Result<Vec<R>> {
    let cols = m.cols();
    let codes = m.codes().slice(group, 1)?.reshape(&[m.rows(), cols])?.slice(row, 1)?;
    let unscaled: Vec<f32> = match m.format() {
        Format::E4M3(_) => bytes(&codes)?.into_iter().map(e4m3::decode).collect(),
        Format::E2M1(_) => bytes(&codes)?.into_iter().flat_map(e2m1::decode_pair).collect(),
        _ => floats(&codes)?,
    };
    let Some((scales, layout)) = m.scales() else {
        return Ok(unscaled.into_iter().map(|x| R::read(x as f64, units).held(name, units)).collect());
    };
    let scales = scales.slice(group, 1)?.reshape(&[scales.size(1), scales.size(2)])?.slice(row / layout.rows, 1)?;
    let scales: Vec<f64> = match layout.scale {
        ScaleType::Ue8m0 => bytes(&scales)?.into_iter().map(|b| scale::decode(b) as f64).collect(),
        ScaleType::F32 => floats(&scales)?.into_iter().map(f64::from).collect(),
    };
    let value = |(col, x): (usize, f32)| R::read(x as f64 * scales[col / layout.cols], units).held(name, units);
    Ok(unscaled.into_iter().enumerate().map(value).collect())
}

/// All rows of a group of a matrix.
pub(crate) fn matrix_rows<R: Real>(name: &str, m: &Matrix, group: usize, units: R::Units) -> Result<Vec<Vec<R>>> {
    (0..m.rows()).map(|row| matrix_row(name, m, group, row, units)).collect()
}

/// A paged pool as numbers, for the rows of one operation.
pub(crate) struct Entries<'a, R: Real> {
    name: &'static str,
    paged: &'a Paged,
    table: Vec<i32>,
    sequence: Vec<i32>,
    pages: Vec<u8>,
    units: R::Units,
}

impl<'a, R: Real> Entries<'a, R> {
    pub(crate) fn read(name: &'static str, paged: &'a Paged, units: R::Units) -> Result<Entries<'a, R>> {
        let (table, sequence) = (integers(&paged.table)?, integers(&paged.sequence)?);
        Ok(Entries { name, paged, table, sequence, pages: bytes(paged.pool.pages())?, units })
    }

    /// Entry `entry` of row `row`'s sequence; `None` where it contributes nothing.
    pub(crate) fn get(&self, row: usize, entry: i32) -> Option<Vec<R>> {
        let (page, place) = self.paged.locate(&self.table, *self.sequence.get(row)?, entry)?;
        let format = self.paged.pool.format();
        let page = &self.pages[page * format.page_bytes()..][..format.page_bytes()];
        let data = &page[format.data_offset(place)..][..format.data_bytes()];
        let scales = &page[format.scale_offset(place)..][..format.scale_bytes()];
        let scaled = |x: f32, byte: u8| x as f64 * scale::decode(byte) as f64;
        let values: Vec<f64> = match format {
            KvFormat::Fp8 { nope, .. } => {
                let (codes, tail) = data.split_at(nope);
                let front =
                    codes.iter().enumerate().map(|(i, &c)| scaled(e4m3::decode(c), scales[i / KvFormat::FP8_BLOCK]));
                let back = tail.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64());
                front.chain(back).collect()
            }
            KvFormat::Fp4 { .. } => {
                let codes = data.iter().flat_map(|&byte| e2m1::decode_pair(byte));
                codes.enumerate().map(|(i, x)| scaled(x, scales[i / KvFormat::FP4_BLOCK])).collect()
            }
            _ => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect(),
        };
        Some(values.into_iter().map(|x| R::read(x, self.units).held(self.name, self.units)).collect())
    }
}
