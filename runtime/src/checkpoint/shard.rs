//! One safetensors file, mapped and checked.

use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::header::{self, Entry};
use super::mmap::Mapping;
use super::tensor::{FileDType, TensorData};

/// One safetensors file: a shard of a checkpoint, or a file of its own such as a set of expected results.
#[derive(Debug)]
pub struct Shard {
    file: PathBuf,
    map: Mapping,
    /// Sorted by name.
    entries: Vec<Entry>,
}

impl Shard {
    /// Maps `file` and checks its whole header: after this every tensor in it can be given without a further check.
    /// The file must not be truncated while the shard is in use (a page that is gone ends the process).
    ///
    /// # Errors
    /// The file cannot be mapped, or its header breaks a rule of the format; see [`CheckpointError`].
    pub fn open(file: &Path) -> Result<Shard, CheckpointError> {
        let map = Mapping::open(file)?;
        let entries = header::parse(file, map.bytes())?;
        Ok(Shard { file: file.to_owned(), map, entries })
    }

    /// The path it was opened at.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// The tensor stored under `name`.
    ///
    /// # Errors
    /// [`Missing`](CheckpointError::Missing), [`UnsupportedDType`](CheckpointError::UnsupportedDType).
    pub fn tensor(&self, name: &str) -> Result<TensorData<'_>, CheckpointError> {
        let Some(entry) = self.find(name) else {
            let (dir, tensor) = (self.file.clone(), name.to_owned());
            return Err(CheckpointError::Missing { dir, sought: vec![tensor.clone()], tensor });
        };
        let Some(dtype) = FileDType::of(entry.dtype) else {
            let (dir, tensor) = (self.file.clone(), name.to_owned());
            return Err(CheckpointError::UnsupportedDType { dir, tensor, dtype: entry.dtype });
        };
        Ok(TensorData {
            name: name.to_owned(),
            stored_as: &entry.name,
            dtype,
            shape: &entry.shape,
            bytes: self.bytes(entry),
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|e| e.name.as_str().cmp(name)).ok()?;
        self.entries.get(at)
    }

    /// All bytes of `entry`, which must be one of this shard's: then its range was checked at opening.
    pub(crate) fn bytes(&self, entry: &Entry) -> &[u8] {
        self.map.bytes().get(entry.start..entry.end).unwrap_or_default()
    }
}
