//! Random checkpoints in the official layout: any size, on any disk, without a download.
//!
//! The files are what a released checkpoint consists of (`config.json`, shards, index), with numbers drawn so that a
//! forward pass through them stays finite and lively. There is no tokenizer: random weights have no language.

mod law;
mod official;
mod staging;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};

use crate::config::{Config, ConfigRule};
use crate::inventory::{TensorSpec, inventory};
use law::{Drawer, Law};
use official::official_json;
use staging::Staging;

/// Bytes of tensors that a shard holds at most, unless a single tensor has more.
const SHARD: u64 = 4 << 30;

/// What [`synth`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Tensors, scales included.
    pub tensors: usize,
    /// Shard files.
    pub shards: usize,
    /// Bytes of all tensors: the index's `total_size`.
    pub bytes: u64,
}

/// Why no checkpoint was written. Whatever had been written is removed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The configuration is not valid.
    #[error("the configuration is not valid: {0}")]
    Config(#[source] ConfigRule),
    /// The configuration has no official `config.json`.
    #[error(
        "the configuration cannot be written as an official config.json: {reason}; \
         use ratio 4 for CSA layers, another for HCA layers, and hash routing in the first layers only"
    )]
    NotOfficial {
        /// What reading it back gives.
        reason: String,
    },
    /// The target is a file.
    #[error("{}: is not a folder; name a folder that does not exist yet, or an empty one", .dir.display())]
    NotAFolder {
        /// The target.
        dir: PathBuf,
    },
    /// The target holds something, which is never overwritten.
    #[error(
        "{}: is not empty (it holds `{found}`); a checkpoint is only written into an empty or a new folder: \
         empty it or name another", .dir.display()
    )]
    NotEmpty {
        /// The target.
        dir: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}; {}", .file.display(), mend(source))]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was tried, for example "write".
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// `cancelled` was set.
    #[error("{}: cancelled; what had been written was removed", .dir.display())]
    Cancelled {
        /// The target.
        dir: PathBuf,
    },
}

/// What to do about a refusal of the operating system.
fn mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free space, name a folder on another disk, or ask for fewer layers or experts"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a folder in which you may create files"
        }
        _ => "check the path and the disk (what had been written was removed)",
    }
}

/// Writes a random checkpoint of `config` into the folder `dir`, which must be empty or not exist.
///
/// The same `seed` and `config` give the same bytes. Memory stays at a few MiB however large the model is. `progress`
/// is told (bytes drawn, bytes in all) about once per MiB; `cancelled` is looked at as often. All files are written
/// under temporary names and get their own at the very end, the index last, so that an interrupted run leaves nothing
/// that opens as a checkpoint. The files are not synced: after a power failure write them again.
///
/// # Errors
/// See [`SynthError`].
pub fn synth(
    config: &Config,
    seed: u64,
    dir: &Path,
    cancelled: &AtomicBool,
    progress: &dyn Fn(u64, u64),
) -> Result<Summary, SynthError> {
    sharded(config, seed, dir, SHARD, cancelled, progress)
}

fn sharded(
    config: &Config,
    seed: u64,
    dir: &Path,
    limit: u64,
    cancelled: &AtomicBool,
    progress: &dyn Fn(u64, u64),
) -> Result<Summary, SynthError> {
    config.validate().map_err(SynthError::Config)?;
    let official = official_json(config)?;
    let shards = plan(config, limit);
    let bytes = shards.iter().flatten().map(|(spec, _)| spec.file_bytes()).sum();
    let summary = Summary { tensors: shards.iter().map(Vec::len).sum(), shards: shards.len(), bytes };

    let mut staging = Staging::begin(dir)?;
    let mut drawer = Drawer::new(seed, config.experts);
    let mut weight_map = Map::new();
    let mut done = 0;
    progress(0, bytes);
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        let (path, file) = staging.create(&name)?;
        let failed = |source| SynthError::Io { file: path.clone(), doing: "write", source };
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header(shard)).map_err(failed)?;
        for (spec, law) in shard {
            drawer.draw(spec, *law, |chunk| {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(SynthError::Cancelled { dir: dir.to_owned() });
                }
                file.write_all(chunk).map_err(failed)?;
                done += chunk.len() as u64;
                progress(done, bytes);
                Ok(())
            })?;
            weight_map.insert(spec.name.clone(), Value::from(name.as_str()));
        }
        file.flush().map_err(failed)?;
    }
    staging.write("config.json", &official)?;
    let index = json!({ "metadata": { "total_size": bytes }, "weight_map": weight_map });
    staging.write("model.safetensors.index.json", &format!("{index:#}\n"))?;
    staging.commit()?;
    Ok(summary)
}

