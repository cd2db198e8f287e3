//! A read-only memory map of one shard: the one place of this crate that needs `unsafe`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use memmap2::Mmap;

use super::error::CheckpointError;

/// The bytes of a file, mapped read-only. Pages are read from the disk when they are first touched.
///
/// The file must not be truncated while the map lives: touching a page that no longer exists ends the process with
/// SIGBUS, which no check made here can prevent. To change a checkpoint in use, write new files and rename them over
/// the old ones; the map then keeps the old bytes.
#[derive(Debug)]
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps `file`, following links. Where the link may lead is [`super::index`]'s matter.
    ///
    /// # Errors
    /// [`NotRegular`](CheckpointError::NotRegular), [`Empty`](CheckpointError::Empty), [`Io`](CheckpointError::Io).
    pub(crate) fn open(file: &Path) -> Result<Mapping, CheckpointError> {
        let failed = |doing| move |source: io::Error| CheckpointError::Io { file: file.to_owned(), doing, source };
        // Before opening, because opening a pipe waits for its writer; and again on the handle, because the path may
        // name another file by then.
        if !fs::metadata(file).map_err(failed("look at the file"))?.is_file() {
            return Err(CheckpointError::NotRegular { file: file.to_owned() });
        }
        let handle = File::open(file).map_err(failed("open the file"))?;
        let found = handle.metadata().map_err(failed("look at the file"))?;
        if !found.is_file() {
            return Err(CheckpointError::NotRegular { file: file.to_owned() });
        }
        if found.len() == 0 {
            return Err(CheckpointError::Empty { file: file.to_owned() });
        }
        // SAFETY: the map is read-only and only ever handed out as `&[u8]`, for which every bit pattern is valid, and
        // its lifetime is bound to `Mapping`. A change made by another process can therefore make the bytes wrong but
        // no value invalid: all offsets and shapes were copied out and checked against the mapped length at opening
        // and are never read from the map again. Shrinking the file is forbidden by the documentation above.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&handle) }.map_err(failed("map the file"))?;
        Ok(Mapping(map))
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
