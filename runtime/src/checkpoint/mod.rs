//! A checkpoint folder: safetensors shards, memory-mapped, every byte of their headers checked before use.
//!
//! Files come from a download and are not trusted: no header, index or file size can make this module panic, read out
//! of bounds, allocate without limit or open a file outside the folder.

mod check;
mod error;
mod header;
mod index;
mod mmap;
mod names;
mod shard;
mod tensor;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

pub use check::{Checked, Weight};
pub use error::CheckpointError;
pub use names::Layout;
pub use shard::Shard;
pub use tensor::{FileDType, TensorData};

use header::Entry;
use names::{Part, Rows};

/// The index of a checkpoint in several files.
const INDEX: &str = "model.safetensors.index.json";
/// The checkpoint in one file.
const SINGLE: &str = "model.safetensors";

/// An open checkpoint. Tensors are asked for by their published names in either [`Layout`] and borrow from the maps.
///
/// The files must not be truncated while it is in use: touching a mapped page that no longer exists ends the process.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    layout: Layout,
    shards: Vec<Shard>,
    /// Position of its shard by a tensor's name in the files.
    tensors: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens the folder `dir`: `model.safetensors.index.json` with the shards it names, else `model.safetensors`.
    ///
    /// Only headers are read. Tensors that a shard holds and the index does not name are not part of the checkpoint.
    ///
    /// # Errors
    /// Every broken rule of the folder, the index and the shards is its own variant of [`CheckpointError`].
    pub fn open(dir: &Path) -> Result<Checkpoint, CheckpointError> {
        let failed = |source| CheckpointError::Io { file: dir.to_owned(), doing: "open the folder", source };
        if !fs::metadata(dir).map_err(failed)?.is_dir() {
            return Err(CheckpointError::NotAFolder { dir: dir.to_owned() });
        }
        let mut shards: Vec<Shard> = Vec::new();
        let mut tensors = BTreeMap::new();
        let index = dir.join(INDEX);
        if index.try_exists().map_err(failed)? {
            let mut opened: HashMap<String, usize> = HashMap::new();
            for (tensor, file) in index::read(&index)? {
                let at = match opened.get(&file) {
                    Some(&at) => at,
                    None => {
                        let Some(path) = index::locate(dir, &index, Some(&tensor), &file)? else {
                            return Err(CheckpointError::ShardMissing { file: index, tensor, shard: file });
                        };
                        shards.push(Shard::open(&path)?);
                        opened.insert(file, shards.len() - 1);
                        shards.len() - 1
                    }
                };
                if let Some(shard) = shards.get(at).filter(|s| s.find(&tensor).is_none()) {
                    return Err(CheckpointError::NotInShard { shard: shard.file().to_owned(), tensor });
                }
                tensors.insert(tensor, at);
            }
        } else {
            let Some(path) = index::locate(dir, dir, None, SINGLE)? else {
                return Err(CheckpointError::NoCheckpoint { dir: dir.to_owned() });
            };
            let shard = Shard::open(&path)?;
            tensors.extend(shard.names().map(|name| (name.to_owned(), 0)));
            shards.push(shard);
        }
        let layout = detect(dir, &tensors)?;
        Ok(Checkpoint { dir: dir.to_owned(), layout, shards, tensors })
    }

    /// The folder it was opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How its tensors are named in the files.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The tensors' names in the files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// How many tensors the files hold.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor. Never true of an opened checkpoint, which has at least one V4 name.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// How many files hold the tensors.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Bytes of all tensors, without headers.
    pub fn bytes_total(&self) -> u64 {
        self.tensors.keys().filter_map(|name| self.stored(name)).map(|(_, e)| (e.end - e.start) as u64).sum()
    }

    /// Whether there is a tensor of this published name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensor(name).is_ok()
    }

    /// The tensor of the published name `name`, such as `layers.3.ffn.experts.7.w1.weight`, borrowed from the file.
    ///
    /// Of transformers' stacked experts it is the part that belongs to that one matrix.
    ///
    /// # Errors
    /// [`Missing`](CheckpointError::Missing), [`UnsupportedDType`](CheckpointError::UnsupportedDType), and for stacks
    /// [`StackShape`](CheckpointError::StackShape) and [`NoSuchExpert`](CheckpointError::NoSuchExpert).
    pub fn tensor(&self, name: &str) -> Result<TensorData<'_>, CheckpointError> {
        let candidates = names::candidates(self.layout, name);
        let found = candidates.iter().find_map(|(stored, part)| self.stored(stored).map(|(s, e)| (s, e, *part)));
        let Some((shard, entry, part)) = found else {
            let sought = candidates.into_iter().map(|(stored, _)| stored).collect();
            return Err(CheckpointError::Missing { dir: self.dir.clone(), tensor: name.to_owned(), sought });
        };
        let Some(dtype) = FileDType::of(entry.dtype) else {
            let (dir, tensor) = (self.dir.clone(), entry.name.clone());
            return Err(CheckpointError::UnsupportedDType { dir, tensor, dtype: entry.dtype });
        };
        let (shape, bytes) = match part {
            Part::Whole => (&entry.shape[..], shard.bytes(entry)),
            Part::Expert(k, rows) => self.expert(shard.bytes(entry), entry, k, rows)?,
        };
        Ok(TensorData { name: name.to_owned(), stored_as: &entry.name, dtype, shape, bytes })
    }

    /// Matrix `rows` of expert `k` in the stack `entry`, whose bytes are `all`.
    fn expert<'a>(
        &self,
        all: &'a [u8],
        entry: &'a Entry,
        k: usize,
        rows: Rows,
    ) -> Result<(&'a [usize], &'a [u8]), CheckpointError> {
        let stack = || (self.dir.clone(), entry.name.clone());
        let halves = rows != Rows::All;
        let (experts, shape) = match &entry.shape[..] {
            [experts, whole @ ..] if whole.len() == 2 && !(halves && entry.half.is_empty()) => {
                (*experts, if halves { &entry.half[..] } else { whole })
            }
            _ => {
                let (dir, tensor) = stack();
                return Err(CheckpointError::StackShape { dir, tensor, shape: entry.shape.clone(), halves });
            }
        };
        if k >= experts {
            let (dir, tensor) = stack();
            return Err(CheckpointError::NoSuchExpert { dir, tensor, expert: k, experts });
        }
        // `experts` is not 0 here, and the header's check made `all` experts * rows * columns elements long.
        let each = all.len() / experts;
        let range = match rows {
            Rows::All => k * each..(k + 1) * each,
            Rows::Upper => k * each..k * each + each / 2,
            Rows::Lower => k * each + each / 2..(k + 1) * each,
        };
        Ok((shape, all.get(range).unwrap_or_default()))
    }

    /// The entry of a name in the files.
    fn stored(&self, name: &str) -> Option<(&Shard, &Entry)> {
        let shard = self.shards.get(*self.tensors.get(name)?)?;
        Some((shard, shard.find(name)?))
    }
}

/// The layout that the names are of.
fn detect(dir: &Path, tensors: &BTreeMap<String, usize>) -> Result<Layout, CheckpointError> {
    let first = |layout| tensors.keys().find(|name| names::layout_of(name) == Some(layout)).cloned();
    match (first(Layout::Official), first(Layout::Transformers)) {
        (Some(_), None) => Ok(Layout::Official),
        (None, Some(_)) => Ok(Layout::Transformers),
        (Some(official), Some(transformers)) => {
            Err(CheckpointError::LayoutMixed { dir: dir.to_owned(), official, transformers })
        }
        (None, None) => Err(CheckpointError::LayoutUnknown { dir: dir.to_owned(), tensors: tensors.len() }),
    }
}
