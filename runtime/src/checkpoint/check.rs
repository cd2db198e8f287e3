//! Tensors judged against the shapes that the configuration gives.

use std::collections::HashSet;

use anychip_core::DType;

use super::{Checkpoint, CheckpointError, FileDType, TensorData};
use crate::config::Config;
use crate::inventory::{FP4_GROUP, TensorSpec};

/// Errors that are kept: a configuration of another model is wrong about every tensor.
const MOST_ERRORS: usize = 6;

/// A matrix `[o, i]` in the form in which the file holds it.
#[derive(Clone, Debug)]
pub enum Weight<'a> {
    /// F32, BF16 or F16 numbers.
    Plain(TensorData<'a>),
    /// e4m3 codes `[o, i]` with scales `[ceil(o/rows), ceil(i/columns)]`, each for a block of `rows x columns`.
    Fp8 {
        /// F8_E4M3.
        codes: TensorData<'a>,
        /// F8_E8M0, or F32 in some conversions.
        scale: TensorData<'a>,
    },
    /// e2m1 codes packed two to a byte, `[o, i/2]`, the even column low, with scales `[o, i/32]`.
    Fp4 {
        /// I8 or U8.
        codes: TensorData<'a>,
        /// F8_E8M0, or F32 in some conversions.
        scale: TensorData<'a>,
    },
}

/// What [`Checkpoint::check`] found, when nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Tensors that the inventory names and the checkpoint holds, scales included. Every expert of a stack counts.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Names in the files that the inventory does not use, sorted; for example `mtp.*` where no draft is asked for.
    pub extra: Vec<String>,
}

impl Checkpoint {
    /// The tensor `name` if its stored shape is `shape`, of whatever type.
    ///
    /// # Errors
    /// Those of [`tensor`](Checkpoint::tensor), and [`WrongShape`](CheckpointError::WrongShape).
    pub fn expect(&self, name: &str, shape: &[u64]) -> Result<TensorData<'_>, CheckpointError> {
        let tensor = self.tensor(name)?;
        if !same(tensor.shape, shape) {
            return Err(CheckpointError::WrongShape {
                dir: self.dir().to_owned(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                got: tensor.shape.to_vec(),
            });
        }
        Ok(tensor)
    }