/// The tensors of every shard, each shard's ordered so that no element straddles its alignment.
fn plan(config: &Config, limit: u64) -> Vec<Vec<(TensorSpec, Law)>> {
    let (mut shards, mut shard, mut filled) = (Vec::new(), Vec::new(), 0u64);
    let mut before: Option<TensorSpec> = None;
    for spec in inventory(config) {
        let (law, bytes) = (Law::of(&spec, before.as_ref()), spec.file_bytes());
        if filled + bytes > limit && !shard.is_empty() {
            shards.push(std::mem::take(&mut shard));
            filled = 0;
        }
        filled += bytes;
        before = Some(spec.clone());
        shard.push((spec, law));
    }
    shards.push(shard);
    for shard in &mut shards {
        shard.sort_by_key(|(spec, _)| std::cmp::Reverse(spec.dtype.bits()));
    }
    shards
}

/// The length field and the header of a shard, padded with spaces to a multiple of 8 as the format advises.
fn header(shard: &[(TensorSpec, Law)]) -> Vec<u8> {
    let mut start = 0;
    let mut entries = Map::new();
    for (spec, _) in shard {
        let end = start + spec.file_bytes() as usize;
        let shape = spec.file_shape().iter().map(|&n| n as usize).collect();
        let info = TensorInfo { dtype: spec.file_dtype(), shape, data_offsets: (start, end) };
        entries.insert(spec.name.clone(), json!(info));
        start = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    #[test]
    fn shards_keep_their_limit_and_hold_the_same_tensors() {
        let config = Config::tiny();
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, limit| {
            let dir = home.path().join(name);
            let summary = sharded(&config, 9, &dir, limit, &AtomicBool::new(false), &|_, _| {}).unwrap();
            (summary, Checkpoint::open(&dir).unwrap())
        };
        let ((one, whole), (many, parts)) = (write("one", u64::MAX), write("many", 200_000));
        assert_eq!((one.bytes, one.tensors, one.shards), (many.bytes, many.tensors, 1));
        // The embedding and the head alone have 262144 bytes each.
        assert!(many.shards > 8, "{}", many.shards);
        assert_eq!(parts.shards(), many.shards);
        parts.check(&config, inventory(&config)).unwrap();
        for spec in inventory(&config) {
            assert!(
                whole.tensor(&spec.name).unwrap().bytes == parts.tensor(&spec.name).unwrap().bytes,
                "{}",
                spec.name
            );
        }
        for shard in plan(&config, 200_000) {
            assert!(shard.len() == 1 || shard.iter().map(|(s, _)| s.file_bytes()).sum::<u64>() <= 200_000);
        }
    }

    #[test]
    fn system_errors_say_how_to_mend_them() {
        let message = |kind: io::ErrorKind| {
            SynthError::Io { file: "dir/file".into(), doing: "write", source: kind.into() }.to_string()
        };
        assert!(message(io::ErrorKind::StorageFull).contains("free space"));
        assert!(message(io::ErrorKind::ReadOnlyFilesystem).contains("may create files"));
        assert!(message(io::ErrorKind::Other).starts_with("dir/file: cannot write"));
    }
}
