//! A step written down as operations: scratch tensors, and the small vocabulary that layers are built from.

use super::{Precision, cache::Cache, weights::Weights};
use crate::Result;
use crate::config::Config;
use anychip_core::ops::{Hadamard, Linear, Quantize, RmsNorm, Rope, Rounding};
use anychip_core::{DType, Device, Format, Matrix, Op, Operation, Paged, ScaleLayout, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Tensors between operations, by name. A name is used again in every layer, so that a step needs memory for one.
#[derive(Default)]
pub(crate) struct Scratch(HashMap<(&'static str, DType, Vec<usize>), Tensor>);

impl Scratch {
    fn get(&mut self, device: &dyn Device, name: &'static str, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        let key = (name, dtype, sizes.to_vec());
        if let Some(tensor) = self.0.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = device.tensor(dtype, sizes)?;
        self.0.insert(key, tensor.clone());
        Ok(tensor)
    }
}

/// A step of the list: an operation, or a tensor to look at when it has run.
pub(crate) enum Step {
    Run(Op),
    Tap(String, Tensor),
}

/// What a step is built from, and the steps so far.
pub(crate) struct Graph<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) dir: &'a Path,
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights,
    pub(crate) cache: &'a Cache,
    pub(crate) precision: Precision,
    pub(crate) scratch: &'a mut Scratch,
    /// Whether intermediate tensors are asked for.
    pub(crate) taps: bool,
    pub(crate) steps: Vec<Step>,
}

impl Graph<'_> {
    /// The type of activations: f32, or bf16 as served.
    pub(crate) fn float(&self) -> DType {
        match self.precision {
            Precision::Exact => DType::F32,
            Precision::Served => DType::BF16,
        }
    }

    /// Rounding of steps that the served model rounds.
    pub(crate) fn rounding(&self) -> Rounding {
        match self.precision {
            Precision::Exact => Rounding::None,
            Precision::Served => Rounding::Bf16,
        }
    }

    pub(crate) fn tensor(&mut self, name: &'static str, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        self.scratch.get(self.device, name, dtype, sizes)
    }

    pub(crate) fn activation(&mut self, name: &'static str, sizes: &[usize]) -> Result<Tensor> {
        self.tensor(name, self.float(), sizes)
    }

    pub(crate) fn push(&mut self, op: impl Operation) -> Result<()> {
        let op = op.build()?;
        self.steps.push(Step::Run(op));
        Ok(())
    }

    pub(crate) fn tap(&mut self, name: impl Fn() -> String, tensor: &Tensor) {
        if self.taps {
            self.steps.push(Step::Tap(name(), tensor.clone()));
        }
    }

    /// `x` for the quantised linears: as it is in exact precision; as served, e4m3 in blocks of 128.
    pub(crate) fn quantized(&mut self, name: [&'static str; 2], x: &Tensor, for_weights: &Matrix) -> Result<Matrix> {
        let scaled = !matches!(for_weights.format(), Format::Plain(_));
        match self.precision {
            Precision::Served if scaled => self.quantize(name, x, DType::E4M3, 128),
            _ => plain(x),
        }
    }

    /// Rows of `x` in `dtype` with one scale per `block` columns.
    pub(crate) fn quantize(
        &mut self,
        [codes, scales]: [&'static str; 2],
        x: &Tensor,
        dtype: DType,
        block: usize,
    ) -> Result<Matrix> {
        let (rows, cols) = (x.size(0), x.size(1));
        let codes = self.tensor(codes, dtype, &[rows, cols])?;
        let scales = self.tensor(scales, DType::UE8M0, &[rows, cols.div_ceil(block)])?;
        let out = Matrix::scaled(&codes, &scales, ScaleLayout::per_row(block)).map_err(anychip_core::Error::from)?;
        self.push(Quantize { x: x.clone(), out: out.clone() })?;
        Ok(out)
    }

    /// `x w` into an activation, `[T, G * N]`.
    pub(crate) fn linear(&mut self, name: &'static str, x: &Matrix, w: &Matrix) -> Result<Tensor> {
        self.linear_as(name, self.float(), x, w)
    }

    /// `x w` into a type of its own.
    pub(crate) fn linear_as(&mut self, name: &'static str, dtype: DType, x: &Matrix, w: &Matrix) -> Result<Tensor> {
        let out = self.tensor(name, dtype, &[x.rows(), w.groups() * w.rows()])?;
        self.push(Linear { x: x.clone(), w: w.clone(), out: out.clone() })?;
        Ok(out)
    }

    /// Weighted RMS norm of each row.
    pub(crate) fn rms_norm(&mut self, name: &'static str, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let out = self.activation(name, x.sizes())?;
        self.push(RmsNorm {
            x: x.clone(),
            weight: Some(weight.clone()),
            eps: self.config.rms_norm_eps as f32,
            rounding: Rounding::None,
            out: out.clone(),
        })?;
        Ok(out)
    }

    /// Rotates `x`, `[T, H, D]`.
    pub(crate) fn rope(&mut self, name: &'static str, x: &Tensor, angles: &Tensor, inverse: bool) -> Result<Tensor> {
        let out = self.activation(name, x.sizes())?;
        self.push(Rope { x: x.clone(), angles: angles.clone(), inverse, out: out.clone() })?;
        Ok(out)
    }

    /// The indexer's rotation of each row: served, and where its width is a power of two.
    pub(crate) fn hadamard(&mut self, name: &'static str, x: Tensor) -> Result<Tensor> {
        if self.precision == Precision::Exact || !x.size(1).is_power_of_two() {
            return Ok(x);
        }
        let out = self.activation(name, x.sizes())?;
        self.push(Hadamard { x, out: out.clone() })?;
        Ok(out)
    }
}

/// `x` as a matrix.
pub(crate) fn plain(x: &Tensor) -> Result<Matrix> {
    Ok(Matrix::plain(x).map_err(anychip_core::Error::from)?)
}

/// `x` under another shape.
pub(crate) fn reshape(x: &Tensor, sizes: &[usize]) -> Result<Tensor> {
    Ok(x.reshape(sizes).map_err(anychip_core::Error::from)?)
}

/// A pool as the rows with these sequence numbers see it.
pub(crate) fn paged(pool: &anychip_core::KvPool, table: &Tensor, sequence: &Tensor) -> Paged {
    Paged { pool: pool.clone(), table: table.clone(), sequence: sequence.clone() }
}