    /// The unquantised tensor `name` (F32, BF16 or F16) of shape `shape`: norms, sinks, biases, embeddings.
    ///
    /// # Errors
    /// Those of [`expect`](Checkpoint::expect), and [`WrongDType`](CheckpointError::WrongDType).
    pub fn float(&self, name: &str, shape: &[u64]) -> Result<TensorData<'_>, CheckpointError> {
        let tensor = self.expect(name, shape)?;
        if tensor.dtype.is_float() { Ok(tensor) } else { Err(self.wrong_dtype(&tensor, "F32, BF16 or F16")) }
    }

    /// The id table `name` (I64 or I32) of shape `shape`: `tid2eid`.
    ///
    /// # Errors
    /// Those of [`expect`](Checkpoint::expect), and [`WrongDType`](CheckpointError::WrongDType).
    pub fn ids(&self, name: &str, shape: &[u64]) -> Result<TensorData<'_>, CheckpointError> {
        let tensor = self.expect(name, shape)?;
        let ids = matches!(tensor.dtype, FileDType::I64 | FileDType::I32);
        if ids { Ok(tensor) } else { Err(self.wrong_dtype(&tensor, "I64 or I32")) }
    }

    /// The elements of [`ids`](Checkpoint::ids) as i32.
    ///
    /// # Errors
    /// Those of [`ids`](Checkpoint::ids), and [`IdRange`](CheckpointError::IdRange) for a value that i32 cannot hold.
    pub fn ids_i32(&self, name: &str, shape: &[u64]) -> Result<Vec<i32>, CheckpointError> {
        let wide = self.ids(name, shape)?.to_i64().unwrap_or_default();
        let narrow = |(index, got): (usize, i64)| {
            let (dir, tensor) = (self.dir().to_owned(), name.to_owned());
            i32::try_from(got).map_err(|_| CheckpointError::IdRange { dir, tensor, index, got })
        };
        wide.into_iter().enumerate().map(narrow).collect()
    }

    /// The matrix `name` (`X.weight`) of logical shape `[o, i]`, with its scales (`X.scale`) where it is quantised.
    /// `block` is what one scale of an FP8 weight covers: `weight_block_size`, 128x128 in every published V4.
    ///
    /// # Errors
    /// Those of [`expect`](Checkpoint::expect), [`WrongDType`](CheckpointError::WrongDType),
    /// [`MissingScale`](CheckpointError::MissingScale) and [`WrongScaleShape`](CheckpointError::WrongScaleShape).
    pub fn weight(&self, name: &str, [o, i]: [u64; 2], block: [usize; 2]) -> Result<Weight<'_>, CheckpointError> {
        let [rows, columns] = block.map(|size| size.max(1) as u64);
        let scale = |dtype, shape| self.scale(name, dtype, shape);
        match self.tensor(name)?.dtype {
            FileDType::F32 | FileDType::BF16 | FileDType::F16 => Ok(Weight::Plain(self.expect(name, &[o, i])?)),
            dtype @ FileDType::F8E4M3 => {
                let codes = self.expect(name, &[o, i])?;
                Ok(Weight::Fp8 { codes, scale: scale(dtype, [o.div_ceil(rows), i.div_ceil(columns)])? })
            }
            dtype @ (FileDType::I8 | FileDType::U8) => {
                let codes = self.expect(name, &[o, i.div_ceil(2)])?;
                Ok(Weight::Fp4 { codes, scale: scale(dtype, [o, i.div_ceil(FP4_GROUP)])? })
            }
            FileDType::F8E8M0 | FileDType::I32 | FileDType::I64 => {
                Err(self.wrong_dtype(&self.tensor(name)?, "F32, BF16, F16, F8_E4M3, or I8 or U8 (packed FP4)"))
            }
        }
    }

    /// Judges every tensor of `inventory` (that of `config`, or a part of it) before any is loaded.
    ///
    /// A weight that the inventory has as FP8 or FP4 may be stored as FP8, packed FP4, F32, BF16 or F16; its scales are
    /// required exactly where the file holds it quantised. BF16 and F32 tensors may be any of the float types, id
    /// tables I64 or I32. Further tensors are allowed and listed in [`Checked::extra`].
    ///
    /// # Errors
    /// The error of the one tensor that does not fit, or [`Several`](CheckpointError::Several).
    pub fn check(
        &self,
        config: &Config,
        inventory: impl IntoIterator<Item = TensorSpec>,
    ) -> Result<Checked, CheckpointError> {
        let block = config.quantization.map_or([128, 128], |q| q.weight_block);
        let mut found = Checked { tensors: 0, bytes: 0, extra: Vec::new() };
        let mut used = HashSet::new();
        let (mut errors, mut wrong) = (Vec::new(), 0usize);
        for spec in inventory {
            match self.judge(&spec, block) {
                Ok(tensors) => {
                    for tensor in tensors.into_iter().flatten() {
                        found.tensors += 1;
                        found.bytes += tensor.bytes.len() as u64;
                        used.insert(tensor.stored_as);
                    }
                }
                Err(e) => {
                    wrong += 1;
                    if errors.len() < MOST_ERRORS {
                        errors.push(e);
                    }
                }
            }
        }
        match wrong {
            0 => {
                found.extra = self.names().filter(|name| !used.contains(name)).map(str::to_owned).collect();
                Ok(found)
            }
            1 => Err(errors.remove(0)),
            _ => Err(CheckpointError::Several { dir: self.dir().to_owned(), count: wrong, errors }),
        }
    }

    /// The tensors that serve `spec`: itself, and its scales where it is quantised.
    fn judge(&self, spec: &TensorSpec, block: [usize; 2]) -> Result<[Option<TensorData<'_>>; 2], CheckpointError> {
        let (name, shape) = (spec.name.as_str(), &spec.shape[..]);
        match (spec.dtype, shape) {
            // Judged with the weight it belongs to, whose stored form decides its shape.
            (DType::UE8M0, _) => Ok([None, None]),
            (DType::E4M3 | DType::E2M1, &[o, i]) => Ok(match self.weight(name, [o, i], block)? {
                Weight::Plain(weight) => [Some(weight), None],
                Weight::Fp8 { codes, scale } | Weight::Fp4 { codes, scale } => [Some(codes), Some(scale)],
            }),
            (DType::F32 | DType::BF16 | DType::F16, _) => Ok([Some(self.float(name, shape)?), None]),
            (DType::I64 | DType::I32, _) => Ok([Some(self.ids(name, shape)?), None]),
            _ => Ok([Some(self.expect(name, shape)?), None]),
        }
    }

    fn scale(&self, weight: &str, dtype: FileDType, expected: [u64; 2]) -> Result<TensorData<'_>, CheckpointError> {
        let name = format!("{}.scale", weight.strip_suffix(".weight").unwrap_or(weight));
        let tensor = self.tensor(&name).map_err(|e| match e {
            CheckpointError::Missing { dir, tensor, .. } => {
                CheckpointError::MissingScale { dir, tensor, weight: weight.to_owned(), dtype }
            }
            other => other,
        })?;
        if !matches!(tensor.dtype, FileDType::F8E8M0 | FileDType::F32) {
            return Err(self.wrong_dtype(&tensor, "F8_E8M0 or F32"));
        }
        if !same(tensor.shape, &expected) {
            return Err(CheckpointError::WrongScaleShape {
                dir: self.dir().to_owned(),
                tensor: name,
                weight: weight.to_owned(),
                dtype,
                expected,
                got: tensor.shape.to_vec(),
            });
        }
        Ok(tensor)
    }

    fn wrong_dtype(&self, tensor: &TensorData<'_>, allowed: &'static str) -> CheckpointError {
        let (dir, tensor, got) = (self.dir().to_owned(), tensor.name.clone(), tensor.dtype);
        CheckpointError::WrongDType { dir, tensor, allowed, got }
    }
}

/// Whether a stored shape is the wanted one. `[]` serves as `[1]`: tools differ on how they write a single number.
fn same(got: &[usize], wanted: &[u64]) -> bool {
    let equal = got.len() == wanted.len() && got.iter().zip(wanted).all(|(&g, &w)| g as u64 == w);
    equal || (got.is_empty() && wanted == [1])
}
